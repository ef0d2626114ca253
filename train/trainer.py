"""The outer loop: runs blocks of steps and, between them, logs, evaluates, draws and saves."""

import dataclasses
import os
import pathlib

import numpy as np
import tensorflow as tf
from absl import logging

from pixelvae_tf import config as config_lib
from pixelvae_tf import data, noise, pictures, runs
from pixelvae_tf.train import evaluation, progress, steps
from pixelvae_tf.train.interruption import Interruption

# Images in a grid of samples or reconstructions.
NUM_PICTURES = 64


class Interrupted(SystemExit):
    """The run was asked to stop; everything is saved and the same command goes on."""


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of a name: "one_device", "mirrored", or "auto" (mirrored with several GPUs).

    Raises:
      ValueError: for another name.
    """
    gpus, cpus = tf.config.list_logical_devices("GPU"), tf.config.list_logical_devices("CPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one_device"
    if name == "mirrored":
        return tf.distribute.MirroredStrategy([device.name for device in gpus or cpus])
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy((gpus or cpus)[0].name)
    raise ValueError(f"strategy must be one of auto, one_device, mirrored. Received: {name!r}")


def claim_workdir(config: config_lib.Config, workdir: pathlib.Path) -> None:
    """Writes the config to a new workdir, or checks that the run in it has the same one.

    Raises:
      ValueError: if another run lives there.
    """
    path = workdir / runs.CONFIG
    if path.exists():
        there = dataclasses.asdict(runs.read_config(workdir))
        different = _differences(there, dataclasses.asdict(config))
        if different:
            raise ValueError(
                f"workdir {str(workdir)!r} holds a run with another config: {'; '.join(different)}. "
                "Choose another workdir, or give the config it was started with"
            )
        return
    workdir.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(config_lib.to_json(config))
    os.replace(unfinished, path)


def _differences(there, here, name: str = "") -> list[str]:
    """Fields that differ, as "name is a there and b here"."""
    if isinstance(there, dict):
        return [text for key in here for text in _differences(there[key], here[key], f"{name}.{key}".lstrip("."))]
    if isinstance(there, list) and len(there) == len(here):
        return [
            text
            for i, (a, b) in enumerate(zip(there, here, strict=True))
            for text in _differences(a, b, f"{name}[{i}]")
        ]
    return [] if there == here else [f"{name} is {there!r} there and {here!r} here"]


class Trainer:
    """One run: its state, its data, and what happens between loops."""

    def __init__(self, config: config_lib.Config, workdir: pathlib.Path, strategy: tf.distribute.Strategy):
        self.config, self.workdir, self.strategy = config, workdir, strategy
        self.images = {split: data.load(config.data, split) for split in ("train", "validation")}
        self._check_images()
        with strategy.scope():
            self.state = steps.TrainState(config)
        self.loop = steps.make_training_loop(strategy, self.state, config.train)
        self.evaluator = evaluation.Evaluator(self.state.average, strategy, max(config.train.batch_size, 100))
        self.latest = tf.train.CheckpointManager(
            self.state.checkpoint(), str(workdir / runs.CHECKPOINTS), max_to_keep=2, step_counter=self.state.step
        )
        self.best = tf.train.CheckpointManager(
            tf.train.Checkpoint(average=runs.weights_of(self.state.average), step=self.state.step),
            str(workdir / runs.BEST),
            max_to_keep=1,
            step_counter=self.state.step,
        )
        self.writers = {
            name: tf.summary.create_file_writer(str(workdir / runs.TENSORBOARD / name))
            for name in ("train", "validation")
        }
        self._draw = tf.function(self._make_pictures)

    def _check_images(self) -> None:
        """The model must fit the images."""
        images, model = self.images["train"], self.config.model
        if images.images.shape[1:] != tuple(model.image_shape) or images.num_values != model.num_values:
            raise ValueError(
                f"model.image_shape and model.num_values must fit the images of {images.name}, "
                f"{images.images.shape[1:]} and {images.num_values}. "
                f"Received: {tuple(model.image_shape)} and {model.num_values}"
            )

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.state.step)

    def restore(self) -> None:
        """Goes on from the last checkpoint; without one, starts from the data."""
        path = self.latest.restore_or_initialize()
        if path:
            logging.info("Going on from step %d (%s)", self.step, path)
        else:
            self.state.start_from(self.images["train"].images)

    def run(self, interruption: Interruption) -> None:
        """Trains from the current step to the last."""
        train = self.config.train
        if self.step >= train.steps:
            return
        start = self.step
        dataset = self.strategy.distribute_datasets_from_function(
            lambda context: data.training_batches(
                self.images["train"], train.batch_size, train.seed, start, input_context=context
            )
        )
        iterator = iter(dataset)
        bar = progress.Progress(train.steps, start, "step", train.batch_size)
        periods = (train.log_every, train.evaluate_every, train.checkpoint_every)
        while self.step < train.steps:
            step = self.step
            # A loop ends where anything is due.
            due = min(period - step % period for period in (*periods, train.steps_per_loop))
            count = min(due, train.steps - step)
            totals = self.loop(iterator, tf.constant(count))
            self._require_finite(totals)
            self._after_loop(totals, count, bar)
            if interruption.signal is not None:
                self.latest.save(checkpoint_number=self.step)
                bar.close()
                logging.warning("Stopped by signal %d at step %d; all is saved", interruption.signal, self.step)
                raise Interrupted(128 + interruption.signal)
        bar.close()

    def _require_finite(self, totals: steps.Totals) -> None:
        """Stops before anything that is not finite can be saved."""
        if int(totals.bad_step) < 0:
            return
        parts = [part for part, bad in zip(steps.PARTS, totals.bad_parts.numpy(), strict=True) if bad]
        raise FloatingPointError(
            f"the loss is not finite at step {int(totals.bad_step)}: {', '.join(parts)}. The last good checkpoint, "
            f"{self.latest.latest_checkpoint or 'none yet'}, is kept. A lower train.learning_rate, a smaller "
            "train.clip_norm or a longer train.kl_warmup_steps may help"
        )

    def _after_loop(self, totals: steps.Totals, count: int, bar: progress.Progress) -> None:
        train, step = self.config.train, self.step
        last = step == train.steps
        bar.update(step, f"loss {float(totals.loss_nats) / count:.2f} nats")
        if step % train.log_every == 0 or last:
            self._log(totals, count)
        if step % train.evaluate_every == 0 or last:
            self._evaluate()
        if step % train.checkpoint_every == 0 or last:
            self.latest.save(checkpoint_number=step)

    def _log(self, totals: steps.Totals, count: int) -> None:
        scalars = {
            "loss_nats": totals.loss_nats / count,
            "reconstruction_nats": totals.reconstruction_nats / count,
            "gradient_norm": totals.gradient_norm / count,
            "clipped_share": totals.clipped / count,
            "learning_rate": self.state.optimizer.learning_rate,
        }
        for level in range(self.state.model.num_levels):
            scalars[f"kl_nats_level_{level + 1}"] = totals.kl_nats[level] / count
        self._write("train", scalars)

    def _write(self, writer: str, scalars: dict, grids: dict[str, np.ndarray] | None = None) -> None:
        with self.writers[writer].as_default(step=self.step):
            for name, value in scalars.items():
                tf.summary.scalar(name, float(value))
            for name, grid in (grids or {}).items():
                tf.summary.image(name, grid[None])
            self.writers[writer].flush()

    def _evaluate(self) -> None:
        report = self.evaluator(self.images["validation"])
        shown = {key: report[key] for key in ("bound_nats", "bound_bpd", "reconstruction_nats")}
        for level, (kl, active) in enumerate(zip(report["kl_nats"], report["active_units"], strict=True)):
            shown |= {f"kl_nats_level_{level + 1}": kl, f"active_units_level_{level + 1}": active}
        self._write("validation", shown, self._grids())
        logging.info("step %d, validation: %s", self.step, ", ".join(f"{k} {v:.4g}" for k, v in shown.items()))
        if report["bound_nats"] < float(self.state.best_bound_nats):
            self.state.best_bound_nats.assign(report["bound_nats"])
            self.best.save(checkpoint_number=self.step)

    def _make_pictures(self, images: tf.Tensor, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        model = self.state.average
        latents = [posterior.mean() for posterior in model.posterior(images)]
        # Without latents there is nothing to reconstruct from: the same as the samples.
        return model.sample(seeds), model.decode(latents, seeds)

    def _grids(self) -> dict[str, np.ndarray]:
        """Draws samples and reconstructions, and leaves them in the workdir."""
        originals = self.images["validation"].images[:NUM_PICTURES]
        seeds = noise.derive_seeds(self.config.train.seed, tf.range(len(originals), dtype=tf.int64))
        samples, reconstructions = (x.numpy() for x in self._draw(tf.constant(originals), seeds))
        num_values, scale = self.config.model.num_values, max(1, 64 // self.config.model.image_shape[0])
        grids = {"samples": pictures.tile(samples, num_values, scale=scale)}
        if self.state.model.num_levels:
            pairs = pictures.beside(originals, reconstructions)
            grids["reconstructions"] = pictures.tile(pairs, num_values, columns=16, scale=scale)
        for name, grid in grids.items():
            pictures.write_png(self.workdir / f"{name}.png", grid)
        return grids


def train_and_evaluate(
    config: config_lib.Config, workdir: str | pathlib.Path, strategy: tf.distribute.Strategy
) -> None:
    """Trains a run to its last step, or goes on with it.

    Args:
      config: the run.
      workdir: where it lives; see `pixelvae_tf.runs`.
      strategy: from `make_strategy`.

    Raises:
      ValueError: if the config makes no sense, does not fit the data, or is not the workdir's.
      FloatingPointError: if the loss is no longer finite; what was saved is good.
      Interrupted: after SIGTERM or Ctrl-C, with everything saved.
    """
    config.validate()
    workdir = pathlib.Path(workdir)
    claim_workdir(config, workdir)
    trainer = Trainer(config, workdir, strategy)
    trainer.restore()
    logging.info(
        "%s: %d weights, %d steps of %d images on %d replica(s)",
        workdir,
        trainer.state.model.count_params(),
        config.train.steps,
        config.train.batch_size,
        strategy.num_replicas_in_sync,
    )
    with Interruption() as interruption:
        trainer.run(interruption)
