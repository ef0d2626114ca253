"""Checks of what the public API takes: temperatures, latents, labels, one for each image. (`pixels` checks images.)

What is not known before a graph runs is checked when it runs, or not at all: each says so.

Legend: B batch, D dimensions of a latent, K classes.
"""

import numpy as np
import tensorflow as tf

from pixelvae_tf.limits import MAX_DRAWS

# At the low end sampling is greedy, at the high one noise; what they divide and multiply stays within float32.
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e6
BAD_TEMPERATURE = f"temperature must be in {MIN_TEMPERATURE:g}..{MAX_TEMPERATURE:g}"


def check_eager() -> None:
    """Raises a RuntimeError while a graph is built: the weights of a model made there would be that graph's alone."""
    if not tf.executing_eagerly():
        raise RuntimeError(
            "a model must be built or loaded eagerly: outside of any tf.function, tf.data function and tf.Graph, and "
            "with TensorFlow's eager execution on. Received: a call while a graph is built"
        )


def good_temperature(temperature):
    """Which temperatures are in the range; NaN is not."""
    return (temperature >= MIN_TEMPERATURE) & (temperature <= MAX_TEMPERATURE)


def check_temperature(temperature) -> None:
    """Raises a ValueError unless temperatures are a number or [B], in the range where they are known beforehand."""
    temperature = tf.convert_to_tensor(temperature)
    numbers = temperature.dtype.is_floating or temperature.dtype.is_integer
    if not numbers or temperature.shape.rank not in (0, 1, None):
        raise ValueError(
            f"{BAD_TEMPERATURE}, a number or [B]. Received: {temperature.dtype.name} of shape {temperature.shape}"
        )
    value = tf.get_static_value(temperature)
    if value is not None and not good_temperature(value).all():
        raise ValueError(f"{BAD_TEMPERATURE}. Received: {value}")


def check_count(least: int = 1, **named) -> None:
    """Raises a ValueError unless what is named is an integer in range."""
    for name, value in named.items():
        if not isinstance(value, int | np.integer) or not least <= value <= MAX_DRAWS:
            raise ValueError(f"{name} must be in {least}..{MAX_DRAWS}. Received: {name}={value!r}")


def check_same_batch(**named) -> None:
    """Checks that what belongs to the same images is one for each of them: nothing is broadcast over a batch whose
    size is known.

    Args:
      **named: tensors [B, ...]; a scalar belongs to all images, and None is left out.

    Raises:
      ValueError: if their numbers are known beforehand and differ, or are 0.
    """
    tensors = {name: value for name, value in named.items() if value is not None}
    shapes = {name: tf.TensorShape(getattr(value, "shape", np.shape(value))) for name, value in tensors.items()}
    numbers = {name: shape[0] for name, shape in shapes.items() if shape.rank and shape[0] is not None}
    if len(set(numbers.values())) > 1 or 0 in numbers.values():
        received = ", ".join(f"{name} {number}" for name, number in numbers.items())
        raise ValueError(
            f"{', '.join(numbers)} must have one entry for each image, and there must be at least one image. "
            f"Received: {received}"
        )


def as_mask(mask, images: tf.Tensor) -> tf.Tensor:
    """Which pixels are kept, for each image of a batch.

    Args:
      mask: bool, integers (not 0: kept) or, known beforehand, the floats 0 and 1; [H, W] or [H, W, 1] for all images,
        [B, H, W] or [B, H, W, 1] for each.
      images: [B, H, W, C].

    Returns:
      bool [B, H, W, 1].

    Raises:
      ValueError: for a mask of another shape or dtype.
    """
    mask, size = tf.convert_to_tensor(mask), images.shape[:3]
    shape, value = mask.shape, tf.get_static_value(mask)
    flags = mask.dtype.is_bool or mask.dtype.is_integer or (value is not None and np.isin(value, (0, 1)).all())
    if not flags or not any(
        shape.is_compatible_with(wanted) for wanted in (size, size[1:], [*size, 1], [*size[1:], 1])
    ):
        raise ValueError(
            "mask must be bool, integers, or 0 and 1 [B, H, W, 1], of the images' sizes "
            f"{(*size, 1)}, or [H, W] for all images. Received: {mask.dtype.name} of shape {shape}"
        )
    # The last dimension of 1 and the first of a batch may be left out.
    if shape.is_compatible_with(size) or shape.is_compatible_with(size[1:]):
        mask = mask[..., None]
    mask = tf.broadcast_to(tf.cast(mask, tf.bool), [*tf.unstack(tf.shape(images)[:3]), 1])
    return tf.ensure_shape(mask, [*size, 1])


