"""Prepared folders, as `prepare` writes them: read from disk as their images are asked for."""

import dataclasses
import json
import os
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelvae_tf.data.decoding import MachineError, is_of_the_machine

MANIFEST, UNFINISHED, IDENTITY = "manifest.json", ".unfinished", "identity.json"


@dataclasses.dataclass(frozen=True)
class Shard:
    """The images of a file, memory-mapped.

    A file that is removed, or replaced by another, can be read to the end of the process. One that is written to gives
    what is written, and one that is cut kills whoever reads it: each read looks at its size and time first.

    Attributes:
      images: uint8 [n, H, W, C].
      status: the file's, before its content was checked.
    """

    images: np.memmap
    status: os.stat_result

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, H, W, C]."""
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        self.require_unchanged()
        return self.images[places]

    def require_unchanged(self) -> None:
        """Raises an OSError if the file has been written to since it was checked."""
        path = self.images.filename
        if path is None or not os.path.exists(path):
            return
        now, before = os.stat(path), self.status
        if os.path.samestat(now, before) and (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise OSError(
                f"data.folder must stay as it is while it is read. Received: {path}, which has been written to since; "
                "prepare the folder again"
            )


class ShardedImages:
    """The images of a prepared split, read from disk as they are asked for.

    Args:
      shards: uint8 [n, H, W, C] each; `Shard`, or a whole split of TFDS' (`records.Records`).
      fingerprint: a number that other images would not have.
      places: int64 [N] of those images in the shards that these are; None for all.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, shards: Sequence[Any], fingerprint: int = 0, places: np.ndarray | None = None):
        self._shards, self.fingerprint = shards, fingerprint
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self._places = np.arange(self._starts[-1]) if places is None else places
        self.shape = (len(self._places), *shards[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """The images of a slice or of an array of places."""
        places = self._places[index]
        found = np.empty((len(places), *self.shape[1:]), np.uint8)
        shard_of = np.searchsorted(self._starts, places, side="right") - 1
        for shard in np.unique(shard_of):
            here = shard_of == shard
            found[here] = self._shards[shard][places[here] - self._starts[shard]]
        return found

    def take(self, places: np.ndarray) -> "ShardedImages":
        """The images at these places alone, int64 [N]; still on disk."""
        return ShardedImages(self._shards, zlib.crc32(places.data, self.fingerprint), self._places[places])

    def require_unchanged(self) -> None:
        """Raises an OSError if a shard has been written to since it was checked."""
        for shard in self._shards:
            shard.require_unchanged()


def is_prepared(folder: str | pathlib.Path) -> bool:
    """Whether a folder is what `prepare` writes, finished or not."""
    folder = pathlib.Path(folder)
    finished = (folder / MANIFEST).exists() and any(folder.glob("*-*.npy"))
    return finished or (folder / UNFINISHED / IDENTITY).exists()


def read_json(path: pathlib.Path) -> dict | None:
    """What a file holds; None if it is missing or damaged.

    Raises:
      MachineError: if it is neither, but cannot be read.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        if is_of_the_machine(error):
            raise MachineError(path, error) from error
        return None
    return content if isinstance(content, dict) else None


def crc32_of(path: pathlib.Path) -> int:
    """The CRC-32 of a file."""
    code = 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            code = zlib.crc32(block, code)
    return code


def load(
    folder: str | pathlib.Path, split: str, side: int, channels: int, labels: bool = False
) -> tuple[ShardedImages, np.ndarray | None, tuple[str, ...]]:
    """A split of a prepared folder, checked against its manifest.

    Args:
      folder: what `prepare` wrote.
      split: "train", "validation" or "test".
      side, channels: what they must be.
      labels: whether labels are wanted.

    Returns:
      Its images; with labels int64 [N], and the classes that they number.

    Raises:
      ValueError: if the preparation is not finished, of another size, has no such images, no labels that are wanted, or
        its files are not those of the manifest.
      MachineError: if they cannot be read for another reason.
    """
    folder = pathlib.Path(folder)
    if not (folder / MANIFEST).exists():
        raise ValueError(
            f"data.folder must be prepared to the end: run pixelvae-prepare once more. Received: {str(folder)!r}, "
            f"which has no {MANIFEST}"
        )
    try:
        manifest = read_json(folder / MANIFEST) or {}
        there = (manifest["side"], manifest["channels"])
        found = manifest["splits"][split]
        shards = [[shard[name] for name in ("file", "num_images", "crc32")] for shard in found["shards"]]
        classes = tuple(manifest.get("classes", ())) if labels else ()
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"data.folder must have a {MANIFEST} as pixelvae-prepare writes it. Received: {str(folder / MANIFEST)!r}, "
            "which is another's or damaged; remove it and prepare the folder again"
        ) from error
    if there != (side, channels):
        raise ValueError(
            f"data.folder must be prepared with --size={side} --channels={channels}, the model's. "
            f"Received: {str(folder)!r}, with {there[0]} and {there[1]}"
        )
    if not shards:
        raise ValueError(f"data.folder must hold images of the split {split!r}. Received: {str(folder)!r}, with none")
    if labels and not classes:
        raise ValueError(
            f"data.folder must be prepared with --labels=folders for data.labels='folders'. Received: {str(folder)!r}, "
            "without labels"
        )
    images = ShardedImages(
        [_open(folder / file, (number, side, side, channels), np.uint8, crc32) for file, number, crc32 in shards],
        zlib.crc32(json.dumps(shards).encode()),
    )
    if not labels:
        return images, None, ()
    file = found["labels"]
    return images, np.array(_open(folder / file["file"], (len(images),), np.int64, file["crc32"]).images), classes


def _open(path: pathlib.Path, shape: tuple[int, ...], dtype: type, crc32: int) -> Shard:
    try:
        status = os.stat(path)
        array, code = np.load(path, mmap_mode="r"), crc32_of(path)
    except (OSError, ValueError, EOFError) as error:
        if is_of_the_machine(error):
            raise MachineError(path, error) from error
        raise ValueError(
            f"data.folder must hold the shards of its {MANIFEST}. Received: {path}: {error}; prepare the folder again"
        ) from error
    if array.shape != shape or array.dtype != dtype or code != crc32:
        raise ValueError(
            f"data.folder must hold the shards of its {MANIFEST}: {path.name} must be {np.dtype(dtype).name} {shape} "
            f"with CRC-32 {crc32}. Received: {array.dtype} {array.shape} with {code}; prepare the folder again"
        )
    return Shard(array, status)
