"""What stands at one location of a grid: the distribution of its channels given network outputs.

A site turns a network's raw parameters [..., units] into a TFP distribution over [..., C], and noise
into a sample of it. It knows nothing of the locations before; the network does. Where the channels are
independent given the parameters, unit k of the network's output belongs to channel k mod C, so that
channel groups order R, G, B.

Legend: C channels, P parameters of a channel.
"""

import abc
from typing import ClassVar, Literal

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf.distributions import gaussian
from pixelvae_tf.distributions.categorical import Categorical
from pixelvae_tf.distributions.gaussian import at_least_float32

tfd = tfp.distributions


class Site(abc.ABC):
    """The distribution of one location's channels.

    For a network that makes the channels one after the other a site must be a `ChannelwiseSite`.

    Attributes:
      channels: C.
      units: how many raw parameters a location has.
      noise_size: how many random numbers a location takes.
      noise: what they are, "uniform" in (0, 1) or "normal".
      dtype: dtype of the values.
      num_values: how many values a channel can take; None for real numbers.
    """

    channels: int
    units: int
    noise_size: int
    noise: ClassVar[Literal["uniform", "normal"]] = "uniform"
    dtype: tf.DType = tf.int32
    num_values: int | None = None

    @abc.abstractmethod
    def distribution(self, params: tf.Tensor, temperature=1.0) -> tfp.distributions.Distribution:
        """The distribution of a location.

        Args:
          params: [..., units], raw.
          temperature: positive; scalar, or [B] for the first dimension of `params`.

        Returns:
          A distribution with batch shape [...] and event shape [C], in at least float32.
        """

    @abc.abstractmethod
    def transform(self, params: tf.Tensor, noise: tf.Tensor, temperature=1.0) -> tf.Tensor:
        """Turns noise into a sample of `distribution(params, temperature)`.

        Where the channels are independent given the parameters, also the parameters, noise and values of one
        channel group of G alone: [..., units / G], [..., noise_size / G], [..., C / G].

        Args:
          params: [..., units], raw.
          noise: [..., noise_size], of the kind `noise`.
          temperature: as for `distribution`.

        Returns:
          Values [..., C].
        """

    def marginal_params(self, images: np.ndarray) -> np.ndarray:
        """For sites of pixels: the parameters of about the distribution of images' pixels, all places together.

        Args:
          images: integer pixel values [N, H, W, C].

        Returns:
          float32 [units].
        """
        raise NotImplementedError(f"{type(self).__name__} is no site of pixels")


def per_batch(temperature, like: tf.Tensor) -> tf.Tensor:
    """A scalar or [B] temperature, shaped to divide a tensor [B, ...]."""
    temperature = tf.cast(temperature, like.dtype)
    if temperature.shape.rank == 0:
        return temperature
    return tf.reshape(temperature, [-1] + [1] * (like.shape.rank - 1))


