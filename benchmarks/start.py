"""What the start of training is worth: the bound of colour models after equal steps, from different starts.

    python benchmarks/start.py --data_dir=DIR --size=16 --steps=800 --seeds=3 --output=start_16.jsonl

`cifar10/hierarchical_tiny` and its one-level ablation, on centre crops of CIFAR-10, from

- noise: embeddings of pixel values start from noise, and feature maps of latents enter at full gain;
- ordered: embeddings start in the order of the values;
- as it is: feature maps of latents also enter with gain 0;
- one table: as it is, but with one embedding for all channels, where it has one for each;
- one for all: the encoder too sees the vectors of that one embedding, where it sees the values on [-1, 1]. The released
  program does so.

Every run's bounds on the first validation images are appended to --output as they come, and a run that is there is not
done again; so it goes on where it was. At the end prints a Markdown table: means over the seeds, with the standard
error where there are several.
"""

import contextlib
import dataclasses
import functools
from unittest import mock

import numpy as np
import short_runs
from absl import app, flags

from pixelvae_tf import data, presets
from pixelvae_tf.presets import registry, variants

_DATA_DIR = flags.DEFINE_string("data_dir", "", "TFDS' data directory.")
_SIZE = flags.DEFINE_integer(
    "size", 16, "Side of the centre crops; 32 for whole images.", lower_bound=16, upper_bound=32
)
_STEPS = flags.DEFINE_integer("steps", 800, "Steps of 16 images.")
_EVERY = flags.DEFINE_integer("every", 200, "Steps between two evaluations.")
_LEARNING_RATE = flags.DEFINE_float("learning_rate", None, "Adam's, at its highest; by default the presets'.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each kind.")
_OUTPUT = flags.DEFINE_string("output", None, "Outcomes, a line of JSON each.", required=True)
BATCH, NUM_VALIDATION = 16, 256
MODELS = {"two levels": "cifar10/hierarchical_tiny", "one level": "cifar10/one_level_tiny"}
STARTS = ("noise", "ordered", "as it is", "one table", "one for all")
_STARTS = flags.DEFINE_list("starts", list(STARTS), f"Of {', '.join(STARTS)}.")


@contextlib.contextmanager
def start_from(start: str):
    """Models built inside start as the name says."""
    import keras

    from pixelvae_tf.layers import context, inputs
    from pixelvae_tf.layers.weight_norm import WeightNormConv2D
    from pixelvae_tf.models.hierarchy import Hierarchy

    def full_gain(layer, shape):
        WeightNormConv2D.build(layer, (None, 1, 1, shape[-1]) if len(shape) == 2 else shape)

    with contextlib.ExitStack() as stack:
        if start == "noise":
            noise = functools.partial(keras.initializers.RandomNormal, stddev=1.0)
            stack.enter_context(mock.patch.object(inputs, "OrderedValues", noise))
        if start in ("noise", "ordered"):
            stack.enter_context(mock.patch.object(context.ContextProjection, "build", full_gain))
        if start in ("one table", "one for all"):
            stack.enter_context(mock.patch.multiple(inputs.EmbedPixels, build=_build_one_table, fold=_fold_one_table))
        if start == "one for all":
            stack.enter_context(mock.patch.multiple(Hierarchy, build=_build_embedded, _posterior=_posterior_embedded))
        yield


def _build_one_table(layer, x_shape, context_shape=None) -> None:
    from pixelvae_tf.layers import inputs

    shape, layer.channels = (1, layer.num_values, layer.dim), x_shape[-1]
    layer.table = layer.add_weight(name="table", shape=shape, initializer=inputs.OrderedValues())


def _fold_one_table(layer) -> tuple:
    import tensorflow as tf

    return (tf.cast(layer.table[0], layer.compute_dtype),) * layer.channels


def _build_embedded(model, input_shape=None) -> None:
    if model.built:
        return
    embed, images = model.network.layers[0], (None, *model.config.image_shape)
    model.network.build(images, model.network_context_shape())
    features = embed.compute_output_shape(images)
    for index, level in enumerate(model.levels):
        level.build(features, model._context_shape(index + 1))
        features = level.encoder.compute_output_shape(features)
    model.built = True


def _posterior_embedded(model, images, training=False) -> list:
    features, posteriors = model.network.layers[0](images), []
    for level in model.levels:
        features, posterior = level.encode(features, training)
        posteriors.append(posterior)
    return posteriors


def crops(image_set, size: int):
    """The centres of the images."""
    first = (image_set.images.shape[1] - size) // 2
    centre = slice(first, first + size)
    return dataclasses.replace(image_set, images=np.ascontiguousarray(image_set.images[:, centre, centre]))


def run(model: str, start: str, seed: int) -> dict[int, dict]:
    """The reports by step."""
    config = registry.changed(presets.get(MODELS[model]), variants.NO_FREE_NATS)  # one objective for both
    config.data.data_dir, config.train.batch_size, config.train.seed = _DATA_DIR.value, BATCH, seed
    config.train.learning_rate = _LEARNING_RATE.value or config.train.learning_rate
    # The beginning of the preset's schedules.
    config.train.steps = max(config.train.steps, _STEPS.value)
    size = _SIZE.value
    config.model.image_shape = (size, size, 3)
    for level in config.model.levels[:-1]:
        level.grid = level.size_above((size, size))
    images = crops(data.load(config.data, "train"), size)
    validation = crops(data.load(config.data, "validation").first(NUM_VALIDATION), size)
    with start_from(start):
        return short_runs.train(f"{model}, {start}", config, images, validation, _STEPS.value, _EVERY.value)


def main(_) -> None:
    """Runs what is missing, and prints the table."""
    if unknown := set(_STARTS.value) - set(STARTS):
        raise app.UsageError(f"--starts must be of {', '.join(STARTS)}. Received: {', '.join(sorted(unknown))}")
    options = {"size": _SIZE.value, "steps": _STEPS.value, "every": _EVERY.value}
    options["learning_rate"] = _LEARNING_RATE.value
    outcomes = short_runs.Outcomes(_OUTPUT.value, _SEEDS.value, **options)
    for seed in range(_SEEDS.value):
        for start in _STARTS.value:
            for model in MODELS:
                if not outcomes.has(seed, model=model, start=start):
                    outcomes.add(seed, run(model, start, seed), model=model, start=start)
    bounds = outcomes.bounds(("model", "start"))
    steps = sorted({step for _, _, step in bounds})
    rows = [
        [model, start, *(short_runs.mean_and_error(bounds[model, start, step]) for step in steps)]
        for start in _STARTS.value
        for model in MODELS
    ]
    print(short_runs.markdown([["model", "start", *map(str, steps)], *rows]))


if __name__ == "__main__":
    app.run(main)
