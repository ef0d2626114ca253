"""Checks at the doors of the models: temperatures, latents, labels. (Images: `pixels.check_images`.)

What is not known before a graph runs is checked when it runs, or not at all: each says so.

Legend: B batch, D dimensions of a latent, K classes.
"""

import numpy as np
import tensorflow as tf

from pixelvae_tf.models.config import LevelConfig

# At the low end sampling is greedy, at the high one noise; what they divide and multiply stays within float32.
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e6
BAD_TEMPERATURE = f"temperature must be in {MIN_TEMPERATURE:g}..{MAX_TEMPERATURE:g}"


def good_temperature(temperature):
    """Which temperatures are in the range; NaN is not."""
    return (temperature >= MIN_TEMPERATURE) & (temperature <= MAX_TEMPERATURE)


def check_temperature(temperature) -> None:
    """Raises a ValueError unless temperatures that are known beforehand are in the range."""
    value = tf.get_static_value(tf.convert_to_tensor(temperature))
    if value is not None and not good_temperature(value).all():
        raise ValueError(f"{BAD_TEMPERATURE}. Received: {value}")


def check_latents(latents: list[tf.Tensor], levels: list[LevelConfig], where: str = "latents") -> None:
    """Raises a ValueError unless the latents are tensors [B, *level.shape], finite where that is known beforehand."""
    shapes = [tf.TensorShape(z.shape) for z in latents]
    if len(shapes) != len(levels) or not all(
        shape.is_compatible_with((None, *level.shape)) for shape, level in zip(shapes, levels, strict=True)
    ):
        expected = ", ".join(f"[B, {', '.join(map(str, level.shape))}]" for level in levels)
        raise ValueError(f"{where} must be a list of tensors, of shapes {expected}. Received: {shapes}")
    for z in latents:
        value = tf.get_static_value(tf.convert_to_tensor(z))
        if value is not None and not np.isfinite(value).all():
            raise ValueError(f"{where} must be finite. Received: NaN or infinity")


def one_hot(labels, num_classes: int, batch: int | None, dtype: str) -> tf.Tensor | None:
    """Labels as vectors, checked.

    Args:
      labels: integers [B], or None for a model without classes.
      num_classes: K, or 0.
      batch: B where it is known.
      dtype: of the result.

    Returns:
      [B, K], or None.

    Raises:
      ValueError: for labels that are missing, not wanted, of another shape or dtype, or (outside graphs) out of range.
      tf.errors.InvalidArgumentError: in a graph, when it runs, for labels out of range (not under XLA).
    """
    if not num_classes:
        if labels is not None:
            raise ValueError("labels must be None: the model is not class-conditional. Received: labels")
        return None
    expected = f"labels must be integers [B] in 0..{num_classes - 1}, one an image"
    if labels is None:
        raise ValueError(f"{expected}, for a class-conditional model. Received: None")
    labels = tf.convert_to_tensor(labels)
    if not labels.dtype.is_integer or not labels.shape.is_compatible_with([batch]):
        raise ValueError(
            f"{expected}. Received: {labels.dtype.name} of shape {labels.shape}"
            + ("" if batch is None else f" for {batch} images")
        )
    value = tf.get_static_value(labels)
    if value is not None and value.size and (value.min() < 0 or value.max() >= num_classes):
        raise ValueError(f"{expected}. Received: values from {value.min()} to {value.max()}")
    labels = tf.cast(labels, tf.int64)
    good = tf.reduce_all((labels >= 0) & (labels < num_classes))
    checked = tf.debugging.Assert(good, [f"{expected}. Received: other values"])
    with tf.control_dependencies([] if checked is None else [checked]):
        return tf.one_hot(labels, num_classes, dtype=dtype)
