"""The wheel on each Python: installed without constraints and extras, it runs every command; extras are named."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from PIL import Image

from pixelvae_tf import data
from pixelvae_tf.config import DataConfig

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")
RUN, EXPORTED = "run", "models/digits"
SMALL = ["--config.train.steps=2", "--config.train.batch_size=8", "--config.model.levels[0].filters=(4,)"]
# One use of each, in an order in which each finds what those before it left.
COMMANDS = {
    "pixelvae-train": ["--config=digits/vae", *SMALL, f"--workdir={RUN}"],
    "pixelvae-launch": ["--workers=1", "--", "--config=digits/vae", *SMALL, "--workdir=launched"],
    "pixelvae-evaluate": [f"--workdir={RUN}", "--split=test"],
    "pixelvae-export": [f"--workdir={RUN}", f"--export_dir={EXPORTED}"],
    "pixelvae-sample": [f"--saved_model={EXPORTED}", "--num_images=2", "--output=samples.png"],
    "pixelvae-model": ["encode", f"--workdir={RUN}", "--images=photos/0.png"],
    "pixelvae-score": [f"--saved_model={EXPORTED}", "--images=photos", "--output=scored"],
    "pixelvae-prepare": ["photos", "--size=8", "--channels=1", "--output=prepared"],
    "pixelvae-explore": ["--help"],  # more takes its extra; likewise the next two
    "pixelvae-compress": ["--help"],
    "pixelvae-decompress": ["--help"],
}


def test_what_readers_are_told_of_python_is_what_pip_is_told():
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    listed = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert tuple(listed) == PYTHONS
    for page in ("README.md", "BUILD.md"):
        assert "Python 3.11, 3.12 or 3.13" in (ROOT / page).read_text(), page
    assert set(COMMANDS) == set(PROJECT["scripts"])


def test_the_readme_of_a_release_links_to_its_repository():
    url = "https://example.org/someone/pixelvae_tf"
    command = [sys.executable, "setup.py", "--quiet", "--long-description"]
    plain, released = (
        subprocess.run(command, cwd=ROOT, env=os.environ | more, capture_output=True, text=True, check=True).stdout
        for more in ({"PROJECT_URL": ""}, {"PROJECT_URL": url})
    )
    assert plain.strip() == (ROOT / "README.md").read_text().strip()
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]*)\)", released)
    assert all(link.startswith("https://") for _, link in links) and f"git clone {url} " in released
    ours = [(picture, link.removeprefix(url)) for picture, link in links if link.startswith(url)]
    assert len(ours) > 15
    for picture, link in ours:
        assert link.startswith(f"/{'raw' if picture else 'blob'}/v{PROJECT['version']}/"), link
        assert (ROOT / link.partition("#")[0].split("/", 3)[3]).exists(), link


@pytest.mark.parametrize("name", ["mnist", "a_set_of_tfds"])
def test_data_sets_of_an_extra_that_is_missing_name_it(monkeypatch, name):
    for module in ("tensorflow_datasets", "tensorflow_datasets.core.read_only_builder"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"pip install 'pixelvae_tf\[tfds\]'\. Received: '{name}'"):
        data.load(DataConfig(name), "train")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("wheel")
    # setuptools packs what earlier builds left in build/.
    sources = shutil.copytree(ROOT, folder / "checkout", ignore=shutil.ignore_patterns(".*", "build", "dist", "runs"))
    _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(sources)], folder)
    return next(folder.glob("*.whl"))


def _run(command, folder) -> str:
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert outcome.returncode == 0, f"{command}: {outcome.stdout[-2000:]}{outcome.stderr[-2000:]}"
    return outcome.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_alone_runs_every_command(wheel, tmp_path, version):
    found = shutil.which(f"python{version}")
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"no Python {version} on this machine")
    _run([found, "-m", "venv", "environment"], tmp_path)
    scripts = tmp_path / "environment" / "bin"
    _run([scripts / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel], tmp_path)
    run_every_command(scripts, tmp_path)


def run_every_command(scripts: pathlib.Path, folder: pathlib.Path) -> None:
    """Runs each command of an environment in a folder, and looks at what it leaves."""
    (folder / "photos").mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (40, 9, 9), np.uint8)):
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
    printed = {name: _run([scripts / name, *arguments], folder) for name, arguments in COMMANDS.items()}
    again = ["reconstruct", "photos/0.png", f"--saved_model={EXPORTED}", "--output=pairs.png"]
    _run([scripts / "pixelvae-model", *again], folder)  # of what was exported
    assert "bound_nats" in printed["pixelvae-evaluate"] and "z1_mean" in printed["pixelvae-model"]
    for left in (
        f"{RUN}/best",
        f"{EXPORTED}/1/saved_model.pb",
        "samples.png",
        "pairs.png",
        "prepared/manifest.json",
        "scored/scores.csv",
        "launched/best",
    ):
        assert (folder / left).exists(), left
