"""Every block of code of the docs is run, or says why not; every flag in them is one of its command."""

import ast
import functools
import os
import pathlib
import pydoc
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from commands import run_command
from PIL import Image
from scripts import ROOT
from test_docs import PAGES as EXAMPLES

from pixelvae_tf import presets

PAGES = [ROOT / "README.md", ROOT / "BUILD.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Pages whose commands run one after the other in one folder; their blocks are in the order of a reader.
GUIDE = [ROOT / "docs" / f"{name}.md" for name in ("first_model", "export", "sample", "training", "evaluate")]
SHELLS = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
_BLOCK = re.compile(r"^(<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
_WHOLE_PAGE = re.compile(r"^<!-- no command of this page is run: (?P<reason>[^\n]+) -->$", re.M)


def _blocks(page: pathlib.Path):
    return list(_BLOCK.finditer(page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_not_run_says_why(page):
    if _WHOLE_PAGE.search(page.read_text()):
        return
    for block in _blocks(page):
        run = page in GUIDE or (block["language"] == "python" and page in EXAMPLES)
        assert run or block["reason"], f"{page.name}: either run it, or say why not:\n{block.group()}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_that_is_not_run_names_what_there_is(page):
    for block in _blocks(page):
        if block["language"] != "python" or page in GUIDE or page in EXAMPLES:
            continue
        tree, ours = ast.parse(block["code"]), {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("pixelvae_tf"):
                for alias in node.names:
                    ours[alias.asname or alias.name] = pydoc.locate(f"{node.module}.{alias.name}")
        assert None not in ours.values(), f"{page.name}: {ours}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours:
                assert hasattr(ours[node.value.id], node.attr), f"{page.name}: {ast.unparse(node)}"


def _commands() -> list[tuple[str, list[str]]]:
    """Each `pixelvae-*` line of the docs, as page and words; variables of the shell are left out."""
    commands = []
    for page in PAGES:
        for block in _blocks(page):
            for line in block["code"].replace("\\\n", " ").splitlines():
                if line.strip().startswith("pixelvae-") and block["language"] == "sh":
                    line = line.replace(" --config=$", " ").partition(" && ")[0]
                    words = [word for word in shlex.split(line, comments=True) if not word.startswith("$")]
                    commands.append((page.name, words))
    return commands


@functools.cache
def _help(command: str) -> str:
    entries = (ROOT / "pyproject.toml").read_text()
    module, function = re.search(rf'^{command} = "pixelvae_tf\.([\w.]+):(\w+)"$', entries, re.M).groups()
    status, output, _ = run_command(module if function == "run" else f"{module}:{function}", "--help")
    assert status == 0
    return output


def _has_field(config, path: str) -> bool:
    """Whether `config` has the field that a flag names: model.levels[0].dim."""
    value = config
    for name, index in re.findall(r"(\w+)(?:\[(\d+)\])?", path):
        if not hasattr(value, name):
            return False
        value = getattr(value, name)
        value = value[int(index)] if index and isinstance(value, list) else value
    return True


def test_the_flags_in_the_docs_exist():
    commands = _commands()
    assert len(commands) > 40
    for page, (command, *words) in commands:
        preset = next((word.partition("=")[2] for word in words if word.startswith("--config=")), "")
        config = presets.get(preset if preset in presets.names() else "binarized_mnist/gated_pixel_vae")
        for word in words:
            if word == "--":  # what follows is for the workers
                command = "pixelvae-train"
            name = word.partition("=")[0].removeprefix("--")
            if name == word or not name:
                continue
            field, text = name.removeprefix("config."), _help(command)
            if field != name:
                known = "--config:" in text and _has_field(config, field)
            else:
                known = re.search(rf"^\s*(-\w,)?--(\[no\])?{name}:", text, re.MULTILINE)
            assert known, f"{page}: {command} has no flag {word}"


@pytest.mark.slow  # Trains the digits three times.
def test_the_commands_of_the_guide_run(tmp_path):
    for name in ("one", "two"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save(tmp_path / f"{name}.png")
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    for page in GUIDE:
        for block in _blocks(page):
            if block["reason"]:
                continue
            code, interpreter = block["code"], SHELLS[block["language"]]
            environment = {**os.environ, "PATH": path}
            outcome = subprocess.run(
                [*interpreter, code], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert outcome.returncode == 0, f"{page.name}:\n{code}\n{outcome.stdout[-1000:]}\n{outcome.stderr[-3000:]}"
