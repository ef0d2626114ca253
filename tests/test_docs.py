"""The examples of the docs run as they stand, one after the other; the linear probe reads a SavedModel."""

import os
import re

import numpy as np
import pytest
from scripts import ROOT, load_script

PAGE = ROOT / "docs" / "python_api.md"
TEXT = PAGE.read_text()
BLOCKS = list(re.finditer(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def run_until(tmp_path_factory):
    """Runs the examples up to one, each once, in a folder of their own."""
    names, folder, before, left = {}, tmp_path_factory.mktemp("docs"), os.getcwd(), list(BLOCKS)

    def run(last):
        os.chdir(folder)
        try:
            while left and left[0].start() <= last.start():
                block = left.pop(0)
                # Blank lines before it, so that a traceback gives the line of the page.
                code = "\n" * TEXT[: block.start(1)].count("\n") + block.group(1)
                exec(compile(code, PAGE.name, "exec"), names)
        finally:
            os.chdir(before)
        return folder

    return run


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line {TEXT[: block.start(1)].count(chr(10)) + 1}")
def test_an_example_runs(run_until, block):
    """After those before it."""
    assert run_until(block).is_dir()


def test_a_linear_probe_reads_the_last_examples_export(run_until, capsys):
    """Ten labelled digits of each class are enough to read most of the others from pixels, and many from the means."""
    saved_model = run_until(BLOCKS[-1]) / "models/digits/1"
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
