"""From a run's config back to the command that makes it."""

import dataclasses
import shlex
from typing import Any

from pixelvae_tf import hub
from pixelvae_tf.config import GIVEN, Config, differences
from pixelvae_tf.presets.registry import get, names


def command_for(config: Config, workdir: str) -> str | None:
    """The shortest `pixelvae-train` command that has this config: the nearest preset and a flag for each other field.

    Args:
      config: a run's.
      workdir: where the command is to put the run.

    Returns:
      One line for a shell, or None where flags turn no preset into the config: they change numbers, texts and
      tuples of them, not the number of levels nor which network there is; or where the images were given in Python.
    """
    if config.data.name == GIVEN:
        return None
    changes = [(name, [(field, value) for field, _, value in fields]) for name, fields in _reachable(config)]
    if not changes:
        return None
    preset, fields = min(changes, key=lambda change: len(change[1]))
    flags = [f"--config.{field}={_as_flag(value)}" for field, value in fields]
    return shlex.join(["pixelvae-train", f"--config={preset}", *flags, f"--workdir={workdir}"])


def without_places(config: Config) -> Config:
    """A config without where this machine keeps images and weights, which nobody else has: last names are left."""
    train = dataclasses.replace(config.train, initial_weights=hub.portable(config.train.initial_weights))
    return dataclasses.replace(config, data=config.data.elsewhere(), train=train)


def _as_flag(value: Any) -> str:
    return ",".join(map(str, value)) or "()" if isinstance(value, list | tuple) else str(value)


def _reachable(config: Config) -> list[tuple[str, list[tuple[str, Any, Any]]]]:
    """The presets that flags turn into the config, each with the fields that differ."""
    presets = [(name, differences(get(name), config)) for name in names()]
    return [(name, fields) for name, fields in presets if all(_is_a_flag(*field) for field in fields)]


def _is_a_flag(field: str, *values: Any) -> bool:
    return not field.endswith(".network") and not any(isinstance(value, dict | list | None) for value in values)
