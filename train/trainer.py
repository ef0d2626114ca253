"""Prepares and trains runs: turns config, images, state and workdir into a `Trainer`."""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from pixelvae_tf import config as config_lib
from pixelvae_tf import data, onednn, progress, runs
from pixelvae_tf.train import evaluation, initial_weights, reports, steps
from pixelvae_tf.train import workdir as workdir_lib
from pixelvae_tf.train.checkpoints import Checkpoints
from pixelvae_tf.train.interruption import Interruption
from pixelvae_tf.train.loop import Interrupted, Trainer
from pixelvae_tf.train.strategies import make_strategy as make_strategy
from pixelvae_tf.train.workers import Workers

__all__ = ["Interrupted", "Trainer", "make_strategy", "prepare", "train_and_evaluate"]

LOGGER = logging.getLogger("pixelvae_tf")


def prepare(
    config: config_lib.Config,
    workdir: str | pathlib.Path,
    strategy: tf.distribute.Strategy | None = None,
    images: Any = None,
) -> Trainer:
    """Prepares a run to start, or to resume from its newest readable checkpoint.

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
    config = config.validate()
    onednn.advise()
    strategy = strategy or make_strategy("auto")
    if images is not None:
        given = dataclasses.replace(config.data, name=config_lib.GIVEN, data_dir="", folder="", labels="")
        config = dataclasses.replace(config, data=given)
    workdir, workers = runs.check_path(workdir), Workers(strategy)
    _check_replicas(config, strategy)
    before = workdir_lib.check(config, workdir)
    splits = _load(config, images)
    fingerprints = {split: image_set.fingerprint() for split, image_set in splits.items()}
    workdir_lib.check_images(fingerprints, workdir)
    workers.check_equal(workdir_lib.checksums(config, fingerprints))
    with strategy.scope():
        state = steps.TrainState(config)
    checkpoints = Checkpoints(workdir, state)
    restored = checkpoints.restore()
    workers.check_equal({"step": int(state.step.numpy()) if restored else -1})  # before any of them waits for others
    lineage: list[dict] | None = None if restored else _start(config, state, splits["train"], workers)
    if restored and before:
        lineage = _go_on(config, before, state, workdir)
    evaluator = evaluation.Evaluator(state.average, strategy, max(config.train.batch_size, 100))
    return Trainer(
        config,
        state,
        loop=_explain_images(steps.make_training_loop(strategy, state, config), splits),
        batches=functools.partial(_batches, config, splits["train"], strategy),
        evaluate=functools.partial(_validate, evaluator, splits["validation"]),
        draw=reports.Drawing(state.average, splits["validation"], config.train.seed),
        checkpoints=checkpoints,
        reports=reports.Reports(workdir),
        workers=workers,
        write_files=functools.partial(
            workdir_lib.write_files, workdir, config, fingerprints, lineage, splits["train"].classes
        ),
    )


def _load(config: config_lib.Config, images: Any) -> dict[str, data.ImageSet]:
    """The training and validation images: the given ones, or those of the config."""
    if images is None:
        splits = {split: data.load(config.data, split, config.model.image_shape) for split in ("train", "validation")}
    else:
        splits = data.given_splits(images, config.model, config.data.exclude_labels)
    for image_set in splits.values():
        data.check_fits(image_set, config.model)
    if (classes := splits["train"].classes) and not (config.model.num_classes or config.data.exclude_labels):
        LOGGER.warning("The %d classes of data.labels are not used: model.num_classes is 0", len(classes))
    return splits


def _check_replicas(config: config_lib.Config, strategy: tf.distribute.Strategy) -> None:
    data.check_batch_size(config.train.batch_size, strategy.num_replicas_in_sync)
    normalised = any(level.batch_norm for level in config.model.levels)
    if config.train.jit_compile and normalised and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "train.jit_compile must be False for batch normalisation over several replicas, which tell each other "
            f"of their batches inside the model. Received: True, {strategy.num_replicas_in_sync} replicas"
        )


def _start(config: config_lib.Config, state: steps.TrainState, images: data.ImageSet, workers: Workers) -> list[dict]:
    """Initialises the weights from trained ones or from data; returns the trainings behind them."""
    lineage = []
    trained: dict[str, tf.Variable] = {}
    if config.train.initial_weights:
        trained, lineage = initial_weights.load(config, state.model)
    if len(trained) < len(state.model.variables):
        state.start_from(images)
    state.start_with(trained)
    if trained:
        LOGGER.info(
            "Starting with the weights of %s: %d arrays of %d",
            config.train.initial_weights,
            len(trained),
            len(state.model.variables),
        )
    workers.copy_from_chief([variable.value for variable in (*state.model.variables, *state.average.variables)])
    return lineage


def _go_on(
    config: config_lib.Config, before: config_lib.Config, state: steps.TrainState, workdir: pathlib.Path
) -> list[dict]:
    """Extends a finished run by more steps; returns the trainings behind it, including its own."""
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
    training = initial_weights.as_training(before, str(workdir), step, state.average) | {"same_run": True}
    # It is listed already if the extended run was stopped before its config was written.
    return [*(earlier for earlier in runs.read_lineage(workdir) if earlier != training), training]


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
    """A loop that raises a clear error if images were changed on disk, instead of TensorFlow's."""

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
    """Trains a run to its last step, or resumes it.

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
