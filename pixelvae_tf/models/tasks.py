"""What people ask of a trained model, in one call each: what the signatures of a SavedModel answer, and more.

Legend: B batch, H height, W width, C channels, N steps.
"""

import keras
import numpy as np
import tensorflow as tf

from pixelvae_tf import bounds, checks, noise
from pixelvae_tf.layers.configured import PACKAGE


class Tasks:
    """Methods of `PixelVAE` that are made of its distributions.

    Images are integer pixel values [B, H, W, C]; labels are integers [B], for a class-conditional model alone; seeds
    are integers [B] or a number, see `noise.as_seeds`. What is wrong with an argument is a ValueError that names it.
    """

    def encode(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """The means and standard deviations of q(z_l | x), as the signature `encode` gives them.

        Args:
          images: [B, H, W, C].
          training: whether batches are normalised by their own statistics.

        Returns:
          {"z1_mean": ..., "z1_stddev": ..., "z2_mean": ...}, float32 [B, D], or [B, h, w, D] on a grid; level 1
          is the one that the pixels see.
        """
        outputs = {}
        for level, posterior in enumerate(self.posterior(images, training), start=1):
            outputs |= {f"z{level}_mean": posterior.mean(), f"z{level}_stddev": posterior.stddev()}
        # Whatever the model computes in.
        return {name: tf.cast(values, tf.float32) for name, values in outputs.items()}

    def encoder_model(self) -> "EncoderModel":
        """The encoder as a Keras model, which shares its weights with this one: images -> `encode`."""
        return EncoderModel(self)

    def reconstruct(self, images: tf.Tensor, seeds=None, temperature=1.0, method="auto", labels=None) -> tf.Tensor:
        """What the latents make of images: draws from p(x | z), z the mean of q(z | x).

        Args:
          images: [B, H, W, C].
          seeds, temperature, method, labels: as for `decode`; equal to it on the means that `encode` gives.

        Returns:
          Pixel values [B, H, W, C], int32.
        """
        return self.decode(self._posterior_means(images), seeds, temperature, method, labels)

    def interpolate(
        self, first: tf.Tensor, last: tf.Tensor, steps: int = 8, seeds=None, temperature=1.0, labels=None
    ) -> tf.Tensor:
        """Images between two: draws from p(x | z), z on the line between the means of q(z | first) and q(z | last).

        Args:
          first, last: images [B, H, W, C].
          steps: N, at least 2, both ends among them.
          seeds, temperature, labels: as for `decode`. All N images of a row share a seed, so that z alone changes.

        Returns:
          Pixel values [B, N, H, W, C], int32; the ends are what `reconstruct` makes of `first` and `last`.
        """
        if steps < 2:
            raise ValueError(f"steps must be at least 2, the ends. Received: steps={steps}")
        start, end = (self._posterior_means(images)[0] for images in (first, last))
        checks.check_same_batch(first=start, last=end, labels=labels)
        shares = tf.reshape(tf.linspace(tf.zeros([], start.dtype), 1.0, steps), (-1, *[1] * (start.shape.rank - 1)))
        latents = start[:, None] + shares * (end - start)[:, None]
        batch = start.shape[0] or tf.shape(start)[0]
        seeds = noise.as_seeds(batch if seeds is None else seeds)
        checks.check_same_batch(first=start, seeds=seeds, temperature=temperature)
        # All in one batch.
        of_all = [value if np.ndim(value) == 0 else tf.repeat(value, steps, axis=0) for value in (seeds, temperature)]
        labels = None if labels is None else tf.repeat(labels, steps, axis=0)
        images = self.decode([tf.reshape(latents, (-1, *start.shape[1:]))], *of_all, labels=labels)
        return tf.reshape(images, (-1, steps, *images.shape[1:]))

    def log_prob(self, images: tf.Tensor, seeds=None, labels=None) -> tf.Tensor:
        """log p(x) of images, nats: exact without latents, else the ELBO, a lower bound, as the signature `log_prob`.

        Args:
          images: [B, H, W, C].
          seeds, labels: as for `bounds.elbo`, which has the parts.

        Returns:
          float32 [B].
        """
        return bounds.elbo(self, images, seeds, labels=labels).log_prob

    def nll_map(self, images: tf.Tensor, seeds=None, labels=None, num_draws: int = 1) -> bounds.NllMap:
        """Where images are unlikely: the terms of the negative ELBO by location; see `bounds.nll_map`.

            maps = model.nll_map(images)
            maps.pixel_nats     # [B, H, W], sums to the reconstruction term
            maps.kl_nats        # [B, L]

        Args:
          images: [B, H, W, C].
          seeds, labels: as for `bounds.elbo`.
          num_draws: posterior samples to average over.

        Returns:
          The maps, float32.
        """
        return bounds.nll_map(self, images, seeds, labels, num_draws)

    def _posterior_means(self, images: tf.Tensor) -> list[tf.Tensor]:
        if not self.num_levels:
            raise ValueError("the model must have latents, to reconstruct from. Received: one without")
        return [posterior.mean() for posterior in self.posterior(images)]


@keras.saving.register_keras_serializable(PACKAGE)
class EncoderModel(keras.Model):
    """q(z | x) of a `PixelVAE` as a Keras model, to stand in another one.

        encoder = model.encoder_model()
        images = keras.Input((28, 28, 1), dtype="uint8")
        classifier = keras.Model(images, keras.layers.Dense(10)(encoder(images)["z1_mean"]))

    The weights are the PixelVAE's: training the one changes the other. `trainable = False` freezes them in both.

    Args:
      model: the PixelVAE.
    """

    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        if not model.num_levels:
            raise ValueError("the model must have latents, to encode. Received: one without")
        # The encoder's weights alone are this model's own; Keras does not look behind a method for more.
        self.parts = [part for level in model.levels for part in (level.encoder, level.posterior_head)]
        self._encode = model.encode
        self.built = True

    def call(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Images, integer pixel values [B, H, W, C], to what `PixelVAE.encode` gives."""
        return self._encode(images, training)

    def get_config(self) -> dict:
        """Keras' config, with that of the whole model."""
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self._encode.__self__)}

    @classmethod
    def from_config(cls, config: dict) -> "EncoderModel":
        """Rebuilds the model, then its encoder."""
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})
