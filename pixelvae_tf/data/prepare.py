"""A folder of images -> shards of pixels with a manifest: once, with all cores, without near-duplicates.

    OUTPUT/manifest.json          what there is, and how it came about; written last
    OUTPUT/train-00000.npy ...    uint8 [n, side, side, C]
    OUTPUT/.unfinished/           what a run that was interrupted goes on from

Near-duplicates are images whose perceptual hashes (which of the 64 lowest frequencies of a 32x32 grey picture lie above
their median) differ in few bits; the first is kept, those of test before those of validation before those of training,
so that nothing is tested on what was trained on. Colour does not enter: images of a single colour are all
near-duplicates. (The paper hashed the codes of an autoencoder.)
"""

import array
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable

import numpy as np

from pixelvae_tf.data import folder as folder_lib
from pixelvae_tf.files import locked, write_atomically

MANIFEST, UNFINISHED, IDENTITY, VERSION = "manifest.json", ".unfinished", "identity.json", 1
HASH_BITS = 64
# Of several splits, a near-duplicate stays in the first.
ORDER = ("test", "validation", "train")


class NearDuplicates:
    """A growing set of 64-bit hashes no two of which are close.

    Cut into d + 1 bands, two hashes that differ in at most d bits agree in one band at least: only those that share a
    band are compared.

    Args:
      distance: d, the most bits that near-duplicates differ in; -1: nothing is a near-duplicate.
    """

    def __init__(self, distance: int):
        self.distance = distance
        if distance < 0:
            self._bands, self._buckets = [], []
            return
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

    bits = imagehash.phash(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)).hash
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
      ValueError: if the folder has no images, the output cannot be written, another run is writing it, or it holds
        what was prepared from other files or with other options.
    """
    options.validate()
    splits = folder_lib.find(folder)
    identity = {"version": VERSION, **dataclasses.asdict(options), "files": _fingerprint(folder, splits)}
    output = pathlib.Path(output)
    # Before anything is written there.
    for record in (output / MANIFEST, output / UNFINISHED / IDENTITY):
        there = _read_json(record)
        if there is not None:
            _require_same(there.get("identity", there), identity, output)
    try:
        (output / UNFINISHED).mkdir(parents=True, exist_ok=True)
        refusal = "output must be written by one pixelvae-prepare at a time. Received: "
        refusal += f"{str(output)!r}, which another one is writing"
        with locked(output / UNFINISHED / "lock", refusal):
            return _prepare(folder, output, splits, identity, options, progress)
    except BlockingIOError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        raise ValueError(
            f"output must be a directory that can be written. Received: {str(output)!r}: {error}"
        ) from error


def _fingerprint(folder: str | pathlib.Path, splits: dict[str, list[str]]) -> str:
    """Of the files by split, name, size and the time of their last change."""
    code = hashlib.sha256()
    for split, paths in splits.items():
        for path in paths:
            try:
                status = os.stat(pathlib.Path(folder, path))
                known = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:  # A link that leads nowhere: like all that cannot be read it is left out, and reported.
                known = "missing"
            code.update(os.fsencode(f"{split}/{path} {known}\n"))
    return code.hexdigest()


def _prepare(folder, output: pathlib.Path, splits, identity: dict, options: Options, progress) -> dict:
    unfinished = output / UNFINISHED
    manifest = _read_json(output / MANIFEST)
    if manifest is not None:
        if all(_is_whole(output, shard) for found in manifest["splits"].values() for shard in found["shards"]):
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
            part = _read_json(unfinished / f"{name}.json") if going_on else None
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
                write_atomically(unfinished / f"{name}.json", json.dumps(part))
            parts.append(part)
            done += len(paths)
    manifest = _manifest(parts, identity, options)
    write_atomically(output / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    shutil.rmtree(unfinished)
    return manifest


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


def _require_same(there: dict, here: dict, output: pathlib.Path) -> None:
    different = [
        "other files" if name == "files" else f"{name} {there.get(name)!r} there and {value!r} here"
        for name, value in here.items()
        if there.get(name) != value
    ]
    if different:
        raise ValueError(
            f"output must be new, or hold what was prepared from the same files with the same options. "
            f"Received: {str(output)!r}, with {', '.join(different)}. Choose another output, or remove that one"
        )


def _read_json(path: pathlib.Path) -> dict | None:
    """What a file holds; None if it is missing or damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _is_whole(output: pathlib.Path, shard: dict) -> bool:
    """Whether a shard is there as its record says."""
    try:
        return not shard["num_images"] or _crc32(output / shard["file"]) == shard["crc32"]
    except (OSError, KeyError):
        return False


