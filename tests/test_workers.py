"""Several processes: the weights of one, one set of files, a death survived."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from commands import run_command
from small_run import largest_difference

from pixelvae_tf import data, presets, runs
from pixelvae_tf.train import evaluation, launch, strategies, trainer, workers

# A low rate: see `test_the_weights_and_the_files_of_one_process`.
TRAIN = {
    "learning_rate": 1e-4,
    "learning_rate_warmup_steps": 0,
    "steps": 6,
    "batch_size": 16,
    "checkpoint_every": 3,
    "evaluate_every": 3,
}
FILTERS = (8,)  # one halving: every worker traces the model
RUN = ["--config=digits/vae", f"--config.model.levels[0].filters={FILTERS[0]}"]
RUN += [f"--config.train.{name}={value}" for name, value in TRAIN.items()]


def _train_together(number, *arguments):
    """Exit status, standard output and standard error of each worker."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        futures = [
            pool.submit(run_command, "train.main", "--strategy=multi_worker", *arguments, TF_CONFIG=json.dumps(config))
            for config in launch.cluster(number)
        ]
        return [future.result() for future in futures]


def _files(workdir):
    return sorted(
        str(path.relative_to(workdir)) if "tfevents" not in path.name else str(path.parent.relative_to(workdir))
        for path in workdir.rglob("*")
        if path.is_file()
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The workdir of one process."""
    workdir, config = tmp_path_factory.mktemp("alone"), presets.get("digits/vae")
    config.train = dataclasses.replace(config.train, **TRAIN)
    config.model.levels[0].filters = FILTERS
    trainer.train_and_evaluate(config, workdir, strategies.make_strategy("one_device"))
    return workdir


@pytest.mark.parametrize(
    ("number", "by_the_launcher"), [(2, False), *(pytest.param(n, True, marks=pytest.mark.slow) for n in (2, 4))]
)
def test_the_weights_and_the_files_of_one_process(alone, number, by_the_launcher, tmp_path):
    run = [*RUN, f"--workdir={tmp_path}"]
    if by_the_launcher:  # each worker imports TensorFlow anew
        outcomes = [run_command("train.launch_main", f"--workers={number}", "--", *run)]
    else:
        outcomes = _train_together(number, *run)
    for status, _, errors in outcomes:
        assert status == 0, errors
    assert _files(tmp_path) == _files(alone)
    expected, found = (runs.load(workdir, "latest")[0] for workdir in (alone, tmp_path))
    # Adam moves a weight by the rate, 1e-4, whatever its gradient: where that is next to zero, the order in which
    # the batch is summed decides its sign. Few weights are like that.
    differences = np.concatenate(
        [np.abs(a - b).ravel() for a, b in zip(expected.get_weights(), found.get_weights(), strict=True)]
    )
    assert np.mean(differences > 1e-6) < 1e-3
    fresh = runs.build(runs.read_config(alone))
    fresh.start_from(data.load(runs.read_config(alone).data, "train").images)
    assert largest_difference(fresh.get_weights(), expected.get_weights()) > 1e-5
    # They evaluated the whole split together, not each its share: the bound is that of one process, up to rounding.
    validation = data.load(runs.read_config(alone).data, "validation")
    reader = tf.train.load_checkpoint(str(tmp_path / runs.BEST))
    together = reader.get_tensor("best_bound_nats/.ATTRIBUTES/VARIABLE_VALUE")
    assert together == pytest.approx(evaluation.Evaluator(found)(validation)["bound_nats"], rel=1e-5)


def test_workers_must_agree():
    """On every number, whichever replica says something else."""

    class Three(workers.Workers):
        """Workers of which the last has a number of its own."""

        parted = 0

        def exchange(self, numbers):
            return np.array([numbers, numbers, [*numbers[:-1], 7]])

        def part(self):
            self.parted += 1

    three = Three(tf.distribute.get_strategy())
    three.check_equal({"seed": 5, "step": 7})
    assert three.parted == 0
    with pytest.raises(ValueError, match=r"the same images\. Received: step is 6, 6, 7 on the workers' replicas"):
        three.check_equal({"seed": 5, "step": 6})
    assert three.parted == 1


def test_workers_start_with_the_chiefs_weights(monkeypatch):
    """What each computed for itself may differ in the last bit."""
    two = workers.Workers(tf.distribute.get_strategy())
    monkeypatch.setattr(two, "_alone", False)
    monkeypatch.setattr(two, "_of_first", lambda values: [value + 1 for value in values])
    variables = [tf.Variable([1.0, 2.0]), tf.Variable(3.0)]
    two.copy_from_chief(variables)
    assert variables[0].numpy().tolist() == [2.0, 3.0] and variables[1].numpy() == 4.0


def test_workers_of_different_runs_do_not_train(tmp_path):
    """Another config would silently train another model."""
    configs = launch.cluster(2)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        futures = [
            pool.submit(
                run_command,
                "train.main",
                "--strategy=multi_worker",
                *RUN,
                f"--config.train.seed={index}",
                f"--workdir={tmp_path / str(index)}",
                TF_CONFIG=json.dumps(config),
            )
            for index, config in enumerate(configs)
        ]
        for future in futures:
            status, _, errors = future.result()
            assert status == 1 and "Received: checksum of the config is " in errors, errors


def test_a_worker_that_loses_another_at_the_start_says_so(tmp_path):
    """As at any other time: what the launcher and schedulers go by is its exit status."""
    (tmp_path / "file").touch()
    configs = launch.cluster(2)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        futures = [
            pool.submit(
                run_command, "train.main", "--strategy=multi_worker", *RUN, f"--workdir={place}", TF_CONFIG=config
            )
            for place, config in zip(
                (tmp_path / "run", tmp_path / "file" / "run"), map(json.dumps, configs), strict=True
            )
        ]
        (kept, _, of_kept), (lost, _, of_lost) = (future.result() for future in futures)
    assert lost == 1 and "workdir must be a directory that can be written" in of_lost
    assert kept == os.EX_TEMPFAIL and "another worker was lost" in of_kept and "Traceback" not in of_kept


def test_a_port_that_is_taken_may_be_free_another_time(tmp_path):
    with socket.socket() as other:
        other.bind(("localhost", 0))
        other.listen()
        addresses = [f"localhost:{other.getsockname()[1]}", launch.cluster(1)[0]["cluster"]["worker"][0]]
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
        arguments = ["--strategy=multi_worker", *RUN, f"--workdir={tmp_path}"]
        status, _, errors = run_command("train.main", *arguments, TF_CONFIG=json.dumps(config))
    assert status == os.EX_TEMPFAIL and "this worker's port must be free" in errors and "Traceback" not in errors


def test_tf_config_must_say_which_worker_this_is(monkeypatch):
    """`test_cluster` has what else is refused."""
    text = json.dumps({"cluster": {"worker": ["a:1"]}})
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="needs TF_CONFIG") as caught:
        workers.multi_worker_strategy()
    assert repr(text) in str(caught.value)


def _runs(pid: int) -> bool:
    """Whether a process is there; one that has ended and was not waited for is not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _launcher(script, number=2, max_restarts=2):
    """A launcher of workers that need no TensorFlow, and what it says."""
    said = []
    head = "import json, os, pathlib, signal, sys, time\nindex = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
    return launch.Launcher([sys.executable, "-c", head + script], number, max_restarts, said.append), said


def test_the_launcher_ends_when_all_workers_do(tmp_path):
    launcher, said = _launcher(f"pathlib.Path({str(tmp_path)!r}, str(index)).touch()", number=3)
    assert launcher.run() == 0 and not said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


def test_a_dead_worker_takes_the_rest_along_and_all_start_again(tmp_path, monkeypatch):
    """Worker 1 dies at its first start, while worker 0 waits for it as in a collective operation."""
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.5)
    launcher, said = _launcher(
        f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
starts = pathlib.Path({str(tmp_path)!r}, str(index))
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
if starts.read_text() == "x":
    print("what worker", index, "said")
    sys.stdout.flush()
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL) if index == 1 else time.sleep(600)
"""
    )
    start = time.monotonic()
    assert launcher.run() == 0
    assert time.monotonic() - start < 60  # worker 0 was not waited for
    assert [(tmp_path / str(index)).read_text() for index in range(2)] == ["xx", "xx"]
    assert any("what worker 1 said" in text for text in said)
    assert "worker 1 died (signal 9); all 2 start again" in said[-1] and "1 of at most 2" in said[-1]


def test_restarts_are_bounded(monkeypatch):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.5)
    launcher, said = _launcher("os.kill(os.getpid(), signal.SIGKILL) if index == 0 else time.sleep(600)")
    assert launcher.run() == 128 + signal.SIGKILL
    assert len(said) == 3 and "after 2 restarts" in said[-1]


def test_what_would_only_happen_again_is_not_tried_again(tmp_path):
    launcher, said = _launcher(
        f"pathlib.Path({str(tmp_path)!r}, str(index)).touch(exist_ok=False); sys.exit('the batch is odd')"
    )
    assert launcher.run() == 1
    assert not any("start again" in text for text in said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_workers_are_asked_to_stop_and_are_waited_for(tmp_path, number, monkeypatch):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.1)  # not what they get to save
    launcher, said = _launcher(
        f"""
