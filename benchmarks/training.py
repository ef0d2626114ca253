"""Training: images/s, and the share of what the machine's matrix product does, side by side in one run.

    python benchmarks/training.py [--steps=5]

- the 12-layer preset of the paper's best row, its kernels cropped to what their masks let through, beside the same
  model with whole k x k kernels (equal numbers, checked);
- PixelCNN++ beside `tfp.distributions.PixelCNN` at equal size: blocks, filters, resolutions, mixtures, dropout;
- hierarchies with activations kept and rematerialised, each in a process of its own, so that the peak of its memory
  is its own: the trainer's whole step, with Adam and the average of the weights.

A step of the first two is loss, gradient and a plain update of all weights. "GFLOP/s" counts twice the multiply-adds
of the causal arithmetic, three times over (the forward pass, and the gradients of inputs and of weights); "share" is
that of a float32 matrix product measured in the same run. Each time is the median of several steps after one that
compiles.
"""

import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf
from absl import app, flags
from peers import pixel_cnn_pp, tfp_pixel_cnn

from pixelvae_tf import bounds, layers, presets, runs
from pixelvae_tf.config import Config
from pixelvae_tf.layers.weight_norm import multiply_adds
from pixelvae_tf.train import steps as steps_lib

_STEPS = flags.DEFINE_integer("steps", 5, "Timed steps of each model.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images of a step of the 12-layer model.", lower_bound=1)
_PP_BATCH_SIZE = flags.DEFINE_integer("pp_batch_size", 16, "Images of a step of PixelCNN++.", lower_bound=1)
_PARTS = flags.DEFINE_multi_enum(
    "part", ["family", "hierarchies"], ["family", "hierarchies"], "What is measured; may be given several times."
)
_HIERARCHY_BATCH_SIZE = flags.DEFINE_integer("hierarchy_batch_size", 16, "Images of a hierarchy's step.", lower_bound=1)
_MEASURE = flags.DEFINE_string("measure", None, "A preset to measure in this process, printed as JSON.")
_REMATERIALIZE = flags.DEFINE_bool("rematerialize", False, "With --measure: whether its activations are.")
HIERARCHIES = ("lsun_32/hierarchical_small", "lsun_64/hierarchical")
PP_SHAPE = (32, 32, 3)
RATE = 1e-4


def matrix_product_rate(size: int = 2048, repeats: int = 8) -> float:
    """FLOP/s of the best of several float32 matrix products."""
    a = tf.random.stateless_normal((size, size), (1, 2))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)))
    product()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        product().numpy()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def step_seconds(loss, variables: list[tf.Variable]) -> float:
    """Median seconds of a training step."""

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = loss()
        for variable, gradient in zip(variables, tape.gradient(value, variables), strict=True):
            if gradient is not None:
                variable.assign_sub(RATE * tf.convert_to_tensor(gradient))
        return value

    step()
    seconds = []
    for _ in range(_STEPS.value):
        start = time.perf_counter()
        step().numpy()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


@contextlib.contextmanager
def whole_kernels():
    """Causal convolutions made inside compute k x k kernels, zeros and all."""
    vertical, horizontal = layers.VerticalConv2D.call, layers.HorizontalConv2D.call

    def same(x, kernel, bias):
        y = tf.nn.conv2d(x, kernel, 1, "SAME")
        return y if bias is None else y + bias

    def whole_vertical(self, x, context=None, training=False, seed=None):
        kernel, bias = self.folded()
        rows, columns = self.kernel_size
        return same(x, tf.pad(kernel, ((0, columns - rows), (0, 0), (0, 0), (0, 0))), bias)

    def whole_horizontal(self, x, context=None, training=False, seed=None):
        kernel, bias = self.folded()
        right = 2 * self.reach + 1 - self.kernel_size[1]
        return same(x, tf.pad(kernel, ((self.reach, self.reach), (0, right), (0, 0), (0, 0))), bias)

    layers.VerticalConv2D.call, layers.HorizontalConv2D.call = whole_vertical, whole_horizontal
    try:
        yield
    finally:
        layers.VerticalConv2D.call, layers.HorizontalConv2D.call = vertical, horizontal


def elbo_loss(model, images: tf.Tensor):
    """The loss of a step of ours, dropout on."""
    seeds = tf.range(images.shape[0], dtype=tf.int64)
    return lambda: (
        -tf.reduce_mean(bounds.elbo(model, images, seeds, training=True, dropout_seed=tf.constant([1, 2])).elbo_nats)
    )


def random_images(batch: int, shape: tuple[int, int, int], num_values: int) -> tf.Tensor:
    """Noise: the work does not depend on the values."""
    return tf.constant(np.random.default_rng(0).integers(0, num_values, (batch, *shape)), tf.int32)


