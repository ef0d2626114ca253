"""A folder of images -> a prepared one (`prepared`): once, with all cores, without near-duplicates, resumable.

Of near-duplicates the first is kept, those of test before those of validation before those of training, so that nothing
is tested on what was trained on.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from pixelvae_tf.data import folder as folder_lib
from pixelvae_tf.data import prepared, resumable
from pixelvae_tf.data.near_duplicates import HASH_BITS, NearDuplicates, perceptual_hash
from pixelvae_tf.data.walk import say
from pixelvae_tf.files import HALF, local_path, require_outside, write_atomically

__all__ = ["Preparation", "prepare"]

# The version of how files are read: a run cannot resume what another version began.
VERSION = 2
# A near-duplicate stays in the first of several splits.
ORDER = ("test", "validation", "train")


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How a folder is prepared; a resumed run must have the same.

    Attributes:
      side: height and width of the images.
      channels: 1 or 3.
      duplicate_distance: the most bits that near-duplicates' hashes differ in; -1 keeps them all.
      shard_size: files read for a shard.
      labels: whether subfolders are classes; see `data.folder`.

    Raises:
      ValueError: for the first that makes no sense.
    """

    side: int
    channels: int = 3
    duplicate_distance: int = 4
    shard_size: int = 4096
    labels: bool = False

    def __post_init__(self) -> None:
        if self.side < 1 or self.shard_size < 1:
            raise ValueError(f"size and shard_size must be positive. Received: {self.side} and {self.shard_size}")
        if self.channels not in folder_lib.MODES:
            raise ValueError(f"channels must be 1 or 3. Received: {self.channels}")
        if not -1 <= self.duplicate_distance < HASH_BITS:
            raise ValueError(f"duplicate_distance must be in -1..{HASH_BITS - 1}. Received: {self.duplicate_distance}")


def prepare(
    folder: str | pathlib.Path,
    output: str | pathlib.Path,
    how: Preparation,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Writes a prepared folder, or resumes one.

    Args:
      folder: of images, see `data.folder`.
      output: the directory to write.
      how: size, channels, ...
      progress: called with (files done, files in all).

    Returns:
      The manifest.

    Raises:
      ValueError: if the folder has no images or, with labels, no classes; if the output cannot be written, lies in
        the folder, another run is writing it, or it holds what was prepared from other files or in another way.
      MachineError: if an image cannot be read for a reason that is not its own; the same call goes on from there.
    """
    folder, output = local_path(folder, "folder"), local_path(output, "output")
    images = folder_lib.list_images(folder)
    require_outside(output, folder, "output", "folder")
    classes = images.classes("folder") if how.labels else ()
    files = resumable.fingerprint(folder, images.splits)
    identity = {"version": VERSION, **dataclasses.asdict(how), "files": files}
    resumable.require_same(output, prepared.MANIFEST, identity, "prepared with the same options")
    if not prepared.is_prepared(output):
        known = resumable.read_json(output / prepared.MANIFEST) or {}
        shards = sorted(path.name for split in ORDER for path in output.glob(f"{split}-*.npy"))
        resumable.refuse_others(output, [*([] if "identity" in known else [prepared.MANIFEST]), *shards])
    with resumable.writing(output, identity, "pixelvae-prepare") as records:
        for half in output.glob(f"*-*.npy.*{HALF}"):
            half.unlink()
        manifest = prepared.read_whole(output)
        if manifest is None:
            # If a shard was lost or damaged, all are written again.
            (output / prepared.MANIFEST).unlink(missing_ok=True)
            parts = _write_shards(folder, output, records, images, how, progress)
            manifest = {"side": how.side, "channels": how.channels, **prepared.summarize(parts), "identity": identity}
            if how.labels:
                manifest["classes"] = list(classes)
                for split, content in manifest["splits"].items():
                    paths = [path for part in parts if part["split"] == split for path in part["kept"]]
                    labels = images.labels(paths, classes)
                    if split == "train" and (lost := folder_lib.lost_classes(labels, classes)):
                        say(f"No image for training is left of {', '.join(map(ascii, lost))}: no model can learn them")
                    content["labels"] = prepared.write_array(output / f"{split}-labels.npy", labels)
            write_atomically(output / prepared.MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return manifest


def _write_shards(
    folder: pathlib.Path,
    output: pathlib.Path,
    records: pathlib.Path,
    images: folder_lib.Images,
    how: Preparation,
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Writes the missing shards; returns the records of all."""
    hashes, parts = NearDuplicates(how.duplicate_distance), []
    done, total, resuming = 0, sum(map(len, images.splits.values())), True
    for split in ORDER:
        for index, start in enumerate(range(0, len(images.splits[split]), how.shard_size)):
            paths, name = images.splits[split][start : start + how.shard_size], f"{split}-{index:05d}"
            record = records / f"{name}.json"
            part = resumable.read_json(record) if resuming else None
            # Records of earlier versions have no names.
            if part is not None and "kept" in part and prepared.is_whole(output, part):
                for code in part["hashes"]:
                    hashes.add(code)
                progress(done + len(paths), total)
            else:
                if resuming:
                    _forget(records, parts)
                resuming = False

                def show(number: int, done: int = done) -> None:
                    progress(done + number, total)

                part = {"split": split, **_make_part(folder, paths, output / f"{name}.npy", how, hashes, show)}
                write_atomically(record, json.dumps(part))
            parts.append(part)
            done += len(paths)
    return parts


def _forget(records: pathlib.Path, parts: list[dict[str, Any]]) -> None:
    """Removes the records of all shards after these.

    What is a near-duplicate depends on all shards before: after one that is made again, all are.
    """
    kept = {pathlib.Path(part["file"]).stem for part in parts}
    for record in records.glob("*-*.json"):
        if record.stem not in kept:
            record.unlink()


def _make_part(
    folder: pathlib.Path,
    paths: list[str],
    shard: pathlib.Path,
    how: Preparation,
    hashes: NearDuplicates,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Reads the files of a shard and writes those that are new; returns its record."""

    def read(path: str) -> tuple[folder_lib.Read, int]:
        result = folder_lib.read(folder, path, how.side, how.channels)
        if result.pixels is None or how.duplicate_distance < 0:
            return result, 0
        return result, perceptual_hash(result.pixels)

    part: dict[str, Any] = {"unreadable": {}, "duplicates": [], "hashes": []}
    images, kept = np.empty((len(paths), how.side, how.side, how.channels), np.uint8), []
    for number, (result, code) in enumerate(folder_lib.in_parallel(read, paths), start=1):
        progress(number)
        if result.pixels is None:
            part["unreadable"][result.path] = result.note
        elif not hashes.add(code):
            part["duplicates"].append(result.path)
        else:
            images[len(kept)] = result.pixels
            kept.append(dataclasses.replace(result, pixels=None))
            part["hashes"].append(code)
    part["kept"] = [result.path for result in kept]
    part["num_enlarged"] = sum(result.enlarged for result in kept)
    part["converted"] = {result.path: result.note for result in kept if result.note}
    part["warnings"] = {result.path: "; ".join(result.warnings) for result in kept if result.warnings}
    if kept:
        return part | prepared.write_array(shard, images[: len(kept)])
    return part | {"file": shard.name, "num_images": 0}
