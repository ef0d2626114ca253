"""The fields of a config for people: each group and field as the docstrings of its dataclasses explain it."""

import dataclasses
import inspect
import re
import textwrap
import typing

from pixelvae_tf.config import DataConfig, TrainConfig
from pixelvae_tf.models.config import LevelConfig, ModelConfig
from pixelvae_tf.models.networks import NETWORKS

WIDTH = 80
HEAD = (
    "Fields of the config, each a flag --config.FIELD=VALUE after --config=PRESET (tuples with commas: 32,64). "
    "What is not given is the preset's, which --print_config shows."
)


def text() -> str:
    """All groups with all of their fields."""
    networks = [
        (f"config.model.pixels, config.model.levels[0].prior: {kind().network}", kind) for kind in NETWORKS.values()
    ]
    groups = [
        ("config.data", DataConfig),
        ("config.train", TrainConfig),
        ("config.model", ModelConfig),
        ("config.model.levels[0] (the level that the pixels see), levels[1], ...", LevelConfig),
        *networks,
    ]
    shown: set[tuple] = set()
    return "\n\n".join([textwrap.fill(HEAD, WIDTH), *(_group(where, kind, shown) for where, kind in groups)])


def _group(where: str, kind: type, shown: set[tuple]) -> str:
    """A group; what was `shown` with the same words is named alone."""
    entries = {names: doc for names, doc in explained(kind).items() if settable(kind, names)}
    before = [name for names, doc in entries.items() if (names, doc) in shown for name in names]
    lines = [_fill(" ".join((kind.__doc__ or "").partition("\n\n")[0].split()), 2, 2)]
    lines += [_fill(f"{', '.join(before)}: as above", 4, 8)] if before else []
    lines += [_fill(f"{', '.join(names)}: {doc}", 4, 8) for names, doc in entries.items() if (names, doc) not in shown]
    shown.update(entries.items())
    return "\n".join([where, *lines])


def _fill(text: str, first: int, others: int) -> str:
    before, below = " " * first, " " * others
    return textwrap.fill(text, WIDTH, initial_indent=before, subsequent_indent=below, break_on_hyphens=False)


def explained(kind: type) -> dict[tuple[str, ...], str]:
    """What the docstrings of a dataclass and its bases say of its fields, the bases' first.

    Args:
      kind: a dataclass of `config`.

    Returns:
      The text for each name, or names that are explained together.
    """
    docs: dict[tuple[str, ...], str] = {}
    for base in reversed(kind.__mro__[:-1]):
        _, _, attributes = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")
        for names, doc in re.findall(r"^  ([\w, ]+): (.*(?:\n {4,}.*)*)", attributes, re.MULTILINE):
            docs[tuple(names.split(", "))] = " ".join(doc.split())
    return docs


def settable(kind: type, names: tuple[str, ...]) -> bool:
    """Whether fields are flags: numbers, texts and tuples of them, but not which network there is."""
    hints = typing.get_type_hints(kind)
    return all(name != "network" and not _is_nested(hints[name]) for name in names)


def _is_nested(hint) -> bool:
    return any(dataclasses.is_dataclass(part) for part in (hint, *typing.get_args(hint)))
