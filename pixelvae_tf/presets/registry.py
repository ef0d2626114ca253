"""The presets by name, and what their docstrings say."""

import inspect
import re
from collections.abc import Callable
from typing import NamedTuple

from pixelvae_tf.config import Config

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
        raise ValueError(f"config must be one of the presets {', '.join(names())}. Received: {name!r}")
    return _PRESETS[name]()


class Description(NamedTuple):
    """What a preset's docstring says.

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


def describe(name: str) -> Description:
    """The parts of a preset's docstring, each on one line.

    Raises:
      ValueError: for an unknown name.
    """
    get(name)
    text = inspect.getdoc(_PRESETS[name])
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)]
    found = {"Cost": "", "Expected": "", "pixelvae-train": ""}
    for paragraph in paragraphs[1:]:
        for start in found:
            if paragraph.startswith(start):
                found[start] = paragraph.removeprefix(f"{start}: ").rstrip(".")
    return Description(paragraphs[0].rstrip("."), found["pixelvae-train"], found["Cost"], found["Expected"])
