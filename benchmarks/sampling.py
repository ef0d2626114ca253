"""Sampling: every method in forward passes of the same batch, side by side in one run.

    python benchmarks/sampling.py [--models=PRESET,WORKDIR,...] [--batch_sizes=1,16,64] [--notfp]

For every model, a workdir or a preset (trained, if its weights come with the package), and every batch size: seconds,
images/s, and the cost in forward passes of that batch, of each method of `pixelvae_tf.sampling` without XLA, with it,
and with it in as many parts as there are cores; the oracle, which computes the whole forward pass for every pixel and
channel group, is extrapolated from 8 pixels. The denominator is the fastest exact forward pass of the run, with or
without XLA. How many rounds "rows" and "fixed_point" take depends on the weights: only trained ones tell. Drawn are the
pixels, given latents from the prior. A method that took five times as long as the fastest one is left out of larger
batches.

Then PixelCNN++ beside `tfp.distributions.PixelCNN.sample` at equal size, both untrained: how long theirs and our
cache take does not depend on the weights.

Seconds are this machine's; the ratios are what to compare. Each is the median of several calls after one that compiles.
"""

import functools
import math
import os
import pathlib
import statistics
import time

import tensorflow as tf
from absl import app, flags
from peers import pixel_cnn_pp, tfp_pixel_cnn

from pixelvae_tf import noise, presets, pretrained, runs, sampling, xla
from pixelvae_tf.config import Config

_MODELS = flags.DEFINE_list(
    "models",
    ["binarized_mnist/gated_pixel_vae_no_upsampling", "lsun_64/hierarchical"],
    "Workdirs, or presets: trained, if their weights come with the package.",
)
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "16", "64"], "Images at once.")
_TFP = flags.DEFINE_bool("tfp", True, "Whether TFP's PixelCNN is measured too.")
ORACLE_PIXELS = 8
PP_SHAPE, PP_BATCH = (28, 28, 1), 16
MAX_SECONDS = 30.0
# What XLA computes side by side; see `xla.compiled`.
PARTS = 1 if tf.config.list_physical_devices("GPU") else os.cpu_count()


def median_seconds(function, repeats: int = 5) -> float:
    """Median time of a call, after one that compiles; fewer calls of a slow one."""
    function()
    seconds = []
    while len(seconds) < repeats and sum(seconds) < MAX_SECONDS / 4:
        start = time.perf_counter()
        tf.nest.map_structure(lambda x: x.numpy(), function())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(model, batch: int, methods: list[str]) -> list[str]:
    """Prints the table of one batch size; returns the methods that are worth measuring on a larger one."""
    seeds = tf.range(batch, dtype=tf.int64)
    labels = tf.range(batch) % model.config.num_classes if model.config.num_classes else None
    latents = model.sample_prior(seeds)[:1]
    grid, context = model.likelihood(latents, labels=labels), model.context(latents, labels)
    numbers = grid.noise(seeds, noise.stream(noise.Kind.PIXELS))
    images = tf.function(lambda: model.decode(latents, seeds, labels=labels))()
    arguments = (model.network, model.site, context, numbers)

    inputs = {"noise": numbers} if context is None else {"noise": numbers, "context": context}

    def draw(method: str):
        return lambda noise, context=None: sampling.sample(model.network, model.site, context, noise, method=method)

    def few_pixels():
        return sampling.oracle(*arguments, num_locations=ORACLE_PIXELS)

    forward = {
        "forward pass" + ", XLA" * jit_compile: median_seconds(
            tf.function(lambda: model.likelihood(latents, labels=labels).log_prob(images), jit_compile=jit_compile)
        )
        for jit_compile in (False, True)
    }
    fastest = min(forward.values())
    print(f"\nbatch {batch}: a forward pass takes {fastest:.4f} s")
    print(f"{'':28}{'seconds':>10}{'images/s':>11}{'passes':>10}")

    def report(name: str, seconds: float, remark: str = "") -> None:
        print(f"{name:28}{seconds:10.4f}{batch / seconds:11.1f}{seconds / fastest:10.1f}  {remark}", flush=True)

    for name, seconds in forward.items():
        report(name, seconds)
    height, width, _ = model.config.image_shape
    taken = dict.fromkeys(methods, math.inf)
    for method in methods:
        remark = ""
        if method == "fixed_point":
            remark = f"{int(tf.function(lambda: sampling.fixed_point(*arguments))()[1])} rounds"
        if method == "rows":
            counts = tf.function(lambda: sampling.rows(*arguments))()[1].numpy()
            remark = f"rounds a row: median {statistics.median(counts):g}, mean {counts.mean():.1f}, max {counts.max()}"
        ways = {"": tf.function(draw(method)), ", XLA": xla.compiled(draw(method))}
        if 1 < PARTS <= batch:
            ways[f", XLA, {PARTS} parts"] = xla.compiled(draw(method), PARTS)
        for way, function in ways.items():
            same = tf.reduce_mean(tf.cast(function(**inputs) == images, tf.float32))
            note = "" if same == 1.0 else f"; {same:.2%} of the values are those of auto"
            seconds = median_seconds(functools.partial(function, **inputs))
            taken[method] = min(taken[method], seconds)
            report(method + way, seconds, remark + note)
    if fastest * ORACLE_PIXELS * model.network.channel_groups < MAX_SECONDS:
        report("oracle (from 8 pixels)", median_seconds(tf.function(few_pixels), 3) * height * width / ORACLE_PIXELS)
    return [method for method in methods if taken[method] < 5 * min(taken.values())]


def compare_with_tfp() -> None:
    """Prints how long both PixelCNN++ take for the same number of images."""
    ours = runs.build(Config(model=pixel_cnn_pp(PP_SHAPE)))
    theirs = tfp_pixel_cnn(PP_SHAPE)
    seeds = tf.range(PP_BATCH, dtype=tf.int64)
    times = {}
    for jit_compile in (False, True):
        function = tf.function(lambda: ours.sample(seeds, method="cached"), jit_compile=jit_compile)
        times["ours, cached" + ", XLA" * jit_compile] = median_seconds(function)
    # Theirs recomputes the network for every pixel: one call, after one that traces, is minutes.
    sample = tf.function(lambda: theirs.sample(PP_BATCH, seed=1))
    times["tfp.distributions.PixelCNN"] = median_seconds(sample, 1)
    weights = sum(int(tf.size(variable)) for variable in theirs.trainable_variables)
    print(f"\nPixelCNN++ {PP_SHAPE}, {PP_BATCH} images: ours {ours.count_params()} weights, theirs {weights}")
    for name, seconds in times.items():
        ratio = times["tfp.distributions.PixelCNN"] / seconds
        print(f"{name:28}{seconds:10.3f} s{PP_BATCH / seconds:11.2f} images/s{ratio:10.1f} times as fast", flush=True)


def main(argv: list[str]) -> None:
    """Measures every model and batch size."""
    del argv
    for name in _MODELS.value:
        if pathlib.Path(name, runs.CONFIG).is_file():
            model, trained = runs.load(name)[0], True
        elif name in pretrained.names():
            model, trained = pretrained.load(name)[0], True
        else:
            model, trained = runs.build(presets.get(name)), False
        device = tf.config.list_physical_devices()[-1].device_type
        print(f"\n{name}: {model.count_params()} weights, {'trained' if trained else 'untrained'}, {device}")
        methods = ["cached", "rows", "fixed_point"]
        for batch in map(int, _BATCH_SIZES.value):
            methods = measure(model, batch, methods)
    if _TFP.value:
        compare_with_tfp()


if __name__ == "__main__":
    app.run(main)
