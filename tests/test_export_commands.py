"""The commands around an export: pixelvae-evaluate, pixelvae-export, pixelvae-sample; and the card they fill."""

import dataclasses
import functools
import json
import os
import re
import shlex
import shutil
import signal
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from commands import SAMPLE, run_command
from exports import MAX_BATCH, THREE_LEVELS
from ml_collections import config_flags
from PIL import Image
from small_run import small_config

from pixelvae_tf import data, pictures, presets, runs
from pixelvae_tf.config import Config
from pixelvae_tf.export import card, exporter, local, serving_config
from pixelvae_tf.export.options import ServingOptions
from pixelvae_tf.presets import command as command_lib
from pixelvae_tf.train import evaluation


def parsed(command):
    """The config that a `pixelvae-train` command has."""
    argv, values = shlex.split(command), flags.FlagValues()
    config = config_flags.DEFINE_config_dataclass("config", Config(), parse_fn=presets.get, flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    with mock.patch.object(sys, "argv", argv):  # where config_flags looks for fields of lists
        assert values(argv) == ["pixelvae-train"]
    return config.value, values.workdir


def test_every_preset_is_its_own_command():
    for name in presets.names():
        config, workdir = parsed(presets.command_for(presets.get(name), "runs/a b"))
        assert config == presets.get(name) and workdir == "runs/a b"


def test_the_command_of_a_run_gives_its_config():
    config = small_config(
        "digits/hierarchical", steps=3, rematerialize=True, learning_rate=1e-5, dtype="mixed_bfloat16"
    )
    config.data.folder, config.data.name = "some images/it's", ""
    config.model.levels[1].filters, config.model.image_shape = (5, 6), (8, 8, 3)
    command = presets.command_for(config, "runs/x")
    assert parsed(command) == (config, "runs/x")
    assert command.startswith("pixelvae-train --config=digits/hierarchical ")
    config.model.levels[0].decoder_filters = ()  # nothing, for the encoder's
    assert parsed(presets.command_for(config, "runs/x")) == (config, "runs/x")


def test_no_flag_changes_the_kind_of_network(monkeypatch):
    """Also where the other kind has the same fields, as a PixelCNN has those of a Row LSTM."""
    monkeypatch.setattr(command_lib, "names", lambda: ["digits/row_lstm"])
    assert presets.command_for(presets.get("digits/row_lstm"), "runs/x")
    assert presets.command_for(presets.get("digits/pixel_cnn"), "runs/x") is None


def test_a_config_that_no_flags_make_has_no_command():
    config = presets.get("digits/gated_pixel_vae")
    config.model.levels = config.model.levels * 4
    assert presets.command_for(config, "runs/x") is None
    config = presets.get("digits/hierarchical")
    config.model.pixels = presets.get("digits/gated_pixel_vae").model.pixels
    config.model.levels[0].prior = presets.get("digits/row_lstm").model.pixels
    assert presets.command_for(config, "runs/x") is None


@pytest.fixture(scope="module")
def run(trained_run, tmp_path_factory):
    """A run that started with the weights of another one, evaluated, and what pixelvae-evaluate printed."""
    workdir = tmp_path_factory.mktemp("runs") / "small"
    shutil.copytree(trained_run, workdir)
    before = {"command": presets.command_for(small_config(steps=4), "runs/before"), "step": 4, "fingerprint": "0" * 16}
    (workdir / runs.LINEAGE).write_text(json.dumps([before]))
    status, out, errors = run_command("train.evaluate_main", f"--workdir={workdir}", "--importance_samples=3")
    assert status == 0, errors
    report = json.loads(out)
    assert f"{evaluation.in_words(report)}\n" in errors
    return workdir, report


def test_evaluate_prints_one_json_line(run):
    report = run[1]
    assert report["data"] == "digits/test" and report["num_images"] == 400 and report["importance_samples"] == 3
    assert "17 grey levels" in report["binarization"] and report["weights"] == "best (average)" and report["step"] == 2
    assert report["importance_weighted_nats"] < report["bound_nats"] + 0.1


def test_some_images_make_a_report_of_their_own(run):
    workdir, report = run
    before = sorted((workdir / "evaluations").iterdir())
    status, out, errors = run_command("train.evaluate_main", f"--workdir={workdir}", "--num_images=30")
    assert status == 0, errors
    some = json.loads(out)
    assert some["data"] == "digits/test, 30 images of 400" and some["num_images"] == 30
    assert some["fingerprint"] == report["fingerprint"]
    (written,) = set((workdir / "evaluations").iterdir()) - set(before)
    assert json.loads(written.read_text()) == some
    written.unlink()  # cards of this run are of all images


def test_a_run_may_be_evaluated_in_another_precision(run):
    workdir, report = run
    before = {path: path.read_bytes() for path in (workdir / "evaluations").iterdir()}
    values = {}
    for dtype in ("float64", "mixed_bfloat16"):
        status, out, errors = run_command(
            "train.evaluate_main", f"--workdir={workdir}", f"--dtype={dtype}", "--num_images=50"
        )
        assert status == 0, errors
        other = json.loads(out)
        assert other["dtype"] == dtype
        values[dtype] = other["bound_nats"]
    assert report["dtype"] == "float32"
    # bfloat16 rounds at 0.4%.
    assert values["mixed_bfloat16"] != values["float64"] == pytest.approx(values["mixed_bfloat16"], rel=5e-3)
    for path in (workdir / "evaluations").iterdir():
        if path not in before:
            path.unlink()


def test_where_the_variant_cannot_be_written_nothing_is_published(run, tmp_path):
    (tmp_path / "base_xla").write_text("not a directory")
    status, out, errors = run_command(
        "export.main", f"--workdir={run[0]}", f"--export_dir={tmp_path / 'base'}", "--xla"
    )
    assert status == 1 and not out and "export_dir must be a directory that can be written" in errors
    assert str(tmp_path / "base_xla") in errors and not list((tmp_path / "base").iterdir())


def hang_up_in_the_check():
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    exporter._save = lambda model, endpoints, path, options: (path / "saved_model.pb").touch()
    exporter.check = lambda process, *arguments: os.kill(os.getpid(), signal.SIGHUP)


def ignore_the_end_of_the_terminal():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    exporter.export = lambda *arguments: os.kill(os.getpid(), signal.SIGHUP)


def test_an_export_started_by_nohup_goes_on(run, tmp_path):
    arguments = [f"--workdir={run[0]}", f"--export_dir={tmp_path / 'base'}"]
    status, out, errors = run_command("export.main", *arguments, prepare=ignore_the_end_of_the_terminal)
    assert status == 0 and out == "exported and checked: None\n", errors


def test_a_hung_up_export_leaves_nothing(run, tmp_path):
    arguments = [f"--workdir={run[0]}", f"--export_dir={tmp_path / 'base'}"]
    status, _, errors = run_command("export.main", *arguments, prepare=hang_up_in_the_check)
    assert status == 128 + signal.SIGHUP, errors
    assert not list((tmp_path / "base").iterdir())


def test_an_evaluation_is_left_in_the_workdir(run):
    workdir, report = run
    model, _, step = runs.load(workdir)
    assert report["step"] == step == 2 and report["fingerprint"] == runs.fingerprint(model)
    assert runs.read_evaluations(workdir, report["fingerprint"], "float32") == [report]
    assert runs.read_evaluations(workdir, "of other weights", "float32") == []
    images = data.load(small_config().data, "test").fingerprint()
    name = f"digits_test_{images:08x}_2_k3_{report['fingerprint'][:8]}_float32.json"
    assert [path.name for path in (workdir / runs.EVALUATIONS).iterdir()] == [name]


def test_a_fingerprint_is_of_all_weights_and_of_nothing_else(run):
    model = runs.load(run[0])[0]
    before = runs.fingerprint(model)
    assert before == runs.fingerprint(runs.load(run[0])[0]) and re.fullmatch("[0-9a-f]{16}", before)
    for weight in runs.weights_of(model).values():
        value = weight.numpy()
        changed = value.copy()
        changed.flat[-1] += 1
        weight.assign(changed)
        assert runs.fingerprint(model) != before
        weight.assign(value)
    assert runs.fingerprint(model) == before


@pytest.mark.parametrize("xla", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_command_writes_card_and_files(run, tmp_path, xla):
    workdir, report = run
    base = tmp_path / "small digits"
    # Small sizes: the check tries 2 and the largest, and XLA compiles each anew.
    arguments = [f"--workdir={workdir}", f"--export_dir={base}", "--max_batch=3", "--warmup=2,1"]
    arguments += ["--xla"] if xla else []
    status, out, errors = run_command("export.main", *arguments)
    assert status == 0, errors
    assert out == "".join(f"exported and checked: {base}{variant}/1\n" for variant in ("", "_xla")[: 1 + xla])
    if xla:
        compiled = json.loads((tmp_path / "small digits_xla" / "1" / card.CARD).read_text())
        assert compiled["xla"] and compiled["signatures"].keys() >= {"encode", "decode", "complete", "sample_by_level"}
    assert {path.name for path in base.iterdir()} == {"1", serving_config.MODELS, serving_config.BATCHING}
    written = json.loads((base / "1" / card.CARD).read_text())
    assert written["evaluations"] == [report] and written["max_batch"] == 3 and written["warmup"] == [1, 2]
    assert written["fingerprint"] == report["fingerprint"] and written["step"] == 2 and written["name"] == base.name
    assert written["data"] == {"name": "digits", "binarization": report["binarization"]}
    assert parsed(written["commands"]["train"]) == (runs.read_config(workdir), str(workdir))
    assert shlex.split(written["commands"]["export"]) == ["pixelvae-export", *arguments]
    assert written["signatures"]["sample"]["inputs"]["temperature"] == {"dtype": "float32", "shape": [None]}
    (training,) = written["lineage"]
    assert training["step"] == 4 and training["fingerprint"] == "0" * 16
    assert parsed(training["command"]) == (small_config(steps=4), "runs/before")
    page = (base / "1" / card.PAGE).read_text()
    for fact in (
        training["command"],
        "first to last: give each a workdir of its own",
        f"best weights (step 4, fingerprint {training['fingerprint']}) of",
        "digits/test",
        report["binarization"],
        f"{report['bound_nats']:.2f} ± {report['bound_standard_error']:.2f}",
        f"| 3 | {report['importance_weighted_nats']:.2f}",
        f"{written['num_weights']:,}, fingerprint {report['fingerprint']}",
        f"tensorflow {tf.__version__}",
        written["commands"]["train"],
        written["commands"]["export"],
        "images uint8 [B, 8, 8, 1]",
    ):
        assert fact in page


@pytest.fixture
def sample(tmp_path):
    """Runs pixelvae-sample; returns its picture, None if there is none, and its messages."""

    def run(saved_model, *arguments):
        output = tmp_path / "grid.png"
        output.unlink(missing_ok=True)
        arguments = [f"--saved_model={saved_model}", f"--output={output}", *arguments]
        status, _, errors = run_command(SAMPLE, *arguments)
        assert output.exists() == (status == 0) and "Traceback" not in errors, errors
        return (np.asarray(Image.open(output)) if status == 0 else None), errors

    return run


def test_sampling_keeps_within_the_largest_batch(export, sample):
    exported = export("at_most_2")
    picture, errors = sample(exported.path, "--num_images=5", "--scale=2", "--batch_size=4")
    drawn = exported.model.sample(tf.range(5, dtype=tf.int64)).numpy()
    assert 2 * MAX_BATCH < 5, "three batches"
    # A grid that is about square.
    np.testing.assert_array_equal(picture, pictures.tile(drawn, 2, columns=3, scale=2)[..., 0], errors)
    assert "| rounds of completion | 0 |" in (exported.path / card.PAGE).read_text(), "without latents there are none"
    for flag, message in (
        ("--label=2", "label must be left out: this model has no classes. Received: 2"),
        ("--vary=top", "vary must be left out for a model without latents"),
    ):
        assert f"pixelvae-sample: {message}" in sample(exported.path, flag)[1]


@pytest.fixture(scope="module")
def shows_its_inputs(tmp_path_factory):
    """From a number of levels to a SavedModel as of a model with three classes, whose images are its inputs."""

    def save(num_levels):
        path = tmp_path_factory.mktemp("shows_its_inputs") / "1"
        names = [*(f"seed_z{level}" for level in range(num_levels, 0, -1)), "seed_pixels"]

        def signature(*names):
            specs = {name: tf.TensorSpec((None,), tf.int64, name) for name in (*names, "label")}

            def answer(inputs):
                values = tf.stack([inputs[name] for name in specs], axis=-1)[:, None, :, None]
                return {"images": tf.cast(values, tf.uint8), "error": tf.fill(tf.shape(inputs["label"]), "")}

            temperature = tf.TensorSpec((None,), tf.float32, "temperature")
            return tf.function(answer, input_signature=[{**specs, "temperature": temperature}])

        module = tf.Module()
        module.sample, module.sample_by_level = signature("seed"), signature(*names)
        signatures = {"sample": module.sample, "sample_by_level": module.sample_by_level}
        tf.saved_model.save(module, str(path), signatures=signatures)
        model = dataclasses.replace(THREE_LEVELS, num_values=256, levels=THREE_LEVELS.levels[-num_levels:])
        (path / card.CARD).parent.mkdir()
        about = {**card.make_card(Config(model=model), "best", 3, classes=("cat", "dog", "owl")), "max_batch": 4}
        (path / card.CARD).write_text(json.dumps(about))
        return path

    return functools.cache(save)


def tiled(columns, *values):
    """The picture of images whose pixels are given, each as an array [num_images]."""
    return pictures.tile(np.stack(values, axis=-1)[:, None, :, None], 256, columns=columns)[..., 0]


def test_classes_are_drawn_in_turn_or_one(shows_its_inputs, sample):
    path, seed = shows_its_inputs(3), np.arange(6)
    # A column a class.
    for arguments, labels in (([], [0, 1, 2, 0, 1, 2]), (["--label=2"], [2] * 6), (["--label=dog"], [1] * 6)):
        picture, errors = sample(path, "--num_images=6", "--scale=1", *arguments)
        np.testing.assert_array_equal(picture, tiled(3, seed, labels), errors)
    for label in ("3", "-1", "cow"):
        errors = sample(path, f"--label={label}")[1]
        assert f"label must be in 0..2 or one of 'cat', 'dog', 'owl'. Received: {label}" in errors


@pytest.mark.parametrize("vary", ["top", "middle", "pixels"])
def test_figure_6_varies_one_part_along_a_row(shows_its_inputs, sample, vary):
    picture, errors = sample(shows_its_inputs(3), "--num_images=9", "--scale=1", f"--vary={vary}", "--seed=5")
    held, varied = np.arange(5, 8).repeat(3), 5 + 9 + np.arange(9)
    varied[::3] = held[::3]  # the first image of a row is a sample
    z3, z2, pixels = (varied if vary == name else held for name in ("top", "middle", "pixels"))
    np.testing.assert_array_equal(picture, tiled(3, z3, z2, z2, pixels, np.arange(3).repeat(3)), errors)


def test_one_level_has_a_top_and_no_middle(shows_its_inputs, sample):
    path = shows_its_inputs(1)
    assert sample(path, "--vary=top", "--num_images=2")[0] is not None
    errors = sample(path, "--vary=middle")[1]
    assert "pixelvae-sample: vary must be left out for a model without latents" in errors
    assert "Received: middle for 1 levels" in errors


def test_damaged_exports_are_named(export, tmp_path):
    path = tmp_path / "1"
    shutil.copytree(export("at_most_2").path, path)
    for damaged, message in (
        ("saved_model.pb", "pixelvae-sample: saved_model must be whole."),
        (card.CARD, f"pixelvae-sample: {card.CARD} must have a config that this version knows."),
    ):
        whole = (path / damaged).read_bytes()
        (path / damaged).write_bytes(whole[:100])
        arguments = [f"--saved_model={path}", f"--output={tmp_path / 'grid.png'}"]
        status, _, errors = run_command(SAMPLE, *arguments)
        assert status == 1 and message in errors and "Traceback" not in errors
        (path / damaged).write_bytes(whole)
    content = json.loads((path / card.CARD).read_text())
    nested = "[" * 100_000
    for damage in ({"data": "x"}, {"data": {"classes": 5}}, {"max_batch": "many"}, None):
        (path / card.CARD).write_text(nested if damage is None else json.dumps(content | damage))
        with pytest.raises(ValueError, match="must have a config that this version knows"):
            local.SavedModel(path)
    (path / card.CARD).write_text(json.dumps(content))
    with (
        mock.patch("tensorflow.saved_model.load", side_effect=IndexError("list index out of range")),
        pytest.raises(ValueError, match=r"saved_model must be whole\. Received: .*list index out of range"),
    ):
        local.SavedModel(path).signature("sample")


def test_a_card_holds_evaluations_of_its_weights_alone(run, tmp_path):
    workdir, report = run
    other = {**report, "data": "digits | photos/test", "fingerprint": "0" * 16}
    path, of_namesake = (runs.write_evaluation(other, workdir, images) for images in (1, 2))
    assert path != of_namesake and json.loads(path.read_text()) == json.loads(of_namesake.read_text()) == other
    of_namesake.unlink()
    try:
        model, config, step = runs.load(workdir)
        found = runs.read_evaluations(workdir, runs.fingerprint(model), "float32")
        assert found == [report]
        of_both = card.page(about(model, config, step, [report, other]))
        assert "| digits/test |" in of_both and r"| digits \| photos/test |" in of_both
        none = card.page(about(model, config, step, []))
        assert "Not evaluated: `pixelvae-evaluate --workdir=runs/x` gives the bound." in none
    finally:
        path.unlink()


def about(model, config, step, evaluations):
    commands = {"train": None, "evaluate": "pixelvae-evaluate --workdir=runs/x", "export": "pixelvae-export"}
    known = card.make_card(config, "best", step, evaluations, commands)
    return {"name": "base", **known, **card.describe(model, {}, ServingOptions())}


def test_a_report_that_is_damaged_is_named(run, tmp_path):
    workdir, _ = run
    path = workdir / runs.EVALUATIONS / "torn.json"
    path.write_text('{"data": ')
    try:
        status, _, errors = run_command("export.main", f"--workdir={workdir}", f"--export_dir={tmp_path / 'base'}")
        assert status != 0 and "pixelvae-export: evaluations of workdir must hold" in errors and "torn.json" in errors
        assert "Traceback" not in errors
    finally:
        path.unlink()
