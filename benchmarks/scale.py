"""Training on 1, 8 and 64 GPUs, on paper: step time, efficiency, what bounds it and what fits, from the models' graphs.

    python benchmarks/scale.py [--presets=lsun_64/hierarchical,cifar10/pixel_cnn_pp] [--gpu=H100] [--nocheck]

The graph of the trainer's step says how much arithmetic, how many bytes and how many operations a step of a replica has
(roofline.py), and the weights how large the all-reduce is. Each operation takes the longer of its arithmetic and its
bytes on the GPU, at --reached of the data sheet's rates; the ring all-reduce is added as if nothing overlapped.
No GPU was measured for it.

The same counts are held against a step measured here, in CPU seconds of all threads, on which a loaded machine has
little effect: the rates of the model's heaviest convolutions with their gradients, of minima and of empty operations
are measured first, and their times added up, since a CPU starts no operation while it computes another.
"""

import time
from typing import NamedTuple

import machine
import numpy as np
import roofline
import tensorflow as tf
from absl import app, flags

from pixelvae_tf import bounds, data, presets, runs
from pixelvae_tf.layers.weight_norm import multiply_adds
from pixelvae_tf.train import steps, trainer

_PRESETS = flags.DEFINE_list("presets", ["lsun_64/hierarchical", "cifar10/pixel_cnn_pp"], "What is trained.")
_GPU = flags.DEFINE_enum("gpu", "H100", ["A100", "H100", "H200"], "Which card.")
_BATCH = flags.DEFINE_integer("batch", 16, "Images of a replica's step whose graph is traced.", 1)
_REACHED = flags.DEFINE_float("reached", 0.4, "Share of the data sheet's arithmetic that convolutions reach.", 0.01, 1)
_CHECK = flags.DEFINE_bool("check", True, "Whether a step is measured here.")
_CHECK_BATCH = flags.DEFINE_integer("check_batch", 4, "Images of that step.", 1)


class Card(NamedTuple):
    """A data sheet: FLOP/s in TensorFloat-32 and bfloat16, bytes/s, bytes; bytes/s to the GPUs of its machine."""

    tf32: float
    bfloat16: float
    bandwidth: float
    memory: float
    link: float


CARDS = {
    "A100": Card(156e12, 312e12, 2.0e12, 80e9, 300e9),
    "H100": Card(495e12, 990e12, 3.35e12, 80e9, 450e9),
    "H200": Card(495e12, 990e12, 4.8e12, 141e9, 450e9),
}
# Between machines, a GPU's share of 8 x 400 Gb/s; and what starting a kernel takes.
NETWORK, START, GPUS_OF_A_MACHINE = 50e9, 6e-6, 8
MEMORY_KEPT_FREE = 0.1
GPUS = (1, 8, 64)


class Step:
    """The trainer's step of a preset on a batch of noise.

    Args:
      name: of the preset.
      batch: images of a step.
      **options: of `TrainConfig`.
    """

    def __init__(self, name: str, batch: int, **options):
        config = presets.get(name)
        config.train.batch_size = batch
        for option, value in options.items():
            setattr(config.train, option, value)
        strategy = trainer.make_strategy("one_device")
        with strategy.scope():
            self.state = steps.TrainState(config)
        model = self.state.model
        shape, num_values = config.model.image_shape, config.model.num_values
        noise = np.random.default_rng(0).integers(0, num_values, (4 * batch, *shape), np.uint8)
        labels = np.zeros(len(noise), np.int64) if config.model.num_classes else None
        dataset = data.training_batches(data.ImageSet(noise, labels, "noise", num_values, "none"), batch, 0)
        # With shapes that say how many images there are, or nothing could be counted.
        dataset = dataset.map(
            lambda parts: {name: tf.ensure_shape(part, (batch, *part.shape[1:])) for name, part in parts.items()}
        )
        self._loop, self._arguments = steps.make_training_loop(strategy, self.state, config), iter(dataset)
        self.weights_bytes, self.multiply_adds = 4 * model.count_params(), multiply_adds(model)

    def work(self) -> roofline.Work:
        """Of a step."""
        return roofline.work_of(self._loop.get_concrete_function(self._arguments, tf.constant(1)))

    def run(self) -> None:
        """Makes a step."""
        self._loop(self._arguments, tf.constant(1)).loss_nats.numpy()


