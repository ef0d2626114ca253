"""The directory of a run: whose it is, and its config."""

import contextlib
import json
import pathlib
import tempfile

import tensorflow as tf

from pixelvae_tf import config as config_lib
from pixelvae_tf import runs
from pixelvae_tf.files import locked, write_atomically

# Fields of `train` and `data` that may change when a run goes on: they change no weight (but by rounding).
FREE_FIELDS = (
    "data.data_dir",
    "data.folder",
    "train.steps_per_loop",
    "train.log_every",
    "train.evaluate_every",
    "train.checkpoint_every",
    "train.rematerialize",
)


def check(config: config_lib.Config, workdir: pathlib.Path) -> None:
    """Makes a new workdir, or checks that the run in an old one has the same config.

    Raises:
      ValueError: if another run lives there, or one whose config is lost; or if nothing can be written there.
    """
    runs.check_path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        raise ValueError(
            f"workdir must be a directory that can be written. Received: {str(workdir)!r}: {error}"
        ) from error
    if not (workdir / runs.CONFIG).exists():
        if runs.checkpoints(workdir / runs.CHECKPOINTS):
            raise ValueError(
                f"workdir must be new, or that of a run. Received: {str(workdir)!r}, which holds checkpoints and no "
                f"{runs.CONFIG} to say what they are of"
            )
        return
    there = runs.read_config(workdir)
    different = [found for found in config_lib.differences(there, config) if found[0] not in FREE_FIELDS]
    if different:
        raise ValueError(
            f"workdir {str(workdir)!r} holds a run with another config: {config_lib.in_words(different)}. "
            "Choose another workdir, or give the config it was started with"
        )


def lock(workdir: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Keeps a second process from training in a workdir; a BlockingIOError says so."""
    return locked(
        workdir / ".lock",
        "workdir must be trained in by one pixelvae-train at a time (workers that train together: "
        f"--strategy=multi_worker). Received: {str(workdir)!r}, in which another one is training",
    )


def manage(checkpoint: tf.train.Checkpoint, folder: pathlib.Path, max_to_keep: int) -> tf.train.CheckpointManager:
    """A manager of the checkpoints in a folder, whose list of them may be damaged; see `runs.checkpoints`."""
    there = runs.checkpoints(folder)
    if there and sorted(_listed(folder)) != sorted(there):
        # Else those that are not in it would never make way. Every worker writes the same.
        names = [pathlib.Path(path).name for path in there]
        update = tf.compat.v1.train.update_checkpoint_state  # TensorFlow 2 has no other name for it
        # Long ago, but later than what is kept for ever.
        times = {"all_model_checkpoint_timestamps": [1.0] * len(names), "last_preserved_timestamp": 0.0}
        update(str(folder.resolve()), names[-1], all_model_checkpoint_paths=names, **times)
    return tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep)


def _listed(folder: pathlib.Path) -> list[str]:
    """The checkpoints of TensorFlow's list, which may be missing or torn."""
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except ValueError:
        return []
    return [] if state is None else [str(folder / pathlib.Path(path).name) for path in state.all_model_checkpoint_paths]


def write_config(config: config_lib.Config, workdir: pathlib.Path) -> None:
    """Writes the config, all of it or nothing."""
    write_atomically(workdir / runs.CONFIG, config_lib.to_json(config))


def check_images(fingerprints: dict[str, int], workdir: pathlib.Path) -> None:
    """Checks that a run goes on with the images that it began with; batches are places in them.

    Args:
      fingerprints: of each split, `ImageSet.fingerprint`.
      workdir: the run's.

    Raises:
      ValueError: if they are others, or what they were cannot be read.
    """
    path = workdir / runs.IMAGES
    try:
        there = dict(json.loads(path.read_text())) if path.exists() else fingerprints
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{runs.IMAGES} of workdir must be as a run writes it. Received: {path}: {error}. Remove it if the images "
            "are those that the run began with"
        ) from error
    different = [split for split, fingerprint in fingerprints.items() if there.get(split) != fingerprint]
    if different:
        raise ValueError(
            f"the data must be the images that the run in workdir {str(workdir)!r} began with. "
            f"Received: other images for {' and '.join(different)}. Choose another workdir for them"
        )


def write_images(fingerprints: dict[str, int], workdir: pathlib.Path) -> None:
    """Writes what `check_images` compares with."""
    write_atomically(workdir / runs.IMAGES, json.dumps(fingerprints) + "\n")


def write_lineage(lineage: list[dict], workdir: pathlib.Path) -> None:
    """Writes what `runs.read_lineage` reads."""
    write_atomically(workdir / runs.LINEAGE, json.dumps(lineage, indent=2) + "\n")
