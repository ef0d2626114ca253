"""Distributions of integers 0 .. V - 1 that are a real variable rounded, end bins open.

    P(v) = F(v + 1/2) - F(v - 1/2),    F(-1/2) := 0,    F(V - 1/2) := 1

F is the CDF of a normal or a logistic variable. Location and scale are predicted on the range [-1, 1] that
stands for 0 .. V - 1, as in PixelCNN++ (Salimans et al. 2017, section 2.1), for any V.

Legend: C channels, V values.
"""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf.distributions.sites import ChannelwiseSite, per_batch
from pixelvae_tf.limits import MAX_LOG_SCALE, MIN_LOG_SCALE

tfd = tfp.distributions


def to_values(loc: tf.Tensor, log_scale: tf.Tensor, num_values: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Location and log scale on [-1, 1] as location and scale in units of values."""
    half_range = (num_values - 1) / 2
    return (loc + 1.0) * half_range, tf.exp(tf.clip_by_value(log_scale, MIN_LOG_SCALE, MAX_LOG_SCALE)) * half_range


def open_uniform(shape: tf.Tensor, seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Uniform numbers without 0, whose logarithm is not finite."""
    return tf.random.stateless_uniform(shape, seed, minval=np.finfo(np.float32).tiny, dtype=dtype)


class Marginal:
    """Mean, standard deviation and quantiles, on [-1, 1], of integer values [N] in 0 .. num_values - 1."""

    def __init__(self, values: np.ndarray, num_values: int):
        # By their histogram: exact, however many there are.
        self.frequencies = np.bincount(values.ravel(), minlength=num_values) / values.size
        self.places = np.linspace(-1.0, 1.0, num_values)
        self.mean = float(self.frequencies @ self.places)
        self.stddev = float(np.sqrt(self.frequencies @ (self.places - self.mean) ** 2))

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """The smallest values whose cumulative frequency reaches `levels`."""
        return self.places[np.searchsorted(np.cumsum(self.frequencies), levels - 1e-12)]


class Quantized(tfp.distributions.Distribution):
    """A real variable rounded to 0 .. V - 1; the batch shape is that of `loc`, the event shape ().

    TFP's QuantizedDistribution, which serves every family, loses four digits where the scale is large and
    wants float values. For these two families the logarithm of the difference has better forms: finite,
    with its gradients, up to locations a million values away.

    Args:
      loc, scale: float tensors of one shape, in units of values.
      num_values: V.
    """

    def __init__(self, loc: tf.Tensor, scale: tf.Tensor, num_values: int):
        self.loc, self.scale, self.num_values = tf.convert_to_tensor(loc), tf.convert_to_tensor(scale), num_values
        super().__init__(
            dtype=tf.int32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters={"loc": loc, "scale": scale, "num_values": num_values},
            name=type(self).__name__,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        real = tfp.util.ParameterProperties
        return {"loc": real(), "scale": real(), "num_values": real(event_ndims=None)}

    def _event_shape(self):
        return tf.TensorShape([])

    def _batch_shape(self):
        return self.loc.shape

    def _batch_shape_tensor(self, **parameters):
        return tf.shape(self.loc)

    def _log_prob(self, value):
        value = tf.cast(value, self.loc.dtype)
        lower, upper = ((value + edge - self.loc) / self.scale for edge in (-0.5, 0.5))
        return self._log_between(lower, upper, value < 0.5, value > self.num_values - 1.5)

    def _log_between(self, lower: tf.Tensor, upper: tf.Tensor, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        """log(F(upper) - F(lower)), standardised; F(lower) is 0 where `first`, F(upper) is 1 where `last`."""
        raise NotImplementedError

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], self._batch_shape_tensor()], axis=0)
        return self.transform(self._numbers(shape, tfp.random.sanitize_seed(seed, salt=self.name)))

    def _numbers(self, shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The random numbers that `transform` takes."""
        raise NotImplementedError

    def transform(self, numbers: tf.Tensor) -> tf.Tensor:
        """The draws, int32, that random numbers of the batch's shape make."""
        raise NotImplementedError

    def round(self, x: tf.Tensor) -> tf.Tensor:
        """What a draw of the real variable becomes: int32."""
        # ceil(x - 1/2), not tf.round, which rounds halves to even: F(v + 1/2) belongs to v.
        return tf.cast(tf.clip_by_value(tf.math.ceil(x - 0.5), 0.0, self.num_values - 1.0), tf.int32)


class QuantizedLogistic(Quantized):
    """A logistic variable, rounded."""

    def _log_between(self, lower, upper, first, last):
        # With s the sigmoid and b > a: s(b) - s(a) = s(b) s(-a) (1 - e^(a - b)); here b - a = 1 / scale.
        zero = tf.zeros([], upper.dtype)
        inner = tf.math.log(-tf.math.expm1(-1.0 / self.scale))
        return (
            tf.where(last, zero, -tf.nn.softplus(-upper))
            + tf.where(first, zero, -tf.nn.softplus(lower))
            + tf.where(first | last, zero, inner)
        )

    def _numbers(self, shape, seed):
        return open_uniform(shape, seed, self.loc.dtype)

    def transform(self, numbers):
        """The inverse CDF of uniform numbers."""
        u = tf.cast(numbers, self.loc.dtype)
        return self.round(self.loc + self.scale * (tf.math.log(u) - tf.math.log1p(-u)))


class QuantizedNormal(Quantized):
    """A normal variable, rounded.

    Examples:
      >>> normal = distributions.QuantizedNormal(loc=[1.0], scale=[0.1], num_values=3)  # of the values 0, 1, 2
      >>> normal.prob([1]).numpy().round(3).tolist()
      [1.0]
    """

    def _log_between(self, lower, upper, first, last):
        # Place holders for open ends: `where` lets the gradients of both its branches through.
        far = tf.constant(1e3, upper.dtype)
        lower, upper = tf.where(first, -far, lower), tf.where(last, far, upper)
        # In the upper tail both CDFs round to 1; mirrored, the difference is one of the lower tail.
        mirror = lower > 0.0
        low, high = tf.where(mirror, -upper, lower), tf.where(mirror, -lower, upper)
        standard = tfd.Normal(tf.zeros([], high.dtype), 1.0)
        log_low, log_high = standard.log_cdf(low), standard.log_cdf(high)
        # So far out that float32 cannot tell the two: still finite, still with a gradient towards the bin.
        return log_high + tf.math.log(-tf.math.expm1(tf.minimum(log_low - log_high, -1e-6)))

    def _numbers(self, shape, seed):
        return tf.random.stateless_normal(shape, seed, dtype=self.loc.dtype)

    def transform(self, numbers):
        """Standard normal numbers, moved and scaled."""
        return self.round(self.loc + self.scale * tf.cast(numbers, self.loc.dtype))


class QuantizedNormalSite(ChannelwiseSite):
    """A rounded normal variable a channel: the pixels of a VAE whose bits/dim compare with those of others.

    Args:
      num_values: V.
      channels: C.
    """

    noise = "normal"

    def __init__(self, num_values: int, channels: int = 1):
        super().__init__(channels, 2)
        self.num_values = num_values

    def channel_marginal(self, values):
        """Mean and log standard deviation on [-1, 1]."""
        marginal = Marginal(values, self.num_values)
        return np.array([marginal.mean, np.log(marginal.stddev + np.exp(MIN_LOG_SCALE))], np.float32)

    def channel_distribution(self, params, temperature=1.0):
        """Normal(mean, temperature * sigma), rounded."""
        loc, scale = to_values(*tf.unstack(self.split(params), axis=-1), self.num_values)
        return QuantizedNormal(loc, scale * per_batch(temperature, scale), self.num_values)

    def transform(self, params, noise, temperature=1.0):
        """mean + temperature * sigma * noise, rounded."""
        return self.channel_distribution(params, temperature).transform(noise)
