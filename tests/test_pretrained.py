"""Trained weights in the package: what is stored loads, is what its card says, and reaches the number on it."""

import json
import pathlib
import shutil

import h5py
import huggingface_hub
import keras
import numpy as np
import pytest
from commands import run_command
from family import MODELS, make_model
from small_run import small_config

import pixelvae_tf
from pixelvae_tf import data, hub, model_card, pretrained, runs
from pixelvae_tf.config import Config
from pixelvae_tf.export import card as card_lib
from pixelvae_tf.export import exporter, store_pretrained
from pixelvae_tf.train import evaluation, trainer

NAMES = pretrained.names()
DIGITS = "digits/gated_pixel_vae"
# Noise is exact, rounding is the processor's (without oneDNN's kernels the slices differ by 5e-7): a tenth of the last
# digit of the tables, and of thousands of nats a millionth. Weights that went through bfloat16 are 0.004 and 0.012 off.
TOLERANCE = {"abs": 1e-3, "rel": 1e-6}
SHAPES = r"model.weights.h5 has not the weights that config.json says: .*"


def _folder(name):
    return hub.FOLDER / name


def test_the_names_are_those_of_the_docs():
    mnist = {f"{name}/gated_pixel_vae_no_upsampling" for name in ("binarized_mnist", "dynamically_binarized_mnist")}
    table_1 = ("gated_pixel_cnn", "gated_pixel_vae", "vae", "pixel_cnn", "pixel_vae", "row_lstm", "diagonal_bilstm")
    beside = ("diagonal_bilstm_turned", "gated_pixel_vae_two_orders", "pixel_vae_diagonal_bilstm")
    others = {f"binarized_mnist/{name}" for name in (*table_1, *beside)}
    assert others | mnist | {DIGITS, "cifar10/hierarchical_tiny_gaussian_prior"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_is_what_its_card_says(name):
    model, config, step = pixelvae_tf.load_pretrained(name)
    card = json.loads((_folder(name) / hub.METADATA).read_text())["pixelvae_tf"]
    assert runs.fingerprint(model) == card["fingerprint"] and step == card["step"]
    assert model.count_params() == card["num_weights"]
    assert {weight.dtype.name for weight in runs.weights_of(model).values()} == {"float32"}
    config.validate()
    assert config.data.name == name.split("/")[0] and not config.data.data_dir and not config.data.folder
    assert pixelvae_tf.presets.command_for(config, f"runs/{name}") == card["commands"]["train"]
    assert card["commands"]["train"].startswith(f"pixelvae-train --config={name} ")
    assert {report["fingerprint"] for report in card["evaluations"]} == {card["fingerprint"]}

    files = {path.name: path.stat().st_size for path in _folder(name).iterdir()}
    assert set(files) == set(hub.FILES)
    assert max(files.values()) < 5_000_000
    page = (_folder(name) / hub.README).read_text()
    facts = [f"{report['bound_nats']:.2f} ± " for report in card["evaluations"]]
    for fact in (f"# {name}\n", card["fingerprint"], card["commands"]["train"], card["data"]["binarization"], *facts):
        assert fact in page
    # Where a machine keeps the images is of no use to others: not in the trainings before either.
    assert "data_dir" not in page + str([training["command"] for training in card["lineage"]])


@pytest.mark.parametrize("name", NAMES)
def test_it_reaches_on_a_slice_what_it_reached_when_it_was_stored(name, request, monkeypatch):
    monkeypatch.setattr(evaluation.Evaluator, "_usage", lambda *args: {})  # more passes, of which nothing is compared
    model, config, card = pretrained.load(name)
    if config.data.name != "digits":
        config.data.data_dir = request.getfixturevalue("tfds_dir")
    test, expected = data.load(config.data, "test"), card["slice"]
    number = expected["num_images"]
    report = evaluation.Evaluator(model)(test.first(number))
    assert report["data"] == expected["data"] and number >= 100
    for part in ("bound_nats", "reconstruction_nats"):
        assert report[part] == pytest.approx(expected[part], **TOLERANCE)


def test_evaluate_prints_the_number_of_the_table():
    before = {path: path.read_bytes() for path in _folder(DIGITS).iterdir()}
    status, out, errors = run_command("train.evaluate_main", f"--pretrained={DIGITS}")
    assert status == 0, errors
    report, (expected, *_) = json.loads(out), pretrained.load(DIGITS)[2]["evaluations"]
    assert report["bound_nats"] == pytest.approx(expected["bound_nats"], **TOLERANCE)
    for fact in ("data", "binarization", "num_images", "step", "weights", "fingerprint"):
        assert report[fact] == expected[fact]
    assert {path: path.read_bytes() for path in _folder(DIGITS).iterdir()} == before


def _export_cards_alone():
    def export(model, about, export_dir, options):
        file = pathlib.Path(export_dir, "1", card_lib.CARD)
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({**about, "fingerprint": runs.fingerprint(model)}))
        return pathlib.Path(export_dir, "1")

    exporter.export = export