def activation_bytes(name: str) -> float:
    """Bytes that the forward pass writes for one more image: at most what its gradient needs."""
    model = runs.build(presets.get(name))

    @tf.function(autograph=False)
    def forward(images, labels):
        seeds = tf.zeros([images.shape[0]], tf.int64)
        labels = labels if model.config.num_classes else None
        return bounds.elbo(model, images, seeds, labels, tf.constant([1, 2])).log_prob

    def written(batch: int) -> int:
        images = tf.TensorSpec((batch, *model.config.image_shape), tf.uint8)
        work = roofline.work_of(forward.get_concrete_function(images, tf.TensorSpec([batch], tf.int64)))
        return sum(operation.output_bytes for operation in work.operations)

    return written(2) - written(1)


def predict(name: str, card: Card) -> None:
    """Prints a preset's table."""
    step = Step(name, _BATCH.value)
    work, activations = step.work(), activation_bytes(name)
    # Weights, their average, Adam's two moments, gradients.
    fixed = 5 * step.weights_bytes
    room = card.memory * (1 - MEMORY_KEPT_FREE) - fixed
    most = 2 ** max(0, int(np.log2(room / activations)))
    print(
        f"\n{name}: a step of {_BATCH.value} images has {work.flops / 1e12:.2f} TFLOP, {work.bytes / 1e9:.1f} GB, "
        f"{len(work.operations):,} operations; all-reduce {step.weights_bytes / 1e6:.0f} MB"
    )
    print(
        f"memory: {fixed / 1e9:.2f} GB for weights, average, gradients and Adam, {activations / 1e9:.3f} GB an image: "
        f"a power of two up to {most} images fits {card.memory / 1e9:.0f} GB"
    )
    print(f"{'':10}{'GPUs':>6}{'ms':>9}{'images/s':>10}{'efficiency':>12}  bound by")
    for precision, rate in (("TF32", card.tf32), ("bfloat16", card.bfloat16)):
        # Halved activations; weights, moments and the all-reduce stay float32.
        gpu = roofline.Machine(_REACHED.value * rate, card.bandwidth * (2 if precision == "bfloat16" else 1), START)
        parts = work.seconds(gpu)
        alone = max(parts["arithmetic"] + parts["bytes"], parts["starts"])
        for number in GPUS:
            link = card.link if number <= GPUS_OF_A_MACHINE else NETWORK
            reduce = 2 * (number - 1) / number * step.weights_bytes / link
            whole = alone + reduce
            bound = parts | {"all-reduce": reduce}
            print(
                f"{precision:10}{number:6}{whole * 1e3:9.1f}{number * _BATCH.value / whole:10.0f}{alone / whole:12.0%}"
                f"  {max(bound, key=bound.get)}: " + ", ".join(f"{key} {s * 1e3:.1f}" for key, s in bound.items()),
                flush=True,
            )


def check(name: str) -> None:
    """Prints the prediction for this CPU beside a measured step."""
    step = Step(name, _CHECK_BATCH.value)
    work = step.work()
    here = roofline.measured(work, time.process_time)
    predicted = sum(work.seconds(here).values())
    taken = roofline.best_seconds(step.run, time.process_time, 3)
    print(
        f"{name}, {_CHECK_BATCH.value} images here: predicted {predicted:.2f} CPU s, measured {taken:.2f}: "
        f"{predicted / taken - 1:+.0%} ({here.flops / 1e9:.0f} GFLOP/s, {here.bandwidth / 1e9:.1f} GB/s, "
        f"{here.start * 1e6:.1f} us a start, a CPU second each)",
        flush=True,
    )


def main(argv: list[str]) -> None:
    """Predicts and checks."""
    del argv
    print(machine.describe())
    if _CHECK.value:
        for name in _PRESETS.value:
            check(name)
    for name in _PRESETS.value:
        predict(name, CARDS[_GPU.value])


if __name__ == "__main__":
    app.run(main)
