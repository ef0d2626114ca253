"""The one place for the scale of pixels: values, network inputs, nats and bits; `pictures` stretches them for people.

Legend: B batch, H height, W width, C channels. A pixel *value* is an integer in
`0 .. num_values - 1`; a binary image holds 0 and 1.
"""

import math

import numpy as np
import tensorflow as tf


def _expected(image_shape: tuple[int, int, int], num_values: int) -> str:
    return f"images must be integer pixel values 0..{num_values - 1} of shape [B, {', '.join(map(str, image_shape))}]"


def check_images(images: tf.Tensor | np.ndarray, image_shape: tuple[int, int, int], num_values: int) -> None:
    """Checks the images that a public function takes.

    Inside a graph the values are not known yet; there only shape and dtype are checked.

    Args:
      images: should be integer pixel values [B, *image_shape]; a tensor, an array, or a spec of them.
      image_shape: (H, W, C).
      num_values: how many values a channel can take.

    Raises:
      ValueError: if they are not.
    """
    expected = _expected(image_shape, num_values)
    if not hasattr(images, "shape"):
        raise ValueError(f"{expected}. Received: {type(images).__name__}")
    shape = tf.TensorShape(images.shape)
    try:
        dtype = tf.as_dtype(images.dtype)
    except TypeError as error:  # one of NumPy's alone, such as dates
        raise ValueError(f"{expected}. Received: {images.dtype}") from error
    if not dtype.is_integer or not shape.is_compatible_with((None, *image_shape)):
        raise ValueError(f"{expected}. Received: {dtype.name} of shape {list(images.shape)}")
    values = tf.get_static_value(images) if tf.is_tensor(images) else images
    if isinstance(values, np.ndarray) and values.size and (values.min() < 0 or values.max() >= num_values):
        raise ValueError(f"{expected}. Received: values from {values.min()} to {values.max()}")


def require_images(images: tf.Tensor, image_shape: tuple[int, int, int], num_values: int) -> tf.Tensor:
    """Images that are checked inside a graph too, when it runs.

    Args, Raises: as `check_images`; in a graph tf.errors.InvalidArgumentError, under XLA nothing.

    Returns:
      The images.
    """
    check_images(images, image_shape, num_values)
    top = tf.constant(min(num_values - 1, images.dtype.max), images.dtype)
    in_range = tf.reduce_all((images >= tf.zeros([], images.dtype)) & (images <= top))
    checked = tf.debugging.Assert(in_range, [f"{_expected(image_shape, num_values)}. Received: other values"])
    with tf.control_dependencies([] if checked is None else [checked]):
        return tf.identity(images)


def to_unit_interval(values: tf.Tensor, num_values: int, dtype: str = "float32") -> tf.Tensor:
    """Maps pixel values linearly to [-1, 1].

    Zero padding therefore means "mid-grey", never "black": a network can tell the border
    from a black pixel.

    Args:
      values: integer or float pixel values, any shape.
      num_values: how many values a channel can take; at least 2.
      dtype: floating dtype of the result.

    Returns:
      A tensor of the same shape, `2 * values / (num_values - 1) - 1`.
    """
    # Computed in half precision, neighbouring values would fall together.
    wide = tf.float64 if dtype == "float64" else tf.float32
    return tf.cast(tf.cast(values, wide) * (2.0 / (num_values - 1)) - 1.0, dtype)


def bits_per_dim(nats: float, image_shape: tuple[int, ...]) -> float:
    """Converts nats per image to bits per dimension (a dimension is one channel of one pixel).

    Args:
      nats: negative log-likelihood, or a bound on it, in nats per image.
      image_shape: (H, W, C).

    Returns:
      `nats / (H * W * C * ln 2)`.
    """
    return nats / (math.prod(image_shape) * math.log(2.0))
