"""Sampling: the cache beside a forward pass per pixel, in forward passes of the same batch.

    python benchmarks/sampling.py [--config=PRESET | --workdir=DIR] [--batch_sizes=1,64]

For every batch size, in one run: the seconds of the fastest exact forward pass (with or without XLA), of the cached
sampler with and without XLA, and of the oracle, which computes the whole forward pass for every pixel, extrapolated
from 8 pixels. The ratios are what to compare; seconds are this machine's. Each is the median of several calls
after one that compiles.
"""

import statistics
import time

import tensorflow as tf
from absl import app, flags

from pixelvae_tf import noise, presets, runs, sampling

_CONFIG = flags.DEFINE_string("config", "binarized_mnist/gated_pixel_vae_no_upsampling", "A preset, untrained.")
_WORKDIR = flags.DEFINE_string("workdir", None, "A trained run instead.")
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "64"], "Images at once.")
ORACLE_PIXELS = 8


def median_seconds(function, repeats: int = 5) -> float:
    """Median time of a call, after one that compiles."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        tf.nest.map_structure(lambda x: x.numpy(), function())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(model, batch: int) -> None:
    """Prints the table of one batch size."""
    seeds = tf.range(batch, dtype=tf.int64)
    height, width, _ = model.config.image_shape
    latents = model.sample_prior(seeds)
    images = model.decode(latents, seeds)

    def forward():
        return model.likelihood(latents).log_prob(images)

    def cached():
        return model.decode(latents, seeds)

    def few_pixels():
        grid = model.likelihood(latents)
        values = grid.noise(seeds, noise.stream(noise.Kind.PIXELS))
        context = model.levels[0].condition(latents[0]) if latents else None
        return sampling.oracle(model.network, model.site, context, values, num_locations=ORACLE_PIXELS)

    passes = {
        "forward": median_seconds(tf.function(forward)),
        "forward, XLA": median_seconds(tf.function(forward, jit_compile=True)),
    }
    fastest = min(passes.values())
    samplers = {
        "cached": median_seconds(tf.function(cached)),
        "cached, XLA": median_seconds(tf.function(cached, jit_compile=True)),
        f"oracle (from {ORACLE_PIXELS} pixels)": median_seconds(tf.function(few_pixels), 3)
        * (height * width / ORACLE_PIXELS),
    }
    agree = tf.reduce_mean(tf.cast(tf.function(cached, jit_compile=True)() == images, tf.float32))
    print(f"\nbatch {batch}: fastest exact forward pass {fastest:.4f} s; cached and cached XLA agree in {agree:.2%}")
    print(f"{'':28}{'seconds':>10}{'images/s':>11}{'passes':>10}")
    for name, seconds in {**passes, **samplers}.items():
        print(f"{name:28}{seconds:10.4f}{batch / seconds:11.1f}{seconds / fastest:10.1f}")


def main(argv: list[str]) -> None:
    """Measures every batch size."""
    del argv
    if _WORKDIR.value:
        model, name = runs.load(_WORKDIR.value)[0], _WORKDIR.value
    else:
        model, name = runs.build(presets.get(_CONFIG.value)), _CONFIG.value
    print(f"{name}, {model.count_params()} weights, {tf.config.list_physical_devices()[-1].device_type}")
    for batch in map(int, _BATCH_SIZES.value):
        measure(model, batch)


if __name__ == "__main__":
    app.run(main)
