"""What a model uses: its autoregression, the latents of each level, the dimensions of a latent.

Legend: B batch, L levels.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pixelvae_tf.bounds.terms import Elbo, LatentVariableModel, NllMap, kl_maps, sampled_posteriors

# Burda et al. 2016, section 5.2: a unit is active if its posterior mean varies over the data.
ACTIVE_VARIANCE = 0.01
# A level whose latents can be another image's for less than this is taken for ignored (posterior collapse). Ours.
IGNORED_NATS = 1.0


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
    """The `sources` of `exchanged_elbo` in the 2 + L evaluations of a batch that tell what a model uses.

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


def exchanged_elbo(
    model: LatentVariableModel,
    images: tf.Tensor,
    sources: tf.Tensor,
    seeds: tf.Tensor | None = None,
    labels: tf.Tensor | None = None,
) -> Elbo:
    """`elbo` with parts of what an image is conditioned on from other images of the batch.

    Args:
      model, images, seeds, labels: as for `elbo`.
      sources: int32 [B, 1 + L]: whose image stands before each pixel, and whose z_l conditions what is below it, for
        each level l.

    Returns:
      The parts, float32.
    """
    posteriors, latents = sampled_posteriors(model, images, seeds, labels)
    conditions = [tf.gather(z, sources[:, 1 + level]) for level, z in enumerate(latents)]
    images = tf.cast(images, model.site.dtype)
    pixels = model.likelihood(conditions, labels=labels).log_prob_map(
        images, preceding=tf.gather(images, sources[:, 0])
    )
    return NllMap(-pixels, kl_maps(model, posteriors, latents, conditions)).elbo


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
    shape = tf.TensorShape(np.shape(images))
    if not shape.rank or shape[0] is None or shape[0] < 2:
        raise ValueError(f"images must be at least 2, whose parts are exchanged. Received: shape {shape}")
    sources = usage_sources(shape[0], model.num_levels)
    own, *others = [exchanged_elbo(model, images, tf.constant(s), seeds, labels).bound_nats for s in sources]
    preceding, *latents = [other - own for other in others]
    return Usage(preceding, tf.stack(latents, axis=-1) if latents else tf.zeros((shape[0], 0)))


def active_units(variances: np.ndarray) -> int:
    """Counts the dimensions of z that the encoder uses: Var_x(E_q[z]) > 0.01.

    Args:
      variances: of the posterior means over a data set, one a dimension; any shape.

    Returns:
      How many.
    """
    return int(np.sum(np.asarray(variances) > ACTIVE_VARIANCE))
