"""A folder of images -> shards of pixels with a manifest: once, with all cores, without near-duplicates.

    OUTPUT/manifest.json          what there is, and how it came about; written last
    OUTPUT/train-00000.npy ...    uint8 [n, side, side, C]
    OUTPUT/unfinished/            what a run that was interrupted goes on from

Near-duplicates are images whose perceptual hashes (the signs of the 64 lowest frequencies of a 32x32 picture) differ
in few bits; the first is kept, those of test before those of validation before those of training, so that nothing is
tested on what was trained on. (The paper hashed the codes of an autoencoder.)
"""

import array
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable

import numpy as np

from pixelvae_tf.data import folder as folder_lib

MANIFEST, UNFINISHED, VERSION = "manifest.json", "unfinished", 1
HASH_BITS = 64
# Of several splits, a near-duplicate stays in the first.
ORDER = ("test", "validation", "train")
# How many names a report lists.
NAMED = 100


class NearDuplicates:
    """A growing set of 64-bit hashes no two of which are close.

    Cut into d + 1 bands, two hashes that differ in at most d bits agree in one band at least: only those that share a
    band are compared.

    Args:
      distance: d, the most bits that near-duplicates differ in.
    """

    def __init__(self, distance: int):
        self.distance = distance
        edges = np.linspace(0, HASH_BITS, distance + 2).astype(int).tolist()
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in itertools.pairwise(edges)]
        self._buckets: list[dict[int, array.array]] = [{} for _ in self._bands]

    def add(self, code: int) -> bool:
        """Takes a hash; False, and nothing is changed, if it is close to one that is there."""
        keys = [(code >> low) & mask for low, mask in self._bands]
        for bucket, key in zip(self._buckets, keys, strict=True):
            others = bucket.get(key)
            if others is not None:
                differing = np.bitwise_count(np.frombuffer(others, np.uint64) ^ np.uint64(code))
                if differing.min() <= self.distance:
                    return False
        for bucket, key in zip(self._buckets, keys, strict=True):
            bucket.setdefault(key, array.array("Q")).append(code)
        return True


