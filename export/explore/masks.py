"""Masks of completion as text for a link: a bit a pixel, row by row, 1 where it is kept, in hexadecimal digits."""

import re

import numpy as np


def write(mask: np.ndarray) -> str:
    """A mask [H, W, 1] as text."""
    return np.packbits(np.ravel(mask) != 0).tobytes().hex()


def read(text: str, height: int, width: int) -> np.ndarray:
    """The mask of a text, uint8 [H, W, 1].

    Raises:
      ValueError: for a text of another length or with other characters.
    """
    digits = 2 * -(-height * width // 8)
    if not re.fullmatch(rf"[0-9a-f]{{{digits}}}", text):
        raise ValueError(
            f"mask must be {digits} hexadecimal digits for {height}x{width} pixels. Received: {text[:40]!r}"
        )
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    return bits[: height * width].reshape(height, width, 1)
