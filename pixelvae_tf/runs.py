"""A run on disk: its config, and the weights beside it.

WORKDIR/config.json       the run's `Config`
WORKDIR/images.json       fingerprints of the images it is trained on, and the names of their classes
WORKDIR/lineage.json      the trainings behind the weights that it started with; of random ones, none
WORKDIR/checkpoints/      latest: weights, their average, optimizer, step
WORKDIR/best/             the averaged weights with the best validation bound
WORKDIR/evaluation_due    the step of the latest checkpoint, from its saving to the end of its evaluation
WORKDIR/evaluations/      reports of pixelvae-evaluate
WORKDIR/tensorboard/      scalars and pictures
WORKDIR/*.png             samples and reconstructions, as of the last evaluation
"""

import dataclasses
import json
import logging
import pathlib
import re
from collections.abc import Callable

import tensorflow as tf

from pixelvae_tf import config as config_lib
from pixelvae_tf import layers
from pixelvae_tf.errors import first_line
from pixelvae_tf.files import plain_path, write_atomically
from pixelvae_tf.models import PixelVAE
from pixelvae_tf.models.weights import fingerprint, weights_of

__all__ = ["build", "fingerprint", "load", "read_config", "read_evaluations", "read_lineage"]

LOGGER = logging.getLogger("pixelvae_tf")
CONFIG, IMAGES, CHECKPOINTS, BEST, TENSORBOARD = "config.json", "images.json", "checkpoints", "best", "tensorboard"
EVALUATIONS, LINEAGE, DUE = "evaluations", "lineage.json", "evaluation_due"
# The file in which TensorFlow lists the checkpoints of a folder.
LIST = "checkpoint"
# What TensorFlow raises for a checkpoint that is missing, torn, damaged, or of another model.
UNREADABLE = (tf.errors.OpError, AssertionError, IndexError, RuntimeError, ValueError)


def build(config: config_lib.Config) -> PixelVAE:
    """A model with fresh weights.

    Args:
      config: its `model`, and `train.dtype` and `train.seed`.

    Returns:
      The model.

    Raises:
      ValueError: if the config makes no sense.
    """
    if not isinstance(config, config_lib.Config):
        raise ValueError(f"config must be a Config, of `presets.get` or pixelvae_tf.config. Received: {config!r}")
    config = config.validate()
    with layers.seeded_weights(config.train.seed):
        return PixelVAE(config.model, dtype=config.train.dtype)


def check_path(workdir: str | pathlib.Path) -> pathlib.Path:
    """The path of a run's directory.

    Raises:
      ValueError: for a URL, and for a path under which TensorFlow would lose checkpoints: it reads them as patterns.
    """
    return plain_path(workdir, "workdir")


def checkpoints(folder: str | pathlib.Path) -> list[str]:
    """The checkpoints of a folder, oldest first: the existing ones and the listed ones.

    TensorFlow itself goes by its list alone, which may be torn or missing while they are whole; and without the list
    those that are missing would go unnoticed.
    """
    folder = pathlib.Path(folder)
    listed = (folder / LIST).read_text(errors="replace") if (folder / LIST).is_file() else ""
    present = " ".join(f'"{path.stem}"' for path in folder.glob("*.index"))
    numbers = set(map(int, re.findall(r'"ckpt-(\d+)"', listed + present)))
    return [str(folder / f"ckpt-{number}") for number in sorted(numbers)]


def read_newest(folder: str | pathlib.Path, read: Callable[[str], None]) -> str | None:
    """Reads the newest readable checkpoint of a folder; warns of newer ones that are damaged.

    Args:
      folder: where `checkpoints` finds them.
      read: reads the checkpoint of a path, or raises one of `UNREADABLE`.

    Returns:
      Its path, or None if there is none.
    """
    tried: list[str] = []
    # A run that goes on meanwhile may replace them before they are read.
    while (present := checkpoints(folder)) != tried:
        for path in reversed(present):
            try:
                read(path)
            except UNREADABLE as error:
                LOGGER.warning("Cannot read checkpoint %s, trying the one before: %s", path, first_line(error))
                continue
            return path
        tried = present
    return None


def write_evaluation(report: dict, workdir: str | pathlib.Path, images: int) -> pathlib.Path:
    """Writes a report into a run's directory.

    It replaces one of the same images, weights, precision, seed and number of importance samples.

    Args:
      report: of pixelvae-evaluate, with `data`, `step`, `fingerprint` and `dtype`, and `seed` if that is not 0.
      workdir: the run's.
      images: their fingerprint; two folders may have one name.

    Returns:
      Its file.

    Raises:
      OSError: if it cannot be written.
    """
    samples = f"_k{report['importance_samples']}" if "importance_samples" in report else ""
    # The fingerprint tells images apart; a name of a file has at most 255 bytes.
    data = re.sub(r"[^\w.-]+", "_", report["data"]).encode()[:80].decode(errors="ignore")
    seed = f"_s{report['seed']}" if report.get("seed") else ""
    name = f"{data}_{images:08x}_{report['step']}{samples}{seed}_{report['fingerprint'][:8]}_{report['dtype']}.json"
    path = check_path(workdir) / EVALUATIONS / name
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(report) + "\n")
    return path


