"""A folder of images -> shards of pixels with a manifest: once, with all cores, without near-duplicates.

    OUTPUT/manifest.json          what there is, and how it came about; written last
    OUTPUT/train-00000.npy ...    uint8 [n, side, side, C]
    OUTPUT/train-labels.npy ...   int64 [N], the classes of all images of a split, where labels are asked for
    OUTPUT/.unfinished/           what a run that was interrupted goes on from

Of near-duplicates the first is kept, those of test before those of validation before those of training, so that nothing
is tested on what was trained on.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from pixelvae_tf.data import folder as folder_lib
from pixelvae_tf.data.decoding import MachineError, is_of_the_machine
from pixelvae_tf.data.near_duplicates import HASH_BITS, NearDuplicates, perceptual_hash
from pixelvae_tf.data.shards import IDENTITY, MANIFEST, UNFINISHED, crc32_of, read_json
from pixelvae_tf.files import local_path, locked, require_outside, write_atomically

__all__ = ["Options", "prepare"]

# Of how files are read: what another version has begun, this one cannot go on with.
VERSION = 2
# Of several splits, a near-duplicate stays in the first.
ORDER = ("test", "validation", "train")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a preparation depends on; a run that goes on must have the same.

    Attributes:
      side: height and width of the images.
      channels: 1 or 3.
      duplicate_distance: the most bits that near-duplicates' hashes differ in; -1 keeps them all.
      shard_size: files read for a shard.
      labels: whether subfolders are classes; see `data.folder`.
    """

    side: int
    channels: int = 3
    duplicate_distance: int = 4
    shard_size: int = 4096
    labels: bool = False

    def validate(self) -> None:
        """Raises a ValueError that names the first that makes no sense."""
        if self.side < 1 or self.shard_size < 1:
            raise ValueError(f"size and shard_size must be positive. Received: {self.side} and {self.shard_size}")
        if self.channels not in folder_lib.MODES:
            raise ValueError(f"channels must be 1 or 3. Received: {self.channels}")
        if not -1 <= self.duplicate_distance < HASH_BITS:
            raise ValueError(f"duplicate_distance must be in -1..{HASH_BITS - 1}. Received: {self.duplicate_distance}")


