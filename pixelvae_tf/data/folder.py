"""Folders of images of any size and kind, found recursively, cropped and resized to the model's.

    FOLDER/train/...  FOLDER/validation/...  FOLDER/test/...     splits as they lie there ("val" will do), or
    FOLDER/...                                                   one in 20 for validation, one in 20 for test

With labels the next subfolder is the class: FOLDER/train/cat/..., or FOLDER/cat/... where there are no splits. Classes
are numbered from 0 in the order of their names.
"""

import concurrent.futures
import dataclasses
import logging
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import tqdm

from pixelvae_tf.data import splits as splits_lib
from pixelvae_tf.data.decoding import EXTENSIONS, MODES, MachineError, Read, read
from pixelvae_tf.data.walk import say, walk_images
from pixelvae_tf.files import local_path

__all__ = [
    "EXTENSIONS",
    "MODES",
    "Images",
    "MachineError",
    "Read",
    "in_parallel",
    "list_images",
    "load",
    "read",
]

LOGGER = logging.getLogger("pixelvae_tf")
SPLITS = splits_lib.SPLITS
# Images that are decoded ahead, per core.
AHEAD = 16
# How many subfolders a message names.
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a folder.

    Attributes:
      splits: split -> sorted paths relative to the folder.
      depth: how many folders of a path belong to the split: 1, or 0 where a hash decides.
    """

    splits: Mapping[str, list[str]]
    depth: int

    def class_of(self, path: str) -> str:
        """The class of an image; empty if it is in no class's folder."""
        folders = path.split("/")[self.depth : -1]
        return folders[0] if folders else ""

    def labels(self, paths: list[str], classes: tuple[str, ...]) -> np.ndarray:
        """The numbers of the classes of images, int64 [N]."""
        number_of = {name: number for number, name in enumerate(classes)}
        return np.array([number_of[self.class_of(path)] for path in paths], np.int64)

    def classes(self, name: str) -> tuple[str, ...]:
        """All classes, in their order.

        Args:
          name: what the messages call the folder.

        Raises:
          ValueError: if an image has no class, or a class has none of the images for training.
        """
        unlabelled = [path for paths in self.splits.values() for path in paths if not self.class_of(path)]
        if unlabelled:
            raise ValueError(
                f"{name} must hold every image in a subfolder that is its class, to have labels. "
                f"Received: {len(unlabelled)} in none, such as {unlabelled[0]!a}"
            )
        classes = {split: {self.class_of(path) for path in paths} for split, paths in self.splits.items()}
        everywhere = set().union(*classes.values())
        unknown = sorted(everywhere - classes["train"]) if classes["train"] else []  # or they are for tests alone
        if unknown:
            raise ValueError(
                f"{name} must have images for training of every class. "
                f"Received: none of {', '.join(map(ascii, unknown))}"
            )
        return tuple(sorted(everywhere))


def lost_classes(labels: np.ndarray | None, classes: tuple[str, ...]) -> list[str]:
    """The classes that no label is of: all their images could not be read, or were near-duplicates of others."""
    present = range(len(classes)) if labels is None else set(labels.tolist())
    return [name for number, name in enumerate(classes) if number not in present]


