"""Training: images/s, and the share of what the machine's matrix product does, side by side in one run.

    python benchmarks/training.py [--part=presets] [--presets=lsun_64/hierarchical] [--variants=float32,jit_compile]

- presets: the trainer's whole step with its input, on noise, each preset and variant in a process of its own: as it is,
  compiled by XLA, in bfloat16, with activations rematerialised, and mirrored over devices (of a CPU: over its cores);
  beside it the input pipeline with the model left out;
- input: the input pipeline alone, from everywhere that images can come from;
- profile: where the time of the operations of a step goes;
- kernels: the 12-layer preset of the paper's best row, its kernels cropped to what their masks let through, beside the
  same model with whole k x k kernels (equal numbers, checked). A step is loss, gradient and a plain update there.

peers.py has other libraries' models beside ours.

"GFLOP/s" counts twice the multiply-adds of the causal arithmetic, three times over (the forward pass, and the gradients
of inputs and of weights); "share" is that of a float32 matrix product measured just before and after. Each time is the
median of several steps after one that compiles. Batches are as large as the preset's, but no larger than --gflop
allows. On a CPU everything is measured with oneDNN and without it, unless TF_ENABLE_ONEDNN_OPTS says which.
"""

import collections
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import machine
import numpy as np
import roofline
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import app, flags, logging
from PIL import Image

from pixelvae_tf import bounds, data, layers, presets, runs
from pixelvae_tf.config import Config, DataConfig
from pixelvae_tf.data import prepare, records
from pixelvae_tf.layers.weight_norm import multiply_adds
from pixelvae_tf.train import steps as steps_lib
from pixelvae_tf.train import strategies

BEST = "binarized_mnist/gated_pixel_vae_no_upsampling"
PRESETS = [name for name in presets.names() if name.startswith(("binarized_mnist/", "cifar10/", "lsun_64/"))]
VARIANTS = {
    "float32": {},
    "jit_compile": {"jit_compile": True},
    "mixed_bfloat16": {"dtype": "mixed_bfloat16"},
    "rematerialize": {"rematerialize": True},
    "mirrored": {},
}
PARTS = ["presets", "input", "profile", "kernels"]
_PARTS = flags.DEFINE_multi_enum("part", PARTS, PARTS, "What is measured; may be given several times.")
_PRESETS = flags.DEFINE_list("presets", None, f"Of presets (else those of three data sets) and profile (else {BEST}).")
_VARIANTS = flags.DEFINE_list("variants", ["float32"], f"Of the first part: {', '.join(VARIANTS)}.")
_GFLOP = flags.DEFINE_integer("gflop", 200, "Most arithmetic of a step, in 10^9 operations.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 5, "Timed steps of each model.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images of a step of the 12-layer model.", lower_bound=1)
_MEASURE = flags.DEFINE_enum("measure", None, VARIANTS, "Measure a variant in this process, and print it as JSON.")
RATE = 1e-4
# Images of noise; the input pipeline walks through them in random order. Those of a folder are on disk.
NUM_IMAGES, NUM_FILES, FOLDERS = 50_000, 1_000, ("imagenet", "lsun")
INPUT_SHAPE, INPUT_BATCH_SIZE = (64, 64, 3), 64


def seconds_of(function: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


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
    return statistics.median(seconds_of(lambda: step().numpy()) for _ in range(_STEPS.value))


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
    return lambda: -tf.reduce_mean(bounds.elbo(model, images, seeds, dropout_seed=tf.constant([1, 2])).log_prob)


def random_images(number: int, shape: tuple[int, int, int], num_values: int) -> np.ndarray:
    """Noise: the work does not depend on the values."""
    return np.random.default_rng(0).integers(0, num_values, (number, *shape), np.uint8)


def in_memory(shape: tuple[int, int, int], folder: pathlib.Path, num_values: int = 256) -> data.ImageSet:
    """Noise as the sets of `data.DATA_SETS` are held."""
    del folder
    return data.ImageSet(random_images(NUM_IMAGES, shape, num_values), None, "noise", num_values, "none")


def from_folder(shape: tuple[int, int, int], folder: pathlib.Path) -> data.ImageSet:
    """Noise on disk, as pixelvae-prepare leaves it."""
    raw, prepared = folder / "raw", folder / "prepared"
    raw.mkdir()
    for number, image in enumerate(random_images(NUM_FILES, shape, 256)):
        Image.fromarray(image).save(raw / f"{number}.png")
    prepare.prepare(raw, prepared, prepare.Preparation(shape[0], shape[2], duplicate_distance=-1))
    return data.load(DataConfig("noise", folder=str(prepared)), "train", shape)


def from_tfds(shape: tuple[int, int, int], folder: pathlib.Path) -> data.ImageSet:
    """Noise on disk as PNG in ArrayRecord files, as TFDS prepares it."""
    examples = [(number, {"image": image}) for number, image in enumerate(random_images(NUM_FILES, shape, 256))]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="noise",
        version="1.0.0",
        features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=shape)}),
        split_datasets={"train": examples},
        data_dir=folder,
        file_format=records.FORMAT,
    )
    return data.load(DataConfig("noise", data_dir=str(folder)), "train")


