"""Pictures for people: grids of images as PNG."""

import io
import math
import pathlib

import numpy as np
from PIL import Image

from pixelvae_tf import pixels
from pixelvae_tf.files import write_atomically


def tile(images: np.ndarray, num_values: int, columns: int | None = None, scale: int = 1) -> np.ndarray:
    """Puts images side by side.

    Args:
      images: integer pixel values [N, H, W, C], C 1 or 3.
      num_values: how many values a channel can take.
      columns: images in a row; by default the grid is about square.
      scale: how many picture pixels a pixel is wide.

    Returns:
      uint8 [rows * (H + 1) * scale, columns * (W + 1) * scale, C]; what is left over is mid-grey.
    """
    number, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    # One pixel of grey between the images.
    canvas = np.full((rows * columns, height + 1, width + 1, channels), 128, np.uint8)
    canvas[:number, :height, :width] = pixels.to_uint8_picture(images, num_values)
    canvas = canvas.reshape(rows, columns, height + 1, width + 1, channels).transpose(0, 2, 1, 3, 4)
    canvas = canvas.reshape(rows * (height + 1), columns * (width + 1), channels)
    return canvas.repeat(scale, axis=0).repeat(scale, axis=1)


def beside(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Interleaves two sets [N, H, W, C], so that a grid with even columns shows pairs."""
    return np.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def write_png(path: str | pathlib.Path, picture: np.ndarray) -> None:
    """Writes a uint8 picture [H, W, C], C 1 or 3."""
    buffer = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
