"""The commands: what they print, and runs that go on after a signal."""

import ast
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import MODEL, SAMPLE, exit_code, run_command
from PIL import Image

# Only TensorFlow itself says whether it is on.
from tensorflow.python.framework import config as determinism

from pixelvae_tf import runs
from pixelvae_tf.train import evaluation, trainer


def test_evaluate_prints_what_it_cannot_leave_in_the_workdir(trained_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained_run, workdir)
    (workdir / runs.EVALUATIONS).write_text("no folder")
    status, out, errors = run_command("train.evaluate_main", f"--workdir={workdir}", "--split=validation")
    assert status == 0 and json.loads(out)["data"] == "digits/validation"
    assert "pixelvae-evaluate: the report is not left in" in errors and "Traceback" not in errors


def test_evaluate_takes_other_images_weights_batches_and_noise(trained_run, tmp_path):
    """Of a folder, 8x8 of 256 values: as the evaluator gives it of the same images."""
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8)
    for number, image in enumerate(images):
        split = tmp_path / "photos" / ("train", "validation", "test")[max(0, number - 6)]
        split.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(split / f"{number}.png")
    options = [f"--folder={tmp_path}/photos", "--split=train", "--weights=latest", "--batch_size=3", "--seed=5"]
    options.append(f"--output={tmp_path}/out")
    command = ("train.evaluate_main", f"--workdir={workdir}", *options)
    status, out, errors = run_command(*command)
    assert status == 0, errors
    shutil.rmtree(workdir / runs.EVALUATIONS)
    assert run_command(*command)[:2] == (0, out)
    (left,) = (workdir / runs.EVALUATIONS).iterdir()
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert json.loads(left.read_text()) == json.loads(out) == {name: written[name] for name in json.loads(out)}
    model, _, step = runs.load(workdir, "latest")
    expected = evaluation.Evaluator(model, seed=5)(images[:7, ..., None])
    report = json.loads(out)
    inside = [f"--workdir={workdir}", *options[:-1], f"--output={tmp_path}/photos/out"]
    status, _, errors = run_command("train.evaluate_main", *inside)
    assert status == 1 and "pixelvae-evaluate: output must not lie in folder" in errors
    # Float32, in other batches, on other threads.
    assert report["bound_nats"] == pytest.approx(expected["bound_nats"], rel=1e-5)
    described = [report[name] for name in ("num_images", "weights", "step", "seed")]
    assert described == [7, "latest (average)", step, 5]
    table = np.genfromtxt(tmp_path / "out" / "bounds.csv", delimiter=",", names=True)
    assert table["bound_nats"].mean() == pytest.approx(report["bound_nats"], rel=1e-6)  # seven digits each


def make_photos():
    pathlib.Path("photos").mkdir()


def test_of_the_folder_of_a_training_a_run_keeps_the_place_and_what_travels_a_name(trained_run, tmp_path):
    workdir, preset = shutil.copytree(trained_run, tmp_path / "run"), tmp_path / "preset"
    config = json.loads((workdir / runs.CONFIG).read_text())
    config["data"]["folder"] = str(tmp_path / "photos")
    (workdir / runs.CONFIG).write_text(json.dumps(config))
    (tmp_path / "photos").mkdir()
    status, _, errors = run_command(SAMPLE, f"--workdir={workdir}", f"--output={tmp_path}/photos/x.png")
    assert status == 1 and "pixelvae-sample: output must not lie in data.folder: " in errors
    assert run_command("export.main", f"--workdir={workdir}", f"--preset_dir={preset}")[0] == 0
    # Another folder of that name is another one.
    sample = (SAMPLE, f"--pretrained={preset}", "--output=photos/x.png", "--num_images=1")
    assert run_command(*sample, prepare=make_photos)[0] == 0
    status, _, errors = run_command("train.evaluate_main", f"--pretrained={preset}", prepare=make_photos)
    message = "folder must be given for weights that were trained on a folder, one called 'photos'. Received: none"
    assert status == 1 and f"pixelvae-evaluate: {message}" in errors


def evaluate_to_nan():
    evaluation.Evaluator.__call__ = lambda *arguments: {"data": "digits/test", "bound_nats": float("nan")}


def test_a_report_that_is_not_finite_is_neither_printed_nor_left(trained_run, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    status, out, errors = run_command("train.evaluate_main", f"--workdir={workdir}", prepare=evaluate_to_nan)
    assert status == 1 and out == "" and "every value must be finite; the weights diverged." in errors
    assert not (workdir / runs.EVALUATIONS).exists()


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("train.main", "--workdir:"),
        ("train.evaluate_main", "--importance_samples:"),
        ("train.prepare_main", "--size:"),
        ("train.launch_main", "--max_restarts:"),
        ("export.main", "--export_dir:"),
        ("export.score_main", "--reference:"),
        ("export.explore_main", "--saved_model:"),
        ("export.compress_main", "--tolerance:"),
        ("export.decompress_main", "--only:"),
        (MODEL, "--server:"),
        (SAMPLE, "--vary:"),
    ],
)
def test_help_shows_what_a_command_does_and_its_flags(module, expected):
    """As pip's scripts call it: from a module that is not `__main__`."""
    status, out, errors = run_command(module, "--help")
    assert status == 0
    # Not imported: its flags would be defined beside those of the others.
    source = importlib.util.find_spec(f"pixelvae_tf.{module.partition(':')[0]}").origin
    what = ast.get_docstring(ast.parse(pathlib.Path(source).read_text())).splitlines()[0]
    assert what in out and expected in out, errors


def test_h_is_help():
    assert run_command(MODEL, "-h")[:2] == run_command(MODEL, "--help")[:2]


def test_ctrl_c_ends_any_command_with_one_line(monkeypatch, capsys):
    assert exit_code(monkeypatch, "pixelvae-train", KeyboardInterrupt()) == 128 + signal.SIGINT
    assert capsys.readouterr().err == "pixelvae-train: stopped by Ctrl-C\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_same_command_goes_on_after_a_signal(tmp_path, number):
    options = ["--config=digits/gated_pixel_vae", f"--workdir={tmp_path}", "--config.train.steps=200"]
    options += ["--config.train.steps_per_loop=5", "--config.train.checkpoint_every=10"]
    command = [sys.executable, "-m", "pixelvae_tf.train.main", *options]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / runs.CHECKPOINTS).glob("*.index")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), errors
    assert "Traceback" not in errors
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "Going on from step" in outcome.stderr
    assert runs.load(pathlib.Path(tmp_path), "latest")[2] == 200


def end_while_it_starts():
    trainer.prepare = lambda *arguments: os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_before_the_first_step_is_answered_too(tmp_path):
    arguments = ["--config=digits/vae", f"--workdir={tmp_path / 'run'}"]
    status, _, errors = run_command("train.main", *arguments, prepare=end_while_it_starts)
    assert status == 128 + signal.SIGTERM and "Traceback" not in errors
    assert "pixelvae-train: stopped by signal 15 outside of training" in errors


def say_whether_operations_are_deterministic():
    trainer.prepare = lambda *arguments: sys.exit(f"deterministic: {determinism.is_op_determinism_enabled()}")


@pytest.mark.parametrize("flags", [[], ["--deterministic"]])
def test_training_is_deterministic_where_that_is_asked_for(tmp_path, flags):
    arguments = ["--config=digits/vae", f"--workdir={tmp_path / 'run'}", *flags]
    _, _, errors = run_command("train.main", *arguments, prepare=say_whether_operations_are_deterministic)
    assert errors.endswith(f"deterministic: {bool(flags)}\n")