def list_images(folder: str | pathlib.Path, name: str = "folder") -> Images:
    """The images of every split.

    Args:
      folder: searched recursively.
      name: what the messages call it.

    Returns:
      Their paths.

    Raises:
      ValueError: if there is no such folder, or no image in it, or if it is in doubt what the splits are.
      MachineError: if a folder inside cannot be read.
    """
    folder = local_path(folder, name)
    walk = walk_images(folder, name)
    paths = sorted(walk.paths)
    subfolders = {path.partition("/")[0] for path in paths if "/" in path}
    subfolders |= {child for child in walk.subfolders if child.lower() in splits_lib.SUBFOLDERS}
    folders = splits_lib.folders_of_splits(subfolders, name)
    if not folders:
        if deeper := splits_lib.check_hashed(paths, name):
            say(
                f"Folders called {', '.join(map(ascii, deeper))} lie deeper in {folder} and are not taken for splits: "
                "a hash of each path decides. Give the folder that they lie in if they are"
            )
        elif subfolders:
            some = ", ".join(map(ascii, sorted(subfolders)[:SHOWN])) + (", ..." if len(subfolders) > SHOWN else "")
            say(f"No subfolder of {folder} is called a split ({some}): a hash of each path decides")
        return Images(_by_split(paths, splits_lib.split_of), 0)
    if unusual := {child: split for child, split in folders.items() if child.lower() not in splits_lib.SUBFOLDERS}:
        say(f"In {folder}, {', '.join(f'{child!a} is taken for {split}' for child, split in unusual.items())}")
    in_none = [path for path in paths if _first_folder(path) not in folders]
    if in_none:
        say(
            f"{len(in_none)} of {len(paths)} images of {folder} lie in no split and are left out, such as "
            f"{in_none[0]!a}: there are subfolders {', '.join(sorted(folders))}"
        )
    inside = [path for path in paths if _first_folder(path) in folders]
    images = Images(_by_split(inside, lambda path: folders[_first_folder(path)]), 1)
    splits_lib.check_train(images.splits["train"], name)
    return images


def _first_folder(path: str) -> str:
    first, _, below = path.partition("/")
    return first if below else ""


def _by_split(paths: list[str], split_of) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for path in paths:
        splits[split_of(path)].append(path)
    return splits


def in_parallel(function, items: Iterable) -> Iterator:
    """Maps a function over items on all cores, in order; only a few results are computed ahead.

    Threads: Pillow decodes and resizes without holding Python's lock.
    """
    workers = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        pending: list[concurrent.futures.Future] = []
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > AHEAD * workers:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()


def load(
    folder: str | pathlib.Path, split: str, side: int, channels: int, labels: bool = False
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """All images of a split, in memory. What cannot be read is named in a warning and left out.

    Args:
      folder: see the module.
      split: "train", "validation" or "test".
      side, channels: as for `read`.
      labels: whether subfolders are classes.

    Returns:
      uint8 [N, side, side, C]; with labels int64 [N], and the classes that they number.

    Raises:
      ValueError: if there are no such images, or classes are missing.
      MachineError: if an image cannot be read for a reason that is not its own.
    """
    listed = list_images(folder, "data.folder")
    paths, classes = listed.splits[split], listed.classes("data.folder") if labels else ()
    results = in_parallel(lambda path: read(folder, path, side, channels), paths)
    # Only on a terminal (None), which a program without standard error does not have.
    bar = tqdm.tqdm(results, f"reading {split}", len(paths), unit="image", disable=None if sys.stderr else True)
    readable = []
    for result in bar:
        if result.pixels is None:
            LOGGER.warning("Left out: %s, which cannot be read: %s", ascii(result.path), result.note)
        else:
            readable.append(result)
    _warn_of(readable, f"of {len(paths)} images of {split}", side, channels)
    if not readable:
        raise ValueError(
            f"data.folder must hold images of the split {split!r}: in a subfolder of that name, or, without any such "
            f"subfolder, enough for one in 20 to be there. Received: {str(folder)!r}, which has {len(paths)} for it"
        )
    images = np.stack([result.pixels for result in readable])
    return images, listed.labels([result.path for result in readable], classes) if labels else None, classes


def _warn_of(results: list[Read], of: str, side: int, channels: int) -> None:
    """Logs how many images were converted, enlarged or warned of."""
    if converted := sum(bool(result.note) for result in results):
        LOGGER.warning("%d %s were converted to %s", converted, of, MODES[channels])
    if enlarged := sum(result.enlarged for result in results):
        LOGGER.warning("%d %s are smaller than %d and were enlarged", enlarged, of, side)
    if warned := [result for result in results if result.warnings]:
        first = warned[0]
        LOGGER.warning(
            "Pillow warns of %d %s, such as %s: %s", len(warned), of, ascii(first.path), "; ".join(first.warnings)
        )