class ChannelwiseSite(Site):
    """Channels that are independent of each other given the parameters, P of them a channel.

    Args:
      channels: C.
      num_params: P.
    """

    def __init__(self, channels: int, num_params: int):
        self.channels, self.num_params = channels, num_params
        self.units, self.noise_size = channels * num_params, channels

    def split(self, params: tf.Tensor) -> tf.Tensor:
        """Raw parameters [B, ..., P * C] -> [B, ..., C, P], in at least float32; of all channels or a group of them."""
        shape = (-1, *params.shape[1:-1], self.num_params, params.shape[-1] // self.num_params)
        return tf.linalg.matrix_transpose(tf.reshape(at_least_float32(params), shape))

    @abc.abstractmethod
    def channel_distribution(self, params: tf.Tensor, temperature=1.0) -> tfp.distributions.Distribution:
        """As `distribution`, with batch shape [..., C] and event shape []."""

    def distribution(self, params, temperature=1.0):
        """The product over channels."""
        return tfd.Independent(self.channel_distribution(params, temperature), 1)

    def channel_marginal(self, values: np.ndarray) -> np.ndarray:
        """The parameters [P] of the frequencies of values [N]."""
        raise NotImplementedError(f"{type(self).__name__} is no site of pixels")

    def marginal_params(self, images):
        """Those of every channel; unit k is of channel k mod C."""
        return np.stack([self.channel_marginal(images[..., c].ravel()) for c in range(self.channels)], axis=1).ravel()


class BernoulliSite(ChannelwiseSite):
    """A value 0 or 1 a channel; one logit.

    Args:
      channels: C.

    Examples:
      >>> distributions.BernoulliSite().units  # of a network whose outputs are its parameters
      1
    """

    num_values = 2

    def __init__(self, channels: int = 1):
        super().__init__(channels, 1)

    def channel_marginal(self, values):
        """The logit of the frequency of 1."""
        # Half a count more of either value: one that is missing is unlikely, not impossible.
        ones, total = values.sum(dtype=np.float64) + 0.5, values.size + 1.0
        return np.log([ones / (total - ones)]).astype(np.float32)

    def _logits(self, params, temperature):
        logits = self.split(params)[..., 0]
        return logits / per_batch(temperature, logits)

    def channel_distribution(self, params, temperature=1.0):
        """Bernoulli(logits / temperature)."""
        return tfd.Bernoulli(logits=self._logits(params, temperature), dtype=self.dtype)

    def transform(self, params, noise, temperature=1.0):
        """Inverse CDF: 1 where u lies above P(0)."""
        logits = self._logits(params, temperature)
        return tf.cast(tf.cast(noise, logits.dtype) >= tf.sigmoid(-logits), self.dtype)


class CategoricalSite(ChannelwiseSite):
    """One of `num_values` values a channel; a softmax (2016a, section 3.3).

    Args:
      num_values: how many values a channel can take.
      channels: C.

    Examples:
      >>> distributions.CategoricalSite(256, channels=3).units
      768
    """

    def __init__(self, num_values: int, channels: int = 1):
        super().__init__(channels, num_values)
        self.num_values = num_values

    def channel_marginal(self, values):
        """The logarithms of the frequencies."""
        counts = np.bincount(values, minlength=self.num_params) + 0.5
        return np.log(counts / counts.sum()).astype(np.float32)

    def _logits(self, params, temperature):
        logits = self.split(params)
        return logits / per_batch(temperature, logits)

    def channel_distribution(self, params, temperature=1.0):
        """Categorical(logits / temperature)."""
        return Categorical(logits=self._logits(params, temperature), dtype=self.dtype)

    def transform(self, params, noise, temperature=1.0):
        """Inverse CDF: the number of values whose cumulative probability u exceeds."""
        return inverse_cdf(self._logits(params, temperature), noise)


def inverse_cdf(logits: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """The categorical values [...], int32, of uniform numbers [...] under softmax(logits [..., K])."""
    cumulative = tf.cumsum(tf.nn.softmax(logits), axis=-1)
    below = tf.cast(uniforms, cumulative.dtype)[..., None] > cumulative[..., :-1]
    return tf.reduce_sum(tf.cast(below, tf.int32), axis=-1)


class GaussianSite(ChannelwiseSite):
    """A real number a channel: latents given those before and the level above (PixelVAE, section 3.1).

    Its parameterisation is that of a prior that is learnt; see `distributions.gaussian`.

    Args:
      channels: C.
      floor: of sigma in training, a scalar in [0, 1].
      dtype: of the values.

    Examples:
      >>> distributions.GaussianSite(channels=8).units  # a mean and a deviation each
      16
    """

    noise = "normal"

    def __init__(self, channels: int = 1, floor: float | tf.Tensor = 0.0, dtype: tf.DType = tf.float32):
        super().__init__(channels, 2)
        self.floor, self.dtype = floor, tf.as_dtype(dtype)

    def _loc_and_scale(self, params, temperature):
        params = self.split(params)
        scale = gaussian.bounded_scale(params[..., 1])
        scale = tf.maximum(scale, tf.cast(self.floor, scale.dtype))
        return gaussian.bounded_loc(params[..., 0]), scale * per_batch(temperature, scale)

    def channel_distribution(self, params, temperature=1.0):
        """Normal(mean, temperature * sigma)."""
        return tfd.Normal(*self._loc_and_scale(params, temperature))

    def transform(self, params, noise, temperature=1.0):
        """mean + temperature * sigma * noise."""
        loc, scale = self._loc_and_scale(params, temperature)
        return tf.cast(loc + scale * tf.cast(noise, loc.dtype), self.dtype)