def prepare(
    folder: str | pathlib.Path,
    output: str | pathlib.Path,
    options: Options,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Writes a prepared folder, or goes on with one.

    Args:
      folder: of images, see `data.folder`.
      output: the directory to write.
      options: how.
      progress: called with (files done, files in all).

    Returns:
      The manifest.

    Raises:
      ValueError: if the folder has no images or, with labels, no classes; if the output cannot be written, lies in
        the folder, another run is writing it, or it holds what was prepared from other files or with other options.
      MachineError: if an image cannot be read for a reason that is not its own; the same call goes on from there.
    """
    options.validate()
    folder, output = local_path(folder, "folder"), local_path(output, "output")
    images = folder_lib.list_images(folder)
    require_outside(output, folder, "output", "folder")
    classes = images.classes("folder") if options.labels else ()
    identity = {"version": VERSION, **dataclasses.asdict(options), "files": fingerprint(folder, images.splits)}
    require_same(output, MANIFEST, identity, "prepared with the same options")
    with writing(output, "pixelvae-prepare"):
        return _prepare(folder, output, images, classes, identity, options, progress)


def fingerprint(folder: str | pathlib.Path, splits: Mapping[str, list[str]]) -> str:
    """Of the files by split, name, size and the time of their last change."""
    code = hashlib.sha256()
    for split, paths in splits.items():
        for path in paths:
            try:
                status = os.stat(pathlib.Path(folder, path))
                known = f"{status.st_size} {status.st_mtime_ns}"
            except OSError as error:
                if is_of_the_machine(error):
                    raise MachineError(pathlib.Path(folder, path), error) from error
                known = "missing"  # A link that leads nowhere. It is left out and reported, as what is damaged is.
            code.update(os.fsencode(f"{split}/{path} {known}\n"))
    return code.hexdigest()


def _prepare(
    folder: pathlib.Path, output: pathlib.Path, images: folder_lib.Images, classes, identity, options: Options, progress
) -> dict:
    unfinished, splits = output / UNFINISHED, images.splits
    manifest = read_json(output / MANIFEST)
    if manifest is not None:
        if all(_is_whole(output, file) for split in manifest["splits"].values() for file in _files_of(split)):
            shutil.rmtree(unfinished)
            return manifest
        # A shard was lost or damaged since: all are made again.
        (output / MANIFEST).unlink()
    write_atomically(unfinished / IDENTITY, json.dumps(identity))

    known = NearDuplicates(options.duplicate_distance)
    parts, done, total, going_on = [], 0, sum(map(len, splits.values())), True
    for split in ORDER:
        for index, start in enumerate(range(0, len(splits[split]), options.shard_size)):
            paths, name = splits[split][start : start + options.shard_size], f"{split}-{index:05d}"
            part = read_json(unfinished / f"{name}.json") if going_on else None
            if part is not None and _is_whole(output, part):
                for code in part["hashes"]:
                    known.add(code)
                progress(done + len(paths), total)
            else:
                if going_on:
                    _forget(unfinished, parts)
                going_on = False
                shown = functools.partial(_show, progress, done, total)
                part = {"split": split, **_make_part(folder, paths, output / f"{name}.npy", options, known, shown)}
                if options.labels:
                    part["labels"] = images.labels(part.pop("kept"), classes).tolist()
                write_atomically(unfinished / f"{name}.json", json.dumps(part))
            parts.append(part)
            done += len(paths)
    manifest = _manifest(parts, identity, options)
    if options.labels:
        manifest["classes"] = list(classes)
        _write_labels(parts, manifest, output)
    write_atomically(output / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    shutil.rmtree(unfinished)
    return manifest


def _files_of(split: dict) -> list[dict]:
    return [*split["shards"], *([split["labels"]] if "labels" in split else [])]


def _write_labels(parts: list[dict], manifest: dict, output: pathlib.Path) -> None:
    """Writes the labels of each split, and what the manifest says of their files."""
    for split, its in manifest["splits"].items():
        labels = [label for part in parts if part["split"] == split for label in part["labels"]]
        its["labels"] = _write_array(output / f"{split}-labels.npy", np.array(labels, np.int64))


def _write_array(path: pathlib.Path, array: np.ndarray) -> dict:
    content = io.BytesIO()
    np.save(content, array)
    write_atomically(path, content.getbuffer())
    return {"file": path.name, "num_images": len(array), "crc32": zlib.crc32(content.getbuffer())}


def _show(progress: Callable[[int, int], None], before: int, total: int, number: int) -> None:
    progress(before + number, total)


def _forget(unfinished: pathlib.Path, parts: list[dict]) -> None:
    """Removes the records of all shards behind these.

    What is a near-duplicate depends on all shards before: behind one that is made again, all are.
    """
    kept = {pathlib.Path(part["file"]).stem for part in parts}
    for record in unfinished.glob("*-*.json"):
        if record.stem not in kept:
            record.unlink()


def require_same(output: pathlib.Path, finished: str, identity: dict, how: str) -> None:
    """Raises a ValueError if what an output holds, or has begun, comes from other files, or was made in another way.

    Args:
      output: the directory, to which nothing was written yet.
      finished: the name of the file in it that says what it holds.
      identity: of what is to be made.
      how: what would be the same way.
    """
    for record in (output / finished, output / UNFINISHED / IDENTITY):
        there = read_json(record)
        if there is None:
            continue
        there = there.get("identity", there)
        different = [
            "other files" if name == "files" else f"{name} {there.get(name)!r} there and {value!r} here"
            for name, value in identity.items()
            if there.get(name) != value
        ]
        if different:
            raise ValueError(
                f"output must be new, or hold what was {how} from the same files. "
                f"Received: {str(output)!r}, with {', '.join(different)}. Choose another output, or remove that one"
            )


@contextlib.contextmanager
def writing(output: pathlib.Path, command: str) -> Iterator[None]:
    """Makes an output with what is unfinished in it, in which one process at a time may write.

    Args:
      output: the directory.
      command: the one that writes, for the message.

    Raises:
      ValueError: if another process writes there, or it cannot be written.
    """
    try:
        (output / UNFINISHED).mkdir(parents=True, exist_ok=True)
        refusal = f"output must be written by one {command} at a time. Received: {str(output)!r}, which another one is "
        with locked(output / UNFINISHED / "lock", f"{refusal}writing"):
            yield
    except MachineError:
        raise
    except BlockingIOError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        raise ValueError(
            f"output must be a directory that can be written. Received: {str(output)!r}: {error}"
        ) from error


def _is_whole(output: pathlib.Path, shard: dict) -> bool:
    """Whether a shard is there as its record says."""
    try:
        return not shard["num_images"] or crc32_of(output / shard["file"]) == shard["crc32"]
    except (OSError, KeyError) as error:
        if is_of_the_machine(error):
            raise MachineError(output / shard["file"], error) from error
        return False


def _make_part(folder, paths, shard: pathlib.Path, options: Options, known, progress: Callable[[int], None]) -> dict:
    """Reads the files of a shard and writes those that are new; returns its record."""

    def read(path: str) -> tuple[folder_lib.Read, int]:
        result = folder_lib.read(folder, path, options.side, options.channels)
        if result.pixels is None or options.duplicate_distance < 0:
            return result, 0
        return result, perceptual_hash(result.pixels)

    part: dict[str, Any] = {
        "unreadable": {},
        "converted": {},
        "warnings": {},
        "duplicates": [],
        "hashes": [],
        "num_enlarged": 0,
    }
    images, kept = [], []
    for number, (result, code) in enumerate(folder_lib.in_parallel(read, paths), start=1):
        progress(number)
        if result.pixels is None:
            part["unreadable"][result.path] = result.note
            continue
        if not known.add(code):
            part["duplicates"].append(result.path)
            continue
        if result.note:
            part["converted"][result.path] = result.note
        if result.warnings:
            part["warnings"][result.path] = "; ".join(result.warnings)
        part["num_enlarged"] += result.enlarged
        images.append(result.pixels)
        kept.append(result.path)
        part["hashes"].append(code)
    if options.labels:
        part["kept"] = kept
    empty = {"file": shard.name, "num_images": 0}
    return part | (_write_array(shard, np.stack(images)) if images else empty)


def _manifest(parts: list[dict], identity: dict, options: Options) -> dict:
    def together(name: str) -> dict:
        return {path: note for part in parts for path, note in part[name].items()}

    unreadable, converted = together("unreadable"), together("converted")
    duplicates = [path for part in parts for path in part["duplicates"]]
    splits: dict[str, dict] = {}
    for split in folder_lib.SPLITS:
        shards = [part for part in parts if part["split"] == split and part["num_images"]]
        splits[split] = {
            "num_images": sum(part["num_images"] for part in shards),
            "shards": [{name: part[name] for name in ("file", "num_images", "crc32")} for part in shards],
        }
    return {
        "side": options.side,
        "channels": options.channels,
        "splits": splits,
        "num_files": sum(len(part[name]) for part in parts for name in ("hashes", "duplicates", "unreadable")),
        "num_duplicates": len(duplicates),
        "num_unreadable": len(unreadable),
        "num_converted": len(converted),
        "num_enlarged": sum(part["num_enlarged"] for part in parts),
        "duplicates": duplicates,
        "unreadable": unreadable,
        "converted": converted,
        "warnings": together("warnings"),
        "identity": identity,
    }
