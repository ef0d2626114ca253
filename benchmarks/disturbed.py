"""Small runs of pixelvae-train that something happens to, beside one that nothing does; for faults.py.

Runs are deterministic: whatever happens, every checkpoint must be bit for bit that of the undisturbed run's same step.
As a program it is pixelvae-train with a trick: `python disturbed.py TRICK ARGUMENT... FLAG...`
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import itertools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import tensorflow as tf

from pixelvae_tf import bounds, noise, runs

STEPS, BATCH, HALFWAY, LOOP, PERIOD = 200, 16, 100, 5, 10
OPTIONS = [
    "--config=digits/vae",
    "--deterministic",
    "--config.model.levels[0].dim=4",
    "--config.model.levels[0].filters=(8,)",
    f"--config.train.steps={STEPS}",
    f"--config.train.batch_size={BATCH}",
    f"--config.train.steps_per_loop={LOOP}",
    f"--config.train.log_every={PERIOD}",
    f"--config.train.checkpoint_every={PERIOD}",
    f"--config.train.evaluate_every={2 * PERIOD}",
]
# How many checkpoints a run keeps.
KEPT = {runs.CHECKPOINTS: 2, runs.BEST: 1}
DATA = ".data-00000-of-00001"
TIMEOUT_SECONDS = 900
WENT_ON, STOPPED, OTHERWISE, KILLED = "went on", "stopped", "otherwise", "killed"


class Life:
    """A process of a command.

    Args:
      arguments: of its command line.
      module: the command.
      trick: name and arguments of one of `TRICKS`, for pixelvae-train.
    """

    def __init__(self, arguments: list[str], module: str = "train.main", trick: tuple[str, ...] = ()):
        program = [__file__, *trick] if trick else ["-m", f"pixelvae_tf.{module}"]
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.errors = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.errors += line

    @property
    def trains(self) -> bool:
        """Whether it has come to the training."""
        return "replica(s)" in self.errors

    def wait_until(self, condition) -> None:
        """Waits for something, or for the end of the process."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.process.poll() is None and not condition() and time.monotonic() < deadline:
            time.sleep(0.0003)

    def end(self) -> str:
        """Waits for its end: WENT_ON to the end, STOPPED with a message, KILLED, or OTHERWISE."""
        try:
            status = self.process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = None
        self._reader.join()
        if status == 0:
            return WENT_ON
        if status == -signal.SIGKILL:
            return KILLED
        said = re.search(r"^pixelvae-\w+: |Stopped by signal \d+ at step", self.errors, re.MULTILINE)
        if "Traceback" not in self.errors and (said or (status == -signal.SIGTERM and not self.trains)):
            return STOPPED
        print(f"ended with {status}:\n{self.errors[-3000:]}", file=sys.stderr, flush=True)
        return OTHERWISE


def content(path: str) -> str | None:
    """A digest of what a checkpoint holds, or None if it cannot be read.

    Left out: how often was saved, and the best bound that a run knew of beside its weights; a run that goes on takes
    that from best/.
    """
    left_out = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter") + ("best_bound",) * (f"/{runs.BEST}/" not in path)
    digest = hashlib.sha256()
    try:
        reader = tf.train.load_checkpoint(path)
        for name in sorted(reader.get_variable_to_shape_map()):
            value = np.asarray(reader.get_tensor(name))  # which also compares its checksum
            if not name.startswith(left_out):
                digest.update(name.encode() + value.tobytes())
    except runs.UNREADABLE:
        return None
    return digest.hexdigest()


def look(workdir: pathlib.Path) -> dict[str, dict[int, str | None]]:
    """The content of all checkpoints: kind -> step -> digest."""

    def of(kind: str) -> dict[int, str | None]:
        return {int(path.rpartition("-")[2]): content(path) for path in runs.checkpoints(workdir / kind)}

    return {kind: of(kind) for kind in KEPT}


def listed(folder: pathlib.Path) -> list[int]:
    """The steps of TensorFlow's list of checkpoints, oldest first: only complete ones come into it."""
    with contextlib.suppress(OSError):
        text = (folder / runs.LIST).read_text(errors="replace")
        return list(map(int, re.findall(r'^all_model\w+: "ckpt-(\d+)"', text, re.MULTILINE)))
    return []


