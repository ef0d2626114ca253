"""What the start of training is worth: the bound of colour models after equal steps, from different starts.

    python benchmarks/start.py --data_dir=DIR --size=16 --steps=800 --seeds=3 --output=start_16.jsonl

`cifar10/hierarchical_tiny` and its one-level ablation, on centre crops of CIFAR-10, from

- noise: embeddings of pixel values start from noise, and feature maps of latents enter at full gain;
- ordered: embeddings start in the order of the values;
- as it is: feature maps of latents also enter with gain 0.

Every run's bounds on the first validation images are appended to --output as they come, and a run that is there is not
done again; so it goes on where it was. At the end prints a Markdown table: means over the seeds, with the standard
error where there are several.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import pathlib
import statistics
from unittest import mock

import numpy as np
from absl import app, flags

_DATA_DIR = flags.DEFINE_string("data_dir", "", "TFDS' data directory.")
_SIZE = flags.DEFINE_integer(
    "size", 16, "Side of the centre crops; 32 for whole images.", lower_bound=16, upper_bound=32
)
_STEPS = flags.DEFINE_integer("steps", 800, "Steps of 16 images.")
_EVERY = flags.DEFINE_integer("every", 200, "Steps between two evaluations.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each kind.")
_OUTPUT = flags.DEFINE_string("output", None, "Outcomes, a line of JSON each.", required=True)
BATCH, NUM_VALIDATION = 16, 256
MODELS = {"two levels": "cifar10/hierarchical_tiny", "one level": "cifar10/one_level_tiny"}
STARTS = ("noise", "ordered", "as it is")


@contextlib.contextmanager
def start_from(start: str):
    """Models built inside start as the name says."""
    import keras

    from pixelvae_tf.layers import context, inputs
    from pixelvae_tf.layers.weight_norm import WeightNormConv2D

    def full_gain(layer, shape):
        WeightNormConv2D.build(layer, (None, 1, 1, shape[-1]) if len(shape) == 2 else shape)

    with contextlib.ExitStack() as stack:
        if start == "noise":
            noise = functools.partial(keras.initializers.RandomNormal, stddev=1.0)
            stack.enter_context(mock.patch.object(inputs, "OrderedValues", noise))
        if start != "as it is":
            stack.enter_context(mock.patch.object(context.ContextProjection, "build", full_gain))
        yield


def crops(image_set, size: int):
    """The centres of the images."""
    first = (image_set.images.shape[1] - size) // 2
    centre = slice(first, first + size)
    return dataclasses.replace(image_set, images=np.ascontiguousarray(image_set.images[:, centre, centre]))


def train(model: str, start: str, seed: int) -> dict[int, float]:
    """The bound by step."""
    import tensorflow as tf

    from pixelvae_tf import data, presets
    from pixelvae_tf.train import evaluation, steps

    config = presets.get(MODELS[model])
    config.data.data_dir, config.train.batch_size, config.train.seed = _DATA_DIR.value, BATCH, seed
    config.train.steps = max(config.train.steps, _STEPS.value)
    size = _SIZE.value
    config.model.image_shape = (size, size, 3)
    for level in config.model.levels[:-1]:
        level.grid = level.size_above((size, size))
    config.validate()
    images = crops(data.load(config.data, "train"), size)
    validation = crops(data.load(config.data, "validation").first(NUM_VALIDATION), size)
    with start_from(start):
        state = steps.TrainState(config)
    state.start_from(images)
    loop = steps.make_training_loop(tf.distribute.get_strategy(), state, config)
    batches = iter(data.training_batches(images, BATCH, seed))
    evaluator = evaluation.Evaluator(state.model, batch_size=64)
    bounds = {}
    for step in range(_EVERY.value, _STEPS.value + 1, _EVERY.value):
        loop(batches, tf.constant(_EVERY.value))
        report = evaluator(validation)
        bounds[step] = report["bound_nats"]
        kl, usage = (", ".join(f"{x:.1f}" for x in report[key]) for key in ("kl_nats", "usage_latents_nats"))
        print(
            f"{model}, {start}, seed {seed}, step {step}: {bounds[step]:.0f} nats, KL {kl}, usage {usage}", flush=True
        )
    return bounds


def table(outcomes: list[dict]) -> str:
    """Means and standard errors as Markdown."""
    bounds = collections.defaultdict(list)
    for outcome in outcomes:
        for step, value in outcome["bounds_nats"].items():
            bounds[outcome["model"], outcome["start"], int(step)].append(value)
    steps = sorted({step for _, _, step in bounds})

    def cell(values: list[float]) -> str:
        error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.0f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.0f}{error}" if values else ""

    lines = [["model", "start", *map(str, steps)], ["---"] * (2 + len(steps))]
    for start in STARTS:
        for model in MODELS:
            lines.append([model, start, *(cell(bounds[model, start, step]) for step in steps)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(_) -> None:
    """Runs what is missing, and prints the table."""
    path = pathlib.Path(_OUTPUT.value)
    outcomes = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(outcome["model"], outcome["start"], outcome["seed"]) for outcome in outcomes}
    for seed in range(_SEEDS.value):
        for start in STARTS:
            for model in MODELS:
                if (model, start, seed) not in done:
                    bounds = train(model, start, seed)
                    outcomes.append({"model": model, "start": start, "seed": seed, "bounds_nats": bounds})
                    with path.open("a") as file:
                        file.write(json.dumps(outcomes[-1]) + "\n")
    print(table(json.loads(json.dumps(outcomes))))


if __name__ == "__main__":
    app.run(main)
