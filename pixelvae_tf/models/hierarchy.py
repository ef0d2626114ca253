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

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf import checks, distributions, layers, noise, pixels
from pixelvae_tf.distributions import orders
from pixelvae_tf.likelihoods import LIKELIHOODS
from pixelvae_tf.limits import DTYPES
from pixelvae_tf.models.config import ModelConfig
from pixelvae_tf.models.elbo_model import ElboModel
from pixelvae_tf.models.level import Level
from pixelvae_tf.models.networks import Raster

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


class Hierarchy(ElboModel):
    """The distributions of a PixelVAE; see the module.

    The methods return TFP distributions: a loss is a `log_prob` or a KL divergence, a generator a
    sample. All latents of an image are lists, level 1 (which the pixels see) first.

    Public methods check their arguments, once; those with an underscore compute with what has been checked.

    Args:
      config: what the model is made of.

    Raises:
      ValueError: if the config makes no sense.
      RuntimeError: if it is called while a graph is built.
    """

    def __init__(self, config: ModelConfig, **kwargs):
        checks.check_eager()
        super().__init__(**kwargs)
        if self.dtype_policy.name not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}. Received: {self.dtype_policy.name}")
        if not isinstance(config, ModelConfig):
            raise ValueError(f"config must be a ModelConfig. Received: {config!r}")
        self.config = config = config.validate()
        height, width, channels = config.image_shape
        make_site = LIKELIHOODS[config.resolved_likelihood].make
        self.site = make_site(config.num_values, channels, config.num_mixtures)
        with _default_policy(self.dtype_policy):
            sizes = [(height, width)]
            for level in config.levels:
                sizes.append(level.size_above(sizes[-1]))
            self.levels = [
                Level(level, size, 0 if index else config.num_classes, name=f"level_{index + 1}")
                for index, (level, size) in enumerate(zip(config.levels, sizes, strict=False))
            ]
            raster = Raster(config.num_values, config.channel_groups, self.site.units)
            self.network = layers.Chain(config.pixels.make_layers(raster), config.orders, name="pixels")
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
        self.network.build((None, *self.config.image_shape), self.network_context_shape())
        self.built = True

    def _context_shape(self, index: int) -> tuple | None:
        """Shape of what level `index`, from 0, gives to what is below it; of the label where there is no level."""
        if index < len(self.levels):
            return self.levels[index].context_shape()
        return (None, self.config.num_classes) if self.config.num_classes and not index else None

    def network_context_shape(self) -> tuple | None:
        """Shape of what `network_context` returns, (None, ...); None for None."""
        return self._orders.context_shape(self._context_shape(0))

    def network_context(self, context: tf.Tensor | None, which: tf.Tensor) -> tf.Tensor | None:
        """What the network of the pixels is given: `context`, turned as its images are, and of several orders which.

        Args:
          context: [B, D], [B, H, W, D] or None.
          which: an order for each image, its index in `config.orders`, int32 [B].
        """
        return self._orders.context(context, which, self.compute_dtype)

    @property
    def _orders(self) -> orders.Orders:
        return orders.over(self.config.orders, self.config.image_shape)

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
        labels = checks.as_labels(labels, self.config.num_classes)
        checks.check_same_batch(images=images, labels=labels)
        images = np.asarray(images)
        params = self.network.layers[-1]
        marginal = self.site.marginal_params(images)
        if not self.config.pixels.starts_from_data:
            params.bias.assign(marginal)
            return
        # From all parts of the set, which may be sorted.
        chosen = np.linspace(0, len(images) - 1, min(len(images), START_IMAGES)).astype(np.int64)
        some = tf.constant(images[chosen])
        labels = None if labels is None else tf.gather(labels, chosen)
        one_hot = checks.one_hot(labels, self.config.num_classes, self.compute_dtype)
        latents = self._sample_posterior(self._posterior(some), noise.image_seeds(some))
        context = self._context(latents, one_hot)
        with layers.data_dependent_initialization():
            self._likelihood(context, 1.0).log_prob(some)
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
        return self._checked_context(latents, labels, training)

    def _checked_context(self, latents, labels, training: bool = False, **batched) -> tf.Tensor | None:
        """`context` of arguments that are checked here, with others that are one for each image."""
        self._check_latents(latents)
        one_hot = checks.one_hot(labels, self.config.num_classes, self.compute_dtype)
        checks.check_same_batch(latents=latents[0] if latents else None, labels=labels, **batched)
        return self._context(latents, one_hot, training)

    def _check_latents(self, latents: list[tf.Tensor]) -> None:
        shapes = [level.shape for level in self.config.levels]
        alone = isinstance(latents, list | tuple) and len(latents) == 1
        checks.check_latents(latents, shapes[:1] if alone else shapes)

    def _context(self, latents: list[tf.Tensor], one_hot: tf.Tensor | None, training: bool = False) -> tf.Tensor | None:
        return self.levels[0].condition(latents[0], one_hot, training) if self.levels else one_hot

    @property
    def num_levels(self) -> int:
        """L, how many levels of latents there are."""
        return len(self.levels)

    @property
    def latent_dtype(self) -> str:
        """The dtype of latents: at least float32."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    def posterior(self, images: tf.Tensor, training: bool = False) -> list[tfp.distributions.Distribution]:
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
        return self._posterior(images, training)

    def _posterior(self, images: tf.Tensor, training: bool = False) -> list[tfp.distributions.Distribution]:
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
        floor: float | tf.Tensor | None = None,
        dropout_seed: tf.Tensor | None = None,
    ) -> tfp.distributions.Distribution:
        """p(z_l | z_{l+1}), of the top level p(z_L) = N(0, I).

        Args:
          level: index from 0.
          above: z_{l+1}, [B, *shape]; None for the top level.
          temperature: scalar or [B]; multiplies sigmas.
          floor: under the sigmas of a prior that is learnt, early in training.
          dropout_seed: as for `likelihood`.

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
        return self._prior(level, above, temperature, floor, dropout_seed)

    def _prior(
        self, level: int, above: tf.Tensor | None, temperature, floor=None, dropout_seed=None
    ) -> tfp.distributions.Distribution:
        config, site = self.config.levels[level], self._prior_sites[level]
        if above is None:
            return distributions.standard_gaussian(config.shape, self.latent_dtype, temperature)
        if floor is not None:
            site = distributions.GaussianSite(config.dim, floor, self.latent_dtype)
        return distributions.AutoregressiveGrid(
            self.levels[level].prior_network,
            site,
            config.shape,
            self.levels[level + 1].condition(above, training=dropout_seed is not None),
            temperature,
            dropout_seed,
        )

    def likelihood(
        self,
        latents: list[tf.Tensor],
        temperature=1.0,
        labels: tf.Tensor | None = None,
        dropout_seed: tf.Tensor | None = None,
    ) -> distributions.AutoregressiveGrid:
        """p(x | z_1), of a class-conditional model p(x | z_1, label).

        Args:
          latents: L tensors [B, *shape], or the first alone, which is what the pixels see.
          temperature: scalar or [B], see `AutoregressiveGrid`.
          labels: integers [B], for a class-conditional model alone.
          dropout_seed: int32 [2], in training: dropout is on, batches are normalised by their own statistics, and of
            several orders each image has one.

        Returns:
          A distribution with batch shape [B] (without latents and labels ()), event shape [H, W, C].

        Raises:
          ValueError: if the latents are not one [B, *shape] a level, or (outside graphs) not finite; if labels
            are missing, not wanted, of another number or (outside graphs) out of range; or if a temperature is
            out of range.
          tf.errors.InvalidArgumentError: in a graph, if labels are out of range (not under XLA).
        """
        checks.check_temperature(temperature)
        context = self._checked_context(latents, labels, dropout_seed is not None, temperature=temperature)
        return self._likelihood(context, temperature, dropout_seed)

    def _likelihood(
        self, context: tf.Tensor | None, temperature, dropout_seed=None
    ) -> distributions.AutoregressiveGrid:
        shape = self.config.image_shape
        return distributions.AutoregressiveGrid(self.network, self.site, shape, context, temperature, dropout_seed)

    def sample_posterior(
        self,
        posteriors: list[tfp.distributions.Distribution],
        seeds,
        draw: int | tf.Tensor = 0,
    ) -> list[tf.Tensor]:
        """Reparameterised draws of every level, from each image's own noise.

        Args:
          posteriors: from `posterior`.
          seeds: integers [B] or a number, see `noise.as_seeds`.
          draw: which of an image's draws, as in importance sampling; [] or [K].

        Returns:
          L tensors [B, *shape], of K draws [K, B, *shape].

        Raises:
          ValueError: for other seeds, or another number of them.
        """
        if posteriors:
            seeds = noise.as_seeds(seeds)
            checks.check_same_batch(posteriors=posteriors[0].mean(), seeds=seeds)
        return self._sample_posterior(posteriors, seeds, draw)

    @staticmethod
    def _sample_posterior(posteriors, seeds: tf.Tensor, draw=0, kind=noise.Kind.POSTERIOR) -> list[tf.Tensor]:
        drawn = []
        for level, posterior in enumerate(posteriors):
            stream = noise.stream(kind, level, draw)
            normals = tf.cast(noise.normal(seeds, stream, tuple(posterior.event_shape)), posterior.dtype)
            drawn.append(posterior.mean() + posterior.stddev() * normals)
        return drawn
