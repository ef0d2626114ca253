"""The images that a user names: a .npy file, a data set's split, or a folder; and where decoded ones go.

Nothing is cropped, scaled or converted: what is coded is what is given.
"""

import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from pixelvae_tf import pictures
from pixelvae_tf.config import DataConfig, ModelConfig
from pixelvae_tf.data import prepared, sources
from pixelvae_tf.data.decoding import FORMATS, MODES
from pixelvae_tf.data.walk import walk_images
from pixelvae_tf.files import HALF, local_path

NPY = ".npy"


def read(name: str, model: ModelConfig, data_dir: str = "", labels: str = "") -> tuple[np.ndarray, np.ndarray | None]:
    """Reads images.

    Args:
      name: a .npy file of uint8 [N, H, W, C]; a folder of image files of the model's size, in the order of their paths,
        whose 0..255 stand for the model's values as in its samples; or NAME/SPLIT, as "digits/test".
      model: what they are for.
      data_dir: of TensorFlow Datasets.
      labels: a .npy file of integers [N], for a class-conditional model; those of a data set are its own.

    Returns:
      The images, and their labels for a class-conditional model.

    Raises:
      ValueError: if they cannot be read, or are not the model's.
    """
    path = local_path(name, "images")
    known = None
    if data_dir and (path.suffix == NPY or path.is_dir()):
        raise ValueError(f"data_dir must be left out for images of no data set. Received: {data_dir!r}")
    if path.suffix == NPY:
        images = _load(path, "images")
    elif path.is_dir():
        images = _folder(path, model)
    else:
        data, _, split = name.rpartition("/")
        if not data or split not in sources.SPLITS:
            raise ValueError(
                f"images must be a {NPY} file, a folder, or a data set and one of its splits "
                f"({', '.join(sources.SPLITS)}), as digits/test. Received: {name!r}"
            )
        read = sources.load(DataConfig(name=data, data_dir=data_dir), split)
        images, known = read.images[:], read.labels
    if labels and not model.num_classes:
        raise ValueError(f"labels must be left out for a model without classes. Received: {labels!r}")
    if labels:
        known = _load(local_path(labels, "labels"), "labels")
    return images, known if model.num_classes else None


def _load(path: pathlib.Path, name: str) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} must be a {NPY} file of numbers. Received: {str(path)!r}: {error}") from error


def _folder(folder: pathlib.Path, model: ModelConfig) -> np.ndarray:
    height, width, channels = model.image_shape
    if channels not in MODES:
        raise ValueError(f"images can be read from files only for models of 1 or 3 channels. Received: {channels}")
    paths = sorted(walk_images(folder, "images").paths)
    images = np.zeros((len(paths), *model.image_shape), np.uint8)
    expected = f"images must be files of {width}x{height} pixels, mode {MODES.get(channels)}"
    for place, path in enumerate(paths):
        try:
            with Image.open(folder / path, formats=FORMATS) as image:
                lost = _lost_in_8_bits(image)
                image.load()
        except Exception as error:  # Pillow's plugins raise anything on damaged files.
            raise ValueError(f"{expected}. Received: {path!r}: {error}") from error
        if lost:
            raise ValueError(f"{expected} and nothing else. Received: {path!r}, with {lost}")
        if image.size != (width, height) or image.mode != MODES.get(channels):
            raise ValueError(f"{expected}. Received: {path!r}, {image.width}x{image.height}, mode {image.mode}")
        picture = np.asarray(image).reshape(model.image_shape)
        images[place] = pictures.to_pixel_values(picture, model.num_values)
        if not np.array_equal(pictures.to_uint8_picture(images[place], model.num_values), picture):
            raise ValueError(
                f"{expected}, of {model.num_values} values in 0..255. Received: {path!r}, which has others"
            )
    return images


def _lost_in_8_bits(image: Image.Image) -> str:
    """What an opened file has and Pillow would leave out without a word, or nothing."""
    if (number := getattr(image, "n_frames", 1)) > 1:
        return f"{number} pictures"
    if "transparency" in image.info:
        return "a transparent colour"
    if image.format in ("JPEG2000", "AVIF"):
        return f"channels of {image.format}, which may have more than 8 bits"
    for tile in image.tile:
        arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        # The largest value of a PPM file is one of them.
        largest = max((each for each in arguments if isinstance(each, int) and image.format == "PPM"), default=255)
        if largest > 255 or any(";16" in str(each) for each in arguments):
            return "16 bits a channel"
    return ""


def write(
    folder: pathlib.Path, images: Iterable[np.ndarray], labels: np.ndarray | None, places: Sequence[int] | None
) -> None:
    """Writes decoded images, and their labels where there are any, to .npy files: all of them, or none.

    Args:
      folder: made if it is not there; new or empty.
      images: uint8 [N, H, W, C]; with places, an iterable of N.
      labels: [N], or None.
      places: for PNG files in place of images.npy, the place of each image in the file: it is their name.
    """
    half = folder / f"decoded{HALF}"  # where an interrupted writer leaves what is not all
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    arrays = {"images": np.asarray(images)} if places is None else {}
    for name, array in (arrays | ({} if labels is None else {"labels": labels})).items():
        prepared.write_array(half / f"{name}{NPY}", array)
    for place, image in zip(places or (), images, strict=False):
        pictures.write_png(half / f"{place:07d}.png", image)
    for path in sorted(half.iterdir()):
        os.replace(path, folder / path.name)
    half.rmdir()
