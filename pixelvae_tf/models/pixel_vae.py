"""PixelVAE (Gulrajani et al. 2017): a chain of conditional distributions.

    p(x, z) = p(x | z_1) p(z_1 | z_2) ... p(z_L)        p(z_L) = N(0, I)
    q(z | x) = prod_l q(z_l | features_l(x))            section 3, figure 3

A level is an encoder q(z_l | x) and a decoder, which turns z_l into what the level below is
conditioned on. Level 1 conditions the pixels. With an empty list of levels the model is the
autoregressive p(x) alone, and its log-likelihood exact.

Legend: B batch, H height, W width, C channels, D dimensions of a latent, L levels.
"""

import contextlib
import dataclasses

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf import distributions, layers, noise, pixels, sampling
from pixelvae_tf.layers.weight_norm import PACKAGE
from pixelvae_tf.models import networks
from pixelvae_tf.models.config import LevelConfig, ModelConfig, decode
from pixelvae_tf.models.elbo_model import ElboModel

tfd = tfp.distributions


@contextlib.contextmanager
def _default_policy(policy: keras.DTypePolicy):
    """Layers made inside have this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _check_temperature(temperature) -> None:
    value = tf.get_static_value(tf.convert_to_tensor(temperature))
    if value is not None and not (np.isfinite(value).all() and (value > 0).all()):
        raise ValueError(f"temperature must be positive and finite. Received: {value}")


class Level(keras.layers.Layer):
    """One level of latents: encoder and posterior head going up, decoder going down.

    Args:
      config: sizes.
      size: (H, W) of what the decoder conditions.
    """

    def __init__(self, config: LevelConfig, size: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.encoder = layers.Encoder(config.filters, name="encoder")
        self.posterior_head = layers.WeightNormDense(2 * config.dim, name="posterior_head")
        self.decoder = layers.FeatureDecoder(size, config.filters, name="decoder") if config.upsampling else None

    def build(self, features_shape) -> None:
        """Builds for the features of the level below, [B, H, W, C]."""
        self.encoder.build(features_shape)
        batch, height, width, channels = self.encoder.compute_output_shape(features_shape)
        self.posterior_head.build((batch, height * width * channels))
        if self.decoder is not None:
            self.decoder.build((batch, self.config.dim))

    def context_shape(self, batch) -> tuple:
        """Shape of what `condition` returns."""
        latents = (batch, self.config.dim)
        return latents if self.decoder is None else self.decoder.compute_output_shape(latents)

    def encode(self, features: tf.Tensor) -> tuple[tf.Tensor, tfd.Distribution]:
        """Features of the level below -> features of this one, and q(z | x) with event shape [D]."""
        features = self.encoder(features)
        flat = tf.reshape(features, (-1, self.posterior_head.v.shape[0]))
        return features, distributions.diagonal_gaussian(self.posterior_head(flat))

    def condition(self, latents: tf.Tensor) -> tf.Tensor:
        """Latents [B, D] -> the context of the level below: [B, D], or a map [B, H, W, F]."""
        latents = tf.cast(latents, self.compute_dtype)
        return latents if self.decoder is None else self.decoder(latents)


@keras.saving.register_keras_serializable(PACKAGE)
class PixelVAE(ElboModel):
    """A PixelVAE with any of its parts; see the module.

    The methods return TFP distributions: a loss is a `log_prob` or a KL divergence, a generator a
    sample. All latents of an image are lists, level 1 (which the pixels see) first.

    It is an ordinary Keras model too: see `ElboModel`.

    Args:
      config: what the model is made of.

    Raises:
      ValueError: if the config makes no sense.
    """

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(**kwargs)
        config.validate()
        self.config = config
        height, width, channels = config.image_shape
        self.site = distributions.pixel_site(config.num_values)
        with _default_policy(self.dtype_policy):
            self.levels = [
                Level(level, (height, width), name=f"level_{index + 1}") for index, level in enumerate(config.levels)
            ]
            self.network = networks.gated_pixel_cnn(config.pixels, config.num_values, self.site.num_params, channels)
        self.track_parts(self.num_levels)

    def build(self, input_shape=None) -> None:
        """Creates all weights; the shapes follow from the config."""
        features_shape = (None, *self.config.image_shape)
        for level in self.levels:
            level.build(features_shape)
            features_shape = level.encoder.compute_output_shape(features_shape)
        context_shape = self.levels[0].context_shape(None) if self.levels else None
        self.network.build((None, *self.config.image_shape), context_shape)
        self.built = True

    def start_from(self, images: np.ndarray) -> None:
        """Lets the untrained pixels have the marginal distribution of data.

        Without this, all gates first learn that one distribution together, close on the way, and a
        256-way model without latents stays there.

        Args:
          images: integer pixel values [N, H, W, C].

        Raises:
          ValueError: for images of another shape or dtype, or values out of range.
        """
        pixels.check_images(images, self.config.image_shape, self.config.num_values)
        params = self.site.marginal_params(images)  # [C, P]; unit k of the output is channel k mod C
        self.network.layers[-1].bias.assign(params.T.reshape(-1))

    @property
    def num_levels(self) -> int:
        """L."""
        return len(self.levels)

    def posterior(self, images: tf.Tensor) -> list[tfd.Distribution]:
        """q(z_l | x) for every level.

        Args:
          images: integer pixel values [B, H, W, C].

        Returns:
          L diagonal Gaussians, batch shape [B], event shape [D_l].

        Raises:
          ValueError: if the images have another shape or dtype, or (outside graphs) values out of range.
        """
        pixels.check_images(images, self.config.image_shape, self.config.num_values)
        features = pixels.to_unit_interval(images, self.config.num_values, self.compute_dtype)
        posteriors = []
        for level in self.levels:
            features, posterior = level.encode(features)
            posteriors.append(posterior)
        return posteriors

    def prior(self, level: int) -> tfd.Distribution:
        """p(z_l) of the top level: N(0, I), event shape [D_l].

        Args:
          level: index from 0; the top one.
        """
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        return distributions.standard_gaussian(self.config.levels[level].dim, dtype)

    def likelihood(
        self,
        latents: list[tf.Tensor],
        temperature=1.0,
        method: sampling.Method = "cached",
        training: bool = False,
        dropout_seed: tf.Tensor | None = None,
    ) -> distributions.AutoregressiveGrid:
        """p(x | z_1).

        Args:
          latents: L tensors [B, D_l].
          temperature: scalar or [B], see `AutoregressiveGrid`.
          method: how samples are made, see `sampling`.
          training: whether dropout is on.
          dropout_seed: int32 [2], for dropout.

        Returns:
          A distribution with batch shape [B] (without latents ()), event shape [H, W, C].

        Raises:
          ValueError: if the latents are not one [B, D_l] a level, or (outside graphs) not finite; or if a
            temperature is not positive and finite.
        """
        self._check_latents(latents)
        _check_temperature(temperature)
        return distributions.AutoregressiveGrid(
            self.network,
            self.site,
            self.config.image_shape,
            context=self.levels[0].condition(latents[0]) if self.levels else None,
            temperature=temperature,
            method=method,
            training=training,
            dropout_seed=dropout_seed,
        )

    def sample_posterior(
        self, posteriors: list[tfd.Distribution], seeds: tf.Tensor, draw: int | tf.Tensor = 0
    ) -> list[tf.Tensor]:
        """Reparameterised draws of every level, from each image's own noise.

        Args:
          posteriors: from `posterior`.
          seeds: int64 [B].
          draw: which of an image's draws, as in importance sampling.

        Returns:
          L tensors [B, D_l].
        """
        return [
            self._gaussian_draw(posterior, seeds, noise.stream(noise.Kind.POSTERIOR, level, draw))
            for level, posterior in enumerate(posteriors)
        ]

    def sample_prior(self, seeds: tf.Tensor, temperature=1.0) -> list[tf.Tensor]:
        """Latents of every level from the prior.

        Args:
          seeds: int64 [B].
          temperature: scalar or [B]; multiplies the prior's sigma.

        Returns:
          L tensors [B, D_l].

        Raises:
          ValueError: as `decode`.
        """
        _check_temperature(temperature)
        scale = tf.reshape(temperature, (-1, 1))
        return [
            self._gaussian_draw(self.prior(level), seeds, noise.stream(noise.Kind.PRIOR, level), scale)
            for level in range(self.num_levels)
        ]

    @staticmethod
    def _gaussian_draw(gaussian: tfd.Distribution, seeds, stream, scale=1.0) -> tf.Tensor:
        normals = noise.normal(seeds, stream, tuple(gaussian.event_shape))
        return gaussian.mean() + gaussian.stddev() * tf.cast(scale, gaussian.dtype) * tf.cast(normals, gaussian.dtype)

    def sample(self, seeds: tf.Tensor, temperature=1.0, method: sampling.Method = "cached") -> tf.Tensor:
        """Images from the model.

        Args:
          seeds: int64 [B]; an image depends on its own seed alone.
          temperature: scalar or [B], for latents and pixels.
          method: see `sampling`.

        Returns:
          Pixel values [B, H, W, C], int32.

        Raises:
          ValueError: as `decode`.
        """
        return self.decode(self.sample_prior(seeds, temperature), seeds, temperature, method)

    def decode(
        self, latents: list[tf.Tensor], seeds: tf.Tensor, temperature=1.0, method: sampling.Method = "cached"
    ) -> tf.Tensor:
        """Images from p(x | z_1).

        Args:
          latents: L tensors [B, D_l].
          seeds: int64 [B], for the pixels.
          temperature: scalar or [B], for the pixels.
          method: see `sampling`.

        Returns:
          Pixel values [B, H, W, C], int32.

        Raises:
          ValueError: as `likelihood`; or if the seeds are not int64 [B].
        """
        likelihood = self.likelihood(latents, temperature, method)
        return likelihood.transform(likelihood.noise(seeds, noise.stream(noise.Kind.PIXELS)))

    def _check_latents(self, latents: list[tf.Tensor]) -> None:
        dims = [level.dim for level in self.config.levels]
        shapes = [tf.TensorShape(z.shape) for z in latents]
        if len(shapes) != len(dims) or not all(
            shape.is_compatible_with((None, dim)) for shape, dim in zip(shapes, dims, strict=True)
        ):
            expected = ", ".join(f"[B, {dim}]" for dim in dims)
            raise ValueError(f"latents must be a list of tensors, of shapes {expected}. Received: {shapes}")
        for z in latents:
            value = tf.get_static_value(tf.convert_to_tensor(z))
            if value is not None and not np.isfinite(value).all():
                raise ValueError("latents must be finite. Received: NaN or infinity")

    def get_config(self) -> dict:
        """Keras' config: the model's, as plain data."""
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config: dict) -> "PixelVAE":
        """Rebuilds the model from `get_config`."""
        return cls(**{**config, "config": decode(ModelConfig, config["config"], "config")})