def as_rounds(num_rounds) -> tf.Tensor:
    """How many rounds of completion, int32 [] or [B].

    Raises:
      ValueError: unless they are integers [] or [B], in range where they are known beforehand.
    """
    rounds = tf.convert_to_tensor(num_rounds)
    expected, value = f"num_rounds must be in 0..{MAX_DRAWS - 1}", tf.get_static_value(rounds)
    if not rounds.dtype.is_integer or rounds.shape.rank not in (0, 1, None):
        raise ValueError(f"{expected}, a number or [B]. Received: {rounds.dtype.name} of shape {rounds.shape}")
    if value is not None and value.size and not 0 <= value.min() <= value.max() < MAX_DRAWS:
        raise ValueError(f"{expected}. Received: {value}")
    return tf.cast(rounds, tf.int32)


def check_latents(latents: list[tf.Tensor], shapes: list[tuple[int, ...]], where: str = "latents") -> None:
    """Raises a ValueError unless the latents are tensors [B, *shape], finite where that is known beforehand."""
    shapes_in_words = ", ".join(f"[B, {', '.join(map(str, shape))}]" for shape in shapes)
    expected = f"{where} must be a list of tensors, of shapes {shapes_in_words}"
    if not isinstance(latents, list | tuple) or not all(hasattr(z, "shape") for z in latents):
        raise ValueError(f"{expected}. Received: {latents!r}")
    received = [tf.TensorShape(z.shape) for z in latents]
    if len(received) != len(shapes) or not all(
        tf.TensorShape((None, *shape)).is_compatible_with(actual)
        for shape, actual in zip(shapes, received, strict=True)
    ):
        raise ValueError(f"{expected}. Received: {received}")
    for z in latents:
        value = tf.get_static_value(tf.convert_to_tensor(z))
        if value is not None and not np.isfinite(value).all():
            raise ValueError(f"{where} must be finite. Received: NaN or infinity")


def one_hot(labels, num_classes: int, dtype: str) -> tf.Tensor | None:
    """Labels as vectors [B, K]; arguments and errors of `as_labels`."""
    labels = as_labels(labels, num_classes)
    return None if labels is None else tf.one_hot(labels, num_classes, dtype=dtype)


def as_labels(labels, num_classes: int) -> tf.Tensor | None:
    """Labels, checked.

    Args:
      labels: integers [B], or None for a model without classes.
      num_classes: K, or 0.

    Returns:
      int64 [B], or None.

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
    if not labels.dtype.is_integer or labels.shape.rank not in (1, None):
        raise ValueError(f"{expected}. Received: {labels.dtype.name} of shape {labels.shape}")
    value = tf.get_static_value(labels)
    if value is not None and value.size and (value.min() < 0 or value.max() >= num_classes):
        raise ValueError(f"{expected}. Received: values from {value.min()} to {value.max()}")
    labels = tf.cast(labels, tf.int64)
    in_range = tf.reduce_all((labels >= 0) & (labels < num_classes))
    checked = tf.debugging.Assert(in_range, [f"{expected}. Received: other values"])
    with tf.control_dependencies([] if checked is None else [checked]):
        return tf.identity(labels)