def test_the_export_command_takes_it_with_its_card(tmp_path):
    """What it writes of a model and a card is shown by test_export_commands."""
    arguments = [f"--pretrained={DIGITS}", f"--export_dir={tmp_path / 'digits'}"]
    status, out, errors = run_command("export.main", *arguments, prepare=_export_cards_alone)
    assert status == 0, errors
    assert out == f"exported and checked: {tmp_path / 'digits'}/1\n"
    written, known = json.loads((tmp_path / "digits" / "1" / card_lib.CARD).read_text()), pretrained.load(DIGITS)[2]
    assert written["fingerprint"] == known["fingerprint"]
    assert written["evaluations"] == known["evaluations"] and written["config"] == known["config"]
    export = " ".join(["pixelvae-export", *arguments])
    assert written["commands"] == {**known["commands"], "export": export}


# Lists of layers, of pairs and of levels; the others are like them.
QUICK = ("gated_pixel_vae", "pixel_cnn_pp_classes", "row_lstm", "hierarchy_three_levels")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in MODELS]
)
def test_keras_files_hold_every_weight(name, tmp_path):
    saved, path = make_model(name), tmp_path / "a.weights.h5"
    places = []
    for weight in runs.weights_of(saved).values():
        weight.assign(weight + 1.0)  # a weight that is left out would else be the fresh one again
    saved.save_weights(path)
    with h5py.File(path) as file:
        file.visit(places.append)
    # Keras' name of a list in a list; older Keras leaves the layers in one out without a word (keras#20598).
    assert places and not any("container" in place for place in places)
    loaded = pixelvae_tf.build(Config(model=MODELS[name]))  # whose layers have other numbers in this process
    assert runs.fingerprint(loaded) != runs.fingerprint(saved)
    loaded.load_weights(path)
    assert runs.fingerprint(loaded) == runs.fingerprint(saved)


