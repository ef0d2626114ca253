"""pixelvae-evaluate: prints the bound of a trained run on a split, as a line of text and one of JSON.

pixelvae-evaluate --workdir=runs/digits --split=test --importance_samples=50
pixelvae-evaluate --pretrained=digits/gated_pixel_vae

The JSON goes to standard output and to WORKDIR/evaluations, all else to standard error. --output=DIR leaves it in
DIR/report.json, and each image's bound in DIR/bounds.csv; interrupted, the same command goes on.
"""

import pathlib
import sys

from absl import flags

from pixelvae_tf import console, files, limits, onednn
from pixelvae_tf.config import Config

_WORKDIR = console.define_path("workdir", None, "Directory of a run.")
_PRETRAINED = console.define_pretrained("Trained weights, instead of a run's")
_SPLIT = flags.DEFINE_string("split", "test", "train, validation or test.")
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", 0, "Images from all parts of the split, always the same; 0: all.", 0, limits.MAX_COUNT
)
_IMPORTANCE_SAMPLES = flags.DEFINE_integer(
    "importance_samples", 0, "K of the importance-weighted value; 0: none.", 0, limits.MAX_DRAWS
)
_WEIGHTS = flags.DEFINE_enum("weights", None, ["best", "latest"], "Which averaged weights of the run; best by default.")
_DTYPE = flags.DEFINE_enum("dtype", None, limits.DTYPES, "Precision to compute in, if it is not the run's.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 100, "Images at once; changes no bound.", 1, limits.MAX_BATCH)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the posterior samples.", -(2**62), 2**62)
_FOLDER = console.define_path("folder", None, "Folder of images, if it is not the run's.")
_DATA_DIR = console.define_path("data_dir", None, "TFDS' data directory, if it is not the run's.")
_OUTPUT = console.define_path(
    "output", None, "Folder for a table of all images' bounds. An interrupted evaluation goes on from there."
)
flags.mark_flags_as_mutual_exclusive(["workdir", "pretrained"], required=True)
flags.mark_flags_as_mutual_exclusive(["weights", "pretrained"])
flags.mark_flags_as_mutual_exclusive(["dtype", "pretrained"])
flags.mark_flags_as_mutual_exclusive(["folder", "data_dir"])


def main(argv: list[str]) -> None:
    """Parses the flags and evaluates."""
    console.refuse_arguments(argv)
    onednn.switch_on()
    console.start_tensorflow()
    from pixelvae_tf import data, progress, runs
    from pixelvae_tf.train import evaluation, evaluation_files, workdir

    try:
        model, config, weights, step, classes = _model()
        _move_images(config)
        if config.data.folder:
            folder = files.local_path(config.data.folder, "folder")
            for name, path in (("workdir", _WORKDIR.value), ("output", _OUTPUT.value)):
                if path:
                    files.require_outside(pathlib.Path(path), folder, name, "folder")
        if _WORKDIR.value and _OUTPUT.value:
            reports = pathlib.Path(_WORKDIR.value, runs.EVALUATIONS)
            if reports.resolve() == pathlib.Path(_OUTPUT.value).resolve():
                raise ValueError(f"output must not be where the run keeps its reports. Received: {_OUTPUT.value!r}")
        images = data.load(config.data, _SPLIT.value, config.model.image_shape)
        data.check_fits(images, config.model)
        if _WORKDIR.value and _FOLDER.value is None and _DATA_DIR.value is None:
            workdir.check_evaluated(config, _SPLIT.value, images, _WORKDIR.value)
        workdir.check_classes(images, classes)
        if _NUM_IMAGES.value:
            images = images.spread(_NUM_IMAGES.value)
    except (OSError, ValueError) as error:
        raise SystemExit(f"pixelvae-evaluate: {error}") from error
    evaluator = evaluation.Evaluator(
        model, batch_size=_BATCH_SIZE.value, seed=_SEED.value, importance_samples=_IMPORTANCE_SAMPLES.value
    )
    about = {"weights": f"{weights} (average)", "step": step, "fingerprint": runs.fingerprint(model)}
    about |= {"dtype": model.dtype_policy.name, **({"seed": _SEED.value} if _SEED.value else {})}
    try:
        with progress.announced(f"evaluating {len(images.images):,} images of {images.name}") as count:
            if _OUTPUT.value:
                output = pathlib.Path(_OUTPUT.value)
                report = evaluation_files.evaluate(evaluator, images, output, about, count)
            else:
                report = evaluator(images, count) | about
        line = evaluation_files.to_json(report)
    except (OSError, ValueError) as error:
        raise SystemExit(f"pixelvae-evaluate: {error}") from error
    print(evaluation.in_words(report), file=sys.stderr, flush=True)
    print(line)
    if not _WORKDIR.value:
        return
    try:
        runs.write_evaluation(report, _WORKDIR.value, images.fingerprint())
    except OSError as error:  # For example another user's run; the report is printed all the same.
        print(f"pixelvae-evaluate: the report is not left in {_WORKDIR.value!r} too: {error}", file=sys.stderr)


def _model() -> tuple:
    """The model, its config, which weights it has and of which step, and the names of the classes it was trained on."""
    from pixelvae_tf import pretrained, runs

    if not _PRETRAINED.value:
        weights = _WEIGHTS.value or "best"
        model, config, step = runs.load(_WORKDIR.value, weights, _DTYPE.value)
        return model, config, weights, step, (runs.read_images(_WORKDIR.value) or {}).get("classes", [])
    model, config, card = pretrained.load(_PRETRAINED.value)
    if config.data.folder and _FOLDER.value is None and _DATA_DIR.value is None:
        # Its last name is all that travels, which may be another folder here.
        raise ValueError(
            f"folder must be given for weights that were trained on a folder, one called {config.data.folder!r}. "
            "Received: none"
        )
    return model, config, card["weights"], card["step"], card["data"].get("classes", [])


def _move_images(config: Config) -> None:
    """Has the images of a config read from where the flags say."""
    if _DATA_DIR.value is not None:
        # A folder in the run's config would be read instead.
        config.data.data_dir, config.data.folder, config.data.labels = _DATA_DIR.value, "", ""
    if _FOLDER.value is not None:
        if not config.data.folder:  # other images than the run's
            config.data.exclude_labels = ()
            config.data.labels = "folders" if config.model.num_classes else ""
        config.data.folder = _FOLDER.value


def run() -> None:
    """The console script."""
    console.run(main)


if __name__ == "__main__":
    run()
