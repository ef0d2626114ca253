"""A run of two weights: all files of a run in milliseconds, and no network."""

import types

import numpy as np
import tensorflow as tf

from pixelvae_tf import runs
from pixelvae_tf.config import Config, LevelConfig, ModelConfig, TrainConfig
from pixelvae_tf.train import steps
from pixelvae_tf.train.checkpoints import Checkpoints
from pixelvae_tf.train.reports import Reports
from pixelvae_tf.train.trainer import Trainer
from pixelvae_tf.train.workers import Workers


class TinyState:
    """What `steps.TrainState` offers, of two weights. Each is `step` after that many steps of `tiny_loop`."""

    def __init__(self):
        self.weights, self.average = tf.Variable([0.0, 0.0]), tf.Variable([0.0, 0.0])
        self.step = tf.Variable(0, dtype=tf.int64)
        self.best_bound_nats = tf.Variable(float("inf"), dtype=tf.float64)
        self.model = types.SimpleNamespace(count_params=lambda: 2)
        self.optimizer = types.SimpleNamespace(learning_rate=0.5)

    def checkpoint(self):
        values = {"weights": self.weights, "average": self.average}
        return tf.train.Checkpoint(step=self.step, best_bound_nats=self.best_bound_nats, **values)

    def best_checkpoint(self):
        return tf.train.Checkpoint(average=self.average, step=self.step, best_bound_nats=self.best_bound_nats)

    def is_finite(self):
        return bool(np.isfinite(self.weights).all())

    def advance(self, count):
        """Takes steps."""
        self.step.assign_add(count)
        for weights in (self.weights, self.average):
            weights.assign_add(tf.fill([2], float(count)))


def tiny_totals(count, bad_step=-1, bad_parts=(False, False, False)):
    """Totals of a loop in which every step had a loss of 3 nats, 1 of them the KL of the one level, and was clipped."""
    loss, reconstruction, kl, norm, clipped = map(
        np.float32, (3.0 * count, 2.0 * count, [1.0 * count], 5.0 * count, 1.0 * count)
    )
    norms = {"pixels": np.float32(4.0 * count), "encoder_level_1": np.float32(3.0 * count)}
    return steps.Totals(loss, reconstruction, kl, norm, norms, clipped, np.int64(bad_step), np.array(bad_parts))


def tiny_report(bound):
    """A report of an evaluation that reached a bound."""
    numbers = {"bound_nats": bound, "bound_bpd": bound / 10, "reconstruction_nats": bound - 1}
    usage = {"usage_preceding_nats": 20.0, "usage_latents_nats": [4.0]}
    return {**numbers, "kl_nats": [1.0], "active_units": [3], **usage}


def tiny_config(**train):
    """The config of a tiny run; the model in it is not built."""
    options = {"steps": 8, "steps_per_loop": 2, "log_every": 2, "evaluate_every": 4, "checkpoint_every": 4}
    model = ModelConfig(levels=[LevelConfig(4, (8,))])
    return Config(model=model, train=TrainConfig(**{**options, "kl_warmup_steps": (0,), **train}))


def tiny_trainer(workdir, config=None, bound=lambda step: 100.0 - step, workers=None):
    """A trainer that goes on with what is in a workdir.

    Args:
      workdir: the run's.
      config: of `tiny_config`.
      bound: what the evaluation after a step gives.
      workers: the processes; this one alone by default.

    Returns:
      A `Trainer` whose attributes a test may replace.
    """
    state, config = TinyState(), config or tiny_config()
    checkpoints = Checkpoints(workdir, state)
    checkpoints.restore()

    def loop(iterator, count):
        for _ in range(int(count)):
            assert next(iterator) == state.step.numpy()
            state.advance(1)
        return tiny_totals(int(count))

    return Trainer(
        config,
        state,
        loop=loop,
        batches=lambda step: iter(range(step, config.train.steps)),
        evaluate=lambda: tiny_report(bound(int(state.step))),
        draw=lambda: {"samples": np.zeros((2, 2, 1), np.uint8)},
        checkpoints=checkpoints,
        reports=Reports(workdir),
        workers=workers or Workers(tf.distribute.get_strategy()),
        write_files=lambda: (workdir / runs.CONFIG).write_text("config"),
    )


def saved_steps(workdir, folder=runs.CHECKPOINTS):
    """The steps of the checkpoints in a folder of a workdir, oldest first."""
    return [int(path.rpartition("-")[2]) for path in runs.checkpoints(workdir / folder)]


def contents(workdir):
    """All files below a folder, with their content and the time of their last change."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in workdir.rglob("*") if path.is_file()}


def damage(path, how):
    """Spoils a file: "torn", "missing", "noise" or "empty"."""
    content = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes({"torn": content[: len(content) // 2], "noise": content[::-1], "empty": b""}[how])
