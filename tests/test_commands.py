"""The commands: one message for what a user can get wrong, and runs that go on after a signal."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from small_run import small_config

from pixelvae_tf import runs
from pixelvae_tf.train import trainer


def _command(module, *arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return [sys.executable, "-m", f"pixelvae_tf.{module}", *map(str, arguments)], environment


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=digits/gated_pixel_vae", "--config.train.stepz=3", "--workdir=x"], "stepz"),
        (["--config=digits/gated_pixel_vae", "--config.data.name=imagenet", "--workdir=x"], "data.name must be one of"),
        # Seconds each, for Python starts anew.
        slow(["--config=digits/gan", "--workdir=x"], "must be one of the presets"),
        slow(["--config=digits/gated_pixel_vae", "--config.model.levels[3].dim=3", "--workdir=x"], "levels[3].dim"),
        slow(["--config=digits/gated_pixel_vae"], "--workdir=DIR is required"),
        slow(["--workdir=x"], "--config=PRESET is required"),
        slow(["--config=digits/gated_pixel_vae", "--config.train.steps=0", "--workdir=x"], "train.steps must be"),
    ],
)
def test_the_command_refuses_with_one_message(tmp_path, arguments, message):
    command, environment = _command("train.main", *arguments)
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert outcome.returncode != 0
    assert message in outcome.stderr + outcome.stdout
    assert "Traceback" not in outcome.stderr


def test_evaluate_prints_one_json_line(tmp_path):
    config = small_config(steps=2)
    trainer.train_and_evaluate(config, tmp_path, trainer.make_strategy("one_device"))
    command, environment = _command("train.evaluate_main", f"--workdir={tmp_path}", "--importance_samples=3")
    outcome = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    report = json.loads(outcome.stdout)
    assert report["data"] == "digits/test" and report["num_images"] == 400 and report["importance_samples"] == 3
    assert "17 grey levels" in report["binarization"] and report["weights"] == "best (average), step 2"
    assert report["importance_weighted_nats"] < report["bound_nats"] + 0.1
    command, environment = _command("train.evaluate_main", f"--workdir={tmp_path / 'nothing'}")
    outcome = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert outcome.returncode and "must be the directory of a run" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_same_command_goes_on_after_a_signal(tmp_path, number):
    options = ["--config=digits/gated_pixel_vae", f"--workdir={tmp_path}", "--config.train.steps=400"]
    options += ["--config.train.steps_per_loop=10", "--config.train.checkpoint_every=50"]
    command, environment = _command("train.main", *options)
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
    assert runs.load(pathlib.Path(tmp_path), "latest")[2] == 400
