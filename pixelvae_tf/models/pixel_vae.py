"""PixelVAE (Gulrajani et al. 2017): a chain of conditional distributions.

    p(x, z) = p(x | z_1) p(z_1 | z_2) ... p(z_L)        p(z_L) = N(0, I)
    q(z | x) = prod_l q(z_l | features_l(x))            sections 3 and 3.1

A level is an encoder q(z_l | x), a prior and a decoder, which turns z_l into what the level below is
conditioned on. Level 1 conditions the pixels. z_l is a vector, or a grid of vectors, whose prior
p(z_l | z_{l+1}) is autoregressive as p(x | z_1) is. z_{l+1} is read from the encoder's features, not from a sample
of z_l. With an empty list of levels the model is the autoregressive p(x) alone, and its log-likelihood exact.

Legend: B batch, H height, W width, C channels, D dimensions of a latent, L levels. A latent's shape, (D,) or (h, w, D),
is `config.levels[l].shape`.
"""

import contextlib
import dataclasses

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf import checks, control_flow, distributions, layers, noise, pixels, sampling
from pixelvae_tf.fields import check
from pixelvae_tf.layers.configured import PACKAGE
from pixelvae_tf.models import networks
from pixelvae_tf.models.config import COMPLETION_ROUNDS, ModelConfig, PixelCNNPPConfig
from pixelvae_tf.models.elbo_model import ElboModel
from pixelvae_tf.models.level import Level
from pixelvae_tf.models.preset import Presets
from pixelvae_tf.models.tasks import Tasks

tfd = tfp.distributions

# Images of a data-dependent start.
START_IMAGES = 64