def save(number, frame):
    time.sleep(1)
    pathlib.Path({str(tmp_path)!r}, str(index)).touch()
    sys.exit(128 + number)

signal.signal({int(number)}, save)
print("ready", flush=True)
pathlib.Path({str(tmp_path)!r}, f"ready{{index}}").touch()
time.sleep(600)
"""
    )
    with concurrent.futures.ThreadPoolExecutor() as pool:
        status = pool.submit(launcher.run)
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
            assert not status.done()
        launcher.stop(number)
        launcher.stop(signal.SIGTERM)  # a system may ask twice
        assert status.result() == 128 + number
    assert {"0", "1"} <= {path.name for path in tmp_path.iterdir()} and not said


def test_a_worker_that_hangs_after_a_death_in_a_stop_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "SAVING_GRACE_SECONDS", 1.0)
    launcher, _ = _launcher(
        f"""
dies = lambda number, frame: os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, dies if index == 0 else signal.SIG_IGN)
pathlib.Path({str(tmp_path)!r}, str(index)).touch()
time.sleep(600)
"""
    )
    with concurrent.futures.ThreadPoolExecutor() as pool:
        status = pool.submit(launcher.run)
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
            assert not status.done()
        launcher.stop(signal.SIGTERM)
        assert status.result(timeout=60) == 128 + signal.SIGKILL


def test_a_stop_while_workers_start_reaches_them_all(monkeypatch):
    launcher, said = _launcher("time.sleep(5)")  # and end as if nothing had happened
    start = launcher._start

    def interrupted(*arguments):
        if launcher.asked is None:
            launcher.stop(signal.SIGTERM)
        return start(*arguments)

    monkeypatch.setattr(launcher, "_start", interrupted)
    assert launcher.run() == 128 + signal.SIGTERM and not said


def test_a_stop_before_a_restart_is_instead_of_it(monkeypatch):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.1)
    launcher, said = _launcher("os.kill(os.getpid(), signal.SIGKILL) if index == 0 else time.sleep(600)")

    def say(text):
        said.append(text)
        launcher.stop(signal.SIGTERM)

    launcher.say = say
    assert launcher.run() == 128 + signal.SIGTERM
    assert len(said) == 1 and "start again" in said[0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_no_worker_outlives_a_killed_launcher(tmp_path):
    script = f"""
