"""The presets by name, what their docstrings say, and what they cost."""

import functools
import inspect
import json
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

from pixelvae_tf.config import Config
from pixelvae_tf.suggestions import did_you_mean

COSTS_PATH = pathlib.Path(__file__).with_name("costs.json")

_PRESETS: dict[str, Callable[[], Config]] = {}


def preset(name: str):
    """Registers a function as the preset of a name, `<data set>/<model>`."""

    def register(function: Callable[[], Config]) -> Callable[[], Config]:
        _PRESETS[name] = function
        return function

    return register


def names() -> list[str]:
    """All presets, sorted."""
    return sorted(_PRESETS)


def get(name: str) -> Config:
    """A fresh copy of a preset.

    Raises:
      ValueError: for an unknown name.
    """
    if name not in _PRESETS:
        meant = did_you_mean(name, names())
        raise ValueError(f"config must be one of the presets (pixelvae-train --list). Received: {name!r}{meant}")
    return _PRESETS[name]()


class Description(NamedTuple):
    """What a preset is.

    Attributes:
      summary: what it is.
      command: how to run it.
      cost: weights and multiply-adds.
      expected: the number it should give, and who says so.
    """

    summary: str
    command: str
    cost: str
    expected: str


class Cost(NamedTuple):
    """The size of a model.

    Attributes:
      weights: their number.
      multiply_adds: of one evaluation of the bound of an image.
    """

    weights: int
    multiply_adds: int

    def __str__(self) -> str:
        unit, size = ("G", 1e9) if self.multiply_adds >= 1e9 else ("M", 1e6)
        return f"{self.weights:,} weights, {self.multiply_adds / size:.3g} {unit} multiply-adds"


@functools.cache
def costs() -> dict[str, Cost]:
    """The costs of the presets by name, as costs.json has them."""
    return {name: Cost(**cost) for name, cost in json.loads(COSTS_PATH.read_text()).items()}


def describe(name: str) -> Description:
    """The parts of a preset's docstring, each on one line, and its cost.

    Raises:
      ValueError: for an unknown name.
    """
    get(name)
    text = inspect.getdoc(_PRESETS[name])
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)]
    found = {"Expected": "", "pixelvae-train": ""}
    for paragraph in paragraphs[1:]:
        for start in found:
            if paragraph.startswith(start):
                found[start] = paragraph.removeprefix(f"{start}: ").rstrip(".")
    cost = str(costs().get(name, "not counted"))
    return Description(paragraphs[0].rstrip("."), found["pixelvae-train"], cost, found["Expected"])
