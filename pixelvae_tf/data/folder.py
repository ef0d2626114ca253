"""Folders of images of any size and kind, found recursively, cropped and resized to the model's.

    FOLDER/train/...  FOLDER/validation/...  FOLDER/test/...     splits as they lie there ("val" will do), or
    FOLDER/...                                                   one in 20 for validation, one in 20 for test

Where there are no such subfolders, a hash of an image's path decides, so that it stays in its split when others come
or go.
"""

import concurrent.futures
import dataclasses
import hashlib
import logging
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
import tqdm
from PIL import Image, ImageOps

LOGGER = logging.getLogger("pixelvae_tf")
EXTENSIONS = (".png", ".jpg", ".jpeg")
# Names of subfolders, and the split that they are.
SUBFOLDERS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
SPLITS = ("train", "validation", "test")
# Pillow's mode for as many channels.
MODES = {1: "L", 3: "RGB"}
# Images that are being decoded at a time, a core.
AHEAD = 16


@dataclasses.dataclass(frozen=True)
class Read:
    """What became of a file.

    Attributes:
      path: relative to the folder.
      pixels: uint8 [side, side, C], or None if it could not be read.
      note: Pillow's mode where it was converted from another than the model's; the reason where it could not be read.
      enlarged: whether it was smaller than asked for.
    """

    path: str
    pixels: np.ndarray | None
    note: str = ""
    enlarged: bool = False


def find(folder: str | pathlib.Path, name: str = "folder") -> dict[str, list[str]]:
    """The images of every split.

    Args:
      folder: searched recursively.
      name: what the messages call it.

    Returns:
      Split -> sorted paths relative to the folder.

    Raises:
      ValueError: if there is no such folder, or no image in it.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{name} must be a directory of images. Received: {str(folder)!r}")
    paths = sorted(_walk(folder))
    if not paths:
        raise ValueError(f"{name} must hold images ({', '.join(EXTENSIONS)}). Received: {str(folder)!r}, with none")
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    sorted_out = any(child.name.lower() in SUBFOLDERS for child in folder.iterdir() if child.is_dir())
    names = set() if sorted_out else {part for path in paths for part in path.split("/")[1:-1]}
    if deeper := sorted(name for name in names if name.lower() in SUBFOLDERS):
        LOGGER.warning(
            "Folders called %s lie deeper in %s and are not taken for splits: a hash of each path decides. Give the "
            "folder that they lie in if they are",
            ", ".join(map(ascii, deeper)),
            folder,
        )
    in_none = []
    for path in paths:
        first, _, below = path.partition("/")
        split = SUBFOLDERS.get(first.lower() if below else "") if sorted_out else split_of(path)
        splits[split].append(path) if split is not None else in_none.append(path)
    if in_none:
        LOGGER.warning(
            "%d of %d images of %s lie in no split and are left out, such as %s: there are subfolders %s",
            len(in_none),
            len(paths),
            folder,
            ascii(in_none[0]),
            ", ".join(sorted(child.name for child in folder.iterdir() if child.name.lower() in SUBFOLDERS)),
        )
    return splits


def _walk(folder: pathlib.Path) -> Iterator[str]:
    """Relative paths of all files that are called images; links are followed, each folder is entered once."""

    def cannot(error: OSError) -> None:
        LOGGER.warning("Left out: %s, which cannot be entered: %s", error.filename, error.strerror)

    entered: dict[str, str] = {}
    for root, folders, names in os.walk(folder, onerror=cannot, followlinks=True):
        folders.sort()  # Which of two names a folder goes by must not depend on the file system.
        before = entered.setdefault(os.path.realpath(root), root)
        if before != root:
            if not root.startswith(os.path.join(before, "")):  # A link that leads back is no loss.
                LOGGER.warning("Left out: %s, which is the folder %s by another name", ascii(root), ascii(before))
            folders.clear()
            continue
        for name in names:
            if name.lower().endswith(EXTENSIONS):
                yield pathlib.Path(root, name).relative_to(folder).as_posix()


def split_of(path: str) -> str:
    """The split of an image that lies in none, by its path."""
    return {0: "validation", 1: "test"}.get(hashlib.sha256(os.fsencode(path)).digest()[0] % 20, "train")


def read(folder: str | pathlib.Path, path: str, side: int, channels: int) -> Read:
    """Reads an image: its largest centred square, averaged over areas to the size asked for.

    Args:
      folder, path: where it is.
      side: height and width of the result.
      channels: 1 (grey) or 3 (RGB); other kinds are converted.

    Returns:
      The pixels, or why there are none.
    """
    try:
        with Image.open(pathlib.Path(folder, path)) as image:
            square, mode = _square(image), image.mode
            small = square.convert(MODES[channels]).resize((side, side), Image.Resampling.BOX)
    except Exception as error:  # Pillow's plugins raise anything on damaged files, EXIF alone four kinds.
        return Read(path, None, f"{type(error).__name__}: {error}")
    pixels = np.asarray(small, np.uint8).reshape(side, side, channels)
    return Read(path, pixels, "" if mode == MODES[channels] else mode, square.width < side)


def _square(image: Image.Image) -> Image.Image:
    """The largest centred square of an image, upright, on white where it is transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip them at 255
        values, transparent = np.asarray(image, np.int64), image.info.get("transparency")
        values = np.where(values == transparent, 65_535, values)
        image = Image.fromarray(((values + 128) // 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:  # what is seen through it would be black, or whatever colour lies hidden there
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def in_parallel(function, items: Iterable, workers: int | None = None) -> Iterator:
    """The results of a function in the order of its arguments, on all cores; only a few wait to be taken.

    Threads: Pillow decodes and resizes without holding Python's lock.
    """
    workers = workers or os.cpu_count() or 1
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


def load(folder: str | pathlib.Path, split: str, side: int, channels: int) -> np.ndarray:
    """All images of a split, in memory. What cannot be read is named in a warning and left out.

    Args:
      folder: see the module.
      split: "train", "validation" or "test".
      side, channels: as for `read`.

    Returns:
      uint8 [N, side, side, C].

    Raises:
      ValueError: if there are no such images.
    """
    paths = find(folder, "data.folder")[split]
    images, converted, enlarged = [], 0, 0
    results = in_parallel(lambda path: read(folder, path, side, channels), paths)
    # On a terminal alone (None).
    for result in tqdm.tqdm(results, f"reading {split}", len(paths), unit="image", disable=None):
        if result.pixels is None:
            LOGGER.warning("Left out: %s, which cannot be read: %s", ascii(result.path), result.note)
            continue
        converted, enlarged = converted + bool(result.note), enlarged + result.enlarged
        images.append(result.pixels)
    if converted:
        LOGGER.warning("%d of %d images of %s were converted to %s", converted, len(paths), split, MODES[channels])
    if enlarged:
        LOGGER.warning("%d of %d images of %s are smaller than %d and were enlarged", enlarged, len(paths), split, side)
    if not images:
        raise ValueError(
            f"data.folder must hold images of the split {split!r}: in a subfolder of that name, or, without any such "
            f"subfolder, enough for one in 20 to be there. Received: {str(folder)!r}, which has {len(paths)} for it"
        )
    return np.stack(images)
