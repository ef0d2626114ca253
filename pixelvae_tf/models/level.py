"""A level of latents: an encoder q(z_l | x), and the way from z_l down to what it explains (section 3, figure 3).

Legend: B batch, H height, W width, C channels, D dimensions of a latent, K classes.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf import distributions, layers
from pixelvae_tf.models.config import LevelConfig

tfd = tfp.distributions


class Level(keras.layers.Layer):
    """One level of latents: encoder and posterior head going up, decoder going down.

    Args:
      config: sizes.
      size: (H, W) of what the decoder conditions.
      num_classes: K of a label that joins the latents on their way down, or 0.
    """

    def __init__(self, config: LevelConfig, size: tuple[int, int], num_classes: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.config, self.num_classes = config, num_classes
        self.encoder = layers.Encoder(config.filters, name="encoder")
        self.posterior_head = layers.WeightNormDense(2 * config.dim, name="posterior_head")
        self.decoder = layers.FeatureDecoder(size, config.filters, name="decoder") if config.upsampling else None

    def build(self, features_shape) -> None:
        """Builds for the features of the level below, [B, H, W, C]."""
        self.encoder.build(features_shape)
        batch, height, width, channels = self.encoder.compute_output_shape(features_shape)
        self.posterior_head.build((batch, height * width * channels))
        if self.decoder is not None:
            self.decoder.build((batch, self.config.dim + self.num_classes))

    def context_shape(self, batch) -> tuple:
        """Shape of what `condition` returns."""
        latents = (batch, self.config.dim + self.num_classes)
        return latents if self.decoder is None else self.decoder.compute_output_shape(latents)

    def encode(self, features: tf.Tensor) -> tuple[tf.Tensor, tfd.Distribution]:
        """Features of the level below -> features of this one, and q(z | x) with event shape [D]."""
        features = self.encoder(features)
        flat = tf.reshape(features, (-1, self.posterior_head.v.shape[0]))
        return features, distributions.diagonal_gaussian(self.posterior_head(flat))

    def condition(self, latents: tf.Tensor, one_hot: tf.Tensor | None = None) -> tf.Tensor:
        """Latents [B, D] and label [B, K] -> the context of the level below: [B, D + K], or a map [B, H, W, F]."""
        latents = tf.cast(latents, self.compute_dtype)
        latents = latents if one_hot is None else tf.concat([latents, one_hot], axis=-1)
        return latents if self.decoder is None else self.decoder(latents)
