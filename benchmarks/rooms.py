"""Draws pictures of rooms: large structure that a small autoregressive network does not see, for hierarchies.

    python benchmarks/rooms.py --size=32 --number=20000 --output=rooms_32
    pixelvae-train --config=cifar10/hierarchical_tiny --config.data.folder=rooms_32 --workdir=DIR

A stand-in for LSUN's bedrooms, which can no longer be downloaded. A room has a back wall, a floor in perspective, a
window, a bed and sometimes a picture, a rug and a lamp, each with colours and a pattern of its own (stripes, checks),
under one light that falls off to a side; and a little noise on every pixel. Stripes are wider than the reach of a few
masked layers, patterns go on behind what stands in front of them, and pillow, blanket and curtains repeat the colours
of other parts of the room.

Writes --output/train, validation and test: PNG files, a function of --seed and their number alone.
"""

import pathlib

import numpy as np
from absl import app, flags
from PIL import Image

_SIZE = flags.DEFINE_integer("size", 32, "Side of the images.", lower_bound=16)
_NUMBER = flags.DEFINE_integer("number", 20_000, "Images for training; a tenth as many for each other split.")
_SEED = flags.DEFINE_integer("seed", 0, "Of all images.")
_NOISE = flags.DEFINE_float("noise", 4.0, "Standard deviation of the noise on every pixel, of 255.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write.", required=True)

Region = np.ndarray  # bool [size, size]


def colour(rng: np.random.Generator, low: float = 0.25, high: float = 0.95) -> np.ndarray:
    """A colour [3] that is not too saturated."""
    grey = rng.uniform(low, high)
    return np.clip(grey + rng.normal(0, 0.12, 3), 0, 1)


class Room:
    """One picture in the making; coordinates are shares of its side.

    Args:
      rng: what decides everything.
      size: side in pixels.
    """

    def __init__(self, rng: np.random.Generator, size: int):
        self.rng = rng
        self.y, self.x = (np.mgrid[0:size, 0:size] + 0.5) / size
        self.image = np.zeros((size, size, 3))

    def box(self, left: float, top: float, right: float, bottom: float) -> Region:
        """A rectangle."""
        return (self.x >= left) & (self.x < right) & (self.y >= top) & (self.y < bottom)

    def fill(self, region: Region, first: np.ndarray, second: np.ndarray | None = None, u=None, v=None) -> None:
        """Fills a region with a colour, or a pattern of two along coordinates `u` and perhaps `v`."""
        pattern = np.zeros_like(self.x)
        if second is not None:
            pattern = np.floor(u) % 2 if v is None else (np.floor(u) + np.floor(v)) % 2
        values = np.where(pattern[..., None] > 0, first if second is None else second, first)
        self.image[region] = values[region]

    def draw(self) -> np.ndarray:
        """The room without noise, [size, size, 3] in 0..1."""
        rng = self.rng
        horizon, corner = rng.uniform(0.5, 0.7), rng.uniform(-0.3, 1.3)
        wall, paper, wood, cloth = (colour(rng) for _ in range(4))
        stripes = rng.uniform(4, 7) * self.x + rng.uniform(0, 2)
        self.fill(self.box(0, 0, 1, horizon), wall, paper if rng.random() < 0.7 else None, stripes)
        depth = 1 / np.maximum(self.y - horizon + 0.12, 0.05)
        across = (self.x - corner) * depth
        checks = rng.random() < 0.5
        boards = colour(rng, 0.2, 0.7)
        self.fill(self.box(0, horizon, 1, 1), wood, boards, 1.2 * across, 1.2 * depth if checks else None)
        if rng.random() < 0.6:
            self._rug(horizon, paper)
        self._window(horizon, cloth)
        if rng.random() < 0.5:
            self._picture(horizon)
        self._bed(horizon, cloth, paper)
        light = 1 - rng.uniform(0.2, 0.6) * np.abs(self.x - (rng.random() < 0.5))
        return np.clip(self.image * light[..., None], 0, 1)

    def _rug(self, horizon: float, other: np.ndarray) -> None:
        x, y, width = self.rng.uniform(0.2, 0.8), (1 + horizon) / 2, self.rng.uniform(0.2, 0.4)
        radius = ((self.x - x) / width) ** 2 + ((self.y - y) / (0.35 * width)) ** 2
        self.fill((radius < 1) & (self.y > horizon), colour(self.rng), other, 3 * radius)

    def _window(self, horizon: float, curtain: np.ndarray) -> None:
        rng = self.rng
        left, top = rng.uniform(0.05, 0.6), rng.uniform(0.05, 0.15)
        right, bottom = left + rng.uniform(0.25, 0.35), top + rng.uniform(0.2, 0.3)
        sky = np.array([0.6, 0.75, 0.95]) * rng.uniform(0.3, 1.0)
        self.fill(self.box(left - 0.06, top - 0.02, right + 0.06, bottom + 0.04), curtain)
        self.fill(self.box(left, top, right, bottom), sky)
        middle = (left + right) / 2
        self.fill(self.box(middle - 0.02, top, middle + 0.02, bottom), np.ones(3) * 0.9)

    def _picture(self, horizon: float) -> None:
        rng = self.rng
        left, top, side = rng.uniform(0.05, 0.75), rng.uniform(0.05, horizon - 0.25), rng.uniform(0.12, 0.2)
        self.fill(self.box(left - 0.03, top - 0.03, left + side + 0.03, top + side + 0.03), colour(rng, 0.1, 0.3))
        self.fill(self.box(left, top, left + side, top + side), colour(rng), colour(rng), 2 * (self.y - top) / side)

    def _bed(self, horizon: float, blanket: np.ndarray, pillow: np.ndarray) -> None:
        rng = self.rng
        left, width = rng.uniform(-0.1, 0.5), rng.uniform(0.45, 0.65)
        top, bottom = horizon - rng.uniform(0.0, 0.08), rng.uniform(0.8, 0.95)
        head_left = rng.random() < 0.5
        head = left if head_left else left + width - 0.06
        self.fill(self.box(head, top - 0.12, head + 0.06, bottom), colour(rng, 0.1, 0.4))
        folds = (self.y - top) * rng.uniform(5, 9)
        second = colour(rng) if rng.random() < 0.6 else None
        self.fill(self.box(left + 0.06, top, left + width - 0.06, bottom - 0.06), blanket, second, folds)
        place = left + 0.08 if head_left else left + width - 0.08 - 0.16
        self.fill(self.box(place, top - 0.04, place + 0.16, top + 0.06), pillow)


def draw(seed: tuple[int, ...], size: int, noise: float) -> np.ndarray:
    """A room, uint8 [size, size, 3]."""
    rng = np.random.default_rng(seed)
    image = 255 * Room(rng, size).draw() + rng.normal(0, noise, (size, size, 3))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def main(_) -> None:
    """Writes all splits."""
    for split, name in enumerate(("train", "validation", "test")):
        folder = pathlib.Path(_OUTPUT.value, name)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(_NUMBER.value if split == 0 else _NUMBER.value // 10):
            image = draw((_SEED.value, split, number), _SIZE.value, _NOISE.value)
            Image.fromarray(image).save(folder / f"{number:06d}.png")


if __name__ == "__main__":
    app.run(main)
