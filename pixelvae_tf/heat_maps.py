"""Pictures of maps in nats: images with their maps beside them, and the scale of the colours.

The colour map is viridis (Smith and van der Walt 2015), perceptually uniform: equal steps in nats look equal.

Legend: N images, H height, W width, C channels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from pixelvae_tf.pictures import coloured, to_uint8_picture

# Of polynomials of degree 6 in red, green and blue, lowest power first, fitted to viridis: within 0.017 of it.
_VIRIDIS = np.array(
    [
        *([0.274, 0.006, 0.333], [0.108, 1.396, 1.387], [-0.327, 0.215, 0.092], [-4.6, -5.758, -19.292]),
        *([6.204, 14.154, 56.656], [4.752, -13.749, -65.321], [-5.432, 4.642, 26.272]),
    ]
)
_TEXT, _GAP, _BAR, _LABELS = 12, 4, 12, 56  # picture pixels: a line of text, between tiles, the scale, its numbers
_INK, _PAPER = (0, 0, 0), (255, 255, 255)


class Row(NamedTuple):
    """Images that belong together.

    Attributes:
      title: what they are.
      captions: a line under each image.
      images: integer pixel values [N, H, W, C].
      maps: one after the other, nats [N, H, W] each.
    """

    title: str
    captions: Sequence[str]
    images: np.ndarray
    maps: Sequence[np.ndarray]


def colours(nats: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers as colours.

    Args:
      nats: any shape.
      low, high: what the ends of the scale stand for; what is beyond has their colours.

    Returns:
      uint8, the same shape with RGB after it.
    """
    share = np.clip((np.asarray(nats, np.float64) - low) / max(high - low, 1e-12), 0, 1)
    rgb = np.polynomial.polynomial.polyval(share, _VIRIDIS)
    return np.rint(np.clip(np.moveaxis(rgb, 0, -1), 0, 1) * 255).astype(np.uint8)


def limits(rows: Sequence[Row]) -> tuple[float, float]:
    """The ends of a scale for all maps: round numbers around all but the highest in a thousand."""
    values = np.concatenate([np.ravel(maps) for row in rows for maps in row.maps])
    low, high = min(float(values.min()), 0.0), float(np.quantile(values, 0.999))
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-6))) / 2
    return math.floor(low / step) * step, max(math.ceil(high / step), 1) * step


def draw(rows: Sequence[Row], num_values: int, scale: int = 4) -> np.ndarray:
    """A picture: a line of images a row, each with its maps on its right; on the right of all, the scale in nats.

    Args:
      rows: what to show, top first; all maps share one scale.
      num_values: how many values a channel of the images can take.
      scale: how many picture pixels a pixel is wide.

    Returns:
      uint8 [height, width, 3].
    """
    low, high = limits(rows)
    height, width = (scale * size for size in rows[0].images.shape[1:3])
    parts = 1 + len(rows[0].maps)
    tile = parts * (width + 1) + 3 * _GAP
    deep = height + 2 * _TEXT + 3 * _GAP
    columns = max(len(row.captions) for row in rows)
    size = (_GAP + columns * tile + _BAR + _LABELS, _GAP + len(rows) * deep)
    canvas = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(canvas)
    for index, row in enumerate(rows):
        top = _GAP + index * deep
        pen.text((_GAP, top), row.title, _INK)
        for place, (caption, image) in enumerate(zip(row.captions, row.images, strict=True)):
            left, upper = _GAP + place * tile, top + _TEXT + _GAP
            shown = [coloured(to_uint8_picture(image, num_values))]
            shown += [colours(maps[place], low, high) for maps in row.maps]
            for part, pixels in enumerate(shown):
                large = Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))
                canvas.paste(large, (left + part * (width + 1), upper))
            room = max((tile - _GAP) // 6, 1)  # letters of Pillow's own font are about so wide
            pen.text((left, upper + height), caption if len(caption) <= room else f"..{caption[2 - room :]}", _INK)
    _draw_scale(canvas, pen, low, high)
    return np.asarray(canvas)


def _draw_scale(canvas: Image.Image, pen: ImageDraw.ImageDraw, low: float, high: float) -> None:
    left, top, bottom = canvas.width - _BAR - _LABELS, _GAP + _TEXT, canvas.height - _GAP - _TEXT
    bar = colours(np.linspace(high, low, bottom - top)[:, None].repeat(_BAR, axis=1), low, high)
    canvas.paste(Image.fromarray(bar), (left, top))
    for share in (0.0, 0.5, 1.0):
        place = round(bottom - share * (bottom - top)) - _TEXT // 2
        pen.text((left + _BAR + _GAP, place), f"{low + share * (high - low):.3g}", _INK)
    pen.text((left, _GAP - _TEXT // 4), "nats", _INK)
