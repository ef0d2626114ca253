"""A level of latents: an encoder q(z_l | x), a prior p(z_l | z_{l+1}), and the way from z_l down to what it explains.

Sections 3 (figure 3) and 3.1.

Legend: B batch, H height, W width, C channels, h, w grid of z, D dimensions of z, K classes.
"""

import math
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf import distributions, layers
from pixelvae_tf.models.config import LevelConfig
from pixelvae_tf.models.networks import Raster


class Level(keras.layers.Layer):
    """One level of latents: encoder and posterior head going up, prior's network and decoder going down.

    Args:
      config: sizes.
      size: (H, W) of what the decoder conditions.
      num_classes: K of a label that joins the latents on their way down, or 0.
    """

    def __init__(self, config: LevelConfig, size: tuple[int, int], num_classes: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.config, self.num_classes = config, num_classes
        options: dict[str, Any] = {"num_blocks": config.num_blocks, "batch_norm": config.batch_norm}
        self.encoder = layers.Encoder(config.filters, config.stem_filters, name="encoder", **options)
        head = layers.WeightNormDense if config.is_vector else layers.WeightNormConv2D
        self.posterior_head = head(2 * config.dim, name="posterior_head")
        self.decoder = None
        if config.upsampling:
            filters = config.decoder_filters or tuple(reversed(config.filters))
            self.decoder = layers.FeatureDecoder(size, filters, config.filters[-1], name="decoder", **options)
        self.prior_network = None
        if config.prior is not None:
            raster = Raster(0, 1, distributions.GaussianSite(config.dim).units)
            self.prior_network = layers.Chain(config.prior.make_layers(raster), name="prior")

    def build(self, features_shape, above_shape=None) -> None:
        """Builds for the features of the level below, [B, H, W, C], and the context that the level above gives."""
        self.encoder.build(features_shape)
        _, *features = self.encoder.compute_output_shape(features_shape)
        self.posterior_head.build((None, math.prod(features)) if self.config.is_vector else (None, *features))
        if self.decoder is not None:
            self.decoder.build(self._down_shape())
        if self.prior_network is not None:
            self.prior_network.build((None, *self.config.shape), above_shape)

    def _down_shape(self) -> tuple:
        *grid, dim = self.config.shape
        return (None, *grid, dim + self.num_classes)

    def context_shape(self) -> tuple:
        """Shape of what `condition` returns, (None, ...)."""
        latents = self._down_shape()
        return latents if self.decoder is None else self.decoder.compute_output_shape(latents)

    def encode(self, features: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tfp.distributions.Distribution]:
        """Features of the level below -> features of this one, and q(z | x) with event shape [D] or [h, w, D]."""
        features = self.encoder(features, training=training)
        inputs = tf.reshape(features, (-1, self.posterior_head.v.shape[0])) if self.config.is_vector else features
        posterior = distributions.posterior_gaussian(self.posterior_head(inputs), self.prior_network is not None)
        return features, posterior

    def condition(self, latents: tf.Tensor, one_hot: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
        """What the level below is conditioned on.

        Args:
          latents: [B, D] or [B, h, w, D]; clipped to within +-50.
          one_hot: the label [B, K], or None.
          training: whether batches are normalised by their own statistics.

        Returns:
          A vector [B, D + K], or a map [B, H, W, F].
        """
        latents = distributions.clip_latents(tf.cast(latents, self.compute_dtype))
        if one_hot is not None:
            if not self.config.is_vector:
                one_hot = tf.tile(one_hot[:, None, None], (1, *self.config.grid, 1))
            latents = tf.concat([latents, one_hot], axis=-1)
        return latents if self.decoder is None else self.decoder(latents, training=training)
