"""Weights by handle: what a hub serves comes into a folder, and what it refuses is said in one message."""

import os
import shutil
import subprocess
import sys
import types

import huggingface_hub
import pytest
from hub_server import serving
from huggingface_hub import errors

import pixelvae_tf
from pixelvae_tf import console, hub, pretrained, runs
from pixelvae_tf.train import initial_weights

DIGITS = "digits/gated_pixel_vae"
PRESET, MISSING = "hf://someone/digits", "hf://someone/else"
FETCH = """
import sys
from pixelvae_tf import hub
print(hub.fetch(sys.argv[1]))
try:
    hub.fetch(sys.argv[2])
except OSError as error:
    print(error)
assert "tensorflow" not in sys.modules
"""


def _fetch(endpoint, home):
    """What `hub.fetch` says of both in a process of its own: huggingface_hub reads its environment on import."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**own, "HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
    command = [sys.executable, "-c", FETCH, PRESET, MISSING]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.splitlines()


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """Where the digits' weights came to from a hub, which has another file too, and what the hub answered."""
    served, home = tmp_path_factory.mktemp("served") / "digits", tmp_path_factory.mktemp("home")
    shutil.copytree(hub.FOLDER / DIGITS, served)
    (served / "unasked.bin").write_bytes(b"large")
    with serving(PRESET.removeprefix("hf://"), served) as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        folder, refused = _fetch(endpoint, home)
        asked = list(server.asked)
    again, unreachable = _fetch(endpoint, home)  # the server is gone
    return types.SimpleNamespace(folder=folder, again=again, asked=asked, refused=refused, unreachable=unreachable)


def test_a_model_of_a_hub_is_the_one_that_was_saved(fetched):
    model, config, card = pretrained.load(fetched.folder)
    original, its_config, its_card = pretrained.load(DIGITS)
    assert runs.fingerprint(model) == runs.fingerprint(original) and config == its_config and card == its_card


def test_only_its_own_files_are_downloaded(fetched):
    assert set(os.listdir(fetched.folder)) == set(hub.FILES)
    assert not any("unasked" in line for line in fetched.asked if "/resolve/" in line)


def test_what_was_downloaded_needs_no_network(fetched):
    assert fetched.again == fetched.folder


def test_what_a_hub_refuses_is_said(fetched):
    assert fetched.refused.startswith("preset must be a model that the hub gives you: public, or yours after ")
    assert f"Received: '{MISSING}': 404" in fetched.refused
    assert fetched.unreachable.startswith("the hub must be reachable for weights that are not in its cache ")
    assert f"Received: '{MISSING}'" in fetched.unreachable


def test_what_the_library_below_the_hubs_raises_is_said(monkeypatch):
    """Such as a proxy that refuses, or an address without a scheme: no error of the hub's own."""
    (transport, *_) = errors.HfHubHTTPError.__bases__

    def refused(*args, **options):
        raise transport("407 Proxy Authentication Required")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    with pytest.raises(OSError, match=r"the hub must give its files\. Received: 'hf://someone/digits': 407 Proxy"):
        hub.fetch(PRESET)


@pytest.mark.parametrize(("scheme", "module"), [("hf", "huggingface_hub"), ("kaggle", "kagglehub")])
def test_a_missing_package_is_named(monkeypatch, scheme, module):
    monkeypatch.setitem(sys.modules, module, None)
    preset = {"hf": "hf://a/b", "kaggle": "kaggle://a/b/keras/c"}[scheme]
    with pytest.raises(ValueError, match=rf"{module}: pip install 'pixelvae_tf\[{scheme}\]'. Received: '{preset}'"):
        hub.fetch(preset)


@pytest.mark.parametrize(
    "preset", ["", "digits/gan", "gs://bucket/a", "hf://name", "hf://a/b/c", "kaggle://a/b/c", "kaggle://a/b/keras/c/x"]
)
def test_what_is_no_name_is_refused_with_what_there_is(preset):
    with pytest.raises(ValueError, match=r"^preset .*must be .*(hf|kaggle)://user/.* Received: "):
        hub.check(preset)


def test_a_flag_takes_names_handles_and_folders(fetched, monkeypatch):
    parse = console._PretrainedParser().parse
    monkeypatch.setenv("HOME", fetched.folder)
    assert [parse(name) for name in (DIGITS, "hf://a/b", "~")] == [DIGITS, "hf://a/b", fetched.folder]
    with pytest.raises(ValueError, match="preset must be one of"):
        parse("~/nothing")


def _kagglehub(download):
    """The two modules of kagglehub that are used, around a download of the test's; the service was never tried."""
    names = ("BackendError", "CredentialError", "DataCorruptionError", "NotFoundError", "UnauthenticatedError")
    exceptions = types.SimpleNamespace(**{name: type(name, (Exception,), {}) for name in names})
    return types.SimpleNamespace(model_download=download, exceptions=exceptions)


def test_kaggle_is_asked_for_the_handle(monkeypatch):
    asked = []
    fake = _kagglehub(lambda handle: asked.append(handle) or str(hub.FOLDER / DIGITS))
    monkeypatch.setitem(sys.modules, "kagglehub", fake)
    for preset in ("kaggle://someone/pixelvae/keras/digits", "kaggle://someone/pixelvae/keras/digits/2"):
        assert hub.fetch(preset) == hub.FOLDER / DIGITS
        assert asked.pop() == preset.removeprefix("kaggle://")

    def refuse(handle):
        raise fake.exceptions.NotFoundError("404 Client Error.\n\nResource not found")

    monkeypatch.setitem(sys.modules, "kagglehub", _kagglehub(refuse))
    fake.exceptions = sys.modules["kagglehub"].exceptions
    with pytest.raises(
        OSError, match=r"Kaggle must give its files. Received: 'kaggle://a/b/keras/c': 404 Client Error"
    ):
        hub.fetch("kaggle://a/b/keras/c")


def test_a_run_starts_with_weights_of_a_folder(fetched):
    config = pixelvae_tf.presets.get(DIGITS)
    config.train.initial_weights = fetched.folder
    model = pixelvae_tf.build(config)
    weights, lineage = initial_weights.load(config, model)
    for name, weight in runs.weights_of(model).items():
        weight.assign(weights[name])
    card = pretrained.find(DIGITS).card
    assert runs.fingerprint(model) == card["fingerprint"] and lineage[-1]["command"] == card["commands"]["train"]