def test_an_unknown_name_is_answered_with_the_names():
    with pytest.raises(ValueError, match=rf"must be one of the pretrained models .*{DIGITS}.*Received: 'digits/gan'"):
        pixelvae_tf.load_pretrained("digits/gan")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that can be written, with one model."""
    folder = tmp_path / "pretrained"
    shutil.copytree(_folder(DIGITS), folder / DIGITS)
    monkeypatch.setattr(hub, "FOLDER", folder)
    return folder


def _flip(content: bytes, where: int) -> bytes:
    return content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    {
        "torn": (hub.WEIGHTS, lambda content: content[: len(content) // 2], r"OSError: .*truncated file"),
        "empty": (hub.WEIGHTS, lambda content: b"", r"OSError: .*signature not found"),
        "a bit": (hub.WEIGHTS, lambda content: _flip(content, len(content) // 2), "weights of fingerprint "),
        "torn card": (hub.METADATA, lambda content: content[: len(content) // 2], "metadata.json is damaged: "),
        "no card": (hub.METADATA, lambda content: b"{}", "metadata.json has nothing of pixelvae_tf"),
        "no data": (
            hub.METADATA,
            lambda content: content.replace(b'\n    "data": {', b'"data": 3, "x": {'),
            "no dict 'data'",
        ),
        "classes": (
            hub.METADATA,
            lambda content: content.replace(b'\n    "data": {', b'\n    "data": {"classes": 5, '),
            "no names of classes, but 5",
        ),
        "a card in part": (
            hub.METADATA,
            lambda content: content.replace(b'\n    "evaluations": [', b'\n    "evaluations": [{}, '),
            "KeyError: ",
        ),
        "another config": (hub.CONFIG, lambda content: content.replace(b'"dim": 16', b'"dim": 8'), SHAPES),
        "no fields": (hub.CONFIG, lambda content: b"[]", "config.json is no JSON object"),
        "of another class": (
            hub.CONFIG,
            lambda content: content.replace(b"pixelvae_tf>PixelVAE", b"keras_hub>BertBackbone"),
            "config.json is that of 'keras_hub>BertBackbone', not of a PixelVAE",
        ),
        "of another library": (
            hub.CONFIG,
            lambda content: b'{"model_type": "bert"}',
            "config.json is that of another program, not of a PixelVAE",
        ),
        "another dtype": (hub.CONFIG, lambda content: content.replace(b'"float32"', b'"int8"'), "dtype policy 'int8'"),
        "a field more": (hub.CONFIG, lambda content: content.replace(b'"dim"', b'"dims"'), "dims"),
    }.values(),
)
def test_damaged_and_foreign_files_are_refused(package, file, damage, reason):
    path = package / DIGITS / file
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=rf"files of '{DIGITS}' must be as save_to_preset .*Received: .*{reason}"):
        pixelvae_tf.load_pretrained(DIGITS)


@pytest.mark.parametrize("file", [hub.CONFIG, hub.METADATA, hub.WEIGHTS])
def test_a_missing_file_is_named(tmp_path, file):
    folder = shutil.copytree(_folder(DIGITS), tmp_path / "copy")
    (folder / file).unlink()
    with pytest.raises(ValueError, match=rf"must have the files of save_to_preset.*/copy', which has no {file}"):
        pixelvae_tf.PixelVAE.from_preset(folder)


def test_a_model_travels_as_a_folder(tmp_path):
    """One that no run made: what is written gives the same model, in its dtype, and says what it knows."""
    saved = make_model("gated_pixel_vae")
    for weight in runs.weights_of(saved).values():
        weight.assign(weight + 1.0)
    saved.save_to_preset(tmp_path / "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == set(hub.FILES)
    model, config, step = pixelvae_tf.load_pretrained(tmp_path / "mine")
    assert runs.fingerprint(model) == runs.fingerprint(saved)
    assert model.config == config.model == saved.config and model.dtype_policy.name == saved.dtype_policy.name
    assert config.data.name == "arrays" and config.train.dtype == saved.dtype_policy.name and step == 0
    card = huggingface_hub.ModelCard.load(tmp_path / "mine" / hub.README)
    assert card.data.library_name == "pixelvae_tf" and card.data.eval_results is None
    assert card.text.strip().startswith("# mine\n") and f"| latents | {saved.config.levels[0].dim} |" in card.text

    described = card_lib.make_card(config, "best", 7)  # which no command made
    saved.save_to_preset(tmp_path / "described", described)
    known = pretrained.find(tmp_path / "described").card
    assert known["commands"]["train"] is None and "No preset becomes" in model_card.page(known)

    # By Keras' own means, as KerasHub reads it.
    serialized = json.loads((tmp_path / "mine" / hub.CONFIG).read_text())
    other = keras.saving.deserialize_keras_object(serialized)
    other.load_weights(tmp_path / "mine" / hub.WEIGHTS)
    assert runs.fingerprint(other) == runs.fingerprint(saved)
    assert serialized["registered_name"] == keras.saving.get_registered_name(type(saved))

    saved.save_to_preset(tmp_path / "mine")  # again
    assert {path.name for path in (tmp_path / "mine").iterdir()} == set(hub.FILES)
    with (tmp_path / "mine" / hub.README).open("a") as file:
        file.write("License: mine")
    saved.save_to_preset(tmp_path / "mine")
    assert (tmp_path / "mine" / "README.old.md").read_text().endswith("License: mine")
    for card in ({"step": 3}, {"config": np.float32(1.0)}):
        with pytest.raises(ValueError, match=r"card must be plain data, as export\.card\.make_card gives it"):
            saved.save_to_preset(tmp_path / "mine", card)
        # What was there is whole.
        assert runs.fingerprint(pixelvae_tf.PixelVAE.from_preset(tmp_path / "mine")) == runs.fingerprint(saved)
    assert str(tmp_path) not in json.dumps(pretrained.find(tmp_path / "mine").card)
    for other in ("config.json", hub.METADATA):  # of a run, and of another library's model
        (tmp_path / other).mkdir()
        (tmp_path / other / other).write_text("{}")
        with pytest.raises(ValueError, match=r"preset_dir must be a new or empty folder.*Received: .*', which holds"):
            saved.save_to_preset(tmp_path / other)


@pytest.mark.parametrize("name", NAMES)
def test_the_hubs_library_finds_the_results_in_the_card(name):
    card = pretrained.find(name).card
    assert (_folder(name) / hub.README).read_text() == model_card.hub_page(card)
    read = huggingface_hub.ModelCard.load(_folder(name) / hub.README)
    assert read.data.model_name == name and read.data.pipeline_tag == "unconditional-image-generation"
    results = {
        (result.dataset_split, result.metric_type, str(result.metric_args)): result for result in read.data.eval_results
    }
    # Of whole splits alone.
    for report in (report for report in card["evaluations"] if "," not in report["data"]):
        split = report["data"].rpartition("/")[2]
        found, values = [results[split, "bound_nats", "None"]], [report["bound_nats"]]
        if samples := report.get("importance_samples"):
            found.append(results[split, "importance_weighted_nats", str({"importance_samples": samples})])
            values.append(report["importance_weighted_nats"])
        assert [result.metric_value for result in found] == values
        for result in found:
            assert f"{result.dataset_name}/{result.dataset_split}" == report["data"]
            assert result.dataset_config == f"binarization: {report['binarization']}"


def test_a_run_is_stored_when_it_is_evaluated_and_small(package, tmp_path, monkeypatch):
    config, workdir, name = small_config("digits/vae", steps=2), tmp_path / "run", "digits/vae"
    config.data.data_dir = str(tmp_path)  # digits do not read it
    trainer.train_and_evaluate(config, workdir, trainer.make_strategy("one_device"))
    model, _, step = runs.load(workdir)
    test = data.load(config.data, "test")
    report = evaluation.Evaluator(model)(test)
    report |= {"weights": "best (average)", "step": step, "fingerprint": runs.fingerprint(model), "dtype": "float32"}
    of_validation = runs.write_evaluation({**report, "data": "digits/validation"}, workdir, 1)
    with pytest.raises(ValueError, match=r"must hold an evaluation .* on the test split .*\['digits/validation'\]"):
        store_pretrained.store(workdir, name)
    of_validation.unlink()
    runs.write_evaluation(report, workdir, test.fingerprint())
    with pytest.raises(ValueError, match=r"name must be the preset .*=digits/vae .*Received: 'digits/pixel_vae'"):
        store_pretrained.store(workdir, "digits/pixel_vae")
    size = sum(weight.nbytes for weight in model.get_weights())
    monkeypatch.setattr(store_pretrained, "MAX_BYTES", size // 2 - 1)
    with pytest.raises(
        ValueError, match=f"must take at most {size // 2 - 1:,} bytes as float16. Received: {size // 2:,}"
    ):
        store_pretrained.store(workdir, name)
    assert pretrained.names() == [DIGITS], "what is refused leaves nothing"

    monkeypatch.setattr(store_pretrained, "MAX_BYTES", size // 2)
    store_pretrained.store(workdir, name, "Of two steps.")
    halved, _, card = pretrained.load(name)
    stored = []
    with h5py.File(package / name / hub.WEIGHTS) as file:
        file.visititems(lambda _, item: stored.append(item) if isinstance(item, h5py.Dataset) else None)
        assert stored and all(array.dtype == np.float16 for array in stored)
    for weight, whole in zip(halved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, whole.astype(np.float16).astype(np.float32))
    (again,) = card["evaluations"]
    # Half of a step of float16 in each weight, 0.0005 of it.
    assert again["bound_nats"] != report["bound_nats"] and again["bound_nats"] == pytest.approx(
        report["bound_nats"], 1e-3
    )
    assert again["fingerprint"] == card["fingerprint"] == runs.fingerprint(halved) != runs.fingerprint(model)
    page = (package / name / hub.README).read_text()
    assert "best weights (averaged), rounded to float16" in page and "\n\nOf two steps.\n\n" in page
    monkeypatch.setattr(store_pretrained, "MAX_BYTES", size)

    assert store_pretrained.store(workdir, name) == package / name
    assert pretrained.names() == [DIGITS, name]
    model, its_config, card = pretrained.load(name)
    assert runs.fingerprint(model) == runs.fingerprint(runs.load(workdir)[0])
    assert card["evaluations"] == [report] and card["slice"]["num_images"] == 100
    assert not any(str(tmp_path) in path.read_text() for path in (package / name).glob("*[!5]"))
    config.data.data_dir = ""
    assert its_config == config

    status, out, errors = run_command("export.main", f"--workdir={workdir}", f"--preset_dir={tmp_path / 'mine'}")
    assert (status, out) == (0, f"saved: {tmp_path / 'mine'}\n"), errors
    _, its_config, its_card = pretrained.load(tmp_path / "mine")
    assert its_config == config and its_card["evaluations"] == [report] and its_card["name"] == "mine"
    assert its_card["commands"]["train"] == card["commands"]["train"].replace(f"runs/{name}", "runs/mine")
    assert not any(str(tmp_path) in path.read_text() for path in (tmp_path / "mine").glob("*[!5]"))