def _crc32(path: pathlib.Path) -> int:
    code = 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            code = zlib.crc32(block, code)
    return code


def _make_part(folder, paths, shard: pathlib.Path, options: Options, known, progress: Callable[[int], None]) -> dict:
    """Reads the files of a shard and writes those that are new; returns its record."""

    def read(path: str) -> tuple[folder_lib.Read, int]:
        result = folder_lib.read(folder, path, options.side, options.channels)
        hashed = result.pixels is not None and options.duplicate_distance >= 0
        return result, perceptual_hash(result.pixels) if hashed else 0

    part = {"unreadable": {}, "converted": {}, "duplicates": [], "hashes": [], "num_enlarged": 0}
    images = []
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
        part["num_enlarged"] += result.enlarged
        images.append(result.pixels)
        part["hashes"].append(code)
    part |= {"file": shard.name, "num_images": len(images)}
    if images:
        content = io.BytesIO()
        np.save(content, np.stack(images))
        part["crc32"] = zlib.crc32(content.getbuffer())
        write_atomically(shard, content.getbuffer())
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
        "num_unreadable": len(unreadable),
        "num_converted": len(converted),
        "num_enlarged": sum(part["num_enlarged"] for part in parts),
        "duplicates": duplicates,
        "unreadable": unreadable,
        "converted": converted,
        "identity": identity,
    }


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
        if not os.path.exists(path):
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
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, shards: list[Shard], fingerprint: int = 0):
        self._shards, self.fingerprint = shards, fingerprint
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

    def require_unchanged(self) -> None:
        """Raises an OSError if a shard has been written to since it was checked."""
        for shard in self._shards:
            shard.require_unchanged()


def is_prepared(folder: str | pathlib.Path) -> bool:
    """Whether a folder is what `prepare` writes, finished or not."""
    folder = pathlib.Path(folder)
    finished = (folder / MANIFEST).exists() and any(folder.glob("*-*.npy"))
    return finished or (folder / UNFINISHED / IDENTITY).exists()


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
        manifest = _read_json(folder / MANIFEST)
        there = (manifest["side"], manifest["channels"])
        found = manifest["splits"][split]["shards"]
        shards = [[shard[name] for name in ("file", "num_images", "crc32")] for shard in found]
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
    images = [_open(folder / file, number, crc32, side, channels) for file, number, crc32 in shards]
    return ShardedImages(images, zlib.crc32(json.dumps(shards).encode()))


def _open(path: pathlib.Path, number: int, crc32: int, side: int, channels: int) -> Shard:
    try:
        status = os.stat(path)
        images, found = np.load(path, mmap_mode="r"), _crc32(path)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"data.folder must hold the shards of its {MANIFEST}. Received: {path}: {error}; prepare the folder again"
        ) from error
    shape = (number, side, side, channels)
    if images.shape != shape or images.dtype != np.uint8 or found != crc32:
        raise ValueError(
            f"data.folder must hold the shards of its {MANIFEST}: {path.name} must be uint8 {shape} with CRC-32 "
            f"{crc32}. Received: {images.dtype} {images.shape} with {found}; prepare the folder again"
        )
    return Shard(images, status)
