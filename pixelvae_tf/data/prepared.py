"""Prepared folders on disk: shards of pixels, and a manifest of their content and origin.

OUTPUT/manifest.json          written last
OUTPUT/train-00000.npy ...    uint8 [n, side, side, C]
OUTPUT/train-labels.npy ...   int64 [N], the classes of all images of a split, if labels were requested
"""

import io
import json
import os
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelvae_tf.data.decoding import MachineError, is_of_the_machine
from pixelvae_tf.data.resumable import IDENTITY, UNFINISHED, crc32_of, read_json
from pixelvae_tf.data.shards import Shard, ShardedImages
from pixelvae_tf.data.splits import SPLITS
from pixelvae_tf.files import write_atomically

MANIFEST = "manifest.json"
# The manifest's entries for a file of images or labels.
FILE = ("file", "num_images", "crc32")


def is_prepared(folder: str | pathlib.Path) -> bool:
    """Whether a folder is what `prepare` writes, finished or not."""
    folder = pathlib.Path(folder)
    finished = (folder / MANIFEST).exists() and any(folder.glob("*-*.npy"))
    return finished or (folder / UNFINISHED / IDENTITY).exists()


def write_array(path: pathlib.Path, array: np.ndarray) -> dict[str, Any]:
    """Writes a .npy file; returns its entry in the manifest."""
    content = io.BytesIO()
    np.save(content, array)
    write_atomically(path, content.getbuffer())
    return {"file": path.name, "num_images": len(array), "crc32": zlib.crc32(content.getbuffer())}


def is_whole(folder: pathlib.Path, file: dict[str, Any]) -> bool:
    """Whether a file of a prepared folder is as the manifest, or a record, says."""
    try:
        return not file["num_images"] or crc32_of(folder / file["file"]) == file["crc32"]
    except (OSError, KeyError) as error:
        if is_of_the_machine(error):
            raise MachineError(folder / file["file"], error) from error
        return False


def read_whole(folder: pathlib.Path) -> dict[str, Any] | None:
    """The manifest; None if it is missing or damaged, or one of its files is."""
    manifest = read_json(folder / MANIFEST)
    splits = manifest["splits"].values() if manifest else ()
    files = [file for split in splits for file in (*split["shards"], *([split["labels"]] if "labels" in split else []))]
    return manifest if all(is_whole(folder, file) for file in files) else None


def summarize(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The manifest's summary of the records of all shards; see `prepare`."""
    notes = {
        name: {path: note for part in parts for path, note in part[name].items()}
        for name in ("unreadable", "converted", "warnings")
    }
    duplicates = [path for part in parts for path in part["duplicates"]]
    shards = {split: [part for part in parts if part["split"] == split and part["num_images"]] for split in SPLITS}
    return {
        "splits": {
            split: {
                "num_images": sum(shard["num_images"] for shard in shards[split]),
                "shards": [{name: shard[name] for name in FILE} for shard in shards[split]],
            }
            for split in SPLITS
        },
        "num_files": sum(len(part[name]) for part in parts for name in ("hashes", "duplicates", "unreadable")),
        "num_duplicates": len(duplicates),
        "num_unreadable": len(notes["unreadable"]),
        "num_converted": len(notes["converted"]),
        "num_enlarged": sum(part["num_enlarged"] for part in parts),
        "duplicates": duplicates,
        **notes,
    }


def load(
    folder: str | pathlib.Path, split: str, side: int, channels: int, labels: bool = False
) -> tuple[ShardedImages, np.ndarray | None, tuple[str, ...]]:
    """A split of a prepared folder, checked against its manifest.

    Args:
      folder: what `prepare` wrote.
      split: "train", "validation" or "test".
      side, channels: what they must be.
      labels: whether to read labels.

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
            f"data.folder must be completely prepared: run pixelvae-prepare once more. Received: {str(folder)!r}, "
            f"which has no {MANIFEST}"
        )
    try:
        manifest = read_json(folder / MANIFEST) or {}
        size = (manifest["side"], manifest["channels"])
        files = manifest["splits"][split]
        shards = [[shard[name] for name in FILE] for shard in files["shards"]]
        classes = tuple(manifest.get("classes", ())) if labels else ()
        file, code = (files["labels"]["file"], files["labels"]["crc32"]) if classes else ("", 0)
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"data.folder must have a {MANIFEST} as pixelvae-prepare writes it. Received: {str(folder / MANIFEST)!r}, "
            "which is another's or damaged; remove it and prepare the folder again"
        ) from error
    if size != (side, channels):
        raise ValueError(
            f"data.folder must be prepared with --size={side} --channels={channels}, the model's. "
            f"Received: {str(folder)!r}, with {size[0]} and {size[1]}"
        )
    if not shards:
        raise ValueError(f"data.folder must hold images of the split {split!r}. Received: {str(folder)!r}, with none")
    if labels and not classes:
        raise ValueError(
            f"data.folder must be prepared with --labels=folders for data.labels='folders'. Received: {str(folder)!r}, "
            "without labels"
        )
    images = ShardedImages(
        [_open(folder / shard, (number, side, side, channels), np.uint8, crc32) for shard, number, crc32 in shards],
        zlib.crc32(json.dumps(shards).encode()),
    )
    if not labels:
        return images, None, ()
    return images, np.array(_open(folder / file, (len(images),), np.int64, code).images), classes


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