def noise_images(config: Config, folder: pathlib.Path) -> data.ImageSet:
    """Images such as a preset is trained on."""
    if config.data.name.startswith(FOLDERS):
        return from_folder(config.model.image_shape, folder)
    images = in_memory(config.model.image_shape, folder, config.model.num_values)
    labels = np.zeros(NUM_IMAGES, np.int64) if config.model.num_classes else None
    return dataclasses.replace(images, labels=labels)


def input_seconds(batches) -> float:
    """Seconds that the input of a step takes, with no model that it could wait for."""
    batches = iter(batches)
    # More than are prefetched.
    for _ in itertools.islice(batches, 8):
        pass
    start, number = time.perf_counter(), 0
    while time.perf_counter() < start + 1.0:
        next(batches)
        number += 1
    return (time.perf_counter() - start) / number


class Training:
    """A preset's training loop on noise.

    Args:
      name: of the preset.
      variant: one of `VARIANTS`.
      folder: gets images that are to be on disk.
    """

    def __init__(self, name: str, variant: str, folder: pathlib.Path):
        if variant == "mirrored" and not tf.config.list_physical_devices("GPU"):
            strategies.split_cpu(os.cpu_count())
        strategy = strategies.make_strategy("mirrored" if variant == "mirrored" else "one_device")
        replicas = strategy.num_replicas_in_sync
        config = presets.get(name)
        for option, value in VARIANTS[variant].items():
            setattr(config.train, option, value)
        with strategy.scope():
            self.state = steps_lib.TrainState(config)
        self.multiply_adds = multiply_adds(self.state.model)
        most = int(_GFLOP.value * 1e9 / (6 * self.multiply_adds))
        self.batch_size = max(1, min(config.train.batch_size, most) // replicas) * replicas
        config.train.batch_size = self.batch_size
        images = noise_images(config, folder)
        self.input = strategy.distribute_datasets_from_function(
            lambda context: data.training_batches(images, self.batch_size, 0, input_context=context)
        )
        self._loop = steps_lib.make_training_loop(strategy, self.state, config)
        self._iterator = iter(self.input)

    def step(self) -> float:
        """Seconds of a step."""
        return seconds_of(lambda: self._loop(self._iterator, tf.constant(1)).loss_nats.numpy())


def measure(name: str, variant: str) -> dict:
    """Measures a preset; the peak of the memory is of this process."""
    with tempfile.TemporaryDirectory() as folder:
        training = Training(name, variant, pathlib.Path(folder))
        training.step()
        seconds = statistics.median(training.step() for _ in range(_STEPS.value))
        seconds_of_input = input_seconds(training.input)
    if tf.config.list_physical_devices("GPU"):
        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "weights": training.state.model.count_params(),
        "multiply_adds": training.multiply_adds,
        "batch_size": training.batch_size,
        "seconds": seconds,
        "input_seconds": seconds_of_input,
        "peak_bytes": peak,
    }


def all_presets() -> None:
    """Measures presets and variants, each in a process of its own."""
    print(f"{'':46}{'weights':>11}{'mult.-adds':>11}{'batch':>6}{'images/s':>10}{'GFLOP/s':>9}", end="")
    print(f"{'share':>7}{'input alone':>13}{'peak GiB':>10}")
    for name, variant in itertools.product(_PRESETS.value or PRESETS, _VARIANTS.value):
        before = roofline.matrix_product_rate()
        command = [sys.executable, __file__, f"--measure={variant}", f"--presets={name}", f"--gflop={_GFLOP.value}"]
        outcome = subprocess.run([*command, f"--steps={_STEPS.value}"], stdout=subprocess.PIPE, check=False)
        shown = name if variant == _VARIANTS.value[0] else f"  {variant}"
        if outcome.returncode:
            print(f"{shown:46} failed, as it says above", flush=True)
            continue
        found, rate = json.loads(outcome.stdout), max(before, roofline.matrix_product_rate())
        batch, seconds = found["batch_size"], found["seconds"]
        flops = 6 * found["multiply_adds"] * batch / seconds
        print(
            f"{shown:46}{found['weights']:11,}{found['multiply_adds'] / 1e6:9.0f} M{batch:6}{batch / seconds:10.1f}"
            f"{flops / 1e9:9.0f}{flops / rate:7.0%}{batch / found['input_seconds']:11.0f}/s"
            f"{found['peak_bytes'] / 2**30:10.2f}",
            flush=True,
        )


