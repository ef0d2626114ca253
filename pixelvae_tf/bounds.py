"""Bounds on log p(x), by named parts, and what the latents carry.

    log p(x) >= E_q[log p(x | z)] - sum_l KL(q(z_l | x) || p(z_l | z_{l+1}))          the ELBO
    log p(x) >= E[log 1/K sum_k p(x, z_k) / q(z_k | x)], z_k ~ q                      K samples

One sign everywhere: what is called `log_prob` is a log-likelihood, and larger is better; what ends in `_nats` is a cost
per image, and smaller is better. Reconstruction (distortion) and KL (rate) are kept apart. In the ELBO the KL is
analytic per dimension, given the sampled z_{l+1} and, where p(z_l | z_{l+1}) is autoregressive, given the sampled z_l
in its context: one sample's estimate, the Gaussian part integrated out. It belongs to the ELBO alone; in the
importance-weighted bound every term is taken at the sampled z_k (Burda et al. 2016, equation 8): with the analytic KL
inside the logarithm it would be no bound.

Legend: B batch, L levels, K importance samples.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf import checks, distributions, fields, noise
from pixelvae_tf.layers.dropout import fold_in
from pixelvae_tf.limits import MAX_DRAWS

__all__ = [
    "Elbo",
    "LatentVariableModel",
    "NllMap",
    "Objective",
    "Usage",
    "active_units",
    "elbo",
    "importance_weighted_nats",
    "nll_map",
    "usage",
]

# Burda et al. 2016, section 5.2: a unit is active if its posterior mean varies over the data.
ACTIVE_VARIANCE = 0.01
# A level whose latents can be another image's for less than this is taken for ignored (posterior collapse). Ours.
IGNORED_NATS = 1.0


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
        self, level: int, above: tf.Tensor | None = None, floor=0.0, training: bool = False, dropout_seed=None
    ) -> tfp.distributions.Distribution:
        """p(z_l | z_{l+1})."""

    def likelihood(
        self, latents: list[tf.Tensor], training: bool = False, dropout_seed=None, labels=None
    ) -> tfp.distributions.Distribution:
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
      pixel_nats: [B, H, W], -log p of each location, all its channels, given the locations before it and z_1. They
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
    if not 1 <= num_draws <= MAX_DRAWS:
        raise ValueError(f"num_draws must be in 1..{MAX_DRAWS}. Received: num_draws={num_draws}")
    posteriors = model.posterior(images)
    seeds = noise.seeds_for(images, seeds)
    checks.check_same_batch(images=images, seeds=seeds, labels=labels)

    def maps(draw: int | tf.Tensor) -> NllMap:
        found = _nll_map(model, posteriors, images, model.sample_posterior(posteriors, seeds, draw), labels=labels)
        return tf.nest.map_structure(lambda nats: tf.cast(nats, tf.float32), found)

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
    training: bool = False,
    dropout_seed: tf.Tensor | None = None,
    labels: tf.Tensor | None = None,
    prior_floor: float | tf.Tensor = 0.0,
    sources: tf.Tensor | None = None,
) -> Elbo:
    """One sample's estimate of the ELBO, the Gaussian part integrated out.

    Args:
      model: the model.
      images: integer pixel values [B, H, W, C].
      seeds: of the posterior samples, integers [B] or a number, see `noise.as_seeds`; by default the hash of each
        image, `noise.image_seeds`, as in the model's `evaluate`.
      training: whether dropout is on, and batches are normalised by their own statistics.
      dropout_seed: int32 [2], for dropout.
      labels: integers [B], for a class-conditional model.
      prior_floor: under the sigmas of priors that are learnt, see `Objective`.
      sources: int32 [B, 1 + L], for `usage`: whose image stands before each pixel, and whose z_l conditions what is
        below it, for each level l. None for each image's own.

    Returns:
      The parts, float32.

    Raises:
      ValueError: as the model's methods; or if seeds and labels are not one for each image, or there is no image.
    """
    posteriors = model.posterior(images, training)
    seeds = noise.seeds_for(images, seeds)
    checks.check_same_batch(images=images, seeds=seeds, labels=labels)
    latents = model.sample_posterior(posteriors, seeds)
    return _nll_map(model, posteriors, images, latents, training, dropout_seed, labels, prior_floor, sources).elbo


def _nll_map(
    model: LatentVariableModel,
    posteriors: list,
    images: tf.Tensor,
    latents: list[tf.Tensor],
    training: bool = False,
    dropout_seed: tf.Tensor | None = None,
    labels: tf.Tensor | None = None,
    prior_floor: float | tf.Tensor = 0.0,
    sources: tf.Tensor | None = None,
) -> NllMap:
    """The terms of the negative ELBO at sampled latents, in the dtypes they are computed in; arguments as of `elbo`."""
    conditions = latents
    if sources is not None:
        conditions = [tf.gather(z, sources[:, 1 + level]) for level, z in enumerate(latents)]
    likelihood = model.likelihood(conditions, training=training, dropout_seed=dropout_seed, labels=labels)
    kl = []
    for level, (posterior, z, above) in enumerate(zip(posteriors, latents, [*conditions, None][1:], strict=True)):
        # 0 is the seed of the pixels' first layer.
        seed = fold_in(dropout_seed, -1 - level)
        prior = model.prior(level, above, floor=prior_floor, training=training, dropout_seed=seed)
        if isinstance(prior, distributions.AutoregressiveGrid):
            prior = prior.conditionals(z)
        if posterior.event_shape.rank == 1:
            kl.append(posterior.kl_divergence(prior)[:, None, None])
        else:  # products over a grid of the distributions of its locations
            kl.append(posterior.distribution.kl_divergence(prior.distribution))
    images = tf.cast(images, model.site.dtype)
    if sources is None:
        return NllMap(-likelihood.log_prob_map(images), kl)
    likelihood = likelihood.conditionals(tf.gather(images, sources[:, 0]))
    return NllMap(-likelihood.distribution.log_prob(images), kl)


class Usage(NamedTuple):
    """What an image's own pixels and latents are worth to a model, in nats lost when they are another image's.

    Attributes:
      preceding_nats: [B], when the pixels before each pixel are the other image's: the autoregression. 0 for pixels
        that are independent of each other.
      latents_nats: [B, L], when what z_l conditions sees the other image's z_l. About 0 for a level that is ignored.
    """

    preceding_nats: tf.Tensor
    latents_nats: tf.Tensor


def usage_sources(num_images: int, num_levels: int) -> np.ndarray:
    """The `sources` of the 2 + L evaluations of a batch that tell what a model uses.

    Args:
      num_images: B; an image's other one is half a batch away.
      num_levels: L.

    Returns:
      int32 [2 + L, B, 1 + L]: each image its own, then another image's pixels, then its z_1, z_2, ...
    """
    own = np.arange(num_images, dtype=np.int32)
    sources = np.tile(own[:, None], (2 + num_levels, 1, 1 + num_levels))
    for part in range(1 + num_levels):
        sources[1 + part, :, part] = np.roll(own, max(num_images // 2, 1))
    return sources


def usage(
    model: LatentVariableModel, images: tf.Tensor, seeds: tf.Tensor | None = None, labels: tf.Tensor | None = None
) -> Usage:
    """Whether the model uses its autoregression, and the latents of each level.

    The negative ELBO of each image with a part of what it is conditioned on from another image of the batch, less the
    negative ELBO as it is. Both are averages over few images, so a difference of a tenth of a nat says nothing.

    Args:
      model: the model.
      images: integer pixel values [B, H, W, C], B at least 2; some hundred, of all kinds.
      seeds: of the posterior samples, integers [B] or a number, see `noise.as_seeds`; by default the hash of each
        image, `noise.image_seeds`, as in the model's `evaluate`.
      labels: integers [B], for a class-conditional model.

    Returns:
      Nats, float32.

    Raises:
      ValueError: for fewer than two images; or as `elbo`.
    """
    if images.shape[0] is None or images.shape[0] < 2:
        raise ValueError(f"images must be at least 2, whose parts are exchanged. Received: shape {images.shape}")
    sources = usage_sources(images.shape[0], model.num_levels)
    own, *others = [elbo(model, images, seeds, labels=labels, sources=tf.constant(s)).bound_nats for s in sources]
    preceding, *latents = [other - own for other in others]
    return Usage(preceding, tf.stack(latents, axis=-1) if latents else tf.zeros((images.shape[0], 0)))


def free_bits_gate(mean_kl_nats: tf.Tensor, free_nats: float | tf.Tensor) -> tf.Tensor:
    """The derivative of max(KL, free_nats) by KL: levels under their allowance feel no KL.

    Kingma et al. 2016, appendix C.8: the maximum is taken of the mean over the (global) batch.

    Args:
      mean_kl_nats: [L], mean over the whole batch, of all replicas.
      free_nats: allowance of the levels, scalar or [L].

    Returns:
      [L] of zeros and ones. `sum_l gate * KL_l` has the gradient of `sum_l max(KL_l, free_nats)`.
    """
    return tf.stop_gradient(tf.cast(mean_kl_nats > free_nats, mean_kl_nats.dtype))


def by_level(values: Sequence | float, num_levels: int) -> list:
    """A setting of each level: level 1 first, the last one for all levels above it too.

    Args:
      values: one or more settings, or a number for all levels.
      num_levels: L.

    Returns:
      L settings.
    """
    values = _as_list(values)
    return [values[min(level, len(values) - 1)] for level in range(num_levels)]


def _as_list(values: Sequence | float) -> list:
    return list(values) if isinstance(values, Sequence) else [values]


class Objective(NamedTuple):
    """What training minimises; with the defaults, the negative ELBO.

    Settings of a level are a number for all levels, or one per level, level 1 first; the last one holds for all
    levels above it.

    Attributes:
      kl_warmup_steps: of a level. The weight of its KL rises linearly from 0 to 1. A longer rise for upper levels lets
        a level come to life before the one above has to explain it.
      free_nats: of a level. Its KL below this, on the mean over the batch, is not penalised.
      free_nats_steps: the step from which on there are no free nats; 0 for none.
      prior_floor_steps: a floor under the sigmas of priors p(z_l | z_{l+1}) falls linearly from 1 to 0.
    """

    kl_warmup_steps: Sequence[int] | int = 0
    free_nats: Sequence[float] | float = 0.0
    free_nats_steps: int = 0
    prior_floor_steps: int = 0

    def validate(self, num_levels: int, prefix: str = "") -> None:
        """Raises a ValueError that names the first setting that makes no sense for a model of L levels.

        Args:
          num_levels: L.
          prefix: of the settings' names in the message.
        """
        for name, value in self._asdict().items():
            settings = _as_list(value)
            # A model without levels leaves them unused.
            if not settings or len(settings) > max(num_levels, 1):
                raise ValueError(
                    f"{prefix}{name} must be one number per level or one for all, and the model has {num_levels} "
                    f"level(s). Received: {value}"
                )
            kind = list[fields.Nats] if name == "free_nats" else list[fields.Count]
            fields.check(kind, settings, f"{prefix}{name}")
        if self.prior_floor_steps and num_levels < 2:
            raise ValueError(
                f"{prefix}prior_floor_steps must be 0 for a model of fewer than two levels, which has no prior that is "
                f"learnt. Received: {self.prior_floor_steps}"
            )

    @property
    def warmup_steps(self) -> int:
        """The step from which on the bound itself is minimised, except for free nats that stay."""
        return max(*_as_list(self.kl_warmup_steps), self.free_nats_steps, self.prior_floor_steps)

    def kl_weights(self, step: tf.Tensor, num_levels: int) -> tf.Tensor:
        """The weights [L] of the levels' KL at a step."""
        rises = [_rise(step, steps) for steps in by_level(self.kl_warmup_steps, num_levels)]
        return tf.convert_to_tensor(rises, tf.float32)  # of no levels, too

    def allowances(self, step: tf.Tensor, num_levels: int) -> tf.Tensor:
        """The free nats [L] of the levels at a step."""
        nats = tf.constant(by_level(self.free_nats, num_levels), tf.float32)
        return tf.where(tf.cast(step, tf.int64) < self.free_nats_steps, nats, 0.0) if self.free_nats_steps else nats

    def prior_floor(self, step: tf.Tensor) -> tf.Tensor:
        """The floor under the priors' sigmas at a step."""
        return 1.0 - _rise(step, self.prior_floor_steps)

    def loss(self, reconstruction_nats: tf.Tensor, kl_nats: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """What is minimised.

        Args:
          reconstruction_nats: scalar, mean over the batch.
          kl_nats: [L], means over the batch.
          step: scalar.

        Returns:
          Scalar, nats per image.
        """
        num_levels = kl_nats.shape[0]
        kl = tf.maximum(kl_nats, self.allowances(step, num_levels))
        return reconstruction_nats + tf.reduce_sum(self.kl_weights(step, num_levels) * kl)


def _rise(step: tf.Tensor, steps: int) -> tf.Tensor:
    """From 0 to 1 over `steps`; 1 where there are none."""
    return tf.minimum(tf.cast(step, tf.float32) / steps, 1.0) if steps else tf.ones([])


def importance_weighted_nats(
    model: LatentVariableModel,
    images: tf.Tensor,
    seeds: tf.Tensor | None = None,
    num_samples: int = 50,
    chunk_size: int = 10,
    labels: tf.Tensor | None = None,
) -> tf.Tensor:
    """The importance-weighted bound on -log p(x) with K samples (exact without latents).

    The samples are taken in chunks, so that memory does not grow with K; the result does not
    depend on the chunks but for rounding.

    Args:
      model: the model.
      images: integer pixel values [B, H, W, C].
      seeds: as for `elbo`.
      num_samples: K, at least 1.
      chunk_size: how many samples are evaluated at once.
      labels: integers [B], for a class-conditional model.

    Returns:
      float32 [B], nats: minus the log-mean-exp over k of log p(x | z_k) + log p(z_k) - log q(z_k | x).

    Raises:
      ValueError: if `num_samples` or `chunk_size` is not positive; or as `elbo`.
    """
    if num_samples < 1 or chunk_size < 1:
        raise ValueError(
            "num_samples and chunk_size must be at least 1. "
            f"Received: num_samples={num_samples}, chunk_size={chunk_size}"
        )
    if num_samples > MAX_DRAWS:
        raise ValueError(f"num_samples must be at most {MAX_DRAWS}. Received: num_samples={num_samples}")
    posteriors = model.posterior(images)
    seeds = noise.seeds_for(images, seeds)
    checks.check_same_batch(images=images, seeds=seeds, labels=labels)
    images = tf.cast(images, model.site.dtype)
    if not model.num_levels:
        return -tf.cast(model.likelihood([], labels=labels).log_prob(images), tf.float32)
    chunk_size = min(chunk_size, num_samples)

    def chunk(start: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        draws = start + tf.range(chunk_size)
        latents = model.sample_posterior(posteriors, seeds, draws)  # [chunk, B, *shape] each
        weights = _log_weights(model, images, posteriors, latents, labels)
        weights = tf.where((draws < num_samples)[:, None], weights, -np.inf)
        return start + chunk_size, tf.reduce_logsumexp(tf.concat([weights, total[None]], axis=0), axis=0)

    total = tf.fill(tf.shape(images)[:1], tf.constant(-np.inf, tf.float32))
    total = tf.ensure_shape(total, images.shape[:1])
    # One chunk after the other, or memory would hold several.
    _, total = tf.while_loop(
        lambda start, total: start < num_samples, chunk, (tf.constant(0), total), parallel_iterations=1
    )
    return tf.math.log(float(num_samples)) - total


def _log_weights(model: LatentVariableModel, images, posteriors, latents, labels) -> tf.Tensor:
    """log p(x, z) - log q(z | x) of latents [K, B, *shape] each, as [K, B]."""
    num_draws, batch = latents[0].shape[0], tf.shape(images)[0]
    flat = [tf.reshape(z, (-1, *z.shape[2:])) for z in latents]
    tiled = tf.tile(images, [num_draws, 1, 1, 1])
    labels = None if labels is None else tf.concat([labels] * num_draws, axis=0)
    log_joint = model.likelihood(flat, labels=labels).log_prob(tiled)
    for level, (z, above) in enumerate(zip(flat, [*flat, None][1:], strict=True)):
        log_joint += tf.cast(model.prior(level, above).log_prob(z), log_joint.dtype)
    log_weights = tf.reshape(log_joint, (num_draws, batch))
    for posterior, z in zip(posteriors, latents, strict=True):
        log_weights -= tf.cast(posterior.log_prob(z), log_weights.dtype)
    return tf.cast(log_weights, tf.float32)


def active_units(variances: np.ndarray) -> int:
    """Counts the dimensions of z that the encoder uses: Var_x(E_q[z]) > 0.01.

    Args:
      variances: of the posterior means over a data set, one a dimension; any shape.

    Returns:
      How many.
    """
    return int(np.sum(np.asarray(variances) > ACTIVE_VARIANCE))