def measure(name: str, batch_size: int, rematerialize: bool) -> dict:
    """Runs the trainer's loop on noise; the peak is of this process."""
    config = presets.get(name)
    config.train.batch_size, config.train.rematerialize = batch_size, rematerialize
    strategy = tf.distribute.get_strategy()
    state = steps_lib.TrainState(config)
    images = random_images(batch_size, config.model.image_shape, 256)
    batch = {"images": tf.cast(images, tf.uint8), "seeds": tf.range(batch_size, dtype=tf.int64)}
    iterator, loop = (
        iter(tf.data.Dataset.from_tensors(batch).repeat()),
        steps_lib.make_training_loop(strategy, state, config),
    )
    loop(iterator, tf.constant(1))
    seconds = []
    for _ in range(_STEPS.value):
        start = time.perf_counter()
        loop(iterator, tf.constant(1)).loss_nats.numpy()
        seconds.append(time.perf_counter() - start)
    if tf.config.list_physical_devices("GPU"):
        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "weights": state.model.count_params(),
        "multiply_adds": multiply_adds(state.model),
        "seconds": statistics.median(seconds),
        "peak_bytes": peak,
    }


def hierarchies() -> None:
    """Measures hierarchies, each in a process of its own."""
    batch = _HIERARCHY_BATCH_SIZE.value
    print(f"{f'batches of {batch}':44}{'weights':>12}{'multiply-adds':>15}{'images/s':>10}{'peak GiB':>10}")
    for name in HIERARCHIES:
        for rematerialize in (False, True):
            command = [sys.executable, __file__, f"--measure={name}", f"--rematerialize={rematerialize}"]
            command += [f"--hierarchy_batch_size={batch}", f"--steps={_STEPS.value}"]
            found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            shown = "  rematerialised" if rematerialize else name
            print(
                f"{shown:44}{found['weights']:12,}{found['multiply_adds'] / 1e9:13.1f} G"
                f"{batch / found['seconds']:10.2f}{found['peak_bytes'] / 2**30:10.2f}",
                flush=True,
            )


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    if _MEASURE.value is not None:
        print(json.dumps(measure(_MEASURE.value, _HIERARCHY_BATCH_SIZE.value, _REMATERIALIZE.value)))
        return
    if "family" in _PARTS.value:
        family()
    if "hierarchies" in _PARTS.value:
        hierarchies()


def family() -> None:
    """Measures the 12-layer model and PixelCNN++, side by side with what they are compared with."""
    rate = matrix_product_rate()
    print(f"matrix product: {rate / 1e9:.0f} GFLOP/s, {tf.config.list_physical_devices()[-1].device_type}")
    print(f"{'':44}{'weights':>10}{'step s':>9}{'images/s':>10}{'GFLOP/s':>9}{'share':>7}")

    def report(name: str, batch: int, seconds: float, weights: int, adds: int | None = None) -> None:
        counted = ""
        if adds is not None:
            flops = 6 * adds * batch / seconds
            counted = f"{flops / 1e9:9.0f}{flops / rate:7.0%}"
        print(f"{name:44}{weights:10}{seconds:9.3f}{batch / seconds:10.1f}{counted}", flush=True)

    name = "binarized_mnist/gated_pixel_vae_no_upsampling"
    model = runs.build(presets.get(name))
    images = random_images(_BATCH_SIZE.value, (28, 28, 1), 2)
    loss, variables = elbo_loss(model, images), [variable.value for variable in model.trainable_variables]
    expected, adds = loss(), multiply_adds(model)
    cropped = step_seconds(loss, variables)
    report(f"{name.split('/')[1]}", _BATCH_SIZE.value, cropped, model.count_params(), adds)
    with whole_kernels():
        model = runs.build(presets.get(name))
        loss, variables = elbo_loss(model, images), [variable.value for variable in model.trainable_variables]
        # Sums of 784 float32 log-probabilities.
        np.testing.assert_allclose(loss(), expected, rtol=1e-4)
        whole = step_seconds(loss, variables)
        report("  with whole masked kernels", _BATCH_SIZE.value, whole, model.count_params(), adds)
    print(f"  cropped kernels train {whole / cropped:.2f} times as fast\n")

    model = runs.build(Config(model=pixel_cnn_pp(PP_SHAPE)))
    images = random_images(_PP_BATCH_SIZE.value, PP_SHAPE, 256)
    variables = [variable.value for variable in model.trainable_variables]
    ours = step_seconds(elbo_loss(model, images), variables)
    report("PixelCNN++, ours", _PP_BATCH_SIZE.value, ours, model.count_params(), multiply_adds(model))
    theirs_model = tfp_pixel_cnn(PP_SHAPE)
    real = tf.cast(images, tf.float32)
    variables = list(theirs_model.trainable_variables)
    theirs = step_seconds(lambda: -tf.reduce_mean(theirs_model.log_prob(real, training=True)), variables)
    weights = sum(int(tf.size(variable)) for variable in variables)
    report("PixelCNN++, tfp.distributions.PixelCNN", _PP_BATCH_SIZE.value, theirs, weights)
    print(f"  ours trains {theirs / ours:.2f} times as fast")


if __name__ == "__main__":
    app.run(main)
