"""The pixels of PixelCNN++: a mixture of quantised logistics, a pixel's channels together.

    p(x) = sum_k pi_k prod_c P(x_c; mu_kc + sum_{d < c} a_kcd x_d, s_kc)

One component stands behind all channels of a pixel; inside it, a channel's location moves linearly with the
channels before (Salimans et al. 2017, sections 2.1 and 2.2: R, then G, then B; here any number). x_d is on [-1, 1]
there, and a_kcd goes through tanh.

Legend: C channels, K components.
"""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf import pixels
from pixelvae_tf.distributions.gaussian import at_least_float32
from pixelvae_tf.distributions.quantized import Marginal, QuantizedLogistic, open_uniform, to_values
from pixelvae_tf.distributions.sites import Site, inverse_cdf, per_batch
from pixelvae_tf.limits import MIN_LOG_SCALE

tfd = tfp.distributions


class LogisticMixture(tfp.distributions.Distribution):
    """The distribution of a pixel's channels; see the module.

    Args:
      logits: [..., K].
      loc: [..., K, C], on [-1, 1].
      log_scale: [..., K, C], on [-1, 1].
      coefficients: [..., K, C (C - 1) / 2], in (-1, 1): those of channel 1, then of channel 2, ...
      num_values: how many values a channel can take.
      scale_factor: multiplies all scales; a scalar, or [..., 1].
    """

    def __init__(
        self,
        logits: tf.Tensor,
        loc: tf.Tensor,
        log_scale: tf.Tensor,
        coefficients: tf.Tensor,
        num_values: int,
        scale_factor: tf.Tensor | float = 1.0,
    ):
        parameters = dict(locals())
        self.logits, self.loc, self.log_scale, self.coefficients = logits, loc, log_scale, coefficients
        self.num_values, self.scale_factor = num_values, scale_factor
        super().__init__(
            dtype=tf.int32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name="LogisticMixture",
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        raise NotImplementedError("LogisticMixture's parameters depend on each other's shapes.")

    def _event_shape(self):
        return self.loc.shape[-1:]

    def _event_shape_tensor(self):
        return tf.shape(self.loc)[-1:]

    def _batch_shape(self):
        return self.logits.shape[:-1]

    def _batch_shape_tensor(self):
        return tf.shape(self.logits)[:-1]

    def _logistic(
        self, loc, log_scale, coefficients, channel: int, before: tf.Tensor, scale_factor
    ) -> QuantizedLogistic:
        """A channel's distribution, given those before it.

        Args:
          loc, log_scale: [..., C].
          coefficients: [..., C (C - 1) / 2].
          channel: which.
          before: [..., channel], values of the channels before.
          scale_factor: broadcasts with [...].
        """
        mine = coefficients[..., channel * (channel - 1) // 2 : channel * (channel + 1) // 2]
        scaled = pixels.to_unit_interval(before, self.num_values, loc.dtype.name)
        moved = loc[..., channel] + tf.reduce_sum(mine * scaled, axis=-1)
        loc, scale = to_values(moved, log_scale[..., channel], self.num_values)
        return QuantizedLogistic(loc, scale * scale_factor, self.num_values)

    def channel(self, channel: int, before: tf.Tensor) -> QuantizedLogistic:
        """A channel's distribution in every component, [..., K], given those before it.

        Args:
          channel: which.
          before: [..., 1, channel], values of the channels before.
        """
        return self._logistic(self.loc, self.log_scale, self.coefficients, channel, before, self.scale_factor)

    def _log_prob(self, value):
        value = tf.convert_to_tensor(value)
        total = tf.nn.log_softmax(self.logits)
        for channel in range(self.loc.shape[-1]):
            total += self.channel(channel, value[..., None, :channel]).log_prob(value[..., None, channel])
        return tf.reduce_logsumexp(total, axis=-1)

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], self._batch_shape_tensor(), [self.loc.shape[-1] + 1]], axis=0)
        return self.transform(open_uniform(shape, tfp.random.sanitize_seed(seed, salt=self.name), self.loc.dtype))

    def transform(self, uniforms: tf.Tensor) -> tf.Tensor:
        """The draws that uniform numbers make.

        Args:
          uniforms: [..., C + 1]: one a channel, the last one chooses the component.

        Returns:
          int32 [..., C].
        """
        component = inverse_cdf(self.logits, uniforms[..., -1])
        # Not a gather: there may be more draws than parameters.
        mask = tf.one_hot(component, self.logits.shape[-1], dtype=self.loc.dtype)[..., None]

        def chosen(x: tf.Tensor) -> tf.Tensor:
            """[..., K, n] -> [..., n], of the component."""
            return tf.reduce_sum(mask * x, axis=-2)

        loc, log_scale, coefficients = chosen(self.loc), chosen(self.log_scale), chosen(self.coefficients)
        # One factor serves all components.
        scale_factor: Any = self.scale_factor
        factor = scale_factor[..., 0] if tf.convert_to_tensor(scale_factor).shape.rank else scale_factor
        values: list[tf.Tensor] = []
        for channel in range(self.loc.shape[-1]):
            before = tf.stack(values, axis=-1) if values else tf.zeros([*([1] * component.shape.rank), 0], tf.int32)
            logistic = self._logistic(loc, log_scale, coefficients, channel, before, factor)
            values.append(logistic.transform(uniforms[..., channel]))
        return tf.stack(values, axis=-1)


class LogisticMixtureSite(Site):
    """A mixture of quantised logistics, any number of values and channels.

    Args:
      num_values: how many values a channel can take.
      channels: C.
      num_mixtures: K.

    Examples:
      >>> distributions.LogisticMixtureSite(256, channels=3, num_mixtures=10).units
      100
    """

    def __init__(self, num_values: int, channels: int, num_mixtures: int):
        self.num_values, self.channels, self.num_mixtures = num_values, channels, num_mixtures
        self.sizes = (1, channels, channels, channels * (channels - 1) // 2)
        self.units, self.noise_size = num_mixtures * sum(self.sizes), channels + 1

    def marginal_params(self, images):
        """Equally likely components around the quantiles of every channel, as wide as their distances."""
        count = self.num_mixtures
        marginals = [Marginal(images[..., channel], self.num_values) for channel in range(self.channels)]
        quantiles = np.stack([marginal.quantiles((np.arange(count) + 0.5) / count) for marginal in marginals], axis=1)
        # A logistic variable of scale s has a standard deviation of 1.8 s.
        width = np.array([marginal.stddev for marginal in marginals]) / (1.8 * np.sqrt(count)) + np.exp(MIN_LOG_SCALE)
        parts = [
            np.zeros((count, 1)),
            quantiles,
            np.broadcast_to(np.log(width), quantiles.shape),
            np.zeros((count, self.sizes[-1])),
        ]
        return np.concatenate(parts, axis=1).ravel().astype(np.float32)

    def distribution(self, params, temperature=1.0):
        """The mixture; temperature divides its logits and multiplies its scales."""
        shape = (-1, *params.shape[1:-1], self.num_mixtures, sum(self.sizes))
        logits, loc, log_scale, raw = tf.split(tf.reshape(at_least_float32(params), shape), self.sizes, axis=-1)
        logits = logits[..., 0]
        temperature = per_batch(temperature, logits)
        return LogisticMixture(logits / temperature, loc, log_scale, tf.tanh(raw), self.num_values, temperature)

    def transform(self, params, noise, temperature=1.0):
        """A component by the last number, its channels by the others."""
        return self.distribution(params, temperature).transform(noise)
