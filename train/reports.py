"""What a run reports between loops: scalars, warnings and pictures, in TensorBoard's event files and as PNG files."""

import pathlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pixelvae_tf import config as config_lib
from pixelvae_tf import data, noise, pictures, progress, runs
from pixelvae_tf.bounds.diagnosis import IGNORED_NATS
from pixelvae_tf.bounds.objective import by_level
from pixelvae_tf.models import PixelVAE
from pixelvae_tf.train.steps import Totals

# Images in a grid of samples or reconstructions.
NUM_PICTURES = 64


def training_scalars(loops: Sequence[tuple[int, Totals]]) -> dict[str, float]:
    """Means over all steps of several loops, and how many of them were clipped.

    Args:
      loops: the number of steps and the totals of each.

    Returns:
      Scalars by their name in TensorBoard.
    """
    count = sum(number for number, _ in loops)

    def total(name: str) -> Any:
        return sum(np.asarray(getattr(totals, name)) for _, totals in loops)

    scalars: dict[str, float] = {
        name: total(name) / count for name in ("loss_nats", "reconstruction_nats", "gradient_norm")
    }
    scalars |= {"clipped_steps": total("clipped"), "clipped_share": total("clipped") / count}
    for level, kl in enumerate(total("kl_nats"), start=1):
        scalars[f"kl_nats_level_{level}"] = kl / count
    for part in loops[0][1].gradient_norms:
        scalars[f"gradient_norm_{part}"] = sum(float(totals.gradient_norms[part]) for _, totals in loops) / count
    return scalars


def validation_scalars(report: dict) -> dict[str, float]:
    """What TensorBoard and the log show of an `evaluation.Evaluator`'s report."""
    names = ("bound_nats", "bound_bpd", "reconstruction_nats", "usage_preceding_nats")
    scalars = {name: report[name] for name in names if name in report}  # there is no usage of a single image
    for name in ("kl_nats", "active_units", "usage_latents_nats"):
        scalars |= {f"{name}_level_{level}": value for level, value in enumerate(report.get(name, ()), start=1)}
    return scalars


def ignored_latents(config: config_lib.Config, step: int, usage_nats: Sequence[float]) -> list[str]:
    """A warning for each level whose latents make next to no difference once the KL has its full weight.

    Args:
      config: the run's.
      step: steps done.
      usage_nats: `bounds.Usage.latents_nats` of each level, from an evaluation; nothing where it has none.

    Returns:
      The warnings, for a person.
    """
    train, least = config.train, IGNORED_NATS
    if step < config.objective.warmup_steps or not usage_nats:
        return []
    settings = zip(
        *(by_level(values, len(usage_nats)) for values in (train.kl_warmup_steps, train.free_nats)), strict=True
    )
    return [
        f"The latents of level {level} are all but ignored (posterior collapse): with another image's in their place "
        f"an image costs {usage:.3g} nats more, less than {least:g}. A longer train.kl_warmup_steps (now {steps}) or "
        f"train.free_nats (now {nats:g}) in a new workdir may help; see docs/training.md"
        for level, (usage, (steps, nats)) in enumerate(zip(usage_nats, settings, strict=True), start=1)
        if usage < least
    ]


class Drawing:
    """Draws grids of samples, and of images beside their reconstructions; every time with the same noise.

    Args:
      model: the model that draws.
      images: to reconstruct, of which the first `NUM_PICTURES` are taken.
      seed: for the noise.
    """

    def __init__(self, model: PixelVAE, images: data.ImageSet, seed: int):
        self.model, self.images, self.seed = model, images, seed
        self._draw = tf.function(self._draw_values, autograph=False)

    def _draw_values(self, images: tf.Tensor, seeds: tf.Tensor, labels: tf.Tensor | None) -> dict[str, tf.Tensor]:
        model = self.model
        classes = None if labels is None else tf.range(NUM_PICTURES) % model.config.num_classes
        values = {"samples": model.sample(seeds, labels=classes)}
        if model.num_levels:  # of validation images, of which there may be few
            values["reconstructions"] = model.reconstruct(images, seeds[: tf.shape(images)[0]], labels=labels)
        return values

    def __call__(self) -> dict[str, np.ndarray]:
        """The grids by name, uint8 [height, width, channels]."""
        config = self.model.config
        some = self.images.first(NUM_PICTURES)
        originals = np.asarray(some.images)
        seeds = noise.derive_seeds(self.seed, tf.range(NUM_PICTURES, dtype=tf.int64))
        labels = tf.constant(some.labels) if config.num_classes else None
        with progress.announced("drawing samples and, where there are latents, reconstructions"):
            values = {name: x.numpy() for name, x in self._draw(tf.constant(originals), seeds, labels).items()}
        scale = max(1, 64 // config.image_shape[0])
        # Samples of a class-conditional model have one column per class.
        columns = min(config.num_classes, NUM_PICTURES) or None
        grids = {"samples": pictures.tile(values["samples"], config.num_values, columns=columns, scale=scale)}
        if "reconstructions" in values:
            pairs = pictures.beside(originals, values["reconstructions"])
            grids["reconstructions"] = pictures.tile(pairs, config.num_values, columns=16, scale=scale)
        return grids


class Reports:
    """TensorBoard's event files and the pictures of a run's workdir."""

    def __init__(self, workdir: pathlib.Path):
        self.workdir = workdir
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def open(self, step: int, evaluates: bool = False) -> None:
        """Begins event files. TensorBoard drops what an earlier process wrote of the steps that are done again.

        Args:
          step: of the checkpoint; those after it are reported from now on.
          evaluates: whether it is itself still to be evaluated.
        """
        for name, first_step in {"train": step + 1, "validation": step + 1 - evaluates}.items():
            writer = tf.summary.create_file_writer(str(self.workdir / runs.TENSORBOARD / name))
            start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
            event = tf.compat.v1.Event(wall_time=time.time(), step=first_step, session_log=start)
            # `tf.summary` writes no session logs, and its writers have no other name for their resource.
            tf.raw_ops.ImportEvent(writer=writer._resource, event=event.SerializeToString())
            self._writers[name] = writer

    def write(
        self,
        name: str,
        step: int,
        scalars: dict[str, float],
        grids: dict[str, np.ndarray] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        """Writes a report.

        Args:
          name: "train" or "validation".
          step: steps done.
          scalars: by name.
          grids: pictures by name, uint8 [height, width, channels], which are left in the workdir too.
          warnings: for a person.
        """
        writer, grids = self._writers[name], grids or {}
        for picture, grid in grids.items():
            pictures.write_png(self.workdir / f"{picture}.png", grid)
        with writer.as_default(step=step):
            if warnings:
                tf.summary.text("warning", "\n\n".join(warnings))
            for scalar, value in scalars.items():
                tf.summary.scalar(scalar, float(value))
            for picture, grid in grids.items():
                tf.summary.image(picture, grid[None])
            writer.flush()
