"""The time to the first result: CPU seconds of every first call, and how many operations its graph has.

    python benchmarks/first.py [--models=PRESET,...] [--actions=sample,export,...]

Each action runs in a process of its own, once TensorFlow is imported and the model has its weights:

- sample, complete, fit: the first call, of BATCH images;
- train: the first step of the trainer's loop;
- export: `exporter.export` on disk, with its check in another process;
- load: the SavedModel that "export" wrote, and the first answer of each of its signatures.

CPU seconds (user and system, of all threads and child processes) are this machine's, and depend little on what runs
beside them. Operations are those of a graph and of its function library, each function counted once: what
Python makes. Those of an action that traces several graphs are added up.
"""

import json
import pathlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable

import machine
import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from tensorflow.core.protobuf import saved_model_pb2

from pixelvae_tf import data, presets, pretrained
from pixelvae_tf.export import exporter
from pixelvae_tf.export.examples import example
from pixelvae_tf.export.options import ServingOptions
from pixelvae_tf.train import steps, trainer

MODELS = ["binarized_mnist/gated_pixel_vae_no_upsampling", "digits/gated_pixel_vae"]
ACTIONS = ["sample", "complete", "fit", "train", "export", "load"]
_MODELS = flags.DEFINE_list("models", MODELS, "Presets whose weights come with the package.")
_ACTIONS = flags.DEFINE_list("actions", ACTIONS, "What is measured, in this order; load needs export.")
_MEASURE = flags.DEFINE_enum("measure", None, ACTIONS, "Measure one action in this process, and print it as JSON.")
_FOLDER = flags.DEFINE_string("folder", None, "Where --measure exports to and loads from.")
BATCH = 16


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def operations(graph: tf.compat.v1.GraphDef) -> int:
    """Operations of a graph and of its function library."""
    return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)


def traced(function: Callable, *args) -> int:
    """Operations of a function as a graph."""
    concrete = tf.function(function, autograph=False).get_concrete_function(*args)
    return operations(concrete.graph.as_graph_def())


def random_images(model) -> np.ndarray:
    """Noise: the graphs do not depend on the values."""
    shape = (BATCH, *model.config.image_shape)
    return np.random.default_rng(0).integers(0, model.config.num_values, shape, np.uint8)


def sample(name: str, folder: pathlib.Path) -> tuple[Callable, Callable]:
    """The first call of `sample`."""
    model, seeds = pretrained.load(name)[0], tf.range(BATCH, dtype=tf.int64)
    return lambda: model.sample(seeds).numpy(), lambda: traced(model.sample, seeds)


def complete(name: str, folder: pathlib.Path) -> tuple[Callable, Callable]:
    """The first call of `complete`."""
    model, seeds = pretrained.load(name)[0], tf.range(BATCH, dtype=tf.int64)
    images = tf.constant(random_images(model))
    mask = tf.sequence_mask([images.shape[1] // 2] * BATCH, images.shape[1])[:, :, None, None]
    mask = tf.tile(mask, (1, 1, images.shape[2], 1))
    return lambda: model.complete(images, mask, seeds).numpy(), lambda: traced(model.complete, images, mask, seeds)


def fit(name: str, folder: pathlib.Path) -> tuple[Callable, Callable]:
    """`fit` on one batch."""
    model = pretrained.load(name)[0]
    images = random_images(model)
    model.compile("adam")

    return lambda: model.fit(images, batch_size=BATCH, verbose=0), lambda: traced(
        model.train_step, (tf.constant(images),)
    )


def train(name: str, folder: pathlib.Path) -> tuple[Callable, Callable]:
    """The first step of the trainer's loop."""
    strategy, config = trainer.make_strategy("one_device"), presets.get(name)
    config.train.batch_size = BATCH
    with strategy.scope():
        state = steps.TrainState(config)
    images = data.ImageSet(random_images(state.model), None, "noise", config.model.num_values, "none")
    batches = strategy.distribute_datasets_from_function(
        lambda context: data.training_batches(images, BATCH, 0, input_context=context)
    )
    loop, iterator = steps.make_training_loop(strategy, state, config), iter(batches)
    arguments = iterator, tf.constant(1)
    return (
        lambda: loop(*arguments).loss_nats.numpy(),
        lambda: operations(loop.get_concrete_function(*arguments).graph.as_graph_def()),
    )


def saved_graph(version: pathlib.Path) -> int:
    """Operations of a SavedModel, all its signatures together."""
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    return operations(saved.meta_graphs[0].graph_def)


def export(name: str, folder: pathlib.Path) -> tuple[Callable, Callable]:
    """Writes and checks a SavedModel."""
    model, _, card = pretrained.load(name)
    return lambda: exporter.export(model, card, folder / "model", ServingOptions()), lambda: saved_graph(
        folder / "model" / "1"
    )


def load(name: str, folder: pathlib.Path) -> tuple[Callable, Callable]:
    """Loads what `export` wrote and asks each signature once."""
    version = folder / "model" / "1"

    def answer() -> None:
        loaded = tf.saved_model.load(str(version))
        for signature in loaded.signatures.values():
            inputs = example(signature.structured_input_signature[1], BATCH)
            signature(**{key: tf.constant(value) for key, value in inputs.items()})

    return answer, lambda: saved_graph(version)


def measure(action: str, name: str, folder: pathlib.Path) -> dict[str, float]:
    """Runs an action in this process."""
    first, count = globals()[action](name, folder)
    start = cpu_seconds()
    first()
    seconds = cpu_seconds() - start
    return {"seconds": seconds, "operations": count()}


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    logging.set_verbosity(logging.ERROR)
    if _MEASURE.value:
        print(json.dumps(measure(_MEASURE.value, _MODELS.value[0], pathlib.Path(_FOLDER.value))))
        return
    print(machine.describe())
    for name in _MODELS.value:
        print(f"\n{name:48}{'CPU seconds':>12}{'operations':>12}")
        with tempfile.TemporaryDirectory() as folder:
            for action in _ACTIONS.value:
                command = [sys.executable, __file__, f"--measure={action}", f"--models={name}", f"--folder={folder}"]
                outcome = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                result = json.loads(outcome.stdout.splitlines()[-1])
                print(f"  {action:46}{result['seconds']:12.1f}{result['operations']:12,}", flush=True)


if __name__ == "__main__":
    app.run(main)
