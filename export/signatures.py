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
from pixelvae_tf.export.options import Options
from pixelvae_tf.models import PixelVAE

Tensors = dict[str, tf.Tensor]


class Signature(NamedTuple):
    """One signature.

    Attributes:
      function: from a dict of tensors to a dict of tensors.
      inputs: the specs of the first.
    """

    function: Callable[[Tensors], Tensors]
    inputs: dict[str, tf.TensorSpec]


def signatures(model: PixelVAE, options: Options = Options()) -> dict[str, Signature]:  # noqa: B008
    """The signatures of a model, as the table of docs/export.md names them; those on latents only where there are any.

    Args:
      model: a model with weights.
      options: the largest batch, rounds of completion, and whether XLA compiles them.

    Returns:
      By name; `serving_default` is `encode`, or `sample` without latents.
    """
    specs = {
        "images": tf.TensorSpec((None, *model.config.image_shape), tf.uint8, "images"),
        "mask": tf.TensorSpec((None, *model.config.image_shape[:2], 1), tf.uint8, "mask"),
        "seed": tf.TensorSpec((None,), tf.int64, "seed"),
        "temperature": tf.TensorSpec((None,), tf.float32, "temperature"),
    }
    num_classes = model.config.num_classes
    if num_classes:
        specs["label"] = tf.TensorSpec((None,), tf.int64, "label")
    seeds_of_levels = [f"seed_z{level}" for level in range(1, model.num_levels + 1)]
    for name in (*seeds_of_levels, "seed_pixels"):
        specs[name] = tf.TensorSpec((None,), tf.int64, name)
    if model.num_levels:
        specs["z1"] = tf.TensorSpec((None, *model.config.levels[0].shape), tf.float32, "z1")

    def signature(function: Callable, *names: str) -> Signature:
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

        # The encoder does not take the class.
        label = ("label",) if num_classes and function is not encode else ()
        return Signature(checked, {name: specs[name] for name in (*names, *label)})

    def encode(images: tf.Tensor) -> Tensors:
        return model.encode(images)

    def draw(level_seeds, seed: tf.Tensor, temperature: tf.Tensor, label: tf.Tensor | None) -> Tensors:
        # With the latents that the pixels see, so that `decode` can go on from a sample.
        latents = model.sample_prior(level_seeds, temperature)
        images = tf.cast(model.decode(latents, seed, temperature, labels=label), tf.uint8)
        return {"images": images, **({"z1": tf.cast(latents[0], tf.float32)} if latents else {})}

    def sample(seed: tf.Tensor, temperature: tf.Tensor, label: tf.Tensor | None = None) -> Tensors:
        return draw(seed, seed, temperature, label)

    def sample_by_level(
        seed_pixels: tf.Tensor, temperature: tf.Tensor, label: tf.Tensor | None = None, **level_seeds: tf.Tensor
    ) -> Tensors:
        return draw([level_seeds[name] for name in seeds_of_levels], seed_pixels, temperature, label)

    def decode(z1: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor, label: tf.Tensor | None = None) -> Tensors:
        return {"images": tf.cast(model.decode([z1], seed, temperature, labels=label), tf.uint8)}

    def complete(
        images: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor, label: tf.Tensor | None = None
    ) -> Tensors:
        filled = model.complete(images, mask, seed, temperature, options.completion_rounds, labels=label)
        return {"images": tf.cast(filled, tf.uint8)}

    def log_prob(images: tf.Tensor, seed: tf.Tensor, label: tf.Tensor | None = None) -> Tensors:
        maps = bounds.nll_map(model, images, seed, label)
        parts = maps.elbo
        outputs = {"log_prob": parts.log_prob, "pixel_nats": maps.pixel_nats}
        if model.num_levels:  # without latents the costs are one number
            outputs |= parts._asdict()
        for level, nats in enumerate(maps.latent_nats, start=1):
            if not model.config.levels[level - 1].is_vector:
                outputs[f"z{level}_nats"] = nats
        return outputs

    found = {
        "sample": signature(sample, "seed", "temperature"),
        "complete": signature(complete, "images", "mask", "seed", "temperature"),
        "log_prob": signature(log_prob, "images", "seed"),
    }
    if model.num_levels:
        found["encode"] = signature(encode, "images")
        found["decode"] = signature(decode, "z1", "seed", "temperature")
        # From the top down, as they are drawn.
        found["sample_by_level"] = signature(sample_by_level, *reversed(seeds_of_levels), "seed_pixels", "temperature")
    return {**found, "serving_default": found["encode" if model.num_levels else "sample"]}


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