def perceptual_hash(pixels: np.ndarray) -> int:
    """The 64 bits of `imagehash.phash` of an image [H, W, C]."""
    import imagehash  # Brings SciPy and wavelets; only this needs it.
    from PIL import Image

    bits = imagehash.phash(Image.fromarray(pixels.squeeze())).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a preparation depends on; a run that goes on must have the same.

    Attributes:
      side: height and width of the images.
      channels: 1 or 3.
      duplicate_distance: the most bits that near-duplicates' hashes differ in; -1 keeps them all.
      shard_size: files read for a shard.
    """

    side: int
    channels: int = 3
    duplicate_distance: int = 4
    shard_size: int = 4096

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
      ValueError: if the folder has no images, the output cannot be written, or holds what was prepared from another
        folder or with other options.
    """
    options.validate()
    splits = folder_lib.find(folder)
    files = [(split, path) for split in ORDER for path in splits[split]]
    identity = {
        "version": VERSION,
        **dataclasses.asdict(options),
        "files": hashlib.sha256(json.dumps(files).encode()).hexdigest(),
    }
    output, unfinished = pathlib.Path(output), pathlib.Path(output, UNFINISHED)
    if (output / MANIFEST).exists():
        manifest = json.loads((output / MANIFEST).read_text())
        _require_same(manifest["identity"], identity, output)
        return manifest
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"output must be a directory that can be written. Received: {str(output)!r}: {error}"
        ) from error
    if (unfinished / "identity.json").exists():
        _require_same(json.loads((unfinished / "identity.json").read_text()), identity, output)
    _write(unfinished / "identity.json", json.dumps(identity).encode())

    known = NearDuplicates(options.duplicate_distance) if options.duplicate_distance >= 0 else None
    parts, done, going_on = [], 0, True
    for split in ORDER:
        for index, start in enumerate(range(0, len(splits[split]), options.shard_size)):
            paths = splits[split][start : start + options.shard_size]
            name = f"{split}-{index:05d}"
            # What is a near-duplicate depends on all shards before: behind one that is made again, all are.
            part = _finished_part(unfinished / f"{name}.json", output / f"{name}.npy") if going_on else None
            going_on = part is not None
            if part is None:
                shown = functools.partial(_show, progress, done, len(files))
                part = _make_part(folder, paths, output / f"{name}.npy", options, known, shown)
                _write(unfinished / f"{name}.json", json.dumps(part).encode())
            else:
                for code in part["hashes"]:
                    known.add(code)
                progress(done + len(paths), len(files))
            parts.append({**part, "split": split})
            done += len(paths)
    manifest = _manifest(parts, identity, options)
    _write(output / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    shutil.rmtree(unfinished)
    return manifest


def _show(progress: Callable[[int, int], None], before: int, total: int, number: int) -> None:
    progress(before + number, total)


def _require_same(there: dict, here: dict, output: pathlib.Path) -> None:
    different = [name for name in here if there.get(name) != here[name]]
    if different:
        raise ValueError(
            f"output {str(output)!r} holds what was prepared from other files or with other options "
            f"({', '.join(different)}). Choose another output, or remove that one"
        )


def _write(path: pathlib.Path, content: bytes) -> None:
    """All of it or nothing."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def _finished_part(record: pathlib.Path, shard: pathlib.Path) -> dict | None:
    """What an earlier run wrote of a shard, if it is whole."""
    try:
        part = json.loads(record.read_text())
        return part if part["num_images"] == 0 or zlib.crc32(shard.read_bytes()) == part["crc32"] else None
    except (OSError, ValueError, KeyError):
        return None


def _make_part(folder, paths, shard: pathlib.Path, options: Options, known, progress: Callable[[int], None]) -> dict:
    """Reads the files of a shard and writes those that are new."""

    def read(path: str) -> tuple[folder_lib.Read, int]:
        result = folder_lib.read(folder, path, options.side, options.channels)
        return result, 0 if result.pixels is None or known is None else perceptual_hash(result.pixels)

    part = {"unreadable": {}, "converted": {}, "duplicates": [], "hashes": []}
    images = []
    for number, (result, code) in enumerate(folder_lib.in_parallel(read, paths), start=1):
        progress(number)
        if result.pixels is None:
            part["unreadable"][result.path] = result.note
            continue
        if known is not None and not known.add(code):
            part["duplicates"].append(result.path)
            continue
        if result.note:
            part["converted"][result.path] = result.note
        images.append(result.pixels)
        part["hashes"].append(code)
    part |= {"file": shard.name, "num_images": len(images)}
    if images:
        unfinished = shard.with_name(shard.name + ".unfinished")
        with unfinished.open("wb") as file:
            np.save(file, np.stack(images))
        part["crc32"] = zlib.crc32(unfinished.read_bytes())
        os.replace(unfinished, shard)
    return part


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
        "duplicates": duplicates[:NAMED],
        "num_unreadable": len(unreadable),
        "unreadable": dict(list(unreadable.items())[:NAMED]),
        "num_converted": len(converted),
        "converted": dict(list(converted.items())[:NAMED]),
        "identity": identity,
    }


class ShardedImages:
    """The images of a prepared split, read from disk as they are asked for.

    Args:
      shards: uint8 [n, H, W, C] each, memory-mapped.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, shards: list[np.ndarray]):
        self._shards = shards
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self.shape = (int(self._starts[-1]), *shards[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """The images of a slice or of an array of places."""
        places = np.arange(len(self))[index] if isinstance(index, slice) else np.asarray(index)
        found = np.empty((len(places), *self.shape[1:]), np.uint8)
        shard_of = np.searchsorted(self._starts, places, side="right") - 1
        for shard in np.unique(shard_of):
            here = shard_of == shard
            found[here] = self._shards[shard][places[here] - self._starts[shard]]
        return found


def is_prepared(folder: str | pathlib.Path) -> bool:
    """Whether a folder is what `prepare` writes, finished or not."""
    return any(pathlib.Path(folder, name).exists() for name in (MANIFEST, UNFINISHED))


def load(folder: str | pathlib.Path, split: str, side: int, channels: int) -> ShardedImages:
    """A split of a prepared folder, checked against its manifest.

    Args:
      folder: what `prepare` wrote.
      split: "train", "validation" or "test".
      side, channels: what they must be.

    Returns:
      Its images.

    Raises:
      ValueError: if the preparation is not finished, of another size, has no such images, or its shards are not those
        of the manifest.
    """
    folder = pathlib.Path(folder)
    if not (folder / MANIFEST).exists():
        raise ValueError(
            f"data.folder must be prepared to the end: run pixelvae-prepare once more. Received: {str(folder)!r}, "
            f"which has no {MANIFEST}"
        )
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        there = (manifest["side"], manifest["channels"])
        shards = manifest["splits"][split]["shards"]
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"data.folder must have a {MANIFEST} as pixelvae-prepare writes it. Received: {str(folder / MANIFEST)!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if there != (side, channels):
        raise ValueError(
            f"data.folder must be prepared with --size={side} --channels={channels}, the model's. "
            f"Received: {str(folder)!r}, with {there[0]} and {there[1]}"
        )
    if not shards:
        raise ValueError(f"data.folder must hold images of the split {split!r}. Received: {str(folder)!r}, with none")
    return ShardedImages([_open(folder / shard["file"], shard, side, channels) for shard in shards])


def _open(path: pathlib.Path, shard: dict, side: int, channels: int) -> np.ndarray:
    try:
        images = np.load(path, mmap_mode="r")
        with path.open("rb") as file:
            crc32 = 0
            while block := file.read(1 << 24):
                crc32 = zlib.crc32(block, crc32)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"data.folder must hold the shards of its {MANIFEST}. Received: {path}: {error}") from error
    shape = (shard["num_images"], side, side, channels)
    if images.shape != shape or images.dtype != np.uint8 or crc32 != shard["crc32"]:
        raise ValueError(
            f"data.folder must hold the shards of its {MANIFEST}: {path.name} must be uint8 {shape} with CRC-32 "
            f"{shard['crc32']}. Received: {images.dtype} {images.shape} with {crc32}. Prepare the folder again"
        )
    return images