import os, pathlib, sys, time
sys.path.insert(0, {str(pathlib.Path(launch.__file__).parent)!r})
import launch  # alone: the package imports TensorFlow
worker = "import os, pathlib, time; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(600)"
launch.Launcher([sys.executable, "-c", worker], 2, 0, print).run()
"""
    launcher = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.1)
        assert launcher.poll() is None
    launcher.kill()
    launcher.wait()
    end = time.monotonic() + 60
    alive = [int(path.name) for path in tmp_path.iterdir()]
    while alive and time.monotonic() < end:
        alive = [pid for pid in alive if _runs(pid)]
        time.sleep(0.1)
    assert not alive


@pytest.mark.slow
def test_a_killed_worker_changes_no_weight(alone, tmp_path):
    """`pixelvae-launch` itself, with four workers of which one is killed after the first checkpoint."""
    more = ["--config.train.steps=60", "--config.train.steps_per_loop=1", f"--workdir={tmp_path}"]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "pixelvae_tf.train.launch_main", "--workers=4", "--", *RUN, *more],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((tmp_path / runs.CHECKPOINTS).glob("*.index")):
        time.sleep(0.1)
        assert launcher.poll() is None
    children = subprocess.run(["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[2]), signal.SIGKILL)
    end = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{child}") for child in children):
        time.sleep(0.1)
        assert time.monotonic() < end, "the rest is stopped within 60 seconds"
    _, errors = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, errors
    assert "worker 2 died (signal 9); all 4 start again" in errors
    assert "another worker was lost" in errors and "Traceback" not in errors
    undisturbed = tmp_path / "undisturbed"
    for status, _, errors in _train_together(4, *RUN, *more[:2], f"--workdir={undisturbed}"):
        assert status == 0, errors
    first, second = (runs.load(workdir, "latest") for workdir in (tmp_path, undisturbed))
    assert first[2] == second[2] == 60
    # Equal sums in an equal order, but for what the threads of a product do: see the test above.
    assert largest_difference(first[0].get_weights(), second[0].get_weights()) < 1e-4
