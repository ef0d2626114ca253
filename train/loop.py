"""The outer loop: runs blocks of steps and, between them, logs, evaluates, draws and saves."""

import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator
from typing import NoReturn

import numpy as np
import tensorflow as tf

from pixelvae_tf import config as config_lib
from pixelvae_tf import progress
from pixelvae_tf.train import reports as reports_lib
from pixelvae_tf.train import steps
from pixelvae_tf.train.checkpoints import Checkpoints
from pixelvae_tf.train.interruption import Interruption
from pixelvae_tf.train.workers import Workers

LOGGER = logging.getLogger("pixelvae_tf")


class Interrupted(SystemExit):
    """The run was stopped; everything is saved and the same command resumes it."""


@dataclasses.dataclass(eq=False)
class Trainer:
    """The loop of a run that is ready to start; see `trainer.prepare`.

    With several workers each has a trainer, and all do the same; only the chief writes.

    Attributes:
      config: the run.
      state: what it trains, at the step where it starts.
      loop: of `steps.make_training_loop`.
      batches: from the first step, the iterator that `loop` takes.
      evaluate: returns the report of `evaluation.Evaluator` on the validation images.
      draw: returns grids of pictures by name.
      checkpoints: where the state is saved.
      reports: where scalars and pictures go.
      workers: the processes of the run.
      write_files: writes what says which run the workdir holds.
    """

    config: config_lib.Config
    state: steps.TrainState
    _: dataclasses.KW_ONLY
    loop: Callable[[Iterator, tf.Tensor], steps.Totals]
    batches: Callable[[int], Iterator]
    evaluate: Callable[[], dict]
    draw: Callable[[], dict[str, np.ndarray]]
    checkpoints: Checkpoints
    reports: reports_lib.Reports
    workers: Workers
    write_files: Callable[[], None]
    _since_log: list[tuple[int, steps.Totals]] = dataclasses.field(default_factory=list, init=False)

    @property
    def step(self) -> int:
        """The number of steps done."""
        return int(self.state.step.numpy())  # int() does not take a mirrored variable

    def run(self, interruption: Interruption) -> None:
        """Trains from the current step to the last.

        Raises:
          BlockingIOError: if another process trains in the workdir, or did since this one read its checkpoint.
          FloatingPointError, OSError, Interrupted: as `trainer.train_and_evaluate`.
        """
        with self.checkpoints.locked() if self.workers.is_chief else contextlib.nullcontext():
            try:
                self._run(interruption)
            except (FloatingPointError, Interrupted):  # in all workers at the same step
                self.workers.part()
                raise
            self.workers.part()

    def _run(self, interruption: Interruption) -> None:
        train = self.config.train
        # Initial weights may be the best.
        due = bool(train.initial_weights) and self.step == 0 and math.isinf(self.state.best_bound_nats.numpy())
        due = bool(self._tell_all(due or (self.workers.is_chief and self.checkpoints.evaluation_is_due)))
        self._begin(due)
        if due:
            # Their source may change or disappear: they are the first checkpoint.
            if self.checkpoints.good is None:
                self._save(due)
            self._evaluate()
            self._stop(self._tell_all(interruption.signal or 0))
        if self.step >= train.steps:
            return
        iterator, first_step = self.batches(self.step), self.step
        with contextlib.closing(progress.Progress(train.steps, self.step, "step", train.batch_size)) as bar:
            while self.step < train.steps:
                count = self._steps_to_next_event()
                with contextlib.ExitStack() as stack:
                    if self.step == first_step:
                        what = f"tracing the training step, then steps {self.step + 1} to {self.step + count}"
                        stack.enter_context(progress.announced(what))
                    totals = self.loop(iterator, tf.constant(count))
                self._require_finite(totals)
                bar.update(self.step, f"loss {float(totals.loss_nats) / count:.2f} nats")
                self._after_loop(totals, count, interruption)

    def _tell_all(self, number: int) -> int:
        """The greatest of all workers' numbers: what one of them knows, all act on at the same step."""
        return int(self.workers.exchange([number]).max())

    def _stop(self, number: int) -> None:
        """Ends the run for the number of a signal, if it is one."""
        if number:
            LOGGER.warning("Stopped by signal %d at step %d; all is saved", number, self.step)
            raise Interrupted(128 + number)

    def _begin(self, due: bool) -> None:
        """Writes the files that identify the run, and opens the reports; `due`: the step is still to be evaluated."""
        train = self.config.train
        if self.workers.is_chief:
            with self.checkpoints.writing():
                self.write_files()
        LOGGER.info(
            "%s: %d weights, %d steps of %d images on %d replica(s)",
            self.checkpoints.workdir,
            self.state.model.count_params(),
            train.steps,
            train.batch_size,
            self.workers.strategy.num_replicas_in_sync,
        )
        if self.workers.is_chief and (due or self.step < train.steps):
            with self.checkpoints.writing():
                self.reports.open(self.step, due)

    def _steps_to_next_event(self) -> int:
        """The length of the next loop, which ends at the next event."""
        train, step = self.config.train, self.step
        periods = (train.steps_per_loop, train.log_every, train.evaluate_every, train.checkpoint_every)
        return min(train.steps - step, *(period - step % period for period in periods))

    def _save(self, due: bool) -> None:
        if self.workers.is_chief:
            self.checkpoints.save(due)

    def _require_finite(self, totals: steps.Totals) -> None:
        """Raises a FloatingPointError before anything that is not finite is saved."""
        if int(totals.bad_step) >= 0:
            parts = [part for part, bad in zip(steps.PARTS, np.asarray(totals.bad_parts), strict=True) if bad]
            self._diverged(f"the loss is not finite at step {int(totals.bad_step)}: {', '.join(parts)}")
        # The last loss is that of the previous weights.
        if not self.state.is_finite():
            self._diverged(f"the weights are not finite after step {self.step - 1}")

    def _diverged(self, how: str) -> NoReturn:
        raise FloatingPointError(
            f"{how}. The last good checkpoint, {self.checkpoints.good or 'none yet'}, is kept. In a new workdir, a "
            "lower train.learning_rate, a train.clip_norm or a longer train.kl_warmup_steps may help"
        )

    def _after_loop(self, totals: steps.Totals, count: int, interruption: Interruption) -> None:
        train, step = self.config.train, self.step
        last = step == train.steps
        self._since_log.append((count, totals))
        if step % train.log_every == 0 or last:
            self._log()
        due, number = step % train.evaluate_every == 0 or last, self._tell_all(interruption.signal or 0)
        # Saved once, as a checkpoint is incomplete while it is overwritten; and before an evaluation, which takes its
        # time and may fail.
        if due or number or step % train.checkpoint_every == 0:
            self._save(due)
        if due and not number:
            self._evaluate()
            number = self._tell_all(interruption.signal or 0)
        self._stop(number)

    def _log(self) -> None:
        """Reports the means since the last log or the start."""
        scalars = reports_lib.training_scalars(self._since_log)
        scalars["learning_rate"] = float(self.state.optimizer.learning_rate)
        self._since_log.clear()
        if self.workers.is_chief:
            with self.checkpoints.writing():
                self.reports.write("train", self.step, scalars)

    def _evaluate(self) -> None:
        report = self.evaluate()
        scalars = reports_lib.validation_scalars(report)
        LOGGER.info("step %d, validation: %s", self.step, ", ".join(f"{k} {v:.4g}" for k, v in scalars.items()))
        if not math.isfinite(report["bound_nats"]):
            LOGGER.warning("The validation bound is not finite at step %d: such weights are never the best", self.step)
        better = report["bound_nats"] < self.state.best_bound_nats.numpy()
        if better:
            self.state.best_bound_nats.assign(report["bound_nats"])
        if not self.workers.is_chief:
            return
        usage = report.get("usage_latents_nats", ())
        grids, warnings = self.draw(), reports_lib.ignored_latents(self.config, self.step, usage)
        for warning in warnings:
            LOGGER.warning("%s", warning)
        with self.checkpoints.writing():
            self.reports.write("validation", self.step, scalars, grids, warnings)
        if better:
            self.checkpoints.save_best()
        self.checkpoints.evaluated()
