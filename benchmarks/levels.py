"""Do two levels of latents pay? PixelVAE's comparison of section 4.2 on scenes, over seeds, after equal steps.

    python benchmarks/levels.py --data_dir=DIR --layers=0 --output=levels_0.jsonl

A scene is 32x32, binary, and holds four digits of MNIST: more structure at a distance than a few small masked layers
see, and more of it than one vector tells easily. With --common they are of one class and size, which the vector can
tell for all of them; without, nothing is common. Trained are

- two levels: an 8x8 grid of latents, with an autoregressive prior, under a vector;
- one level: the vector alone, through an encoder and a decoder so much wider that it has as many weights;
- two-level VAE: pixels independent of each other given the latents;
- Gaussian prior: two levels, with a plain Gaussian at each location for p(z1 | z2).

Every run's bounds on the validation scenes are appended to --output as they come, and a run that is there is not done
again. At the end prints a Markdown table: means over the seeds with their standard errors, and the difference to two
levels, paired by seed. All runs see the same scenes, and those of one seed the same batches.

With --runs=FOLDER in place of --output, seed 0 of each kind is trained as a run there, to draw from:

    pixelvae-sample --workdir=FOLDER/two_levels --output=middle.png --vary=middle
"""

import pathlib
import statistics

import numpy as np
import short_runs
from absl import app, flags
from PIL import Image

from pixelvae_tf import data, presets
from pixelvae_tf.config import Config, DataConfig, MaskedResidualConfig, TrainConfig
from pixelvae_tf.presets import registry, variants

_DATA_DIR = flags.DEFINE_string("data_dir", "", "TFDS' data directory, for MNIST.")
_LAYERS = flags.DEFINE_integer("layers", 0, "Masked residual blocks behind the first masked layer.", lower_bound=0)
_FIRST = flags.DEFINE_integer("first_kernel_size", 3, "Of the first masked layer.", lower_bound=3)
_COMMON = flags.DEFINE_bool("common", False, "The digits of a scene are of one class and size.")
_STEPS = flags.DEFINE_integer("steps", 2000, "Steps of 32 scenes.")
_EVERY = flags.DEFINE_integer("every", 500, "Steps between two evaluations.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each kind.")
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Adam's, at its highest.")
_OUTPUT = flags.DEFINE_string("output", None, "Outcomes, a line of JSON each.")
_RUNS = flags.DEFINE_string("runs", None, "A folder, where a run of each kind is trained.")
flags.mark_flags_as_mutual_exclusive(["output", "runs"], required=True)
SIZE, NUM_TRAINING, NUM_VALIDATION, BATCH = 32, 30_000, 1000, 32
# What each changes in the config of two levels.
KINDS = {
    "two levels": lambda config: {},
    "one level": variants.one_level,
    "two-level VAE": lambda config: variants.TWO_LEVEL_VAE,
    "Gaussian prior": lambda config: variants.GAUSSIAN_PRIOR,
}
# Of the one-level model's widths, so that it has as many weights as two levels have.
WIDER = 1.125


