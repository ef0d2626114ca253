"""The presets by name: what each is, should give and costs."""

import copy
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections.config_flags import config_path

from pixelvae_tf.config import Config
from pixelvae_tf.suggestions import did_you_mean

COSTS_PATH = pathlib.Path(__file__).with_name("costs.json")
NO_NUMBER = "no published number"

_PRESETS: dict[str, tuple[Config, str, str]] = {}


def preset(name: str, summary: str, expected: str, base: Config, changes: Mapping[str, Any] | None = None) -> Config:
    """Registers a preset.

    preset("digits/flat", "The same without latents", "83.28 nats (test)", gated_pixel_vae, {"model.levels": []})

    Args:
      name: `<data set>/<model>`.
      summary: what it is.
      expected: the number that it should give, and who says so.
      base: the config that it differs from.
      changes: what differs, by the names of the fields, as "model.levels[0].dim".

    Returns:
      Its config.
    """
    config = changed(base, changes or {})
    _PRESETS[name] = config, summary, expected
    return config


def changed(base: Config, changes: Mapping[str, Any]) -> Config:
    """A copy of a config in which fields, by their names as in `preset`, have other values."""
    config = copy.deepcopy(base)
    for field, value in changes.items():
        config_path.set_value(field, config, value)
    return config


def names() -> list[str]:
    """All presets, sorted."""
    return sorted(_PRESETS)


def get(name: str) -> Config:
    """A fresh copy of a preset.

    Raises:
      ValueError: for an unknown name.
    """
    return copy.deepcopy(_find(name)[0])


def _find(name: str) -> tuple[Config, str, str]:
    if name not in _PRESETS:
        meant = did_you_mean(name, names())
        raise ValueError(f"config must be one of the presets (pixelvae-train --list). Received: {name!r}{meant}")
    return _PRESETS[name]


class Description(NamedTuple):
    """What a preset is.

    Attributes:
      summary: what it is.
      cost: weights and multiply-adds.
      expected: the number it should give, and who says so.
    """

    summary: str
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
    """What a preset is, costs and should give.

    Raises:
      ValueError: for an unknown name.
    """
    _, summary, expected = _find(name)
    return Description(summary, str(costs().get(name, "not counted")), expected)
