"""The ELBO of every image, by parts and by location.

Legend: B batch, H height, W width, L levels.
"""

from typing import Any, NamedTuple, Protocol

import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf import checks, distributions, noise
from pixelvae_tf.layers.dropout import fold_in


class LatentVariableModel(Protocol):
    """What a bound needs of a model; see `models.PixelVAE`."""

    @property
    def num_levels(self) -> int:
        """L."""

    @property
    def site(self) -> Any:
        """What stands at a pixel; its dtype is that of the values."""

    def posterior(self, images: tf.Tensor, training: bool = False) -> list[tfp.distributions.Distribution]:
        """q(z_l | x) of every level."""

    def prior(
        self, level: int, above: tf.Tensor | None = None, floor=0.0, dropout_seed=None
    ) -> tfp.distributions.Distribution:
        """p(z_l | z_{l+1})."""

    def likelihood(self, latents: list[tf.Tensor], labels=None, dropout_seed=None) -> tfp.distributions.Distribution:
        """p(x | z_1)."""

    def sample_posterior(self, posteriors: list, seeds: tf.Tensor, draw: int | tf.Tensor = 0) -> list[tf.Tensor]:
        """z_l ~ q(z_l | x) of every level, from each image's own noise; of draws [K] an axis K before the batch."""


class Elbo(NamedTuple):
    """The ELBO of every image, by named parts.

    Attributes:
      reconstruction_nats: [B], -log p(x | z) at a sampled z.
      kl_nats: [B, L], analytic.
    """

    reconstruction_nats: tf.Tensor
    kl_nats: tf.Tensor

    @property
    def bound_nats(self) -> tf.Tensor:
        """[B]: an upper bound on -log p(x), the negative ELBO; exact without latents."""
        return self.reconstruction_nats + tf.reduce_sum(self.kl_nats, axis=-1)

    @property
    def log_prob(self) -> tf.Tensor:
        """[B]: the ELBO, a lower bound on log p(x); exact without latents."""
        return -self.bound_nats


class NllMap(NamedTuple):
    """Where the ELBO of every image comes from.

    Attributes:
      pixel_nats: [B, H, W], -log p of each location, all its channels, given the locations before it and z_1 (of
        several orders weighted, see `distributions.orders.Orders.mixed`). They
        sum to the reconstruction term.
      latent_nats: of each level the KL of each location of its grid, [B, h, w]; of a vector [B, 1, 1]. They sum to the
        level's KL.
    """

    pixel_nats: tf.Tensor
    latent_nats: list[tf.Tensor]

    @property
    def kl_nats(self) -> tf.Tensor:
        """[B, L], the KL of each level."""
        if not self.latent_nats:
            return tf.zeros((tf.shape(self.pixel_nats)[0], 0))
        return tf.stack([tf.reduce_sum(nats, axis=(1, 2)) for nats in self.latent_nats], axis=-1)

    @property
    def elbo(self) -> Elbo:
        """The sums, float32."""
        reconstruction = tf.reduce_sum(self.pixel_nats, axis=(1, 2))
        return Elbo(tf.cast(reconstruction, tf.float32), tf.cast(self.kl_nats, tf.float32))


def nll_map(
    model: LatentVariableModel,
    images: tf.Tensor,
    seeds: tf.Tensor | None = None,
    labels: tf.Tensor | None = None,
    num_draws: int = 1,
) -> NllMap:
    """Where an image is unlikely: the terms of the negative ELBO by location.

    The map of the pixels says what is a surprise given what stands above and to the left, and given the latents; what
    is coded in latents on a grid, larger structure, is in the maps of their levels.

    Args:
      model: the model.
      images: integer pixel values [B, H, W, C].
      seeds: as for `elbo`.
      labels: integers [B], for a class-conditional model.
      num_draws: posterior samples to average over; the first is that of `elbo`.

    Returns:
      The maps, float32.

    Raises:
      ValueError: as `elbo`, or for another number of draws.
    """
    checks.check_count(num_draws=num_draws)
    posteriors, seeds = posteriors_and_seeds(model, images, seeds, labels)

    def maps(draw: int | tf.Tensor) -> NllMap:
        latents = model.sample_posterior(posteriors, seeds, draw)
        pixel_nats = -model.likelihood(latents, labels=labels).log_prob_map(tf.cast(images, model.site.dtype))
        nats = NllMap(pixel_nats, kl_maps(model, posteriors, latents, latents))
        return tf.nest.map_structure(lambda nats: tf.cast(nats, tf.float32), nats)

    total = maps(0)
    if num_draws == 1 or not posteriors:
        return total
    # One after the other, or memory would hold several.
    _, total = tf.while_loop(
        lambda draw, _: draw < num_draws,
        lambda draw, total: (draw + 1, tf.nest.map_structure(tf.add, total, maps(draw))),
        (tf.constant(1), total),
        parallel_iterations=1,
    )
    return tf.nest.map_structure(lambda nats: nats / num_draws, total)


