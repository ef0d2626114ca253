"""The examples of the docs run as they stand, one after the other; the linear probe reads what they export."""

import pathlib
import re
import subprocess
import sys

import pytest

DOCS = pathlib.Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["python_api.md"])
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / page).read_text()
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE))
    assert blocks
    names = {}
    for block in blocks:
        # Blank lines before it, so that a traceback gives the line of the page.
        code = "\n" * text[: block.start(1)].count("\n") + block.group(1)
        exec(compile(code, page, "exec"), names)
    _probe("models/digits/1")


def _probe(saved_model: str) -> None:
    """Ten labelled digits of each class are enough to read most of the others from pixels, and many from the means."""
    command = [sys.executable, DOCS / "linear_probe.py", f"--saved_model={saved_model}", "--labels=100", "--draws=2"]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    title, columns, numbers = outcome.stdout.splitlines()
    assert title.startswith("digits/test: 400 images, 16 means;") and columns.split() == ["labels", "means", "pixels"]
    number, means, _, _, pixels, _, _ = numbers.split()
    # Chance is 10%; a model of forty steps is behind the pixels, as it is not when it is trained.
    assert number == "100" and float(means) > 40 and float(pixels) > 70
    refused = subprocess.run([*command[:-2], "--labels=105"], capture_output=True, text=True)
    assert refused.returncode != 0 and "linear_probe: labels must be multiples of 10" in refused.stderr
