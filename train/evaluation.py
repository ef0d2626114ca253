"""Evaluates the bound of a whole split, by named parts."""

import dataclasses
import io
import math
import pathlib
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from pixelvae_tf import bounds, data, pixels
from pixelvae_tf.bounds.diagnosis import exchanged_elbo, usage_sources
from pixelvae_tf.files import write_atomically
from pixelvae_tf.models import PixelVAE
from pixelvae_tf.train.workers import Workers

__all__ = ["Evaluator"]

# Images for the usage of a model: enough to know their mean to a few percent.
USAGE_IMAGES = 256


class Moments:
    """Means and variances of elements of one shape, over a data set that comes in batches."""

    def __init__(self, shape: tuple[int, ...]):
        self._count, self._mean, self._squares = 0, np.zeros(shape), np.zeros(shape)

    def add(self, values: np.ndarray) -> None:
        """Adds a batch [N, *shape], stably for numbers of any size (Chan, Golub and LeVeque 1979)."""
        values = values.astype(np.float64)
        total = self._count + len(values)
        difference = values.mean(axis=0) - self._mean
        self._squares += values.var(axis=0) * len(values) + difference**2 * self._count * len(values) / total
        self._mean += difference * len(values) / total
        self._count = total

    def variances(self) -> np.ndarray:
        """The variance of every element, [*shape]."""
        return self._squares / self._count


@dataclasses.dataclass(frozen=True)
class PerImage:
    """The parts of the bounds of N images, and what only all of them together have.

    Attributes:
      parts: float64 by name: reconstruction_nats [N], kl_nats [N, L], and importance_weighted_nats [N] if asked for.
      active_units: of each level.
      seconds: that measuring took, before interruptions too.
    """

    parts: dict[str, np.ndarray]
    active_units: list[int]
    seconds: float

    @property
    def bound_nats(self) -> np.ndarray:
        """The negative ELBO, [N]."""
        return self.parts["reconstruction_nats"] + self.parts["kl_nats"].sum(axis=1)

    def table(self) -> dict[str, np.ndarray]:
        """The columns of a table, [N] each: the image's place among those that were evaluated, and nats."""
        of_levels = {f"kl_z{level}_nats": kl for level, kl in enumerate(self.parts["kl_nats"].T, start=1)}
        vectors = {name: values for name, values in self.parts.items() if values.ndim == 1}
        return {"image": np.arange(len(self.bound_nats)), "bound_nats": self.bound_nats, **vectors, **of_levels}


