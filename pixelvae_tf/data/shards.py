"""Images in files that are read from disk on demand."""

import dataclasses
import os
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelvae_tf.data.decoding import ImagesError


@dataclasses.dataclass(frozen=True)
class Shard:
    """The images of a file, memory-mapped.

    A file that is removed, or replaced by another, can be read to the end of the process. One that is written to gives
    the new content, and one that is truncated kills the process that reads it: each read checks size and time first.

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
            raise ImagesError(
                f"data.folder must stay as it is while it is read. Received: {path}, which has been written to since; "
                "prepare the folder again"
            )


class ShardedImages:
    """The images of a prepared split, read from disk on demand.

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
        images = np.empty((len(places), *self.shape[1:]), np.uint8)
        shard_of = np.searchsorted(self._starts, places, side="right") - 1
        for shard in np.unique(shard_of):
            in_shard = shard_of == shard
            images[in_shard] = self._shards[shard][places[in_shard] - self._starts[shard]]
        return images

    def take(self, places: np.ndarray) -> "ShardedImages":
        """The images at these places alone, int64 [N]; still on disk."""
        return ShardedImages(self._shards, zlib.crc32(places.data, self.fingerprint), self._places[places])

    def require_unchanged(self) -> None:
        """Raises an OSError if a shard has been written to since it was checked."""
        for shard in self._shards:
            shard.require_unchanged()
