"""The notebook: what is stored was run, and it runs."""

import base64
import io
import re

import nbformat
import numpy as np
import pytest
from PIL import Image
from scripts import ROOT, load_script

PATH = ROOT / "docs" / "notebooks" / "first_digit.ipynb"
SKIPPED = "skip-execution"  # what nbclient leaves out: the installation


def _pictures(notebook):
    """Each cell's pictures, as arrays."""
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"]))))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def test_what_is_stored_was_run_in_order_and_has_its_pictures():
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    install, *code = (cell for cell in notebook.cells if cell.cell_type == "code")
    assert re.search(r"^%pip install .*git\+REPOSITORY", install.source, re.M) and install.metadata.tags == [SKIPPED]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    shown = [cell for cell in code if re.search(r"^show\(", cell.source, re.M)]
    assert len(_pictures(notebook)) == len(shown) == 5
    assert not any(
        output.output_type == "error" or output.get("name") == "stderr" for cell in code for output in cell.outputs
    )
    assert len(PATH.read_bytes()) < 200_000


@pytest.mark.slow  # A kernel of its own, and half a dozen traced functions.
def test_it_runs_and_shows_what_is_stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(PATH, as_version=4)
    stored = _pictures(notebook)
    for picture, before in zip(_pictures(load_script("docs/run_notebook.py").run(notebook)), stored, strict=True):
        # Noise is exact; another processor rounds the rest differently, and a few pixels may differ.
        assert picture.shape == before.shape and np.mean(picture != before) < 0.05
