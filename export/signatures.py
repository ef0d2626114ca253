"""What the SavedModel answers: one dict in, one dict out, the batch first in every tensor.

What is wrong with one *row* of a request (a pixel value or a temperature out of range)
gives zeros for that row and a message in the output `error`, empty where all is well: a server that merges
requests would otherwise fail the row's neighbours. Wrong shapes and dtypes raise, and so do batches that are too large.

Legend: B batch, H height, W width, C channels, D dimensions of a latent, L levels.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from pixelvae_tf import bounds, checks, xla
from pixelvae_tf.export.options import ServingOptions
from pixelvae_tf.limits import MAX_CHOSEN_ROUNDS
from pixelvae_tf.models import PixelVAE

Tensors = dict[str, tf.Tensor]


class ServedFunction(NamedTuple):
    """A signature before it is written.

    Attributes:
      function: from a dict of tensors to a dict of tensors.
      inputs: the specs of the first.
    """

    function: Callable[[Tensors], Tensors]
    inputs: dict[str, tf.TensorSpec]


def signatures(model: PixelVAE, options: ServingOptions = ServingOptions()) -> dict[str, ServedFunction]:  # noqa: B008
    """The signatures of a model, as the table of docs/export.md names them; those on latents only where there are any.

    Args:
      model: a model with weights.
      options: the largest batch, rounds of completion, and whether XLA compiles them.

    Returns:
      By name; `serving_default` is `encode`, or `sample` without latents.
    """
    specs, functions = _specs(model), _Functions(model, options.completion_rounds)
    label = ("label",) if model.config.num_classes else ()

    def served(function: Callable[..., Tensors], *names: str) -> ServedFunction:
        # The numbers alone: XLA has no strings, and leaves out assertions.
        numbers = xla.compiled(function, options.xla_parts) if options.xla else function

        def checked(inputs: Tensors) -> Tensors:
            # A server or a concrete function does not compare ranks with the spec; this operation does.
            inputs = {name: tf.ensure_shape(values, specs[name].shape) for name, values in inputs.items()}
            with tf.control_dependencies(_good_batch(inputs, options.max_batch)):
                error = _errors(model, inputs)
                good = tf.equal(error, "")
                outputs = numbers(**_harmless(inputs, good))
            return {**{name: _keep(values, good) for name, values in outputs.items()}, "error": error}

        return ServedFunction(checked, {name: specs[name] for name in names})

    by_name = {
        "sample": served(functions.sample, "seed", "temperature", *label),
        "complete": served(functions.complete, "images", "mask", "seed", "temperature", *label),
        "log_prob": served(functions.log_prob, "images", "seed", *label),
    }
    if model.num_levels:
        by_name["encode"] = served(model.encode, "images")  # the encoder does not take the class
        by_name["decode"] = served(functions.decode, "z1", "seed", "temperature", *label)
        # From the top down, as they are drawn.
        seeds = (*reversed(_level_seeds(model)), "seed_pixels")
        by_name["sample_by_level"] = served(functions.sample_by_level, *seeds, "temperature", *label)
        # Not an optional input of `complete`: a server fills in one value for all rows, and could not merge requests.
        rounds = ("images", "mask", "seed", "temperature", "rounds")
        by_name["complete_in_rounds"] = served(functions.complete_in_rounds, *rounds, *label)
    return {**by_name, "serving_default": by_name["encode" if model.num_levels else "sample"]}


def _level_seeds(model: PixelVAE) -> list[str]:
    return [f"seed_z{level}" for level in range(1, model.num_levels + 1)]


def _specs(model: PixelVAE) -> dict[str, tf.TensorSpec]:
    """All inputs that signatures take."""
    config = model.config
    shapes = {
        "images": ((*config.image_shape,), tf.uint8),
        "mask": ((*config.image_shape[:2], 1), tf.uint8),
        "temperature": ((), tf.float32),
        **{name: ((), tf.int64) for name in ("seed", "label", "rounds", *_level_seeds(model), "seed_pixels")},
    }
    if model.num_levels:
        shapes["z1"] = (config.levels[0].shape, tf.float32)
    return {name: tf.TensorSpec((None, *shape), dtype, name) for name, (shape, dtype) in shapes.items()}


class _Functions:
    """What signatures compute, of rows that are good; `completion_rounds` are those of `PixelVAE.complete`."""

    def __init__(self, model: PixelVAE, completion_rounds: int):
        self.model, self.completion_rounds = model, completion_rounds
        # Traced once for both signatures that complete.
        self._complete = tf.function(self._filled, autograph=False)

    def sample(self, seed: tf.Tensor, temperature: tf.Tensor, label: tf.Tensor | None = None) -> Tensors:
        return self._draw(None, seed, temperature, label)

    def sample_by_level(
        self, seed_pixels: tf.Tensor, temperature: tf.Tensor, label: tf.Tensor | None = None, **level_seeds: tf.Tensor
    ) -> Tensors:
        seeds = [level_seeds[name] for name in _level_seeds(self.model)]
        return self._draw(seeds, seed_pixels, temperature, label)

    def _draw(self, level_seeds, seed: tf.Tensor, temperature: tf.Tensor, label: tf.Tensor | None) -> Tensors:
        # With the latents that the pixels see, so that `decode` can go on from a sample.
        latents = self.model.sample_prior(seed, temperature, level_seeds=level_seeds)
        images = tf.cast(self.model.decode(latents, seed, temperature, labels=label), tf.uint8)
        return {"images": images, **({"z1": tf.cast(latents[0], tf.float32)} if latents else {})}

    def decode(self, z1: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor, label: tf.Tensor | None = None) -> Tensors:
        return {"images": tf.cast(self.model.decode([z1], seed, temperature, labels=label), tf.uint8)}

    def complete(self, seed: tf.Tensor, **inputs: tf.Tensor) -> Tensors:
        rounds = tf.fill(tf.shape(seed), self.completion_rounds)
        return self._complete(seed=seed, rounds=tf.cast(rounds, tf.int64), **inputs)

    def complete_in_rounds(self, **inputs: tf.Tensor) -> Tensors:
        return self._complete(**inputs)

    def _filled(self, images, mask, seed, temperature, rounds, label=None) -> Tensors:
        filled = self.model.complete(images, mask, seed, temperature, rounds, labels=label)
        return {"images": tf.cast(filled, tf.uint8)}

    def log_prob(self, images: tf.Tensor, seed: tf.Tensor, label: tf.Tensor | None = None) -> Tensors:
        maps = bounds.nll_map(self.model, images, seed, label)
        outputs = {"log_prob": maps.elbo.log_prob, "pixel_nats": maps.pixel_nats}
        if self.model.num_levels:  # without latents the costs are one number
            outputs |= maps.elbo._asdict()
        for level, nats in enumerate(maps.latent_nats, start=1):
            if not self.model.config.levels[level - 1].is_vector:
                outputs[f"z{level}_nats"] = nats
        return outputs


def _good_batch(inputs: Tensors, max_batch: int) -> list[tf.Operation]:
    """Without this, a request of one temperature and many seeds would broadcast, and one of any size be tried."""
    sizes = {name: tf.shape(values)[0] for name, values in inputs.items()}
    first = next(iter(sizes))
    message = f"the first dimension of {first} must be at most {max_batch}, the max_batch of the export"
    empty = f"the first dimension of {first} must be at least 1"
    return [
        tf.debugging.assert_less_equal(sizes[first], max_batch, message),
        tf.debugging.assert_greater_equal(sizes[first], 1, empty),
    ] + [
        tf.debugging.assert_equal(size, sizes[first], f"{name} and {first} must have the same first dimension")
        for name, size in sizes.items()
        if name != first
    ]


def _errors(model: PixelVAE, inputs: Tensors) -> tf.Tensor:
    """string [B]: what is wrong with each row, or empty."""
    batch = tf.shape(next(iter(inputs.values())))[:1]
    error = tf.fill(batch, "")
    num_values = model.config.num_values
    bad = {}
    if "images" in inputs:
        bad[f"images must hold values in 0..{num_values - 1}"] = tf.reduce_any(
            tf.cast(inputs["images"], tf.int32) >= num_values, axis=(1, 2, 3)
        )
    if "mask" in inputs:
        bad["mask must hold 0 and 1"] = tf.reduce_any(inputs["mask"] > 1, axis=(1, 2, 3))
    if "z1" in inputs:
        infinite = ~tf.math.is_finite(inputs["z1"])
        bad["z1 must be finite"] = tf.reduce_any(infinite, axis=range(1, infinite.shape.rank))
    if "temperature" in inputs:
        bad[checks.BAD_TEMPERATURE] = ~checks.good_temperature(inputs["temperature"])
    if "rounds" in inputs:
        rounds = inputs["rounds"]
        bad[f"rounds must be in 0..{MAX_CHOSEN_ROUNDS}"] = (rounds < 0) | (rounds > MAX_CHOSEN_ROUNDS)
    if "label" in inputs:
        label, num_classes = inputs["label"], model.config.num_classes
        bad[f"label must be in 0..{num_classes - 1}"] = (label < 0) | (label >= num_classes)
    for message, rows in bad.items():
        error = tf.where(rows, message, error)
    return error


def _harmless(inputs: Tensors, good: tf.Tensor) -> Tensors:
    """The inputs, with bad rows replaced by what cannot do harm."""
    harmless = {name: _keep(values, good) for name, values in inputs.items()}
    if "temperature" in inputs:
        harmless["temperature"] = tf.where(good, inputs["temperature"], 1.0)
    return harmless


def _keep(values: tf.Tensor, good: tf.Tensor) -> tf.Tensor:
    """The rows that are good; zeros for the others."""
    shape = tf.concat([tf.shape(good), tf.ones(values.shape.rank - 1, tf.int32)], axis=0)
    return tf.where(tf.reshape(good, shape), values, tf.zeros([], values.dtype))