def all_inputs() -> None:
    """Measures the input pipeline from everywhere that images can come from."""
    print(f"\nthe input pipeline alone: {INPUT_SHAPE} in batches of {INPUT_BATCH_SIZE}")
    for name, source in {"in memory": in_memory, "by pixelvae-prepare": from_folder, "by TFDS": from_tfds}.items():
        with tempfile.TemporaryDirectory() as folder:
            images = source(INPUT_SHAPE, pathlib.Path(folder))
            seconds = input_seconds(data.training_batches(images, INPUT_BATCH_SIZE, 0))
        print(f"{name:24}{INPUT_BATCH_SIZE / seconds:10.0f} images/s", flush=True)


def profile(name: str) -> None:
    """Prints where the time of the operations of a preset's step goes, as TensorFlow's profiler saw it."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        training = Training(name, "float32", pathlib.Path(folder))
        training.step()
        tf.profiler.experimental.start(folder)
        taken = sum(training.step() for _ in range(_STEPS.value))
        tf.profiler.experimental.stop()
        (log,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(log.read_bytes())
    seconds, calls = collections.Counter(), collections.Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            # An operation's name, then its kind.
            kind = re.fullmatch(r"[^: ]+:_?(?:Mkl)?(?:Native)?(\w+)", plane.event_metadata[event.metadata_id].name)
            if kind is not None:
                seconds[kind[1]] += event.duration_ps / 1e12
                calls[kind[1]] += 1
    total = sum(seconds.values())
    products = sum(value for kind, value in seconds.items() if "Conv2D" in kind or "MatMul" in kind)
    print(f"\n{name}: a step of {training.batch_size} images, {taken / _STEPS.value:.3f} s while it is watched")
    print(f"{'operations':42}{'calls':>7}{'ms':>8}{'share':>8}")
    print(f"{'all':42}{sum(calls.values()) // _STEPS.value:7}{total / _STEPS.value * 1e3:8.1f}")
    print(f"{'convolutions and matrix products':42}{'':7}{products / _STEPS.value * 1e3:8.1f}{products / total:8.1%}")
    for kind, value in seconds.most_common():
        if value >= 0.01 * total:
            each = value / _STEPS.value * 1e3
            print(f"  {kind:40}{calls[kind] // _STEPS.value:7}{each:8.1f}{value / total:8.1%}", flush=True)


def profiles() -> None:
    """Profiles one preset after the other."""
    for name in _PRESETS.value or [BEST]:
        profile(name)


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    if unknown := set(_VARIANTS.value) - set(VARIANTS):
        raise SystemExit(f"variants must be some of {', '.join(VARIANTS)}. Received: {', '.join(sorted(unknown))}")
    tf.get_logger().setLevel("WARNING")
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    if _MEASURE.value is not None:
        print(json.dumps(measure(_PRESETS.value[0], _MEASURE.value)))
        return
    if machine.run_with_both_settings():
        return
    print(machine.describe())
    for name, part in {"presets": all_presets, "input": all_inputs, "profile": profiles, "kernels": kernels}.items():
        if name in _PARTS.value:
            part()


def kernels() -> None:
    """Measures the 12-layer model with cropped and with whole kernels."""
    rate = roofline.matrix_product_rate()
    print(f"matrix product: {rate / 1e9:.0f} GFLOP/s, {tf.config.list_physical_devices()[-1].device_type}")
    print(f"{'':44}{'weights':>10}{'step s':>9}{'images/s':>10}{'GFLOP/s':>9}{'share':>7}")

    def report(name: str, batch: int, seconds: float, weights: int, adds: int | None = None) -> None:
        counted = ""
        if adds is not None:
            flops = 6 * adds * batch / seconds
            counted = f"{flops / 1e9:9.0f}{flops / rate:7.0%}"
        print(f"{name:44}{weights:10}{seconds:9.3f}{batch / seconds:10.1f}{counted}", flush=True)

    model = runs.build(presets.get(BEST))
    images = tf.constant(random_images(_BATCH_SIZE.value, (28, 28, 1), 2), tf.int32)
    loss, variables = elbo_loss(model, images), [variable.value for variable in model.trainable_variables]
    expected, adds = loss(), multiply_adds(model)
    cropped = step_seconds(loss, variables)
    report(BEST, _BATCH_SIZE.value, cropped, model.count_params(), adds)
    with whole_kernels():
        model = runs.build(presets.get(BEST))
        loss, variables = elbo_loss(model, images), [variable.value for variable in model.trainable_variables]
        # Sums of 784 float32 log-probabilities.
        np.testing.assert_allclose(loss(), expected, rtol=1e-4)
        whole = step_seconds(loss, variables)
        report("  with whole masked kernels", _BATCH_SIZE.value, whole, model.count_params(), adds)
    print(f"  cropped kernels train {whole / cropped:.2f} times as fast")


if __name__ == "__main__":
    app.run(main)
