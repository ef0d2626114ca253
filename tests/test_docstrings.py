"""The examples of the public docstrings run, and give what they show."""

import doctest
import importlib
import inspect

import numpy as np
import pytest
from scripts import load_script

import pixelvae_tf
from pixelvae_tf import distributions, layers
from pixelvae_tf.export import options
from pixelvae_tf.models.preset import Presets
from pixelvae_tf.train import evaluation

NAMES = {
    "pixelvae_tf": pixelvae_tf,
    "np": np,
    "layers": layers,
    "distributions": distributions,
    "options": options,
    "evaluation": evaluation,
}
# A whole split, which `test_pretrained.py` evaluates too.
SLOW = {"Evaluator"}


def _public():
    """Every public class and function, and the methods that `PixelVAE` inherits."""
    yield from inspect.getmembers(Presets, inspect.isroutine)
    for module in map(importlib.import_module, ("pixelvae_tf", *_modules())):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield name, value


def _modules():
    return [f"pixelvae_tf.{name}" for name in load_script("docs/api.py").public_modules()]


def _examples() -> dict[str, doctest.DocTest]:
    finder, found = doctest.DocTestFinder(), {}
    for name, value in _public():
        for test in finder.find(value, name, module=False, globs=NAMES):
            if test.examples:
                found.setdefault(test.docstring, test)  # once, however many modules show it
    return {test.name: test for test in found.values()}


EXAMPLES = _examples()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else []) for name in sorted(EXAMPLES)]
)
def test_an_example_gives_what_it_shows(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failures = []
    doctest.DocTestRunner(verbose=False).run(EXAMPLES[name], out=failures.append)
    assert not failures, "".join(failures)


def test_what_a_newcomer_builds_with_has_an_example():
    assert {"PixelVAE", "ModelConfig", "Chain", "GatedBlock", "AutoregressiveGrid", "from_preset"} <= set(EXAMPLES)
