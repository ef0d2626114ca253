"""The diagonal Gaussians of the latents (PixelVAE, section 3): posterior, prior and grid site.

The one place for the parameterisation. Departure: the released program for MNIST predicts log
sigma; sigma = softplus(s) / ln 2 is 1 at s = 0 too, but cannot overflow.

Legend: B batch, D dimensions.
"""

import math

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

# Keeps log q finite where the network drives a sigma to zero; far below any useful posterior's.
MIN_SCALE = 1e-4


def loc_and_scale(params: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits raw parameters into mean and standard deviation, in at least float32.

    Args:
      params: [..., 2 D]: means, then raw scales.

    Returns:
      Two tensors [..., D].
    """
    params = at_least_float32(params)
    loc, raw = tf.split(params, 2, axis=-1)
    return loc, tf.nn.softplus(raw) / math.log(2.0) + MIN_SCALE


def at_least_float32(x: tf.Tensor) -> tf.Tensor:
    """Casts half precision up: log-probabilities are float32 under any dtype policy."""
    x = tf.convert_to_tensor(x)
    return tf.cast(x, tf.float32) if x.dtype.size < 4 else x


def diagonal_gaussian(params: tf.Tensor) -> tfd.Distribution:
    """The diagonal Gaussian of a vector, from a network's raw output.

    Args:
      params: [B, 2 D], means then raw scales.

    Returns:
      A distribution with batch shape [B] and event shape [D].
    """
    loc, scale = loc_and_scale(params)
    return tfd.Independent(tfd.Normal(loc, scale), 1)


def standard_gaussian(dim: int, dtype: str = "float32") -> tfd.Distribution:
    """N(0, I) on D dimensions: the prior of the top level."""
    return tfd.Independent(tfd.Normal(tf.zeros(dim, dtype), tf.ones(dim, dtype)), 1)
