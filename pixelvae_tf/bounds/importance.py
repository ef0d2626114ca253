"""The importance-weighted bound (Burda et al. 2016).

Legend: B batch, K importance samples.
"""

import numpy as np
import tensorflow as tf

from pixelvae_tf import checks
from pixelvae_tf.bounds.terms import LatentVariableModel, posteriors_and_seeds


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
      ValueError: if `num_samples` or `chunk_size` is not in 1..2**20; or as `elbo`.
    """
    checks.check_count(num_samples=num_samples, chunk_size=chunk_size)
    posteriors, seeds = posteriors_and_seeds(model, images, seeds, labels)
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
