"""The examples of the docs run as they stand, one after the other."""

import pathlib
import re

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
