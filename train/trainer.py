"""The outer loop: runs blocks of steps and, between them, logs, evaluates, draws and saves."""

import contextlib
import copy
import logging
import math
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import tensorflow as tf

from pixelvae_tf import bounds, data, noise, pictures, runs
from pixelvae_tf import config as config_lib
from pixelvae_tf.train import evaluation, initial_weights, progress, steps
from pixelvae_tf.train import workdir as workdir_lib
from pixelvae_tf.train.interruption import Interruption
from pixelvae_tf.train.workers import Workers, multi_worker_strategy

LOGGER = logging.getLogger("pixelvae_tf")
# Images in a grid of samples or reconstructions.
NUM_PICTURES = 64
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")


class Interrupted(SystemExit):
    """The run was asked to stop; everything is saved and the same command goes on."""


def split_cpu(number: int) -> None:
    """Makes several devices of the CPU, before TensorFlow has looked at it.

    Raises:
      ValueError: on a machine with GPUs, which would be mirrored over instead.
    """
    if gpus := tf.config.list_physical_devices("GPU"):
        raise ValueError(f"virtual_cpus must be 1 where there are GPUs. Received: {number}, with {len(gpus)} GPUs")
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
    if number >= os.cpu_count():
        # An operation is one thread's, which waits for no other: a core a device. (They share one pool of threads.)
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(number)


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of a name: "one_device", "mirrored", "multi_worker", or "auto" (mirrored with several GPUs).

    Raises:
      ValueError: for another name; for "multi_worker", if TF_CONFIG does not describe the workers.
    """
    if name == "multi_worker":
        return multi_worker_strategy()
    gpus, cpus = tf.config.list_logical_devices("GPU"), tf.config.list_logical_devices("CPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one_device"
    if name == "mirrored":
        return tf.distribute.MirroredStrategy([device.name for device in gpus or cpus])
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy((gpus or cpus)[0].name)
    raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}. Received: {name!r}")


class Trainer:
    """One run: its state, its data, and what happens between loops.

    With several workers each has a trainer, and all do the same; the chief alone writes.

    Args:
      config: the run.
      workdir: where it lives; see `pixelvae_tf.runs`.
      strategy: from `make_strategy`.

    Raises:
      ValueError: if the config makes no sense, does not fit the data, or is not the workdir's. Nothing
        that was in the workdir is changed then.
    """

    def __init__(self, config: config_lib.Config, workdir: str | pathlib.Path, strategy: tf.distribute.Strategy):
        config.validate()
        self.config, self.workdir, self.strategy = config, pathlib.Path(workdir), strategy
        self.workers = Workers(strategy)
        data.check_batch_size(config.train.batch_size, strategy.num_replicas_in_sync)
        normalised = any(level.batch_norm for level in config.model.levels)
        if config.train.jit_compile and normalised and strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "train.jit_compile must be False for batch normalisation over several replicas, which tell each other "
                f"of their batches inside the model. Received: True, {strategy.num_replicas_in_sync} replicas"
            )
        workdir_lib.check(config, self.workdir)
        self.images = {
            split: data.load(config.data, split, config.model.image_shape) for split in ("train", "validation")
        }
        for images in self.images.values():
            data.check_fits(images, config.model)
        self.fingerprints = {split: images.fingerprint() for split, images in self.images.items()}
        workdir_lib.check_images(self.fingerprints, self.workdir)
        self._check_workers()
        with strategy.scope():
            self.state = steps.TrainState(config)
        self.loop = steps.make_training_loop(strategy, self.state, config)
        self.evaluator = evaluation.Evaluator(self.state.average, strategy, max(config.train.batch_size, 100))
        self.checkpoint = self.state.checkpoint()
        self.latest = workdir_lib.manage(self.checkpoint, self.workdir / runs.CHECKPOINTS, max_to_keep=2)
        # The trainings behind what it starts with; None if it goes on.
        self.lineage: list[dict] | None = None
        # The last checkpoint that this process read or wrote, and those that were there then.
        self.good: str | None = None
        self._found: list[str] = []
        best = tf.train.Checkpoint(
            average=runs.weights_of(self.state.average),
            step=self.state.step,
            best_bound_nats=self.state.best_bound_nats,
        )
        self.best = workdir_lib.manage(best, self.workdir / runs.BEST, max_to_keep=1)
        self._since_log: list[tuple[int, steps.Totals]] = []
        self.writers: dict[str, tf.summary.SummaryWriter] = {}
        self._draw = tf.function(self._make_pictures, autograph=False)
        self._weights_are_finite = tf.function(self._all_finite, autograph=False)

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.state.step.numpy())  # a mirrored variable knows no int()

    def _all_finite(self) -> tf.Tensor:
        # Those of their average too: it has followed them in the same step.
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(x.value)) for x in self.state.model.variables])

    def _check_workers(self) -> None:
        config = copy.deepcopy(self.config)
        config.data.data_dir = config.data.folder = ""  # may differ from worker to worker
        checksums = {f"checksum of the {split} images": number for split, number in self.fingerprints.items()}
        checksums["checksum of the config"] = zlib.crc32(config_lib.to_json(config).encode())
        self.workers.check_equal(checksums)

    def restore(self) -> None:
        """Goes on from the last checkpoint that can be read; without any, starts: from trained weights or the data.

        Raises:
          ValueError: if there are checkpoints and none can be read; if there are no such trained weights; or if the
            workers do not go on with the same run.
        """
        folder = self.workdir / runs.CHECKPOINTS
        self._found = runs.checkpoints(folder)
        self.good = runs.read_newest(
            folder, lambda path: self.checkpoint.restore(path).assert_existing_objects_matched()
        )
        if self.good:
            LOGGER.info("Going on from step %d (%s)", self.step, self.good)
        elif self._found:
            raise ValueError(
                "workdir must hold a checkpoint of this model that can be read. "
                f"Received: {str(self.workdir)!r}, where none of {len(self._found)} can"
            )
        else:
            self._start()
            variables = [*self.state.model.variables, *self.state.average.variables]
            self.workers.copy_from_chief([variable.value for variable in variables])
        self._restore_best_bound()
        self.workers.check_equal({"step": self.step})

    def _start(self) -> None:
        if self.config.train.initial_weights:
            trained, self.lineage = initial_weights.load(self.config, self.state.model)
            self.state.start_with(trained)
            LOGGER.info("Starting with the weights of %s", self.config.train.initial_weights)
        else:
            self.lineage = []
            self.state.start_from(self.images["train"])

    def _restore_best_bound(self) -> None:
        """Takes the bound of the best weights that there are.

        A run that was killed may have found better ones than its last checkpoint knows of. Where they cannot be read
        any more, those of the next evaluation are the best.
        """

        def read(path: str) -> None:
            reader = tf.train.load_checkpoint(path)
            # All of it, since every tensor has its own checksum.
            tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
            self.state.best_bound_nats.assign(float(tensors["best_bound_nats/.ATTRIBUTES/VARIABLE_VALUE"]))

        if runs.read_newest(self.workdir / runs.BEST, read) is None:
            self.state.best_bound_nats.assign(float("inf"))

    def run(self, interruption: Interruption) -> None:
        """Trains from the current step to the last.

        Raises:
          BlockingIOError: if another process trains in the workdir, or did since this one read its checkpoint.
        """
        with contextlib.ExitStack() as stack:
            if self.workers.is_chief:
                with self._writing():
                    stack.enter_context(workdir_lib.lock(self.workdir))
                    self._check_newest()
            try:
                self._run(interruption)
            except (FloatingPointError, Interrupted):  # in all workers alike
                self.workers.part()
                raise
            self.workers.part()

    def _check_newest(self) -> None:
        """What was read before the lock was had may be what another process has gone on from meanwhile."""
        there = runs.checkpoints(self.workdir / runs.CHECKPOINTS)
        if there != self._found:
            raise BlockingIOError(
                "workdir must have the checkpoints that were there when this process read the last of them. Received: "
                f"{str(self.workdir)!r}, in which another one has trained since; the same command goes on from there"
            )

    def _run(self, interruption: Interruption) -> None:
        train = self.config.train
        if self.workers.is_chief:
            with self._writing():
                workdir_lib.write_config(self.config, self.workdir)
                workdir_lib.write_images(self.fingerprints, self.workdir)
                if self.lineage is not None:
                    workdir_lib.write_lineage(self.lineage, self.workdir)
        LOGGER.info(
            "%s: %d weights, %d steps of %d images on %d replica(s)",
            self.workdir,
            self.state.model.count_params(),
            train.steps,
            train.batch_size,
            self.strategy.num_replicas_in_sync,
        )
        if self.step >= train.steps:
            return
        if self.workers.is_chief:
            with self._writing():
                for name in ("train", "validation"):
                    self.writers[name] = tf.summary.create_file_writer(str(self.workdir / runs.TENSORBOARD / name))
        if train.initial_weights and self.step == 0 and math.isinf(self.state.best_bound_nats.numpy()):
            # Where they came from they may change or go; here they are the first checkpoint, and perhaps the best.
            if self.good is None:
                self._save()
            self._evaluate()
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
            try:
                totals = self.loop(iterator, tf.constant(count))
            except tf.errors.OpError:
                # If it is the images', they say it better.
                for images in self.images.values():
                    images.require_unchanged()
                raise
            self._require_finite(totals)
            self._require_finite_weights()
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

    def _save(self) -> None:
        if self.workers.is_chief:
            with self._writing():
                self.good = self.latest.save(checkpoint_number=self.step)
                self._found = runs.checkpoints(self.workdir / runs.CHECKPOINTS)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Around whatever writes to the workdir, which may have no room left."""
        try:
            yield
        except BlockingIOError:  # It is another process's.
            raise
        except (OSError, tf.errors.OpError) as error:
            raise OSError(
                f"workdir must be writable and have room for the run. Received: {str(self.workdir)!r}: "
                f"{runs.first_line(error)}. The last good checkpoint, {self.good or 'none yet'}, is kept; when there "
                "is room, the same command goes on"
            ) from error

    def _require_finite(self, totals: steps.Totals) -> None:
        """Stops before anything that is not finite can be saved."""
        if int(totals.bad_step) < 0:
            return
        parts = [part for part, bad in zip(steps.PARTS, totals.bad_parts.numpy(), strict=True) if bad]
        self._diverged(f"the loss is not finite at step {int(totals.bad_step)}: {', '.join(parts)}")

    def _require_finite_weights(self) -> None:
        """The same of what the last step made of the weights: its loss was of those before it."""
        if not self._weights_are_finite():
            self._diverged(f"the weights are not finite after step {self.step - 1}")

    def _diverged(self, how: str) -> NoReturn:
        raise FloatingPointError(
            f"{how}. The last good checkpoint, {self.good or 'none yet'}, is kept. In a new workdir, a lower "
            "train.learning_rate, a train.clip_norm or a longer train.kl_warmup_steps may help"
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
        """Writes the means over all steps since the last log or the start, and how many of them were clipped."""
        count = sum(number for number, _ in self._since_log)

        def total(name: str) -> np.ndarray:
            return sum(getattr(totals, name).numpy() for _, totals in self._since_log)

        scalars = {name: total(name) / count for name in ("loss_nats", "reconstruction_nats", "gradient_norm")}
        scalars |= {"clipped_steps": total("clipped"), "clipped_share": total("clipped") / count}
        scalars["learning_rate"] = self.state.optimizer.learning_rate
        for level in range(self.state.model.num_levels):
            scalars[f"kl_nats_level_{level + 1}"] = total("kl_nats")[level] / count
        self._write("train", scalars)
        self._since_log.clear()

    def _ignored_latents(self, kl_nats: list[float]) -> str:
        """What to say of levels that carry next to nothing once the KL has its full weight; logs it too."""
        train, least = self.config.train, bounds.IGNORED_NATS_PER_DIM
        if self.step < self.config.objective.warmup_steps:
            return ""
        warnings = []
        for level, (kl, config) in enumerate(zip(kl_nats, self.config.model.levels, strict=True), start=1):
            dims = math.prod(config.shape)
            if kl < least * dims:
                warmup = "kl_warmup_steps" if level == 1 else "upper_kl_warmup_steps"
                warnings.append(
                    f"The latents of level {level} are all but ignored (posterior collapse): they carry {kl:.3g} nats, "
                    f"{kl / dims:.2g} a dimension, less than {least:g}. A longer train.{warmup} (now "
                    f"{getattr(train, warmup)}) or train.free_nats (now {train.free_nats:g}) in a new workdir is the "
                    "cure; see docs/training.md"
                )
                LOGGER.warning("%s", warnings[-1])
        return "\n\n".join(warnings)

    def _write(self, writer: str, scalars: dict, grids: dict[str, np.ndarray] | None = None, warning: str = "") -> None:
        if not self.workers.is_chief:
            return
        with self._writing(), self.writers[writer].as_default(step=self.step):
            if warning:
                tf.summary.text("warning", warning)
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
        LOGGER.info("step %d, validation: %s", self.step, ", ".join(f"{k} {v:.4g}" for k, v in shown.items()))
        better = report["bound_nats"] < self.state.best_bound_nats.numpy()
        if better:
            self.state.best_bound_nats.assign(report["bound_nats"])
        if not self.workers.is_chief:
            return
        self._write("validation", shown, self._grids(), self._ignored_latents(report["kl_nats"]))
        if better:
            with self._writing():
                self.best.save(checkpoint_number=self.step)

    def _make_pictures(self, images: tf.Tensor, seeds: tf.Tensor, labels: tf.Tensor | None) -> dict[str, tf.Tensor]:
        model = self.state.average
        classes = None if labels is None else tf.range(tf.shape(seeds)[0]) % model.config.num_classes
        drawn = {"samples": model.sample(seeds, labels=classes)}
        if model.num_levels:
            latents = [posterior.mean() for posterior in model.posterior(images)]
            drawn["reconstructions"] = model.decode(latents, seeds, labels=labels)
        return drawn

    def _grids(self) -> dict[str, np.ndarray]:
        """Draws samples and reconstructions, and leaves them in the workdir."""
        images = self.images["validation"]
        originals, num_classes = images.images[:NUM_PICTURES], self.config.model.num_classes
        seeds = noise.derive_seeds(self.config.train.seed, tf.range(len(originals), dtype=tf.int64))
        labels = tf.constant(images.labels[:NUM_PICTURES]) if num_classes else None
        drawn = {name: values.numpy() for name, values in self._draw(tf.constant(originals), seeds, labels).items()}
        num_values, scale = self.config.model.num_values, max(1, 64 // self.config.model.image_shape[0])
        # A class-conditional model's samples have a column a class.
        grids = {"samples": pictures.tile(drawn["samples"], num_values, columns=num_classes or None, scale=scale)}
        if "reconstructions" in drawn:
            pairs = pictures.beside(originals, drawn["reconstructions"])
            grids["reconstructions"] = pictures.tile(pairs, num_values, columns=16, scale=scale)
        for name, grid in grids.items():
            with self._writing():
                pictures.write_png(self.workdir / f"{name}.png", grid)
        return grids


def train_and_evaluate(
    config: config_lib.Config, workdir: str | pathlib.Path, strategy: tf.distribute.Strategy
) -> None:
    """Trains a run to its last step, or goes on with it.

    Args:
      config, workdir, strategy: as for `Trainer`.

    Raises:
      ValueError: as `Trainer` and `Trainer.restore`.
      FloatingPointError: if the loss is no longer finite; what was saved is good.
      OSError: if the workdir cannot be written to, or images that are read from disk have been changed there; what
        was saved is good.
      Interrupted: after SIGTERM or Ctrl-C, with everything saved.
    """
    trainer = Trainer(config, workdir, strategy)
    trainer.restore()
    with Interruption() as interruption:
        trainer.run(interruption)
