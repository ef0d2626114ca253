"""Bounds on log p(x), by named parts, and what the latents carry.

    log p(x) >= E_q[log p(x | z)] - sum_l KL(q(z_l | x) || p(z_l | z_{l+1}))          the ELBO
    log p(x) >= E[log 1/K sum_k p(x, z_k) / q(z_k | x)], z_k ~ q                      K samples

Reconstruction (distortion) and KL (rate) are kept apart and are in nats per image. In the ELBO the KL is analytic per
dimension, given the sampled z_{l+1} and, where p(z_l | z_{l+1}) is autoregressive, given the sampled z_l in its
context: one sample's estimate, the Gaussian part integrated out. It belongs to the ELBO alone; in the
importance-weighted bound every term is taken at the sampled z_k (Burda et al. 2016, equation 8): with the analytic KL
inside the logarithm it would be no bound.

Legend: B batch, L levels, K importance samples.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf import checks, distributions, noise
from pixelvae_tf.layers.dropout import fold_in

# Burda et al. 2016, section 5.2: a unit is active if its posterior mean varies over the data.
ACTIVE_VARIANCE = 0.01
# A level that carries less, in nats a dimension, is taken for ignored (posterior collapse). Ours: 0.1 is the KL of a
# posterior of unit variance whose mean varies with a standard deviation of 0.45, far within the prior's noise.
IGNORED_NATS_PER_DIM = 0.1


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
    def elbo_nats(self) -> tf.Tensor:
        """[B]: a lower bound on log p(x); exact without latents."""
        return -self.reconstruction_nats - tf.reduce_sum(self.kl_nats, axis=-1)


def elbo(
    model: LatentVariableModel,
    images: tf.Tensor,
    seeds: tf.Tensor,
    training: bool = False,
    dropout_seed: tf.Tensor | None = None,
    labels: tf.Tensor | None = None,
    prior_floor: float | tf.Tensor = 0.0,
) -> Elbo:
    """One sample's estimate of the ELBO, the Gaussian part integrated out.

    Args:
      model: the model.
      images: integer pixel values [B, H, W, C].
      seeds: int64 [B], for the posterior samples.
      training: whether dropout is on, and batches are normalised by their own statistics.
      dropout_seed: int32 [2], for dropout.
      labels: integers [B], for a class-conditional model.
      prior_floor: under the sigmas of priors that are learnt, see `Objective`.

    Returns:
      The parts, float32.

    Raises:
      ValueError: as the model's methods; or if seeds and labels are not one for each image, or there is no image.
    """
    posteriors = model.posterior(images, training)
    checks.check_same_batch(images=images, seeds=seeds, labels=labels)
    latents = model.sample_posterior(posteriors, seeds)
    likelihood = model.likelihood(latents, training=training, dropout_seed=dropout_seed, labels=labels)
    kl = []
    for level, (posterior, z, above) in enumerate(zip(posteriors, latents, [*latents, None][1:], strict=True)):
        # 0 is the seed of the pixels' first layer.
        seed = fold_in(dropout_seed, -1 - level)
        prior = model.prior(level, above, floor=prior_floor, training=training, dropout_seed=seed)
        if isinstance(prior, distributions.AutoregressiveGrid):
            prior = prior.conditionals(z)
        kl.append(posterior.kl_divergence(prior))
    reconstruction = -likelihood.log_prob(tf.cast(images, model.site.dtype))
    kl = tf.stack(kl, axis=-1) if kl else tf.zeros((tf.shape(images)[0], 0))
    return Elbo(tf.cast(reconstruction, tf.float32), tf.cast(kl, tf.float32))


def free_bits_gate(mean_kl_nats: tf.Tensor, free_nats: float) -> tf.Tensor:
    """The derivative of max(KL, free_nats) by KL: levels under their allowance feel no KL.

    Kingma et al. 2016, appendix C.8: the maximum is taken of the mean over the (global) batch.

    Args:
      mean_kl_nats: [L], mean over the whole batch, of all replicas.
      free_nats: allowance of a level.

    Returns:
      [L] of zeros and ones. `sum_l gate * KL_l` has the gradient of `sum_l max(KL_l, free_nats)`.
    """
    return tf.stop_gradient(tf.cast(mean_kl_nats > free_nats, mean_kl_nats.dtype))


class Objective(NamedTuple):
    """What training minimises; with the defaults, the negative ELBO.

    Attributes:
      kl_warmup_steps: the weight of the KL rises linearly from 0 to 1.
      upper_kl_warmup_steps: that of level l + 1 is that of level l times another such rise, so that a level comes to
        life before the one above it has to explain it.
      prior_floor_steps: a floor under the sigmas of priors p(z_l | z_{l+1}) falls linearly from 1 to 0.
      free_nats: a level's KL below this, on the mean over the batch, is not penalised.
    """

    kl_warmup_steps: int = 0
    upper_kl_warmup_steps: int = 0
    prior_floor_steps: int = 0
    free_nats: float = 0.0

    @property
    def warmup_steps(self) -> int:
        """The step from which on the bound itself is minimised, but for free nats."""
        return max(self.kl_warmup_steps, self.upper_kl_warmup_steps, self.prior_floor_steps)

    def kl_weights(self, step: tf.Tensor, num_levels: int) -> tf.Tensor:
        """The weights [L] of the levels' KL at a step."""
        first, upper = _rise(step, self.kl_warmup_steps), _rise(step, self.upper_kl_warmup_steps)
        return first * tf.pow(upper, tf.range(num_levels, dtype=tf.float32))

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
          Scalar, nats an image.
        """
        weights = self.kl_weights(step, kl_nats.shape[0])
        return reconstruction_nats + tf.reduce_sum(weights * tf.maximum(kl_nats, self.free_nats))


def _rise(step: tf.Tensor, steps: int) -> tf.Tensor:
    """From 0 to 1 over `steps`; 1 where there are none."""
    return tf.minimum(tf.cast(step, tf.float32) / steps, 1.0) if steps else tf.ones([])


def importance_weighted(
    model: LatentVariableModel,
    images: tf.Tensor,
    seeds: tf.Tensor,
    num_samples: int,
    chunk_size: int = 10,
    labels: tf.Tensor | None = None,
) -> tf.Tensor:
    """The importance-weighted bound with K samples (exact log p(x) without latents).

    The samples are taken in chunks, so that memory does not grow with K; the result does not
    depend on the chunks but for rounding.

    Args:
      model: the model.
      images: integer pixel values [B, H, W, C].
      seeds: int64 [B].
      num_samples: K, at least 1.
      chunk_size: how many samples are evaluated at once.
      labels: integers [B], for a class-conditional model.

    Returns:
      float32 [B], nats: log-mean-exp over k of log p(x | z_k) + log p(z_k) - log q(z_k | x).

    Raises:
      ValueError: if `num_samples` or `chunk_size` is not positive; or as `elbo`.
    """
    if num_samples < 1 or chunk_size < 1:
        raise ValueError(
            "num_samples and chunk_size must be at least 1. "
            f"Received: num_samples={num_samples}, chunk_size={chunk_size}"
        )
    if num_samples > noise.MAX_DRAWS:
        raise ValueError(f"num_samples must be at most {noise.MAX_DRAWS}. Received: num_samples={num_samples}")
    posteriors = model.posterior(images)
    checks.check_same_batch(images=images, seeds=seeds, labels=labels)
    images = tf.cast(images, model.site.dtype)
    if not model.num_levels:
        return tf.cast(model.likelihood([], labels=labels).log_prob(images), tf.float32)
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
    return total - tf.math.log(float(num_samples))


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
