"""All that can be chosen on the page as the fragment of its address: #seed=7&temperature=0.8.

A fragment stays in the browser: it is in no request, and no server limits its length.
"""

import json
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple

import gradio as gr

Value = str | int | float | bool | list | None


class Choice(NamedTuple):
    """One of them.

    Attributes:
      component: that holds it.
      read: from its text to its value; raises a ValueError for a text that no choice has.
    """

    component: gr.components.Component
    read: Callable[[str], Value]


class Choices:
    """The choices of a page, by the names that links give them."""

    def __init__(self):
        self.by_name: dict[str, Choice] = {}

    def add(self, name: str, component: gr.components.Component, read: Callable[[str], Value]):
        """Registers a choice; returns its component."""
        assert name not in self.by_name
        self.by_name[name] = Choice(component, read)
        return component

    @property
    def components(self) -> list[gr.components.Component]:
        """In the order in which they were added."""
        return [choice.component for choice in self.by_name.values()]

    def restore(self, fragment: str) -> list[Value]:
        """The values that a link gives the components; what it leaves out, or has wrong, is as at the start."""
        fields = dict(urllib.parse.parse_qsl(fragment.removeprefix("#"), keep_blank_values=True))
        values = []
        for name, choice in self.by_name.items():
            try:
                values.append(choice.read(fields[name]))
            except (KeyError, ValueError):
                values.append(choice.component.value)
        return values

    @property
    def write(self) -> str:
        """A function of JavaScript from the values of all components to the page's address with them."""
        starts = {name: choice.component.value for name, choice in self.by_name.items()}
        return f"(...values) => explore.link({json.dumps(starts)}, values)"


def whole(low: int, high: int) -> Callable[[str], int]:
    """Reads an integer in low .. high."""
    return lambda text: _in_range(int(text), low, high)


def number(low: float, high: float) -> Callable[[str], float]:
    """Reads a number in low .. high."""
    return lambda text: _in_range(float(text), low, high)


def one_of(*values: Value) -> Callable[[str], Value]:
    """Reads one of some values, as JavaScript writes them."""
    texts = {_written(value): value for value in values}

    def read(text: str) -> Value:
        if text not in texts:
            raise ValueError(text)
        return texts[text]

    return read


def some_of(*values: str) -> Callable[[str], list[str]]:
    """Reads any of some names, with commas between them."""

    def read(text: str) -> list[str]:
        names = text.split(",") if text else []
        if not set(names) <= set(values):
            raise ValueError(text)
        return [value for value in values if value in names]

    return read


def checked(check: Callable[[str], object]) -> Callable[[str], str]:
    """Reads a text that a function takes without an error."""

    def read(text: str) -> str:
        check(text)
        return text

    return read


def _in_range(value, low, high):
    if not low <= value <= high:  # nor NaN
        raise ValueError(value)
    return value


def _written(value: Value) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
