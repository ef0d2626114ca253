"""Redraws the paper's figures 4, 5 and 2 from runs.

    python benchmarks/figures.py --layers=DIR --samples=RUN,NAME,NAME --completions=RUN --output=FOLDER

Figure 4 is the bound against the number of autoregressive layers, PixelVAE beside PixelCNN; figure 5 its split into
reconstruction and KL. They take every run below --layers: one data set, one budget, any depth; a VAE is a PixelVAE of
no such layer. Figure 2 (samples.png) is samples of the runs and trained weights (by name) of --samples side by side.
Bounds are those of the whole test split with the averaged weights that were best on validation: that of weights is on
their card, that of a run is computed once and kept beside it (test.json). completions.png has test images, what is kept
of them, and completions.
"""

import dataclasses
import json
import pathlib

import numpy as np
from absl import app, flags

_LAYERS = flags.DEFINE_string("layers", None, "A folder of runs that differ in depth, with latents and without.")
_SAMPLES = flags.DEFINE_list("samples", [], "Runs, and names of trained weights, for samples side by side.")
_COMPLETIONS = flags.DEFINE_string("completions", None, "A run, for images completed from a part of them.")
_OUTPUT = flags.DEFINE_string("output", None, "Where the PNGs go.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS' data directory, if it is not the runs'.")
GRID = 8  # samples of a model, across and down
COLUMNS = 5  # models in a row of the figure
NUM_COMPLETED, COMPLETIONS = 8, 6  # images, and completions of each


@dataclasses.dataclass(frozen=True)
class Point:
    """A trained run in the figures.

    Attributes:
      has_latents: PixelVAE, or PixelCNN.
      num_layers: autoregressive layers.
      report: of the test split.
      budget: what training it cost.
    """

    has_latents: bool
    num_layers: int
    report: dict
    budget: str


def read_report(run: pathlib.Path, model, config, step: int, data_dir: str | None = None) -> dict:
    """Evaluates a run, as `runs.load` gives it, on the test split, or reads what was computed before."""
    from pixelvae_tf import data
    from pixelvae_tf.train import evaluation

    path = run / "test.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    if report.get("step") != step:
        if data_dir:
            config.data.data_dir = data_dir
        report = {**evaluation.Evaluator(model)(data.load(config.data, "test", config.model.image_shape)), "step": step}
        path.write_text(json.dumps(report))
    return report


def read_point(run: pathlib.Path, data_dir: str | None = None) -> Point:
    """A run of the figures of layers."""
    from pixelvae_tf import runs

    model, config, step = runs.load(run)
    pixels = config.model.pixels
    if not hasattr(pixels, "num_layers") and pixels.network != "independent":
        raise SystemExit(f"figures: layers must be runs that have layers to count. Received: {pixels.network} in {run}")
    # The first layer, which leaves the pixel itself out, counts; a VAE has none.
    num_layers = 0 if pixels.network == "independent" else 1 + pixels.num_layers
    budget = f"{config.train.steps:,} steps of {config.train.batch_size} images"
    return Point(bool(config.model.levels), num_layers, read_report(run, model, config, step, data_dir), budget)


def draw_layers(points: list[Point], output: pathlib.Path) -> None:
    """Writes figure_4.png and figure_5.png."""
    from matplotlib import pyplot

    told_apart = {(point.report["data"], point.report["binarization"], point.budget) for point in points}
    if len(told_apart) != 1:
        raise SystemExit(f"figures: the runs must be of one data set and one budget. Received: {sorted(told_apart)}")
    ((data, binarization, budget),) = told_apart
    title = f"{data} ({binarization})\n{budget}"
    vaes = sorted((point for point in points if point.has_latents), key=lambda point: point.num_layers)
    cnns = sorted((point for point in points if not point.has_latents), key=lambda point: point.num_layers)

    figure, axes = pyplot.subplots(figsize=(6, 4.5), layout="constrained")
    for some, label, marker in ((vaes, "PixelVAE, upper bound", "o-"), (cnns, "PixelCNN, exact", "s--")):
        x, y = [point.num_layers for point in some], [point.report["bound_nats"] for point in some]
        axes.plot(x, y, marker, label=label)
        for place in zip(x, y, strict=True):
            axes.annotate(f"{place[1]:.1f}", place, textcoords="offset points", xytext=(4, 6), fontsize=9)
    axes.set(xlabel="autoregressive layers", ylabel="negative log-likelihood, nats an image", title=title)
    axes.set_xticks(sorted({point.num_layers for point in points}))
    axes.margins(0.1)
    axes.legend()
    figure.savefig(output / "figure_4.png", dpi=120)

    figure, axes = pyplot.subplots(figsize=(6, 4.5), layout="constrained")
    places = np.arange(len(vaes))
    reconstruction = [point.report["reconstruction_nats"] for point in vaes]
    kl = [sum(point.report["kl_nats"]) for point in vaes]
    for heights, bottom, label in ((reconstruction, 0, "reconstruction"), (kl, reconstruction, "KL")):
        bars = axes.bar(places, heights, bottom=bottom, label=label)
        axes.bar_label(bars, [f"{height:.1f}" for height in heights], label_type="center")
    axes.set_xticks(places, [str(point.num_layers) for point in vaes])
    axes.set(xlabel="autoregressive layers of PixelVAE", ylabel="upper bound, nats an image", title=title)
    axes.legend(loc="lower right")
    figure.savefig(output / "figure_5.png", dpi=120)