def elbo(
    model: LatentVariableModel,
    images: tf.Tensor,
    seeds: tf.Tensor | None = None,
    labels: tf.Tensor | None = None,
    dropout_seed: tf.Tensor | None = None,
    prior_floor: float | tf.Tensor = 0.0,
) -> Elbo:
    """One sample's estimate of the ELBO, the Gaussian part integrated out.

    Args:
      model: the model.
      images: integer pixel values [B, H, W, C].
      seeds: of the posterior samples, integers [B] or a number, see `noise.as_seeds`; by default the hash of each
        image, `noise.image_seeds`, as in the model's `evaluate`.
      labels: integers [B], for a class-conditional model.
      dropout_seed: int32 [2], in training: dropout is on, and batches are normalised by their own statistics.
      prior_floor: under the sigmas of priors that are learnt, see `Objective`.

    Returns:
      The parts, float32.

    Raises:
      ValueError: as the model's methods; or if seeds and labels are not one for each image, or there is no image.
    """
    posteriors, latents = sampled_posteriors(model, images, seeds, labels, dropout_seed is not None)
    likelihood = model.likelihood(latents, labels=labels, dropout_seed=dropout_seed)
    kl = kl_maps(model, posteriors, latents, latents, dropout_seed, prior_floor)
    return NllMap(-likelihood.log_prob_map(tf.cast(images, model.site.dtype)), kl).elbo


def posteriors_and_seeds(
    model: LatentVariableModel, images: tf.Tensor, seeds, labels, training: bool = False
) -> tuple[list, tf.Tensor]:
    """q(z_l | x) of every level, and a seed for each image; checks that there is one, and a label."""
    posteriors = model.posterior(images, training)
    seeds = noise.seeds_for(images, seeds)
    checks.check_same_batch(images=images, seeds=seeds, labels=labels)
    return posteriors, seeds


def sampled_posteriors(
    model: LatentVariableModel, images: tf.Tensor, seeds, labels, training: bool = False
) -> tuple[list, list[tf.Tensor]]:
    """q(z_l | x) of every level, and a sample of each; checks as `posteriors_and_seeds`."""
    posteriors, seeds = posteriors_and_seeds(model, images, seeds, labels, training)
    return posteriors, model.sample_posterior(posteriors, seeds)


def kl_maps(
    model: LatentVariableModel,
    posteriors: list,
    latents: list[tf.Tensor],
    conditions: list[tf.Tensor],
    dropout_seed: tf.Tensor | None = None,
    prior_floor: float | tf.Tensor = 0.0,
) -> list[tf.Tensor]:
    """The KL of each location of each level at sampled latents, in the dtypes they are computed in.

    Args:
      model, dropout_seed, prior_floor: as for `elbo`.
      posteriors, latents: of every level.
      conditions: of every level, the latents that what is below it sees; `latents`, unless they are exchanged.

    Returns:
      [B, h, w] each, of a vector [B, 1, 1].
    """
    kl = []
    for level, (posterior, z, above) in enumerate(zip(posteriors, latents, [*conditions, None][1:], strict=True)):
        # 0 is the seed of the pixels' first layer.
        prior = model.prior(level, above, floor=prior_floor, dropout_seed=fold_in(dropout_seed, -1 - level))
        if isinstance(prior, distributions.AutoregressiveGrid):
            prior = prior.conditionals(z)
        if posterior.event_shape.rank == 1:
            kl.append(posterior.kl_divergence(prior)[:, None, None])
        else:  # products over a grid of the distributions of its locations
            kl.append(posterior.distribution.kl_divergence(prior.distribution))
    return kl