def read_evaluations(workdir: str | pathlib.Path, weights: str, dtype: str) -> list[dict]:
    """The reports of pixelvae-evaluate on given weights in a given precision, with the noise that all have: of seed 0.

    Args:
      workdir: the run's.
      weights: their `fingerprint`.
      dtype: the name of the model's dtype policy.

    Returns:
      The reports, by their files' names.

    Raises:
      ValueError: if one cannot be read.
    """
    reports = []
    for path in sorted((check_path(workdir) / EVALUATIONS).glob("*.json")):
        try:
            report = json.loads(path.read_text())
            if report["fingerprint"] != weights or report.get("seed"):
                continue
            # Without a dtype it is of a version that computed in the run's own.
            if dtype == (report["dtype"] if "dtype" in report else read_config(workdir).train.dtype):
                reports.append(report)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{EVALUATIONS} of workdir must hold what pixelvae-evaluate left there. Received: {path}: {error!r}"
            ) from error
    return reports


def read_config(workdir: str | pathlib.Path) -> config_lib.Config:
    """The config of a run.

    Raises:
      ValueError: if `workdir` holds no run, or a damaged config.
    """
    path = check_path(workdir) / CONFIG
    if not path.is_file():
        raise ValueError(f"workdir must be the directory of a run, with {CONFIG} in it. Received: {str(workdir)!r}")
    try:
        return config_lib.from_json(path.read_text())
    except ValueError as error:
        raise ValueError(f"{CONFIG} of workdir must be as a run writes it. Received: {path}: {error}") from error


def read_images(workdir: str | pathlib.Path) -> dict | None:
    """A run's record of its images: a fingerprint of each split and, if labels come from folders, "classes".

    Returns:
      That; None for a run that has not begun, or of a version that kept nothing.

    Raises:
      ValueError: if it cannot be read.
    """
    path = check_path(workdir) / IMAGES
    try:
        return dict(json.loads(path.read_text())) if path.exists() else None
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{IMAGES} of workdir must be as a run writes it. Received: {path}: {error}. Remove it if the images "
            "are those that the run began with"
        ) from error


def read_lineage(workdir: str | pathlib.Path) -> list[dict]:
    """The trainings behind the weights that a run started from, the first one first.

    Each has "command" (or None, where flags make no preset its config), "step" and "fingerprint"; and "same_run", true,
    if what follows went on with its optimizer's state in its workdir.

    Raises:
      ValueError: if it cannot be read.
    """
    path = check_path(workdir) / LINEAGE
    if not path.is_file():
        return []
    try:
        return [
            {name: training[name] for name in ("command", "step", "fingerprint")}
            | ({"same_run": True} if training.get("same_run") else {})
            for training in json.loads(path.read_text())
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{LINEAGE} of workdir must be as a run writes it; without it the run goes on, but its history does not "
            f"say what it started from. Received: {path}: {error!r}"
        ) from error


def load(
    workdir: str | pathlib.Path, weights: str = "best", dtype: str | None = None
) -> tuple[PixelVAE, config_lib.Config, int]:
    """A trained model.

    Args:
      workdir: directory of a run.
      weights: "best" on validation, or "latest"; both are averaged weights.
      dtype: Keras' dtype policy to compute in, if it is not the one that the run trained with.

    Returns:
      The model, the run's config, and the step the weights are from.

    Raises:
      ValueError: if there is no run, or there are no such weights that can be read, in `workdir`.
    """
    folders = {"best": BEST, "latest": CHECKPOINTS}
    if weights not in folders:
        raise ValueError(f"weights must be one of {', '.join(folders)}. Received: {weights!r}")
    config = read_config(workdir)
    folder = check_path(workdir) / folders[weights]
    if not checkpoints(folder):
        raise ValueError(
            f"workdir must hold {weights!r} weights; a run writes them at its first evaluation. "
            f"Received: {str(workdir)!r}, which has none"
        )
    model, step = build(config), tf.Variable(0, dtype=tf.int64)

    def read(path: str) -> None:
        status = tf.train.Checkpoint(average=weights_of(model), step=step).restore(path)
        status.assert_existing_objects_matched().expect_partial()

    if read_newest(folder, read) is None:
        raise ValueError(
            f"workdir must hold {weights!r} weights of the model of its {CONFIG} that can be read. "
            f"Received: {str(workdir)!r}, where none of {len(checkpoints(folder))} can"
        )
    if dtype not in (None, config.train.dtype):
        trained = model
        model = build(dataclasses.replace(config, train=dataclasses.replace(config.train, dtype=dtype)))
        model.set_weights(trained.get_weights())
    return model, config, int(step)
