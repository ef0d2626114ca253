"""What stands at one location of a grid: the distribution of its channels given network outputs.

A site turns a network's raw parameters [..., units] into a TFP distribution over [..., C], and noise
into a sample of it. It knows nothing of the locations before; the network does. Unit k of the
network's output belongs to channel k mod C, so that channel groups order R, G, B.

Legend: C channels, P parameters of a channel.
"""

import abc
from typing import ClassVar, Literal

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf.distributions.gaussian import at_least_float32, loc_and_scale

tfd = tfp.distributions


class Site(abc.ABC):
    """The distribution of one location's channels, independent of each other given the parameters.

    Attributes:
      num_params: P, parameters of a channel.
      dtype: dtype of the values.
      noise: what `transform` takes, "uniform" in (0, 1) or "normal".
    """

    num_params: int
    dtype: ClassVar[tf.DType] = tf.int32
    noise: ClassVar[Literal["uniform", "normal"]] = "uniform"

    def split(self, params: tf.Tensor, channels: int) -> tf.Tensor:
        """Raw parameters [..., P * C] -> [..., C, P], in at least float32."""
        shape = (-1, *params.shape[1:-1], self.num_params, channels)
        params = tf.reshape(at_least_float32(params), shape)
        return tf.linalg.matrix_transpose(params)

    @abc.abstractmethod
    def distribution(self, params: tf.Tensor, temperature=1.0) -> tfd.Distribution:
        """The distribution of each channel.

        Args:
          params: [..., C, P], from `split`.
          temperature: positive; scalar, or [B] for the first dimension of `params`.

        Returns:
          A distribution with batch shape [..., C] and event shape [].
        """

    @abc.abstractmethod
    def transform(self, params: tf.Tensor, noise: tf.Tensor, temperature=1.0) -> tf.Tensor:
        """Turns noise into a sample of `distribution(params, temperature)`.

        Args:
          params: [..., C, P], from `split`.
          noise: [..., C], of the kind `noise`.
          temperature: as for `distribution`.

        Returns:
          Values [..., C].
        """


def _per_batch(temperature, like: tf.Tensor) -> tf.Tensor:
    """A scalar or [B] temperature, shaped to divide a tensor [B, ...]."""
    temperature = tf.cast(temperature, like.dtype)
    if temperature.shape.rank == 0:
        return temperature
    return tf.reshape(temperature, [-1] + [1] * (like.shape.rank - 1))


class BernoulliSite(Site):
    """A value 0 or 1 a channel; one logit."""

    num_params = 1

    def marginal_params(self, images: np.ndarray) -> np.ndarray:
        """The parameters [C, P] of each channel's frequencies in images [N, H, W, C]."""
        # Half a count more of either value: one that is missing is unlikely, not impossible.
        ones, total = images.sum(axis=(0, 1, 2), dtype=np.float64) + 0.5, images[..., 0].size + 1.0
        return np.log(ones / (total - ones))[:, None].astype(np.float32)

    def distribution(self, params, temperature=1.0):
        """Bernoulli(logits / temperature)."""
        logits = params[..., 0]
        return tfd.Bernoulli(logits=logits / _per_batch(temperature, logits), dtype=self.dtype)

    def transform(self, params, noise, temperature=1.0):
        """Inverse CDF: 1 where u lies above P(0)."""
        logits = params[..., 0]
        logits = logits / _per_batch(temperature, logits)
        return tf.cast(tf.cast(noise, logits.dtype) >= tf.sigmoid(-logits), self.dtype)


class CategoricalSite(Site):
    """One of `num_values` values a channel; a softmax (2016a, section 3.3).

    Args:
      num_values: how many values a channel can take.
    """

    def __init__(self, num_values: int):
        self.num_params = num_values

    def marginal_params(self, images: np.ndarray) -> np.ndarray:
        """The parameters [C, P] of each channel's frequencies in images [N, H, W, C]."""
        channels = np.moveaxis(images, -1, 0).reshape(images.shape[-1], -1)
        counts = np.stack([np.bincount(values, minlength=self.num_params) for values in channels]) + 0.5
        return np.log(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)

    def distribution(self, params, temperature=1.0):
        """Categorical(logits / temperature)."""
        return tfd.Categorical(logits=params / _per_batch(temperature, params), dtype=self.dtype)

    def transform(self, params, noise, temperature=1.0):
        """Inverse CDF: the number of values whose cumulative probability u exceeds."""
        cumulative = tf.cumsum(tf.nn.softmax(params / _per_batch(temperature, params)), axis=-1)
        below = tf.cast(noise, cumulative.dtype)[..., None] > cumulative[..., :-1]
        return tf.reduce_sum(tf.cast(below, self.dtype), axis=-1)


class GaussianSite(Site):
    """A real number a channel; mean and raw scale (PixelVAE, section 3.1)."""

    num_params = 2
    dtype = tf.float32
    noise = "normal"

    def distribution(self, params, temperature=1.0):
        """Normal(mean, temperature * sigma)."""
        loc, scale = (x[..., 0] for x in loc_and_scale(params))
        return tfd.Normal(loc, scale * _per_batch(temperature, scale))

    def transform(self, params, noise, temperature=1.0):
        """mean + temperature * sigma * noise."""
        loc, scale = (x[..., 0] for x in loc_and_scale(params))
        return tf.cast(loc + scale * _per_batch(temperature, scale) * tf.cast(noise, loc.dtype), self.dtype)


def pixel_site(num_values: int) -> Site:
    """The site of pixels with `num_values` values: Bernoulli for 2, else categorical."""
    if num_values < 2:
        raise ValueError(f"num_values must be at least 2. Received: num_values={num_values}")
    return BernoulliSite() if num_values == 2 else CategoricalSite(num_values)
