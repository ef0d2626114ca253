"""Pictures as HTML. Each is a PNG inside the page, as large as the image, and enlarged by nearest neighbour there."""

import base64
import html
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pixelvae_tf import pictures

# A saved picture is so much wider than its images.
SAVED_SCALE = 4
# About as wide as an image is on the screen, where there is room.
SIDE = 96
# Templates of Gradio's, filled in by the browser.
LINK = '<a href="${value}">Link to what is shown</a> <button type="button">Copy the link</button>'
PYTHON = """
<details><summary>As Python</summary>
<pre tabindex="0" aria-label="As Python">${value.replace(/&/g, "&amp;").replace(/</g, "&lt;")}</pre>
<button type="button">Copy the lines</button></details>
"""


class Picture(NamedTuple):
    """A picture with its words.

    Attributes:
      pixels: uint8 [H, W, C], C 1 or 3, 0..255.
      name: what a screen reader says.
      caption: below it; may be empty.
      value: what a click on it gives; empty for one that is only looked at.
    """

    pixels: np.ndarray
    name: str
    caption: str = ""
    value: str = ""


def png_url(pixels: np.ndarray) -> str:
    """A picture, uint8 [H, W, C], as a data: URL of a PNG."""
    return f"data:image/png;base64,{base64.b64encode(pictures.as_png(pixels)).decode()}"


def grid(shown: Sequence[Picture], columns: int, file_name: str = "", title: str = "", side: int = SIDE) -> str:
    """Pictures of one size in a grid.

    Args:
      shown: the pictures.
      columns: in a row. One row of all is broken where there is no room for it, others are made smaller.
      file_name: of the PNG that "Save PNG" saves, all of them side by side; empty for none.
      title: a line above it.
      side: how wide each is, about; a whole number of times its pixels.

    Returns:
      HTML.
    """
    width = shown[0].pixels.shape[1]
    kind = "pictures row" if columns == len(shown) else "pictures"
    wide = width * max(side // width, 1)
    cells = "".join(map(_cell, shown))
    saved = ""
    if file_name:
        tiled = pictures.tile(np.stack([picture.pixels for picture in shown]), 256, columns, SAVED_SCALE)
        saved = f'<a class="save" download="{html.escape(file_name)}" href="{png_url(tiled)}">Save PNG</a>'
    heading = f"<h2>{html.escape(title)}</h2>" if title else ""
    return f'{heading}<div class="{kind}" style="--columns:{columns};--side:{wide}px">{cells}</div>{saved}'


def _cell(picture: Picture) -> str:
    height, width = picture.pixels.shape[:2]
    name = html.escape(picture.name)
    image = f'<img src="{png_url(picture.pixels)}" width="{width}" height="{height}" alt="{name}">'
    if picture.value:
        image = (
            f'<button type="button" data-value="{html.escape(picture.value)}" title="Take this image">{image}</button>'
        )
    caption = f"<figcaption>{html.escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f"<figure>{image}{caption}</figure>"


def table(rows: Sequence[Sequence[str]], title: str) -> str:
    """A table of texts, the first column of which heads its rows."""
    lines = ""
    for first, *others in rows:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in others)
        lines += f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>'
    caption = f"<caption>{html.escape(title)}</caption>"
    return f'<table class="numbers">{caption}<tbody>{lines}</tbody></table>'


def bars(values: Sequence[tuple[str, float]], unit: str, title: str) -> str:
    """Numbers as bars, the name before and the number after each."""
    top = max((value for _, value in values), default=0.0) or 1.0
    lines = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        f'<td><span class="bar" style="--share:{max(value, 0.0) / top:.4f}"></span>{value:.2f} {unit}</td></tr>'
        for name, value in values
    )
    return f'<table class="numbers bars"><caption>{html.escape(title)}</caption><tbody>{lines}</tbody></table>'


def message(text: str, role: str = "status") -> str:
    """A line that a screen reader says when it comes."""
    return f'<p class="message" role="{role}">{html.escape(text)}</p>'


def title(name: str) -> str:
    """A model's name as HTML, which may be broken after its parts."""
    return re.sub(r"([/_])", r"\1<wbr>", html.escape(name))
