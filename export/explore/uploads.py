"""Reads an image that was uploaded, as training reads a folder's, within limits that a page needs."""

import io
import pathlib

import numpy as np
from PIL import Image

from pixelvae_tf import pictures
from pixelvae_tf.data import decoding, metadata
from pixelvae_tf.export.explore.explored_model import Facts

MAX_BYTES = 20 * 2**20
# As many as the largest photographs have.
MAX_PIXELS = 2**26


def read(path: str | pathlib.Path, facts: Facts) -> np.ndarray:
    """An image file as pixel values of the model: its largest centred square, averaged over areas, quantised.

    Args:
      path: of the file.
      facts: of the model.

    Returns:
      uint8 [H, W, C].

    Raises:
      ValueError: for a file that is no image, has too many bytes or pixels, or a model of images that are no squares.
    """
    path = pathlib.Path(path)
    side, channels = decoding.readable(facts.image_shape, "image")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"image must have at most {MAX_BYTES} bytes. Received: {size}")
    _check_pixels(path)
    read_image = decoding.read(path.parent, path.name, side, channels)
    if read_image.pixels is None:
        raise ValueError(
            f"image must be a picture file. Received: {path.name!r}, which cannot be read: {read_image.note}"
        )
    return pictures.to_pixel_values(read_image.pixels, facts.num_values)


def _check_pixels(path: pathlib.Path) -> None:
    """Refuses a decompression bomb by what the file says of itself, before anything is decoded."""
    try:
        # As it is decoded then: with a damaged note in it, Pillow would not open the file as it is.
        content = metadata.split(path.read_bytes()).content
        with Image.open(io.BytesIO(content), formats=decoding.FORMATS) as opened:
            pixels = opened.width * opened.height
    except Image.DecompressionBombError as error:
        raise ValueError(f"image must be no decompression bomb. Received: {path.name!r}: {error}") from error
    except Exception:  # Pillow's plugins raise anything on damaged files.
        return  # what is wrong with it, the reader says
    if pixels > MAX_PIXELS:
        raise ValueError(f"image must have at most {MAX_PIXELS} pixels. Received: {path.name!r} with {pixels}")


def read_and_remove(path: str | pathlib.Path, facts: Facts) -> np.ndarray:
    """The same; the file, a copy that the page was sent, is removed whatever becomes of it."""
    try:
        return read(path, facts)
    finally:
        pathlib.Path(path).unlink(missing_ok=True)
