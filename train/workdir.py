"""The directory of a run: checks that a run may write there, and its files."""

import contextlib
import copy
import json
import os
import pathlib
import tempfile
import zlib
from collections.abc import Sequence
from typing import Any

from pixelvae_tf import config as config_lib
from pixelvae_tf import data, hub, runs
from pixelvae_tf.files import local_path, locked, require_outside, write_atomically

# Fields of `train` and `data` that may change when a run is resumed: they change weights by rounding at most.
FREE_FIELDS = (
    "data.data_dir",
    "data.folder",
    "train.steps_per_loop",
    "train.log_every",
    "train.evaluate_every",
    "train.checkpoint_every",
    "train.rematerialize",
)


def check(config: config_lib.Config, workdir: pathlib.Path) -> config_lib.Config | None:
    """Makes a new workdir, or checks that an existing one holds the same run, or one with fewer steps.

    Returns:
      In the last case the config before, whose `train.steps` alone are fewer; else None.

    Raises:
      ValueError: if another run lives there, or one whose config is lost; if nothing can be written there; or if it
        lies in the folder of the images.
    """
    if config.data.folder:
        require_outside(workdir, local_path(config.data.folder, "data.folder"), "workdir", "data.folder")
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
        return None
    before = runs.read_config(workdir)
    configs = (with_absolute_paths(each, follow_links=True) for each in (before, config))
    different = [field for field in config_lib.differences(*configs) if field[0] not in FREE_FIELDS]
    if [name for name, _, _ in different] == ["train.steps"] and config.train.steps > before.train.steps:
        return before
    if different:
        raise ValueError(
            f"workdir {str(workdir)!r} holds a run with another config: "
            f"{config_lib.in_words(different, 'the run', 'this config')}. "
            "Choose another workdir, or give the config it was started with"
        )
    return None


def lock(workdir: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Keeps a second process from training in a workdir; a BlockingIOError says so."""
    return locked(
        workdir / ".lock",
        "workdir must be trained in by one pixelvae-train at a time (workers that train together: "
        f"--strategy=multi_worker). Received: {str(workdir)!r}, in which another one is training",
    )


def with_absolute_paths(config: config_lib.Config, follow_links: bool = False) -> config_lib.Config:
    """The same run from whatever directory its config is read.

    Args:
      config: a run's.
      follow_links: whether paths of one file become the same path.
    """
    config = copy.deepcopy(config)
    fields: list[tuple[Any, str]] = [(config.data, "folder"), (config.data, "data_dir")]
    if not hub.is_portable(config.train.initial_weights):
        fields.append((config.train, "initial_weights"))
    for part, name in fields:
        if value := getattr(part, name):
            path = local_path(value, name).absolute()
            setattr(part, name, os.path.realpath(path) if follow_links else str(path))
    return config


def write_config(config: config_lib.Config, workdir: pathlib.Path) -> None:
    """Writes the config, all of it or nothing."""
    write_atomically(workdir / runs.CONFIG, config_lib.to_json(with_absolute_paths(config)))


def check_images(fingerprints: dict[str, int], workdir: pathlib.Path) -> None:
    """Checks that a run resumes with its own images: batches are indices into them.

    Args:
      fingerprints: of each split, `ImageSet.fingerprint`.
      workdir: the run's.

    Raises:
      ValueError: if they are others, or what they were cannot be read.
    """
    stored = runs.read_images(workdir)
    if stored is None:
        return
    different = [split for split, fingerprint in fingerprints.items() if stored.get(split) != fingerprint]
    if different:
        raise ValueError(
            f"the data must be the images that the run in workdir {str(workdir)!r} began with. "
            f"Received: other images for {' and '.join(different)}. Choose another workdir for them"
        )


def checksums(config: config_lib.Config, fingerprints: dict[str, int]) -> dict[str, int]:
    """Checksums that must be equal on all workers, by name: of the images of each split, the config without paths."""
    config = copy.deepcopy(config)
    config.data.data_dir = config.data.folder = ""  # may differ from worker to worker
    images = {f"checksum of the {split} images": number for split, number in fingerprints.items()}
    return images | {"checksum of the config": zlib.crc32(config_lib.to_json(config).encode())}


def check_evaluated(config: config_lib.Config, split: str, images: data.ImageSet, workdir: str | pathlib.Path) -> None:
    """Checks that the images of a run's own config are still those that it was trained on.

    A folder may have been changed, or be another's where a path of an earlier version was relative. A run keeps no
    fingerprint of its test images: of those in a folder, the validation images beside them are compared.

    Args:
      config: the run's.
      split: "train", "validation" or "test".
      images: the split's.
      workdir: the run's.

    Raises:
      ValueError: if they are others.
    """
    stored = runs.read_images(workdir)
    if stored is None:
        return
    if split not in stored and config.data.folder:
        split = "validation"
        images = data.load(config.data, split, config.model.image_shape)
    if stored.get(split, images.fingerprint()) != images.fingerprint():
        where = config.data.folder or config.data.data_dir or config.data.name
        raise ValueError(
            f"the data must be the images that the run in workdir {str(workdir)!r} was trained on. Received: other "
            f"images for {split} in {where!r}. Say with --folder (or --data_dir) where they are, or which others to "
            "evaluate on"
        )


def check_classes(images: data.ImageSet, trained: Sequence[str]) -> None:
    """Checks that the classes of folders are those that a model was trained on: others would be numbered differently.

    Raises:
      ValueError: if they are others; where either has no names they are left to the user.
    """
    if trained and images.classes and list(images.classes) != list(trained):
        raise ValueError(
            f"the data must have the classes that the model was trained on: {', '.join(map(ascii, trained))}. "
            f"Received: {', '.join(map(ascii, images.classes))}"
        )


def write_images(fingerprints: dict[str, int], workdir: pathlib.Path, classes: Sequence[str] = ()) -> None:
    """Writes the record that `check_images` compares with, and `check_classes` of an evaluation."""
    content = {**fingerprints, "classes": list(classes)} if classes else fingerprints
    write_atomically(workdir / runs.IMAGES, json.dumps(content) + "\n")


def write_files(
    workdir: pathlib.Path,
    config: config_lib.Config,
    fingerprints: dict[str, int],
    lineage: list[dict] | None,
    classes: Sequence[str] = (),
) -> None:
    """Writes the files that identify the run of a workdir.

    Args:
      workdir: the run's.
      config: the run.
      fingerprints: as for `check_images`.
      lineage: the trainings behind the weights that the run starts with; None if it goes on.
      classes: the names that labels are numbers of, where they are those of folders.
    """
    # The config last: without it, the files before it are written again.
    if lineage is not None:
        write_atomically(workdir / runs.LINEAGE, json.dumps(lineage, indent=2) + "\n")
    write_images(fingerprints, workdir, classes)
    write_config(config, workdir)
