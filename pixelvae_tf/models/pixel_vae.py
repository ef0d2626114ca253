"""What people ask of a trained model, in one call each: what the signatures of a SavedModel answer, and more.

Legend: B batch, H height, W width, C channels, D dimensions of a latent, L levels, N steps.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pixelvae_tf import bounds, checks, control_flow, interpolation, noise, pixels, sampling
from pixelvae_tf.layers.configured import PACKAGE
from pixelvae_tf.models.config import COMPLETION_ROUNDS
from pixelvae_tf.models.encoder_model import EncoderModel
from pixelvae_tf.models.hierarchy import Hierarchy
from pixelvae_tf.models.preset import Presets


class _Request(NamedTuple):
    """What images are drawn from, checked.

    Attributes:
      seeds: of the pixels, int64 [B].
      temperature: scalar or [B].
      method: see `sampling`.
      one_hot: labels [B, K], or None.
    """

    seeds: tf.Tensor
    temperature: float | tf.Tensor
    method: sampling.Method
    one_hot: tf.Tensor | None


@keras.saving.register_keras_serializable(PACKAGE)
class PixelVAE(Presets, Hierarchy):
    """A PixelVAE with any of its parts; its distributions are those of `hierarchy`.

    Images are integer pixel values [B, H, W, C]; labels are integers [B], for a class-conditional model alone; seeds
    are integers [B] or a number, see `noise.as_seeds`. What is wrong with an argument is a ValueError that names it.

    It is an ordinary Keras model too: see `ElboModel`.

    Args:
      config: what the model is made of.

    Raises:
      ValueError: if the config makes no sense.
      RuntimeError: if it is called while a graph is built.

    Examples:
      >>> model = pixelvae_tf.PixelVAE(pixelvae_tf.presets.get("digits/vae").model)
      >>> model.encode(np.zeros((2, 8, 8, 1), "uint8"))["z1_mean"].shape
      TensorShape([2, 16])
    """

    def sample_prior(self, seeds=1, temperature=1.0, method="auto", level_seeds=None) -> list[tf.Tensor]:
        """Latents of every level from the prior, from the top down.

        Args:
          seeds: integers [B] or a number, see `noise.as_seeds`.
          temperature: scalar or [B]; multiplies the sigmas.
          method: see `sampling`.
          level_seeds: L such, level 1 first, where each level is to have its own.

        Returns:
          L tensors [B, *shape].

        Raises:
          ValueError: as `sample`.
        """
        checks.check_temperature(temperature)
        sampling.check_method(method)
        levels = self._level_seeds(noise.as_seeds(seeds), level_seeds)
        checks.check_same_batch(seeds=levels[0] if levels else None, temperature=temperature)
        return self._sample_prior(levels, temperature, method)

    def _sample_prior(self, seeds: list[tf.Tensor], temperature, method: sampling.Method) -> list[tf.Tensor]:
        latents: list[tf.Tensor] = []
        for level in reversed(range(self.num_levels)):
            prior = self._prior(level, latents[0] if latents else None, temperature)
            stream = noise.stream(noise.Kind.PRIOR, level)
            if latents:
                drawn = prior.transform(prior.noise(seeds[level], stream), method=method)
            else:
                normals = noise.normal(seeds[level], stream, self.config.levels[level].shape)
                drawn = tf.cast(normals, prior.dtype) * prior.stddev()
            latents.insert(0, drawn)
        return latents

    def _level_seeds(self, seeds: tf.Tensor, level_seeds: list | None) -> list[tf.Tensor]:
        """Seeds of each level, checked: `seeds`, unless it has its own."""
        levels = [seeds] * self.num_levels if level_seeds is None else [noise.as_seeds(level) for level in level_seeds]
        shapes = [level.shape for level in levels]
        if len(levels) != self.num_levels or any(not shape.is_compatible_with(shapes[0]) for shape in shapes):
            raise ValueError(
                f"seeds of the levels must be a list of {self.num_levels}, integers [B] each. Received: shapes {shapes}"
            )
        return levels

    def sample(
        self,
        seeds=1,
        temperature=1.0,
        method: sampling.Method = "auto",
        labels: tf.Tensor | None = None,
        level_seeds: list | None = None,
    ) -> tf.Tensor:
        """Images from the model.

        Args:
          seeds: integers [B]; an image depends on its own seed alone. A number N draws N images, of the seeds
            0 .. N - 1: `sample(16)` is `sample(range(16))`.
          temperature: scalar or [B], 1e-6 (greedy) to 1e6, for latents and pixels.
          method: see `sampling`.
          labels: as for `likelihood`.
          level_seeds: L such, level 1 first: seeds of the latents, where `seeds` is to be that of the
            pixels alone. What is held and what varies makes Figure 6.

        Returns:
          Pixel values [B, H, W, C], int32.

        Raises:
          ValueError: as `decode`; or if the level seeds are not one [B] a level.
        """
        seeds = noise.as_seeds(seeds)
        levels = self._level_seeds(seeds, level_seeds)
        request = self._request(seeds, temperature, method, labels, level_seeds=levels[0] if levels else None)
        return self._decode(self._sample_prior(levels, temperature, method), request)

    def _request(self, seeds: tf.Tensor, temperature, method: sampling.Method, labels, **batched) -> _Request:
        """Checks arguments, with others that are one for each image."""
        checks.check_temperature(temperature)
        one_hot = checks.one_hot(labels, self.config.num_classes, self.compute_dtype)
        checks.check_same_batch(**batched, seeds=seeds, labels=labels, temperature=temperature)
        return _Request(seeds, temperature, method, one_hot)

    def decode(
        self,
        latents: list[tf.Tensor],
        seeds=None,
        temperature=1.0,
        method: sampling.Method = "auto",
        labels: tf.Tensor | None = None,
        known: sampling.Known | None = None,
    ) -> tf.Tensor:
        """Images from p(x | z_1).

        Args:
          latents: L tensors [B, *shape], or the first alone, which is what the pixels see.
          seeds: of the pixels, integers [B] or a number, see `noise.as_seeds`; by default 0 .. B - 1.
          temperature: scalar or [B], for the pixels.
          method: see `sampling`.
          labels: as for `likelihood`.
          known: pixels that are given and stay, as `complete` takes images and mask.

        Returns:
          Pixel values [B, H, W, C], int32.

        Raises:
          ValueError: as `likelihood`; for other seeds, or no seeds and no latents; for other known pixels.
        """
        self._check_latents(latents)
        first = latents[0] if latents else None
        if seeds is None:
            if first is None:
                raise ValueError("seeds must be given for a model without latents, which say how many images there are")
            seeds = tf.shape(first)[0] if first.shape[0] is None else first.shape[0]
        known = known and self._as_known(*known)
        batched = {"latents": first, "known": known and known.values}
        request = self._request(noise.as_seeds(seeds), temperature, method, labels, **batched)
        return self._decode(latents, request, known)

    def _as_known(self, images: tf.Tensor, mask: tf.Tensor) -> sampling.Known:
        pixels.check_images(images, self.config.image_shape, self.config.num_values)
        images = tf.cast(images, self.site.dtype)
        return sampling.Known(images, checks.as_mask(mask, images))

    def _decode(
        self,
        latents: list[tf.Tensor],
        request: _Request,
        known: sampling.Known | None = None,
        stream: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Images from noise of a stream: by default, that of pixels."""
        likelihood = self._likelihood(self._context(latents, request.one_hot), request.temperature)
        numbers = likelihood.noise(request.seeds, noise.stream(noise.Kind.PIXELS) if stream is None else stream)
        return likelihood.transform(numbers, known, request.method)

    def complete(
        self,
        images: tf.Tensor,
        mask: tf.Tensor,
        seeds=None,
        temperature=1.0,
        num_rounds: int | tf.Tensor = COMPLETION_ROUNDS,
        labels: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Keeps the pixels under a mask and fills in the rest.

        The latents of a partly seen image come by pseudo-Gibbs rounds (Rezende et al. 2014, appendix F): the missing
        pixels are drawn from the model, with latents from the prior; in each round the image is encoded and the missing
        pixels are drawn again, with latents from the posterior. A missing pixel is drawn given the latents and all
        pixels before it in raster order; of several orders, in the one in which most of what is known stands before
        what is not. What is known after it speaks through the latents alone: without, nothing looks ahead.

        Args:
          images: integer pixel values [B, H, W, C]; where the mask is 0, any in range.
          mask: bool, integers, or 0 and 1 [B, H, W, 1], or [H, W] for all images: not 0 where a pixel is kept.
          seeds: integers [B] or a number, see `noise.as_seeds`; by default the hash of each image's kept pixels,
            `noise.image_seeds`.
          temperature: scalar or [B], for latents of the prior and pixels.
          num_rounds: how many rounds, or integers [B], how many for each image; without latents they change nothing,
            and there are none.
          labels: as for `likelihood`.

        Returns:
          Pixel values [B, H, W, C], int32.

        Raises:
          ValueError: as `posterior` and `decode`; if the mask has another shape or dtype, or there are too many rounds.
        """
        known = self._as_known(images, mask)
        seeds = noise.seeds_for(tf.where(known.mask, known.values, 0), seeds)
        rounds = checks.as_rounds(num_rounds)
        request = self._request(seeds, temperature, "auto", labels, images=known.values, num_rounds=rounds)
        return self._complete(known, rounds, request) if self.num_levels else self._decode([], request, known)

    def _complete(self, known: sampling.Known, rounds: tf.Tensor, request: _Request) -> tf.Tensor:
        last = tf.reduce_max(rounds)

        def fill_and_encode(index, filled, latents):
            # The noise of round r is that of a draw r of the level after the last; that of the first is a sample's.
            gibbs = noise.stream(noise.Kind.GIBBS, self.num_levels, index)
            stream = tf.where(index == 0, noise.stream(noise.Kind.PIXELS), gibbs)
            drawn = tf.ensure_shape(self._decode(latents, request, known, stream), filled.shape)
            # An image that has had its rounds stays as it is.
            drawn = tf.where(tf.reshape(index > rounds, [-1, 1, 1, 1]), filled, drawn)

            def encode():
                encoded = self._sample_posterior(self._posterior(drawn), request.seeds, index, noise.Kind.GIBBS)
                return [tf.ensure_shape(z, before.shape) for z, before in zip(encoded, latents, strict=True)]

            # What the last round would encode nobody draws from.
            return index + 1, drawn, control_flow.cond(index < last, encode, lambda: latents)

        latents = self._sample_prior([request.seeds] * self.num_levels, request.temperature, request.method)
        return control_flow.while_loop(
            lambda index, filled, latents: index <= last,
            fill_and_encode,
            (tf.constant(0), known.values, latents),
            maximum_iterations=last + 1,
        )[1]

    def encode(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """The means and standard deviations of q(z_l | x), as the signature `encode` gives them.

        Args:
          images: [B, H, W, C].
          training: whether batches are normalised by their own statistics.

        Returns:
          {"z1_mean": ..., "z1_stddev": ..., "z2_mean": ...}, float32 [B, D] or [B, h, w, D]; the pixels see level 1.
        """
        outputs = {}
        for level, posterior in enumerate(self.posterior(images, training), start=1):
            outputs |= {f"z{level}_mean": posterior.mean(), f"z{level}_stddev": posterior.stddev()}
        return {name: tf.cast(values, tf.float32) for name, values in outputs.items()}  # whatever the model computes in

    def encoder_model(self) -> EncoderModel:
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
        """Images between two: draws from p(x | z), z on the way from the mean of q(z | first) to that of q(z | last).

        The way of a vector is on the sphere, that of a grid straight, see `interpolation`.

        Args:
          first, last: images [B, H, W, C].
          steps: N, at least 2, both ends among them.
          seeds, temperature, labels: as for `decode`. All N images of a row share a seed, so that z alone changes.

        Returns:
          Pixel values [B, N, H, W, C], int32; the ends are what `reconstruct` makes of `first` and `last`.
        """
        checks.check_count(least=2, steps=steps)
        start, end = (self._posterior_means(images)[0] for images in (first, last))
        batch = start.shape[0] or tf.shape(start)[0]
        seeds = noise.as_seeds(batch if seeds is None else seeds)
        request = self._request(seeds, temperature, "auto", labels, first=start, last=end)
        latents = interpolation.interpolate(start, end, steps, tf.experimental.numpy)

        def repeated(value):
            return value if value is None or np.ndim(value) == 0 else tf.repeat(value, steps, axis=0)

        # All in one batch.
        request = _Request(*map(repeated, request))
        images = self._decode([tf.reshape(latents, (-1, *start.shape[1:]))], request)
        return tf.reshape(images, (-1, steps, *images.shape[1:]))

    def log_prob(self, images: tf.Tensor, seeds=None, labels=None) -> tf.Tensor:
        """log p(x) of images, nats: exact without latents, else the ELBO, a lower bound, as the signature `log_prob`.

        Args:
          images: [B, H, W, C].
          seeds, labels: as for `bounds.elbo`, which has the parts.

        Returns:
          float32 [B].
        """
        return bounds.elbo(self, images, seeds, labels).log_prob

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
