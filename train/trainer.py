"""The outer loop: runs blocks of steps and, between them, logs, evaluates, draws and saves."""

import contextlib
import dataclasses
import functools
import logging
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from pixelvae_tf import config as config_lib
from pixelvae_tf import data, onednn, presets, runs
from pixelvae_tf.train import evaluation, initial_weights, progress, reports, steps
from pixelvae_tf.train import workdir as workdir_lib
from pixelvae_tf.train.checkpoints import Checkpoints
from pixelvae_tf.train.interruption import Interruption
from pixelvae_tf.train.strategies import make_strategy as make_strategy
from pixelvae_tf.train.workers import Workers

__all__ = ["Interrupted", "Trainer", "make_strategy", "prepare", "train_and_evaluate"]

LOGGER = logging.getLogger("pixelvae_tf")


class Interrupted(SystemExit):
    """The run was asked to stop; everything is saved and the same command goes on."""


class Trainer:
    """The loop of a run that is ready to start; see `prepare`.

    With several workers each has a trainer, and all do the same; the chief alone writes.

    Args:
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

    def __init__(
        self,
        config: config_lib.Config,
        state: steps.TrainState,
        *,
        loop: Callable[[Iterator, tf.Tensor], steps.Totals],
        batches: Callable[[int], Iterator],
        evaluate: Callable[[], dict],
        draw: Callable[[], dict[str, np.ndarray]],
        checkpoints: Checkpoints,
        reports: reports.Reports,
        workers: Workers,
        write_files: Callable[[], None],
    ):
        self.config, self.state = config, state
        self.loop, self.batches, self.evaluate, self.draw = loop, batches, evaluate, draw
        self.checkpoints, self.reports, self.workers, self.write_files = checkpoints, reports, workers, write_files
        self._since_log: list[tuple[int, steps.Totals]] = []

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.state.step.numpy())  # a mirrored variable knows no int()

    def run(self, interruption: Interruption) -> None:
        """Trains from the current step to the last.

        Raises:
          BlockingIOError: if another process trains in the workdir, or did since this one read its checkpoint.
          FloatingPointError, OSError, Interrupted: as `train_and_evaluate`.
        """
        with self.checkpoints.locked() if self.workers.is_chief else contextlib.nullcontext():
            try:
                self._run(interruption)
            except (FloatingPointError, Interrupted):  # in all workers alike
                self.workers.part()
                raise
            self.workers.part()

    def _run(self, interruption: Interruption) -> None:
        train = self.config.train
        # Trained weights that were not evaluated yet are perhaps the best.
        unevaluated = train.initial_weights and self.step == 0 and math.isinf(self.state.best_bound_nats.numpy())
        self._begin(self.step if unevaluated else self.step + 1)
        if self.step >= train.steps:
            return
        if unevaluated:
            # Where they came from they may change or go; here they are the first checkpoint.
            if self.checkpoints.good is None:
                self._save()
            self._evaluate()
        iterator, first_step = self.batches(self.step), self.step
        bar = progress.Progress(train.steps, self.step, "step", train.batch_size)
        while self.step < train.steps:
            count = self._steps_to_next_event()
            with contextlib.ExitStack() as stack:
                if self.step == first_step:
                    what = f"tracing the training step, then steps {self.step + 1} to {self.step + count}"
                    stack.enter_context(progress.announced(what))
                totals = self.loop(iterator, tf.constant(count))
            self._require_finite(totals)
            self._after_loop(totals, count, bar)
            # Which worker was asked does not matter: all stop at the same step.
            number = int(self.workers.exchange([interruption.signal or 0]).max())
            # Saved once: a checkpoint that is written again is not whole meanwhile.
            if self.step % train.checkpoint_every == 0 or self.step == train.steps or number:
                self._save()
            if number:
                bar.close()
                LOGGER.warning("Stopped by signal %d at step %d; all is saved", number, self.step)
                raise Interrupted(128 + number)
        bar.close()

    def _begin(self, first_step: int) -> None:
        """Writes what says which run this is, and begins the reports of a step and those after it."""
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
        if self.workers.is_chief and self.step < train.steps:
            with self.checkpoints.writing():
                self.reports.open(first_step)

    def _steps_to_next_event(self) -> int:
        """A loop ends where anything is due."""
        train, step = self.config.train, self.step
        periods = (train.steps_per_loop, train.log_every, train.evaluate_every, train.checkpoint_every)
        return min(train.steps - step, *(period - step % period for period in periods))

    def _save(self) -> None:
        if self.workers.is_chief:
            self.checkpoints.save()

    def _require_finite(self, totals: steps.Totals) -> None:
        """Stops before anything that is not finite can be saved."""
        if int(totals.bad_step) >= 0:
            parts = [part for part, bad in zip(steps.PARTS, np.asarray(totals.bad_parts), strict=True) if bad]
            self._diverged(f"the loss is not finite at step {int(totals.bad_step)}: {', '.join(parts)}")
        # The last loss was that of the weights before them.
        if not self.state.is_finite():
            self._diverged(f"the weights are not finite after step {self.step - 1}")

    def _diverged(self, how: str) -> NoReturn:
        raise FloatingPointError(
            f"{how}. The last good checkpoint, {self.checkpoints.good or 'none yet'}, is kept. In a new workdir, a "
            "lower train.learning_rate, a train.clip_norm or a longer train.kl_warmup_steps may help"
        )

    def _after_loop(self, totals: steps.Totals, count: int, bar: progress.Progress) -> None:
        train, step = self.config.train, self.step
        last = step == train.steps
        bar.update(step, f"loss {float(totals.loss_nats) / count:.2f} nats")
        self._since_log.append((count, totals))
        if step % train.log_every == 0 or last:
            self._log()
        if step % train.evaluate_every == 0 or last:
            self._evaluate()

    def _log(self) -> None:
        """Reports the means since the last log or the start."""
        scalars = reports.training_scalars(self._since_log)
        scalars["learning_rate"] = float(self.state.optimizer.learning_rate)
        self._since_log.clear()
        if self.workers.is_chief:
            with self.checkpoints.writing():
                self.reports.write("train", self.step, scalars)

    def _evaluate(self) -> None:
        report = self.evaluate()
        scalars = reports.validation_scalars(report)
        LOGGER.info("step %d, validation: %s", self.step, ", ".join(f"{k} {v:.4g}" for k, v in scalars.items()))
        better = report["bound_nats"] < self.state.best_bound_nats.numpy()
        if better:
            self.state.best_bound_nats.assign(report["bound_nats"])
        if not self.workers.is_chief:
            return
        grids, warnings = self.draw(), reports.ignored_latents(self.config, self.step, report["usage_latents_nats"])
        for warning in warnings:
            LOGGER.warning("%s", warning)
        with self.checkpoints.writing():
            self.reports.write("validation", self.step, scalars, grids, warnings)
        if better:
            self.checkpoints.save_best()


def prepare(
    config: config_lib.Config,
    workdir: str | pathlib.Path,
    strategy: tf.distribute.Strategy | None = None,
    images: Any = None,
) -> Trainer:
    """A run that is ready to start, or to go on from its last checkpoint that can be read.

    Args:
      config: the run.
      workdir: where it lives; see `pixelvae_tf.runs`.
      strategy: from `make_strategy`, by default "auto".
      images: to train on instead of those of `config.data`: arrays or a `tf.data.Dataset`, see `data.given_splits`. A
        run goes on with the same images.

    Returns:
      Its trainer, on whose `run` the first file is written.

    Raises:
      ValueError: if the config makes no sense, does not fit the data, or is not the workdir's; if there are checkpoints
        and none can be read; if there are no such initial weights; or if workers do not have the same run. Nothing that
        was in the workdir is changed then.
    """
    config.validate()
    onednn.advise()
    strategy = strategy or make_strategy("auto")
    if images is not None:
        given = dataclasses.replace(config.data, name=config_lib.GIVEN, data_dir="", folder="", labels="")
        config = dataclasses.replace(config, data=given)
    workdir, workers = runs.check_path(workdir), Workers(strategy)
    _check_replicas(config, strategy)
    before = workdir_lib.check(config, workdir)
    if images is None:
        images = {split: data.load(config.data, split, config.model.image_shape) for split in ("train", "validation")}
    else:
        images = data.given_splits(images, config.model, config.data.exclude_labels)
    for image_set in images.values():
        data.check_fits(image_set, config.model)
    fingerprints = {split: image_set.fingerprint() for split, image_set in images.items()}
    workdir_lib.check_images(fingerprints, workdir)
    workers.check_equal(workdir_lib.checksums(config, fingerprints))
    with strategy.scope():
        state = steps.TrainState(config)
    checkpoints = Checkpoints(workdir, state)
    if not checkpoints.restore():
        lineage: list[dict] | None = _start(config, state, images["train"], workers)
    else:
        lineage = _go_on(config, before, state, workdir) if before else None
    workers.check_equal({"step": int(state.step.numpy())})
    evaluator = evaluation.Evaluator(state.average, strategy, max(config.train.batch_size, 100))
    return Trainer(
        config,
        state,
        loop=_explain_images(steps.make_training_loop(strategy, state, config), images),
        batches=functools.partial(_batches, config, images["train"], strategy),
        evaluate=functools.partial(_validate, evaluator, images["validation"]),
        draw=reports.Drawing(state.average, images["validation"], config.train.seed),
        checkpoints=checkpoints,
        reports=reports.Reports(workdir),
        workers=workers,
        write_files=functools.partial(
            workdir_lib.write_files, workdir, config, fingerprints, lineage, images["train"].classes
        ),
    )


def _check_replicas(config: config_lib.Config, strategy: tf.distribute.Strategy) -> None:
    data.check_batch_size(config.train.batch_size, strategy.num_replicas_in_sync)
    normalised = any(level.batch_norm for level in config.model.levels)
    if config.train.jit_compile and normalised and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "train.jit_compile must be False for batch normalisation over several replicas, which tell each other "
            f"of their batches inside the model. Received: True, {strategy.num_replicas_in_sync} replicas"
        )


def _start(config: config_lib.Config, state: steps.TrainState, images: data.ImageSet, workers: Workers) -> list[dict]:
    """Starts the weights from trained ones or the data; returns the trainings behind them."""
    lineage = []
    if config.train.initial_weights:
        trained, lineage = initial_weights.load(config, state.model)
        state.start_with(trained)
        LOGGER.info("Starting with the weights of %s", config.train.initial_weights)
    else:
        state.start_from(images)
    workers.copy_from_chief([variable.value for variable in (*state.model.variables, *state.average.variables)])
    return lineage


def _go_on(
    config: config_lib.Config, before: config_lib.Config, state: steps.TrainState, workdir: pathlib.Path
) -> list[dict]:
    """Lets a finished run be trained for more steps; returns the trainings behind it, its own until now among them."""
    step = int(state.step.numpy())
    if step < before.train.steps:
        raise ValueError(
            f"train.steps must be {before.train.steps} until the run in workdir {str(workdir)!r} is finished, which is "
            f"at step {step}; then it can go on from there. Received: {config.train.steps}"
        )
    LOGGER.info(
        "The run, finished at step %d, goes on to step %d with its optimizer's state, at the learning rates of a run "
        "of so many steps",
        step,
        config.train.steps,
    )
    training = {"command": presets.command_for(before, str(workdir)), "step": step}
    training |= {"fingerprint": runs.fingerprint(state.average), "same_run": True}
    # It is there already if what goes on was stopped before its config was written.
    return [*(known for known in runs.read_lineage(workdir) if known != training), training]


def _batches(config: config_lib.Config, images: data.ImageSet, strategy: tf.distribute.Strategy, step: int) -> Iterator:
    """The batches of a step and those after it, distributed."""
    size, seed = config.train.batch_size, config.train.seed
    dataset = strategy.distribute_datasets_from_function(
        lambda context: data.training_batches(images, size, seed, step, context, config.data.mutation)
    )
    return iter(dataset)


def _validate(evaluator: evaluation.Evaluator, images: data.ImageSet) -> dict:
    """The report of the validation images."""
    with progress.announced(f"evaluating {len(images.images):,} images of {images.name}") as count:
        return evaluator(images, count)


def _explain_images(loop: Callable[..., steps.Totals], images: dict[str, data.ImageSet]) -> Callable[..., steps.Totals]:
    """A loop that raises what explains itself where images were changed on disk, instead of TensorFlow's error."""

    def explaining(*arguments) -> steps.Totals:
        try:
            return loop(*arguments)
        except tf.errors.OpError:
            for image_set in images.values():
                image_set.require_unchanged()
            raise

    return explaining


def train_and_evaluate(
    config: config_lib.Config,
    workdir: str | pathlib.Path,
    strategy: tf.distribute.Strategy | None = None,
    images: Any = None,
) -> None:
    """Trains a run to its last step, or goes on with it.

        trainer.train_and_evaluate(config, "runs/mine", images=array)  # uint8 [N, H, W, C]

    Args:
      config, workdir, strategy, images: as for `prepare`.

    Raises:
      ValueError: as `prepare`.
      FloatingPointError: if the loss is no longer finite; what was saved is good.
      OSError: if the workdir cannot be written to, or images that are read from disk have been changed there; what
        was saved is good.
      Interrupted: after SIGTERM or Ctrl-C, with everything saved.
    """
    trainer = prepare(config, workdir, strategy, images)
    with Interruption() as interruption:
        trainer.run(interruption)
