"""The examples of the docs run as they stand, one after the other; the linear probe reads a SavedModel."""

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from exports import checks_in_place
from scripts import ROOT, load_script

import pixelvae_tf
from pixelvae_tf.data import DATA_SETS
from pixelvae_tf.likelihoods import LIKELIHOODS
from pixelvae_tf.models.networks import NETWORKS

PAGES = [*(ROOT / "docs" / name for name in ("python_api.md", "parts.md", "extending.md")), ROOT / "README.md"]


def _blocks(page):
    return list(re.finditer(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE))


# What a page registers is its own.
TABLES = (NETWORKS, LIKELIHOODS, DATA_SETS)
CASES = [(page, block) for page in PAGES for block in _blocks(page)]


class Page:
    """The examples of a page, run in a folder of their own.

    Args:
      path: of the page.
      folder: where they run.
    """

    def __init__(self, path, folder):
        self.path, self.folder, self._names, self._left = path, folder, {}, _blocks(path)
        self._tables = [dict(table) for table in TABLES]

    def run(self, last=None):
        """Runs the examples up to one, or all, each once."""
        text, before = self.path.read_text(), os.getcwd()
        os.chdir(self.folder)
        with contextlib.ExitStack() as stack:
            stack.callback(os.chdir, before)
            stack.enter_context(checks_in_place())
            for table, own in zip(TABLES, self._tables, strict=True):
                stack.enter_context(mock.patch.dict(table, own))
            while self._left and (last is None or self._left[0].start() <= last.start()):
                block = self._left.pop(0)
                # Blank lines before it, so that a traceback gives the line of the page.
                code = "\n" * text[: block.start(1)].count("\n") + block.group(1)
                exec(compile(code, self.path.name, "exec"), self._names)
            self._tables = [dict(table) for table in TABLES]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """By path."""
    return {path: Page(path, tmp_path_factory.mktemp("docs")) for path in PAGES}


def _place(case):
    path, block = case
    return f"{path.name}, line {block.string[: block.start(1)].count(chr(10)) + 1}"


@pytest.mark.parametrize("case", CASES, ids=_place)
def test_an_example_runs(pages, case):
    """After those before it on its page."""
    path, block = case
    pages[path].run(block)


def test_the_list_of_the_public_api_is_what_is_public():
    script, reference = load_script("docs/api.py"), (ROOT / "docs" / "reference.md").read_text()
    assert (ROOT / "docs" / "api.md").read_text() == script.page(), "python docs/api.py > docs/api.md"
    assert set(dir(pixelvae_tf)) == set(pixelvae_tf.__all__)
    for name in script.public_modules():
        module = importlib.import_module(f"pixelvae_tf.{name}")
        assert len(set(module.__all__)) == len(module.__all__) and all(
            hasattr(module, public) for public in module.__all__
        )
        # A package of presets or models is shown where its names are.
        assert name == "models" or f"::: pixelvae_tf.{name}\n" in reference, f"docs/reference.md lacks {name}"


@pytest.mark.slow  # A training in a process that imports TensorFlow.
def test_a_command_trains_with_the_likelihood_of_the_page(tmp_path):
    """By the command line that the page gives, from a file that holds its example."""
    page = (ROOT / "docs" / "extending.md").read_text()
    example = page.partition("## A likelihood")[2].partition("```python\n")[2].partition("```")[0]
    (tmp_path / "binomial.py").write_text(example)
    line = re.search(r"^python -c .*?[^\\]$", page, re.MULTILINE | re.DOTALL).group()
    few = " --config.train.steps=2 --config.train.evaluate_every=2"
    subprocess.run(
        ["bash", "-euc", line.replace("python", sys.executable, 1) + few], cwd=tmp_path, check=True, capture_output=True
    )
    config = json.loads((tmp_path / "runs/binomial/config.json").read_text())
    assert config["model"]["likelihood"] == "binomial"


def test_a_linear_probe_reads_the_last_examples_export(pages, capsys):
    """Ten labelled digits of each class are enough to read most of the others from pixels, and many from the means."""
    pages[PAGES[0]].run()
    saved_model = pages[PAGES[0]].folder / "models/digits/1"
    probe = load_script("docs/linear_probe.py")
    probe.FLAGS(["linear_probe", f"--saved_model={saved_model}", "--labels=100", "--draws=2"])
    probe.main([])
    title, columns, numbers = capsys.readouterr().out.splitlines()
    assert title.startswith("digits/test: 400 images, 16 means;") and columns.split() == ["labels", "means", "pixels"]
    number, means, _, _, pixels, _, _ = numbers.split()
    # Chance is 10%; a model of forty steps is behind the pixels, as it is not when it is trained.
    assert number == "100" and float(means) > 40 and float(pixels) > 70
    with pytest.raises(SystemExit, match="linear_probe: labels must be multiples of 10"):
        probe.draw(np.arange(1000) % 10, 105, np.random.default_rng(0))