def load_trained(name: str, data_dir: str | None = None) -> tuple:
    """The model, its config and its report on the test split, of a run's directory or of trained weights."""
    from pixelvae_tf import pretrained, runs

    if (run := pathlib.Path(name)).is_dir():
        model, config, step = runs.load(run)
        return model, config, read_report(run, model, config, step, data_dir)
    model, config, card = pretrained.load(name)
    for report in card["evaluations"]:
        if report["data"].endswith("/test"):
            return model, config, report
    raise SystemExit(f"figures: the card must have a report of the test split. Received: {name}")


def draw_samples(names: list[str], output: pathlib.Path, data_dir: str | None = None) -> None:
    """Writes samples.png."""
    import tensorflow as tf
    from matplotlib import pyplot

    from pixelvae_tf import pictures

    columns = min(len(names), COLUMNS)
    rows = -(-len(names) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4 * columns, 4.5 * rows + 0.4), layout="constrained")
    places = np.atleast_1d(axes).ravel()
    for place in places:
        place.set_axis_off()
    for place, name in zip(places, names, strict=False):
        model, config, report = load_trained(name, data_dir)
        classes = config.model.num_classes
        across = classes or GRID  # a column a class
        seeds = tf.range(GRID * across, dtype=tf.int64)
        labels = tf.range(GRID * across) % classes if classes else None
        images = tf.function(model.sample)(seeds, labels=labels).numpy()
        grid = pictures.tile(images, config.model.num_values, columns=across, scale=4)
        place.imshow(grid.squeeze(-1) if grid.shape[-1] == 1 else grid, cmap="gray", vmin=0, vmax=255)
        bound = ("exact" if report["exact"] else "bound") + (", given the class" if classes else "")
        place.set_title(f"{pathlib.Path(name).name}\n{report['bound_nats']:.2f} nats ({bound})", fontsize=10)
        title = f"samples; {report['data']} ({report['binarization']})"
    figure.suptitle(f"{title}\n", fontsize=10)
    figure.savefig(output / "samples.png", dpi=80)


def draw_completions(workdir: str, output: pathlib.Path, data_dir: str | None = None) -> None:
    """Writes completions.png: a test image, what is kept of it (half, or all but a hole), completions of it."""
    import tensorflow as tf

    from pixelvae_tf import data, pictures, runs

    model, config, _ = runs.load(workdir)
    if data_dir:
        config.data.data_dir = data_dir
    split = data.load(config.data, "test", config.model.image_shape)
    chosen = np.linspace(0, len(split.images) - 1, NUM_COMPLETED).astype(np.int64)
    images = split.images[chosen]
    height, width, _ = config.model.image_shape
    masks = np.zeros((NUM_COMPLETED, height, width, 1), np.uint8)
    masks[0::4, : height // 2] = masks[1::4, height // 2 :] = masks[2::4, :, : width // 2] = masks[3::4] = 1
    masks[3::4, height // 3 : -height // 3, width // 3 : -width // 3] = 0
    repeated, mask = (np.repeat(x, COMPLETIONS, axis=0) for x in (images, masks))
    labels = np.repeat(split.labels[chosen], COMPLETIONS) if config.model.num_classes else None
    seeds = tf.range(len(repeated), dtype=tf.int64)
    completed = tf.function(model.complete)(tf.constant(repeated), mask, seeds, labels=labels).numpy()
    completed = completed.reshape(NUM_COMPLETED, COMPLETIONS, *images.shape[1:])
    grid = pictures.completions(images, masks, completed, config.model.num_values, scale=3)
    pictures.write_png(output / "completions.png", grid)


def main(argv: list[str]) -> None:
    """Draws what is asked for."""
    del argv
    import matplotlib

    matplotlib.use("Agg")
    output = pathlib.Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    if _LAYERS.value:
        found = sorted(path.parent for path in pathlib.Path(_LAYERS.value).glob("*/config.json"))
        if not found:
            raise SystemExit(f"figures: layers must be a folder of runs. Received: {_LAYERS.value!r}")
        draw_layers([read_point(run, _DATA_DIR.value) for run in found], output)
    if _SAMPLES.value:
        draw_samples(_SAMPLES.value, output, _DATA_DIR.value)
    if _COMPLETIONS.value:
        draw_completions(_COMPLETIONS.value, output, _DATA_DIR.value)
    print(f"drawn: {output}")


if __name__ == "__main__":
    app.run(main)
