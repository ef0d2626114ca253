"""Prints docs/api.md: every public name with the first line of what its docstring says.

python docs/api.py > docs/api.md
"""

import importlib
import inspect
import typing

import pixelvae_tf

# Public beside those of `pixelvae_tf` itself.
MODULES = (
    "models.networks",
    "likelihoods",
    "fields",
    "data.prepare",
    "train.trainer",
    "train.evaluation",
    "export.exporter",
    "export.card",
    "export.options",
    "export.client",
)
INTRODUCTION = """\
# The public API

What is listed here is public: it stays as it is within a minor version, and what changes is said. Everything else,
whatever its name, is internal and may change without notice. `pixelvae_tf.X` needs no import of its own.
[The reference](reference.md) has all of it with arguments, shapes and errors, [the examples](python_api.md) how it is
used. This page is what `python docs/api.py` prints.
"""


def public_modules() -> list[str]:
    """The names of all public modules below pixelvae_tf."""
    return [*(name for name in pixelvae_tf.__all__ if inspect.ismodule(getattr(pixelvae_tf, name))), *MODULES]


def first_line(value: object) -> str:
    """Of a docstring; of a table its keys, of a constant its value."""
    if isinstance(value, dict):
        return ", ".join(value)
    if typing.get_origin(value) is typing.Annotated:
        return f"An item of a tuple: {typing.get_args(value)[0].__name__}, in a range."
    return repr(value) if isinstance(value, str) else inspect.getdoc(value).partition("\n")[0]


def section(title: str, module: object, names: list[str]) -> str:
    """A heading and a line for each name."""
    lines = [f"- `{name}`: {first_line(getattr(module, name))}" for name in names]
    return "\n".join([f"## {title}", "", *lines, ""])


def page() -> str:
    """The whole page."""
    modules = public_modules()
    own = [name for name in pixelvae_tf.__all__ if name not in modules and name != "__version__"]
    sections = [section("`pixelvae_tf`", pixelvae_tf, own)]
    for name in modules:
        module = importlib.import_module(f"pixelvae_tf.{name}")
        sections.append(section(f"`pixelvae_tf.{name}`", module, sorted(module.__all__)))
    return "\n".join([INTRODUCTION, *sections])


if __name__ == "__main__":
    print(page(), end="")