@contextlib.contextmanager
def _default_policy(policy: keras.DTypePolicy):
    """Layers made inside have this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@keras.saving.register_keras_serializable(PACKAGE)
class PixelVAE(Tasks, Presets, ElboModel):
    """A PixelVAE with any of its parts; see the module.

    The methods return TFP distributions: a loss is a `log_prob` or a KL divergence, a generator a
    sample. All latents of an image are lists, level 1 (which the pixels see) first.

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

    def __init__(self, config: ModelConfig, **kwargs):
        checks.check_eager()
        super().__init__(**kwargs)
        if not isinstance(config, ModelConfig):
            raise ValueError(f"config must be a ModelConfig. Received: {config!r}")
        config.validate()
        self.config = config
        height, width, channels = config.image_shape
        self.site = distributions.pixel_site(
            config.resolved_likelihood, config.num_values, channels, config.num_mixtures
        )
        with _default_policy(self.dtype_policy):
            sizes = [(height, width)]
            for level in config.levels:
                sizes.append(level.size_above(sizes[-1]))
            self.levels = [
                Level(level, size, 0 if index else config.num_classes, name=f"level_{index + 1}")
                for index, (level, size) in enumerate(zip(config.levels, sizes, strict=False))
            ]
            raster = networks.Raster(config.num_values, config.channel_groups, self.site.units)
            self.network = networks.make(config.pixels, raster, name="pixels")
        self._prior_sites = [distributions.GaussianSite(level.dim, dtype=self.latent_dtype) for level in config.levels]
        self.track_parts(self.num_levels)
        self.build()

    def build(self, input_shape=None) -> None:
        """Creates all weights; the shapes follow from the config, so that a model is born with them."""
        if self.built:
            return
        features_shape = (None, *self.config.image_shape)
        for index, level in enumerate(self.levels):
            level.build(features_shape, self._context_shape(index + 1))
            features_shape = level.encoder.compute_output_shape(features_shape)
        self.network.build((None, *self.config.image_shape), self._context_shape(0))
        self.built = True

    def _context_shape(self, index: int) -> tuple | None:
        """Shape of what level `index`, from 0, gives to what is below it; of the label where there is no level."""
        if index < len(self.levels):
            return self.levels[index].context_shape(None)
        return (None, self.config.num_classes) if self.config.num_classes and not index else None

    def start_from(self, images: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Lets the untrained pixels have about the marginal distribution of data.

        Without this, all gates first learn that one distribution together, close on the way, and a
        256-way model without latents stays there. The norms of PixelCNN++ start from the data too.

        Args:
          images: integer pixel values [N, H, W, C].
          labels: [N], for a class-conditional model.

        Raises:
          ValueError: for images of another shape or dtype, values out of range, or no image; or as `likelihood`.
        """
        pixels.check_images(images, self.config.image_shape, self.config.num_values)
        checks.one_hot(labels, self.config.num_classes, self.compute_dtype)
        checks.check_same_batch(images=images, labels=labels)
        images, labels = np.asarray(images), None if labels is None else np.asarray(labels)
        params = self.network.layers[-1]
        marginal = self.site.marginal_params(images)
        if not isinstance(self.config.pixels, PixelCNNPPConfig):
            params.bias.assign(marginal)
            return
        # From all parts of the set, which may be sorted.
        chosen = np.linspace(0, len(images) - 1, min(len(images), START_IMAGES)).astype(np.int64)
        some = tf.constant(images[chosen])
        latents = self.sample_posterior(self.posterior(some), noise.image_seeds(some))
        context = self.context(latents, None if labels is None else labels[chosen])
        with layers.data_dependent_initialization():
            self.network(tf.cast(some, self.site.dtype), context=context)
        # What the last layer made has the mean 0 now; it is to be the marginal's parameters.
        params.bias.assign_add(marginal)

    def context(
        self, latents: list[tf.Tensor], labels: tf.Tensor | None = None, training: bool = False
    ) -> tf.Tensor | None:
        """What the pixels are conditioned on: [B, D], a map [B, H, W, D], or None.

        Args:
          latents: L tensors [B, *shape], or the first alone, which is what the pixels see.
          labels: integers [B], for a class-conditional model.
          training: whether batches are normalised by their own statistics.

        Raises:
          ValueError: as `likelihood`.
        """
        shapes = [level.shape for level in self.config.levels]
        alone = isinstance(latents, list | tuple) and len(latents) == 1
        checks.check_latents(latents, shapes[:1] if alone else shapes)
        one_hot = checks.one_hot(labels, self.config.num_classes, self.compute_dtype)
        checks.check_same_batch(latents=latents[0] if latents else None, labels=labels)
        return self.levels[0].condition(latents[0], one_hot, training) if self.levels else one_hot

    @property
    def num_levels(self) -> int:
        """L, how many levels of latents there are."""
        return len(self.levels)

    @property
    def latent_dtype(self) -> str:
        """The dtype of latents: at least float32."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    def posterior(self, images: tf.Tensor, training: bool = False) -> list[tfd.Distribution]:
        """q(z_l | x) for every level.

        Args:
          images: integer pixel values [B, H, W, C].
          training: whether batches are normalised by their own statistics.

        Returns:
          L diagonal Gaussians, batch shape [B], event shape [*shape].

        Raises:
          ValueError: if the images have another shape or dtype, or (outside graphs) values out of range.
        """
        pixels.check_images(images, self.config.image_shape, self.config.num_values)
        features = pixels.to_unit_interval(images, self.config.num_values, self.compute_dtype)
        posteriors = []
        for level in self.levels:
            features, posterior = level.encode(features, training)
            posteriors.append(posterior)
        return posteriors

    def prior(
        self,
        level: int,
        above: tf.Tensor | None = None,
        temperature=1.0,
        method: sampling.Method = "auto",
        floor: float | tf.Tensor | None = None,
        training: bool = False,
        dropout_seed: tf.Tensor | None = None,
    ) -> tfd.Distribution:
        """p(z_l | z_{l+1}), of the top level p(z_L) = N(0, I).

        Args:
          level: index from 0.
          above: z_{l+1}, [B, *shape]; None for the top level.
          temperature: scalar or [B]; multiplies sigmas.
          method: how samples are made, see `sampling`.
          floor: under the sigmas of a prior that is learnt, early in training.
          training: whether dropout is on, and batches are normalised by their own statistics.
          dropout_seed: int32 [2], for dropout.

        Returns:
          Event shape [*shape]. The top level's has batch shape () (with a temperature [B], [B]), the others'
          is an `AutoregressiveGrid` with batch shape [B].

        Raises:
          ValueError: if there is no such level, or `above` is missing, not wanted, or of another shape; or if a
            temperature is out of range.
        """
        if not 0 <= level < self.num_levels:
            raise ValueError(f"level must be in 0..{self.num_levels - 1}. Received: {level}")
        checks.check_temperature(temperature)
        shapes = [config.shape for config in self.config.levels[level + 1 : level + 2]]
        checks.check_latents([] if above is None else [above], shapes, "above, as a list,")
        checks.check_same_batch(above=above, temperature=temperature)
        config, site = self.config.levels[level], self._prior_sites[level]
        if above is None:
            return distributions.standard_gaussian(config.shape, self.latent_dtype, temperature)
        if floor is not None:
            site = distributions.GaussianSite(config.dim, floor, self.latent_dtype)
        return distributions.AutoregressiveGrid(
            self.levels[level].prior_network,
            site,
            config.shape,
            context=self.levels[level + 1].condition(above, training=training),
            temperature=temperature,
            method=method,
            training=training,
            dropout_seed=dropout_seed,
        )

    def likelihood(
        self,
        latents: list[tf.Tensor],
        temperature=1.0,
        method: sampling.Method = "auto",
        training: bool = False,
        dropout_seed: tf.Tensor | None = None,
        labels: tf.Tensor | None = None,
    ) -> distributions.AutoregressiveGrid:
        """p(x | z_1), of a class-conditional model p(x | z_1, label).

        Args:
          latents: L tensors [B, *shape], or the first alone, which is what the pixels see.
          temperature: scalar or [B], see `AutoregressiveGrid`.
          method: how samples are made, see `sampling`.
          training: whether dropout is on, and batches are normalised by their own statistics.
          dropout_seed: int32 [2], for dropout.
          labels: integers [B], for a class-conditional model alone.

        Returns:
          A distribution with batch shape [B] (without latents and labels ()), event shape [H, W, C].

        Raises:
          ValueError: if the latents are not one [B, *shape] a level, or (outside graphs) not finite; if labels
            are missing, not wanted, of another number or (outside graphs) out of range; or if a temperature is
            out of range.
          tf.errors.InvalidArgumentError: in a graph, if labels are out of range (not under XLA).
        """
        checks.check_temperature(temperature)
        context = self.context(latents, labels, training)
        checks.check_same_batch(latents=latents[0] if latents else None, labels=labels, temperature=temperature)
        return distributions.AutoregressiveGrid(
            self.network,
            self.site,
            self.config.image_shape,
            context=context,
            temperature=temperature,
            method=method,
            training=training,
            dropout_seed=dropout_seed,
        )

    def sample_posterior(
        self,
        posteriors: list[tfd.Distribution],
        seeds,
        draw: int | tf.Tensor = 0,
        kind: noise.Kind = noise.Kind.POSTERIOR,
    ) -> list[tf.Tensor]:
        """Reparameterised draws of every level, from each image's own noise.

        Args:
          posteriors: from `posterior`.
          seeds: integers [B] or a number, see `noise.as_seeds`.
          draw: which of an image's draws, as in importance sampling; [] or [K].
          kind: what the draws are for.

        Returns:
          L tensors [B, *shape], of K draws [K, B, *shape].

        Raises:
          ValueError: for other seeds, or another number of them.
        """
        if posteriors:
            seeds = noise.as_seeds(seeds)
            checks.check_same_batch(posteriors=posteriors[0].mean(), seeds=seeds)
        drawn = []
        for level, posterior in enumerate(posteriors):
            stream = noise.stream(kind, level, draw)
            normals = tf.cast(noise.normal(seeds, stream, tuple(posterior.event_shape)), posterior.dtype)
            drawn.append(posterior.mean() + posterior.stddev() * normals)
        return drawn

    def sample_prior(self, seeds=1, temperature=1.0, method: sampling.Method = "auto") -> list[tf.Tensor]:
        """Latents of every level from the prior, from the top down.

        Args:
          seeds: integers [B] or a number, see `noise.as_seeds`; or a list of L such arrays: each level's own, level 1
            first.
          temperature: scalar or [B]; multiplies the sigmas.
          method: see `sampling`.

        Returns:
          L tensors [B, *shape].

        Raises:
          ValueError: as `sample`.
        """
        checks.check_temperature(temperature)
        seeds = self._level_seeds(seeds)
        checks.check_same_batch(seeds=seeds[0] if seeds else None, temperature=temperature)
        latents: list[tf.Tensor] = []
        for level in reversed(range(self.num_levels)):
            prior = self.prior(level, latents[0] if latents else None, temperature, method)
            stream = noise.stream(noise.Kind.PRIOR, level)
            if latents:
                drawn = prior.transform(prior.noise(seeds[level], stream))
            else:
                normals = noise.normal(seeds[level], stream, self.config.levels[level].shape)
                drawn = tf.cast(normals, prior.dtype) * prior.stddev()
            latents.insert(0, drawn)
        return latents

    def _level_seeds(self, seeds) -> list[tf.Tensor]:
        if not isinstance(seeds, list | tuple) or (seeds and isinstance(seeds[0], int | np.integer)):
            return [noise.as_seeds(seeds)] * self.num_levels
        levels = [noise.as_seeds(level) for level in seeds]
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
        if level_seeds is not None:
            level_seeds = [noise.as_seeds(level) for level in level_seeds]
        latents = self.sample_prior(seeds if level_seeds is None else level_seeds, temperature, method)
        return self.decode(latents, seeds, temperature, method, labels)

    def decode(
        self,
        latents: list[tf.Tensor],
        seeds=None,
        temperature=1.0,
        method: sampling.Method = "auto",
        labels: tf.Tensor | None = None,
        known: sampling.Known | None = None,
        stream: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Images from p(x | z_1).

        Args:
          latents: L tensors [B, *shape], or the first alone, which is what the pixels see.
          seeds: of the pixels, integers [B] or a number, see `noise.as_seeds`; by default 0 .. B - 1.
          temperature: scalar or [B], for the pixels.
          method: see `sampling`.
          labels: as for `likelihood`.
          known: pixels that are given and stay.
          stream: of the noise, from `noise.stream`, if not that of pixels.

        Returns:
          Pixel values [B, H, W, C], int32.

        Raises:
          ValueError: as `likelihood`; for other seeds, or no seeds and no latents.
        """
        likelihood = self.likelihood(latents, temperature, method, labels=labels)
        if seeds is None:
            if not latents:
                raise ValueError("seeds must be given for a model without latents, which say how many images there are")
            seeds = tf.shape(latents[0])[0] if latents[0].shape[0] is None else latents[0].shape[0]
        seeds = noise.as_seeds(seeds)
        numbers = likelihood.noise(seeds, noise.stream(noise.Kind.PIXELS) if stream is None else stream)
        first = latents[0] if latents else None
        checks.check_same_batch(latents=first, seeds=seeds, labels=labels, temperature=temperature)
        return likelihood.transform(numbers, known)

    def complete(
        self,
        images: tf.Tensor,
        mask: tf.Tensor,
        seeds=None,
        temperature=1.0,
        num_rounds: int | tf.Tensor = COMPLETION_ROUNDS,
        method: sampling.Method = "auto",
        labels: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Keeps the pixels under a mask and fills in the rest.

        The latents of a partly seen image come by pseudo-Gibbs rounds (Rezende et al. 2014, appendix F): the missing
        pixels are drawn from the model, with latents from the prior; in each round the image is encoded and the missing
        pixels are drawn again, with latents from the posterior. A missing pixel is drawn given the latents and all
        pixels before it in raster order. What is known after it speaks through the latents alone: a model
        without latents does not look ahead.

        Args:
          images: integer pixel values [B, H, W, C]; where the mask is 0, any in range.
          mask: bool, integers, or 0 and 1 [B, H, W, 1], or [H, W] for all images: not 0 where a pixel is kept.
          seeds: integers [B] or a number, see `noise.as_seeds`; by default the hash of each image's kept pixels,
            `noise.image_seeds`.
          temperature: scalar or [B], for latents of the prior and pixels.
          num_rounds: how many rounds, or integers [B], how many for each image; without latents they change nothing,
            and there are none.
          method: see `sampling`.
          labels: as for `likelihood`.

        Returns:
          Pixel values [B, H, W, C], int32.

        Raises:
          ValueError: as `posterior` and `decode`; if the mask has another shape or dtype, or there are too many rounds.
        """
        pixels.check_images(images, self.config.image_shape, self.config.num_values)
        images = tf.cast(images, self.site.dtype)
        mask = checks.as_mask(mask, images)
        seeds = noise.seeds_for(tf.where(mask, images, 0), seeds)
        rounds = checks.as_rounds(num_rounds)
        checks.check_same_batch(images=images, seeds=seeds, labels=labels, temperature=temperature, num_rounds=rounds)
        known = sampling.Known(images, mask)
        if not self.num_levels:
            return self.decode([], seeds, temperature, method, labels, known)

        last = tf.reduce_max(rounds)

        def fill_and_encode(index, filled, latents):
            # The noise of round r is that of a draw r of the level behind the last; that of the first is a sample's.
            gibbs = noise.stream(noise.Kind.GIBBS, self.num_levels, index)
            stream = tf.where(index == 0, noise.stream(noise.Kind.PIXELS), gibbs)
            drawn = self.decode(latents, seeds, temperature, method, labels, known, stream)
            # An image that has had its rounds stays as it is.
            ended = tf.reshape(index > rounds, [-1, 1, 1, 1])
            drawn = tf.where(ended, filled, tf.ensure_shape(drawn, filled.shape))

            def encode():
                encoded = self.sample_posterior(self.posterior(drawn), seeds, index, noise.Kind.GIBBS)
                return [tf.ensure_shape(z, before.shape) for z, before in zip(encoded, latents, strict=True)]

            # What the last round would encode nobody draws from.
            return index + 1, drawn, control_flow.cond(index < last, encode, lambda: latents)

        return control_flow.while_loop(
            lambda index, filled, latents: index <= last,
            fill_and_encode,
            (tf.constant(0), known.values, self.sample_prior(seeds, temperature, method)),
            maximum_iterations=last + 1,
        )[1]

    def get_config(self) -> dict:
        """Keras' config: the model's, as plain data."""
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config: dict) -> "PixelVAE":
        """Rebuilds the model from `get_config`."""
        return cls(**{**config, "config": check(ModelConfig, config["config"], "config")})