class Evaluator:
    """Evaluates a model on splits, on all replicas of a strategy.

    An image's noise depends on its place among the images alone, so no bound depends on batches or
    replicas. What is used does: parts are exchanged between images of one batch and replica.

    Args:
      model: the model.
      strategy: where it runs; the one in whose scope the model was made.
      batch_size: most images at once, over all replicas; rounded up to a multiple of them.
      seed: for the noise.
      importance_samples: K of the importance-weighted value; 0 leaves it out.

    Examples:
      >>> model, config, _ = pixelvae_tf.load_pretrained("digits/gated_pixel_vae")
      >>> report = evaluation.Evaluator(model)(pixelvae_tf.data.load(config.data, "test"))
      >>> print(f"{report['bound_nats']:.1f} nats; binarization: {report['binarization']}")
      81.7 nats; binarization: none: 17 grey levels stretched to 0..255
    """

    def __init__(
        self,
        model: PixelVAE,
        strategy: tf.distribute.Strategy | None = None,
        batch_size: int = 100,
        seed: int = 0,
        importance_samples: int = 0,
    ):
        self.model, self.seed, self.importance_samples = model, seed, importance_samples
        self.strategy = strategy or tf.distribute.get_strategy()
        self.workers = Workers(self.strategy)
        replicas = self.strategy.num_replicas_in_sync
        self.batch_size = -(-batch_size // replicas) * replicas

        # The inputs of the functions below.
        self._inputs = ("images", "seeds", "labels") if model.config.num_classes else ("images", "seeds")

        @tf.function(autograph=False)
        def parts(sources, images, seeds, labels=None):
            elbo = exchanged_elbo(model, images, sources, seeds, labels)
            result = {"reconstruction_nats": elbo.reconstruction_nats, "kl_nats": elbo.kl_nats}
            for level, posterior in enumerate(model.posterior(images)):
                result[f"mean_{level}"] = posterior.mean()
            return result

        @tf.function(autograph=False)
        def importance_weighted(images, seeds, labels=None):
            bound = bounds.importance_weighted_nats(model, images, seeds, importance_samples, labels=labels)
            return {"importance_weighted_nats": bound}

        self._parts, self._importance_weighted = parts, importance_weighted

    def _run(self, function: Callable, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls a function on each replica's share of a batch."""
        size = len(batch["images"]) // self.strategy.num_replicas_in_sync

        def share(values: np.ndarray):
            return self.strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(values[context.replica_id_in_sync_group * size :][:size])
            )

        outcome = self.strategy.run(function, kwargs={name: share(values) for name, values in batch.items()})
        return self.workers.concatenate(outcome)

    def _batches(self, image_set: data.ImageSet, batch_size: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Batches as the functions take them, and which of their images are real."""
        for batch in data.evaluation_batches(image_set, batch_size, self.seed):
            yield {name: batch[name] for name in self._inputs}, batch["real"]

    def _usage(self, image_set: data.ImageSet, batch_size: int) -> dict:
        """See `bounds.usage`; over images from all parts of the split, in pairs of one replica; none without a pair."""
        some, replicas = image_set.spread(USAGE_IMAGES), self.strategy.num_replicas_in_sync
        levels, differences = self.model.num_levels, []
        for batch, real in self._batches(some, max(batch_size, 2 * replicas)):
            shares = np.split(real, replicas)
            # Images that fill up a batch are paired with themselves, and so is one that is alone on its replica.
            sources = [_filled_up(usage_sources(int(share.sum()), levels), len(share)) for share in shares]
            paired = np.concatenate([share & (share.sum() > 1) for share in shares])
            costs = []
            for of_part in np.concatenate(sources, axis=1):
                parts = self._run(self._parts, {**batch, "sources": of_part})
                costs.append((parts["reconstruction_nats"] + parts["kl_nats"].sum(axis=1))[paired])
            differences.append(np.stack(costs[1:]) - costs[0])
        of_all = np.concatenate(differences, axis=1)
        if not of_all.size:
            return {}
        preceding, *latents = of_all.mean(axis=1, dtype=np.float64)
        return {"usage_preceding_nats": preceding, "usage_latents_nats": latents}

    def __call__(self, images: Any, progress: Callable[[int, int], None] | None = None) -> dict:
        """Evaluates a split.

        Args:
          images: the split; or arrays or a `tf.data.Dataset`, as `data.given_splits` takes them.
          progress: called with (images done, images in all).

        Returns:
          The report: plain data, negative bounds in nats per image and bits/dim.

        Raises:
          ValueError: if the split does not fit the model; see `data.check_fits`.
          OSError: if images on disk cannot be read, or were changed.
        """
        image_set = data.given_images(images, self.model.config)
        data.check_fits(image_set, self.model.config)
        return self.report(image_set, self.measure(image_set, progress))

    def measure(
        self,
        image_set: data.ImageSet,
        progress: Callable[[int, int], None] | None = None,
        records: pathlib.Path | None = None,
    ) -> PerImage:
        """Measures each image.

        Args:
          image_set: the split, which fits the model.
          progress: called with (images done, images in all).
          records: a folder for what is done, a file a batch; what is there is not done again. They must be of the same
            images, model and evaluator; the folder is there.

        Returns:
          What was found.

        Raises:
          OSError: if a record cannot be written, or images on disk cannot be read or were changed.
        """
        collected: dict[str, list[np.ndarray]] = {}
        moments = [Moments(level.shape) for level in self.model.config.levels]
        number, done = len(image_set.images), 0
        batch_size = self.batch_size_for(image_set)
        # Each image's pixels and latents are its own.
        share = batch_size // self.strategy.num_replicas_in_sync
        own = np.tile(np.arange(batch_size, dtype=np.int32)[:, None] % share, 1 + self.model.num_levels)
        seconds, start = 0.0, time.monotonic()
        for batch, real in self._batches(image_set, batch_size):
            record = None if records is None else records / f"{done:09d}"
            results = None if record is None else _read_arrays(record)
            if results is None:
                results = self._run(self._parts, {**batch, "sources": own})
                if self.importance_samples:
                    results |= self._run(self._importance_weighted, batch)
                results = {name: values[real] for name, values in results.items()}
                results["seconds"] = np.array(time.monotonic() - start)
                if record is not None:
                    _write_arrays(record, results)
            seconds += float(results.pop("seconds"))
            for level, of_level in enumerate(moments):
                of_level.add(results.pop(f"mean_{level}"))
            for name, values in results.items():
                collected.setdefault(name, []).append(values)
            done += int(real.sum())
            if progress is not None:
                progress(done, number)
            start = time.monotonic()
        parts = {name: np.concatenate(values).astype(np.float64) for name, values in collected.items()}
        return PerImage(parts, [bounds.active_units(of_level.variances()) for of_level in moments], seconds)

    def batch_size_for(self, image_set: data.ImageSet) -> int:
        """How many images of a split are measured at once."""
        return data.even_batch_size(len(image_set.images), self.batch_size, self.strategy.num_replicas_in_sync)

    def report(self, image_set: data.ImageSet, per_image: PerImage) -> dict:
        """The report on a split, as `__call__` returns it, from what `measure` found of its images."""
        start = time.monotonic()
        usage = self._usage(image_set, self.batch_size_for(image_set))
        seconds = per_image.seconds + time.monotonic() - start
        return {**self._means(image_set, per_image), **usage, "seconds": round(seconds, 1)}

    def _means(self, image_set: data.ImageSet, per_image: PerImage) -> dict:
        number, parts, bound = len(image_set.images), per_image.parts, per_image.bound_nats
        shape = self.model.config.image_shape
        report = {
            "data": image_set.name,
            "binarization": image_set.binarization,
            "num_images": number,
            "of": "log p(x | label)" if self.model.config.num_classes else "log p(x)",
            "exact": not self.model.num_levels,
            "bound_nats": bound.mean(),
            "bound_standard_error": _standard_error(bound),
            "bound_bpd": pixels.bits_per_dim(bound.mean(), shape),
            "reconstruction_nats": parts["reconstruction_nats"].mean(),
            "kl_nats": list(parts["kl_nats"].mean(axis=0)),
            "active_units": per_image.active_units,
            "units": [math.prod(level.shape) for level in self.model.config.levels],
        }
        if self.importance_samples:
            values = parts["importance_weighted_nats"]
            report |= {
                "importance_samples": self.importance_samples,
                "importance_weighted_nats": values.mean(),
                "importance_weighted_standard_error": _standard_error(values),
                "importance_weighted_bpd": pixels.bits_per_dim(values.mean(), shape),
            }
        return report


def in_words(report: dict) -> str:
    """A report as one line of text."""
    error = report["bound_standard_error"]
    value = f"{report['bound_nats']:.2f}{'' if error is None else f' ± {error:.2f}'} nats"
    parts = [f"KL {' + '.join(f'{kl:.2f}' for kl in report['kl_nats'])}"] if report["kl_nats"] else []
    if "importance_samples" in report:
        parts.append(
            f"{report['importance_samples']} importance samples: {report['importance_weighted_nats']:.2f} nats"
        )
    sign, more = "=" if report["exact"] else "<=", f" ({'; '.join(parts)})" if parts else ""
    return f"{report['data']}: -{report['of']} {sign} {value}, {report['bound_bpd']:.3f} bits/dim{more}"


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    """The arrays that `_write_arrays` wrote; None if they are missing or damaged."""
    try:
        checksum, content = (written := path.read_bytes())[:4], written[4:]
    except OSError:
        return None
    if int.from_bytes(checksum) != zlib.crc32(content):
        return None
    with np.load(io.BytesIO(content)) as file:
        return dict(file)


def _write_arrays(path: pathlib.Path, arrays: dict[str, Any]) -> None:
    """Writes arrays behind a checksum: NumPy notices not every damage, each in its way."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_atomically(path, zlib.crc32(content.getvalue()).to_bytes(4) + content.getvalue())


def _filled_up(sources: np.ndarray, number: int) -> np.ndarray:
    """Sources [2 + L, n, 1 + L] of n images, with those of more images that are their own: [2 + L, number, 1 + L]."""
    own = np.arange(sources.shape[1], number, dtype=np.int32)
    return np.concatenate([sources, np.tile(own[:, None], (len(sources), 1, sources.shape[2]))], axis=1)


def _standard_error(values: np.ndarray) -> float | None:
    """The standard error of the mean of values [N]; None for a single value."""
    return values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
