"""Sampling: every method in forward passes of the same batch, side by side in one run.

    python benchmarks/sampling.py [--models=PRESET,WORKDIR,...] [--batch_sizes=1,16,64]

For every model and every batch size: seconds, images/s, and the cost in forward passes of that batch, of each method of
`pixelvae_tf.sampling` without XLA, with it, and with it in as many parts as there are cores; the oracle, which computes
the whole forward pass for every pixel and channel group, is extrapolated from 8 pixels. The denominator is the fastest
exact forward pass of the run, likewise without XLA, with it and in parts; it starts at the latents. Drawn are the
pixels, given noise and latents from the prior; `model.sample` draws these too. How many rounds "rows" takes
depends on the weights: only trained ones tell, over ROUNDS_BATCHES batches of other seeds. Left out of larger
batches is a method that took five times as long as the fastest one, and an oracle whose 8 pixels take half a minute.

A model is a workdir, a preset (trained, if its weights come with the package), "two_layers" (the first preset, with 2
layers of 32 channels) or "pixel_cnn_pp" (at the size of TFP's).

Seconds are this machine's; the ratios are what to compare. Each is the median of several calls after one that compiles.
On a CPU everything is measured with oneDNN and without it, unless TF_ENABLE_ONEDNN_OPTS says which.
"""

import dataclasses
import functools
import math
import os
import pathlib
import statistics
import time

import machine
import numpy as np
import tensorflow as tf
from absl import app, flags
from peers import PP_SHAPE, pixel_cnn_pp

from pixelvae_tf import noise, presets, pretrained, runs, sampling, xla
from pixelvae_tf.config import Config

_MODELS = flags.DEFINE_list(
    "models",
    ["binarized_mnist/gated_pixel_vae_no_upsampling", "two_layers", "pixel_cnn_pp", "lsun_64/hierarchical"],
    "Workdirs, presets (trained, if their weights come with the package), two_layers, pixel_cnn_pp.",
)
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "16", "64"], "Images at once.")
ORACLE_PIXELS = 8
MAX_SECONDS = 30.0
ROUNDS_BATCHES = 10
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


def in_ways(function, batch: int) -> dict:
    """The same without XLA, with it, and with it in parts; each has the batch first in its keyword arguments."""
    ways = {"": tf.function(function), ", XLA": xla.compiled(function)}
    if 1 < PARTS <= batch:
        ways[f", XLA, {PARTS} parts"] = xla.compiled(function, PARTS)
    return ways


def rounds(model, batch: int, number: int) -> str:
    """How often "rows" repeats, over `number` batches."""

    @tf.function
    def count(seeds):
        latents, labels = model.sample_prior(seeds)[:1], labels_of(model, batch)
        numbers = model.likelihood(latents, labels=labels).noise(seeds, noise.stream(noise.Kind.PIXELS))
        stepper = model.network.stepper(first_order(model, latents, labels), batch, tuple(numbers.shape[1:3]))
        numbers = numbers[..., : model.site.noise_size]
        return sampling.rows(stepper, model.network.channel_groups, model.site, numbers)[1]

    first = range(0, number * batch, batch)
    counts = np.concatenate([np.atleast_1d(count(tf.range(start, start + batch, dtype=tf.int64))) for start in first])
    return f"rounds per row: median {np.median(counts):g}, mean {counts.mean():.1f}, max {counts.max()}"


def first_order(model, latents: list[tf.Tensor], labels: tf.Tensor | None) -> tf.Tensor | None:
    """What the network is given for images in the first of the model's orders."""
    which = tf.zeros(tf.shape(latents[0])[:1] if latents else [1], tf.int32)
    return model.network_context(model.context(latents, labels), which)


def labels_of(model, batch: int) -> tf.Tensor | None:
    """Labels of a batch, or None for a model that takes none."""
    return tf.range(batch) % model.config.num_classes if model.config.num_classes else None