def scenes(images: np.ndarray, labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Scenes of grey digits [N, 28, 28, 1] and their classes [N]: values 0 and 1, uint8 [number, SIZE, SIZE, 1].

    A quarter of the scene each, from 15 to 20 pixels high, up to two off its centre, cut off at the scene's edge.
    """
    rng = np.random.default_rng(seed)
    result, half = np.zeros((number, SIZE, SIZE, 1), np.uint8), SIZE // 2
    of_classes = [np.flatnonzero(labels == label) for label in range(10)]
    for scene in result[..., 0]:
        common, common_side = of_classes[rng.integers(10)], int(rng.integers(15, 21))
        for centre in np.mgrid[half // 2 : SIZE : half, half // 2 : SIZE : half].reshape(2, -1).T:
            digit = rng.choice(common) if _COMMON.value else rng.integers(len(images))
            side = common_side if _COMMON.value else int(rng.integers(15, 21))
            resized = Image.fromarray(images[digit, ..., 0]).resize((side, side), Image.Resampling.BOX)
            start = centre - side // 2 + rng.integers(-2, 3, 2)
            low, high = np.maximum(start, 0), np.minimum(start + side, SIZE)
            ink = np.asarray(resized) >= 100
            scene[tuple(map(slice, low, high))] |= ink[tuple(map(slice, low - start, high - start))]
    return result


def two_levels() -> Config:
    """The hierarchy of `cifar10/hierarchical_tiny`, for binary scenes and with fewer layers."""
    config = presets.get("cifar10/hierarchical_tiny")
    config.data = DataConfig(name="mnist", data_dir=_DATA_DIR.value)
    config.model.image_shape, config.model.num_values = (SIZE, SIZE, 1), 2
    config.model.levels[0].decoder_filters, config.model.levels[0].prior.num_layers = (32, 32), 2
    config.model.pixels = MaskedResidualConfig(num_layers=_LAYERS.value, filters=32, first_kernel_size=_FIRST.value)
    config.train = TrainConfig(
        steps=_STEPS.value,
        batch_size=BATCH,
        learning_rate=_LEARNING_RATE.value,
        learning_rate_warmup_steps=50,
        learning_rate_decay="cosine",
        clip_norm=1000.0,
        kl_warmup_steps=(_STEPS.value // 4,),
        # Of the vector, which else is left unused before it is found out what it is good for.
        free_nats=(0.0, 8.0),
        free_nats_steps=_STEPS.value // 2,
        prior_floor_steps=_STEPS.value // 10,
        evaluate_every=_EVERY.value,
        checkpoint_every=_EVERY.value,
    )
    return config


def of_kind(kind: str) -> Config:
    """The config of one of the kinds."""
    hierarchy = two_levels()
    config = registry.changed(hierarchy, KINDS[kind](hierarchy))
    if kind == "one level":
        (level,), config.train.free_nats = config.model.levels, hierarchy.train.free_nats[1:]
        level.filters, level.decoder_filters = (
            tuple(round(WIDER * filters) for filters in widths) for widths in (level.filters, level.decoder_filters)
        )
    return config


def load_scenes() -> dict[str, data.ImageSet]:
    """The scenes of both splits, of digits of the same split."""
    result = {}
    for seed, (split, number) in enumerate({"train": NUM_TRAINING, "validation": NUM_VALIDATION}.items()):
        mnist = data.load(two_levels().data, split)
        images = scenes(mnist.images, mnist.labels, number, seed)
        result[split] = data.ImageSet(images, None, f"scenes/{split}", 2, "ink is 100 of 255")
    return result


def train_runs(splits: dict[str, data.ImageSet]) -> None:
    """Trains a run of each kind."""
    from pixelvae_tf.train import trainer

    for kind in KINDS:
        name = kind.replace(" ", "_").replace("-", "_").lower()
        trainer.train_and_evaluate(of_kind(kind), pathlib.Path(_RUNS.value) / name, images=splits)


def compare(splits: dict[str, data.ImageSet]) -> None:
    """Runs what is missing, and prints the table."""
    options = {"layers": _LAYERS.value, "first_kernel_size": _FIRST.value, "common": _COMMON.value}
    options |= {"steps": _STEPS.value, "every": _EVERY.value, "learning_rate": _LEARNING_RATE.value}
    outcomes = short_runs.Outcomes(_OUTPUT.value, _SEEDS.value, **options)
    for seed in range(_SEEDS.value):
        for kind in KINDS:
            if not outcomes.has(seed, kind=kind):
                config = of_kind(kind)
                config.train.seed = seed
                reports = short_runs.train(kind, config, *splits.values(), _STEPS.value, _EVERY.value)
                outcomes.add(seed, reports, kind=kind)
    bounds, weights = outcomes.bounds(("kind",)), {line["kind"]: line["weights"] for line in outcomes.lines}
    steps = sorted({step for _, step in bounds})
    rows = [["kind", "weights", *map(str, steps), "more than two levels", "KL, z1 and z2 or z"]]
    for kind in KINDS:
        pairs = zip(bounds[kind, steps[-1]], bounds["two levels", steps[-1]], strict=True)
        kl = [line["kl_nats"][str(steps[-1])] for line in outcomes.lines if line["kind"] == kind]
        rows.append(
            [
                kind,
                f"{weights[kind]:,}",
                *(short_runs.mean_and_error(bounds[kind, step], 1) for step in steps),
                short_runs.mean_and_error([own - other for own, other in pairs], 1) if kind != "two levels" else "",
                ", ".join(f"{statistics.mean(level):.1f}" for level in zip(*kl, strict=True)),
            ]
        )
    print(short_runs.markdown(rows))


def main(_) -> None:
    """Trains runs, or compares."""
    splits = load_scenes()
    train_runs(splits) if _RUNS.value else compare(splits)


if __name__ == "__main__":
    app.run(main)
