"""Pictures for people: grids of images as PNG."""

import io
import math
import pathlib

import numpy as np
from PIL import Image

from pixelvae_tf.files import write_atomically


def to_uint8_picture(images: np.ndarray, num_values: int) -> np.ndarray:
    """Stretches pixel values to 0..255 for display.

    Args:
      images: integer pixel values, any shape.
      num_values: how many values a channel can take.

    Returns:
      A uint8 array of the same shape.
    """
    scaled = np.asarray(images, np.float64) * (255.0 / (num_values - 1))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def to_pixel_values(picture: np.ndarray, num_values: int) -> np.ndarray:
    """The inverse: a uint8 picture of any shape as pixel values 0 .. num_values - 1, uint8."""
    return np.rint(np.asarray(picture, np.float64) * ((num_values - 1) / 255.0)).astype(np.uint8)


def visible(images: np.ndarray) -> np.ndarray:
    """Of images [..., C] the channels that a picture has, [..., 1 or 3]: of four and more three, of two one."""
    return images[..., : 3 if images.shape[-1] > 2 else 1]


def coloured(images: np.ndarray) -> np.ndarray:
    """What is visible of images [..., C] in three channels, [..., 3]."""
    shown = visible(images)
    return shown if shown.shape[-1] == 3 else shown.repeat(3, axis=-1)


def tile(images: np.ndarray, num_values: int, columns: int | None = None, scale: int = 1) -> np.ndarray:
    """Puts images side by side.

    Args:
      images: integer pixel values [N, H, W, C]; their `visible` channels are shown.
      num_values: how many values a channel can take.
      columns: images in a row; by default the grid is about square.
      scale: how many picture pixels a pixel is wide.

    Returns:
      uint8 [rows * (H + 1) * scale, columns * (W + 1) * scale, 1 or 3]; what is left over is mid-grey.
    """
    images = visible(images)
    number, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    # One pixel of grey between the images.
    canvas = np.full((rows * columns, height + 1, width + 1, channels), 128, np.uint8)
    canvas[:number, :height, :width] = to_uint8_picture(images, num_values)
    canvas = canvas.reshape(rows, columns, height + 1, width + 1, channels).transpose(0, 2, 1, 3, 4)
    canvas = canvas.reshape(rows * (height + 1), columns * (width + 1), channels)
    return canvas.repeat(scale, axis=0).repeat(scale, axis=1)


def halves(height: int, width: int) -> dict[str, np.ndarray]:
    """Masks that keep half of an image, by its name: uint8 [H, W, 1], 1 where it is kept."""
    row, column = np.indices((height, width))
    kept = {
        "top": row < height // 2,
        "bottom": row >= height // 2,
        "left": column < width // 2,
        "right": column >= width // 2,
    }
    return {name: half.astype(np.uint8)[..., None] for name, half in kept.items()}


def beside(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Interleaves two sets [N, H, W, C], so that a grid with even columns shows pairs."""
    return np.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def completions(
    images: np.ndarray, mask: np.ndarray, completed: np.ndarray, num_values: int, scale: int = 1
) -> np.ndarray:
    """One row per image: the image, its kept part (the rest mid-grey), its completions.

    Args:
      images: integer pixel values [N, H, W, C].
      mask: [N, H, W, 1], or one for all [H, W, 1]; nonzero where the image is kept.
      completed: integer pixel values [N, M, H, W, C].
      num_values: how many values a channel can take.
      scale: how many picture pixels a pixel is wide.

    Returns:
      uint8, as `tile`.
    """
    number, each = completed.shape[:2]
    shown = to_uint8_picture(images, num_values)
    kept = np.where(mask, shown, np.uint8(128))
    filled = to_uint8_picture(completed, num_values)
    rows = np.concatenate([shown[:, None], kept[:, None], filled], axis=1)
    return tile(rows.reshape(number * (2 + each), *images.shape[1:]), 256, 2 + each, scale)


def as_png(picture: np.ndarray) -> bytes:
    """A uint8 picture [H, W, C] as a PNG of its `visible` channels."""
    shown, buffer = visible(picture), io.BytesIO()
    Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown).save(buffer, "PNG")
    return buffer.getvalue()


def write_png(path: str | pathlib.Path, picture: np.ndarray) -> None:
    """Writes `as_png`."""
    write_atomically(path, as_png(picture))