def measure(model, batch: int, methods: list[str], trained: bool) -> list[str]:
    """Prints the table of one batch size; returns the methods that are worth measuring on a larger one."""
    seeds, labels = tf.range(batch, dtype=tf.int64), labels_of(model, batch)
    latents = model.sample_prior(seeds)[:1]
    grid, context = model.likelihood(latents, labels=labels), first_order(model, latents, labels)
    numbers = grid.noise(seeds, noise.stream(noise.Kind.PIXELS))[..., : model.site.noise_size]
    images = tf.function(lambda: model.decode(latents, seeds, labels=labels))()

    inputs = {"noise": numbers} if context is None else {"noise": numbers, "context": context}
    given = {"images": images}
    if latents:
        given["z1"] = latents[0]
    if labels is not None:
        given["labels"] = labels

    def autoregression(context):
        return sampling.Autoregression(model.network, model.site, context)

    def draw(method: str):
        return lambda noise, context=None: sampling.sample(autoregression(context), noise, method)

    def log_prob(images, z1=None, labels=None):
        return model.likelihood([] if z1 is None else [z1], labels=labels).log_prob(images)

    def few_pixels():
        return sampling.oracle(autoregression(context), numbers, num_locations=ORACLE_PIXELS)

    forward = {
        "forward pass" + way: median_seconds(functools.partial(function, **given))
        for way, function in in_ways(log_prob, batch).items()
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
        remark = "" if method == "cached" else rounds(model, batch, ROUNDS_BATCHES if trained else 1)
        for way, function in in_ways(draw(method), batch).items():
            same = tf.reduce_mean(tf.cast(function(**inputs) == images, tf.float32))
            note = "" if same == 1.0 else f"; {same:.2%} of the values are those of auto"
            seconds = median_seconds(functools.partial(function, **inputs))
            taken[method] = min(taken[method], seconds)
            report(method + way, seconds, remark + note)
    whole = tf.function(lambda: model.sample(seeds, labels=labels))
    report("model.sample", median_seconds(whole), "auto; noise and latents too")
    top = tf.reshape(tf.range(height) < height // 2, (1, height, 1, 1))
    known = sampling.Known(images, tf.broadcast_to(top, (batch, height, width, 1)))
    drawn, filled = (
        median_seconds(tf.function(lambda known=known: model.decode(latents, seeds, labels=labels, known=known)))
        for known in (None, known)
    )
    report("half an image", filled, f"auto; the lower half, given the upper one: {filled / drawn:.0%} of the whole")
    if fastest * ORACLE_PIXELS * model.network.channel_groups < MAX_SECONDS:
        report("oracle (from 8 pixels)", median_seconds(tf.function(few_pixels), 3) * height * width / ORACLE_PIXELS)
    return [method for method in methods if taken[method] < 5 * min(taken.values())]


def find(name: str):
    """(model, whether it is trained) of a name of --models."""
    if pathlib.Path(name, runs.CONFIG).is_file():
        return runs.load(name)[0], True
    if name in pretrained.names():
        return pretrained.load(name)[0], True
    if name == "pixel_cnn_pp":
        return runs.build(Config(model=pixel_cnn_pp(PP_SHAPE))), False
    config = presets.get("binarized_mnist/gated_pixel_vae_no_upsampling" if name == "two_layers" else name)
    if name == "two_layers":
        config.model.pixels = dataclasses.replace(config.model.pixels, num_layers=2, filters=32)
    return runs.build(config), False


def main(argv: list[str]) -> None:
    """Measures every model and batch size."""
    del argv
    if machine.run_with_both_settings():
        return
    print(machine.describe())
    start = time.perf_counter()
    for name in _MODELS.value:
        model, trained = find(name)
        device = tf.config.list_physical_devices()[-1].device_type
        print(f"\n{name}: {model.count_params()} weights, {'trained' if trained else 'untrained'}, {device}")
        methods = ["cached", "rows"]
        for batch in map(int, _BATCH_SIZES.value):
            methods = measure(model, batch, methods, trained)
    print(f"\n{(time.perf_counter() - start) / 60:.1f} minutes in all")


if __name__ == "__main__":
    app.run(main)