class Undisturbed:
    """The checkpoints of a run that nothing disturbed, and one that was stopped halfway, to be copied.

    Args:
      folder: where they are made.
      options: beside `OPTIONS`.
    """

    def __init__(self, folder: pathlib.Path, *options: str):
        self.folder, self.options = folder, [*OPTIONS, *options]
        whole, self.half = folder / "whole", folder / "half"
        every = f"--config.train.checkpoint_every={LOOP}"
        if Life([*self.options, every, f"--workdir={whole}"], trick=("keep_all",)).end() != WENT_ON:
            raise SystemExit("faults: the undisturbed run must come to its end")
        self.contents = look(whole)
        self.sizes = {str(path.relative_to(whole)): path.stat().st_size for path in whole.rglob("*")}
        evaluated = str(HALFWAY // (2 * PERIOD))
        stop = ("terminate", "pixelvae_tf.train.checkpoints", "Checkpoints.evaluated", evaluated)
        if Life([*self.options, f"--workdir={self.half}"], trick=stop).end() != STOPPED:
            raise SystemExit("faults: a run that is to stop halfway must stop")


@dataclasses.dataclass
class Counts:
    """What became of runs, how often; of their checkpoints, how many; and what else is worth a line."""

    outcomes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    lost: int = 0
    wrong: int = 0
    notes: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def add(self, other: "Counts") -> None:
        """Adds those of another run."""
        self.outcomes.update(other.outcomes)
        self.notes.update(other.notes)
        self.lost, self.wrong = self.lost + other.lost, self.wrong + other.wrong


class Run:
    """A run that is disturbed.

    Args:
      undisturbed: what it must be like.
      folder: gets its workdir.
      halfway: whether half of it is done.
      options: beside those of the undisturbed one.
    """

    def __init__(self, undisturbed: Undisturbed, folder: pathlib.Path, halfway: bool = False, options=()):
        self.undisturbed, self.options, self.workdir = undisturbed, options, folder / "run"
        if halfway:
            shutil.copytree(undisturbed.half, self.workdir)
        self.counts = Counts()

    @property
    def newest(self) -> int:
        """The step of the last complete checkpoint."""
        return max(listed(self.workdir / runs.CHECKPOINTS), default=0)

    def is_writing(self) -> bool:
        """Whether a checkpoint is being written."""
        with contextlib.suppress(OSError):
            return any("_temp" in name for kind in KEPT for name in os.listdir(self.workdir / kind))
        return False

    def start(self, *options: str, trick: tuple[str, ...] = ()) -> Life:
        """The command."""
        self.before = look(self.workdir)
        return Life([*self.undisturbed.options, f"--workdir={self.workdir}", *self.options, *options], trick=trick)

    def end(self, life: Life) -> str:
        """Waits for the end of the process, and counts what is lost or wrong then."""
        outcome, after = life.end(), look(self.workdir)
        for kind, kept in KEPT.items():
            known = {step for step, digest in self.before[kind].items() if digest}
            readable = {step for step, digest in after[kind].items() if digest}
            # What could not be read before was damaged by us.
            complete = set(listed(self.workdir / kind)[-kept:]) - (self.before[kind].keys() - known)
            lost = complete - readable
            if max(readable, default=0) < max(known, default=0):
                lost.add(max(known))
            resumed = re.search(r"Going on from step (\d+)", life.errors)
            if kind == runs.CHECKPOINTS and life.trains and int(resumed[1] if resumed else 0) < max(known, default=0):
                lost.add(max(known))
            self.counts.lost += len(lost)
            self.counts.wrong += sum(
                after[kind][step] != self.undisturbed.contents[kind].get(step) for step in readable
            )
        return outcome

    def close(self, outcome: str, times: int = 1) -> Counts:
        """The counts of a run that came to its end, or to nothing, after so many faults."""
        self.counts.outcomes[outcome] += max(times, outcome == OTHERWISE)
        if outcome != OTHERWISE:  # what is there has been compared; is it all?
            steps = {kind: max(there, default=0) for kind, there in look(self.workdir).items()}
            self.counts.wrong += steps != {kind: max(there) for kind, there in self.undisturbed.contents.items()}
        shutil.rmtree(self.workdir, ignore_errors=True)
        return self.counts


def disturb(run: Run, *, options=(), trick=(), before=None, during=None, repair=None) -> Counts:
    """One fault of one run.

    Args:
      run: the run.
      options, trick: of the process that the fault happens to.
      before: called before that process starts.
      during: called with the process.
      repair: called after it stopped.

    Returns:
      The counts.
    """
    if before is not None:
        before()
    life = run.start(*options, trick=trick)
    if during is not None:
        during(life)
    outcome = run.end(life)
    if outcome == STOPPED:
        if repair is not None:
            repair()
        if run.end(run.start()) != WENT_ON:
            outcome = OTHERWISE
    return run.close(outcome)


def keep_all() -> None:
    """A trick: no checkpoint is ever deleted."""
    manager = tf.train.CheckpointManager
    tf.train.CheckpointManager = lambda checkpoint, folder, max_to_keep: manager(checkpoint, folder, None)


def poison(step: str) -> None:
    """A trick: the log-probability of the first image of a batch is not a number."""
    first = noise.derive_seeds(0, tf.constant(int(step) * BATCH, tf.int64))
    elbo = bounds.elbo

    def poisoned(model, images, seeds, **options):
        parts = elbo(model, images, seeds, **options)
        factor = tf.where(seeds == first, float("nan"), 1.0)
        return parts._replace(reconstruction_nats=parts.reconstruction_nats * factor)

    bounds.elbo = poisoned


def terminate(module: str, name: str, number: str) -> None:
    """A trick: SIGTERM comes with the n-th call of a function."""
    *owners, name = name.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    function, calls = getattr(owner, name), itertools.count(1)

    def called(*args, **kwargs):
        if next(calls) == int(number):
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*args, **kwargs)

    setattr(owner, name, called)


# How many arguments each takes.
TRICKS = {keep_all: 0, poison: 1, terminate: 3}


if __name__ == "__main__":
    (play, taken), *_ = [(trick, taken) for trick, taken in TRICKS.items() if trick.__name__ == sys.argv[1]]
    play(*sys.argv[2 : 2 + taken])
    sys.argv[1 : 2 + taken] = []
    from pixelvae_tf.train import main

    main.run()
