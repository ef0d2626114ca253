"""Imports the scripts outside the package."""

import functools
import importlib.util
import pathlib
import re
import types

import pytest
from absl import flags

ROOT = pathlib.Path(__file__).parents[1]
# The modules of all commands.
MAINS = sorted(path for folder in ("train", "export") for path in (ROOT / folder).glob("*main.py"))


def load_script(path: str) -> types.ModuleType:
    """A script of the checkout as a module whose `FLAGS` are its own, whatever commands this process has imported."""
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "FLAGS", flags.FlagValues())
        patch.syspath_prepend(ROOT / "benchmarks")  # as where they are run
        for name in filter(re.compile(r"(DEFINE|mark_flags?_as)_").match, dir(flags)):
            patch.setattr(flags, name, functools.partial(getattr(flags, name), flag_values=flags.FLAGS))
        spec.loader.exec_module(module)
        module.FLAGS = flags.FLAGS
    return module
