"""The diagonal Gaussians of the latents (PixelVAE, section 3): posteriors, and the priors p(z_l | z_{l+1}).

The one place for their parameterisations.

- Against N(0, I), the top level's prior: any mean; sigma = softplus(s) / ln 2, which is 1 at s = 0. Departure: the
  released program for MNIST predicts log sigma, which can overflow.
- Against a prior that is learnt, as in the released program for natural images: sigma = (softsign(s) + 1) / 2, below 1,
  for posterior and prior, and prior means 2 softsign(m / 2), within +-2. Neither side can run away with the scale of a
  latent, which nothing else fixes there. Early in training a floor under the prior's sigma keeps it from closing in
  on posteriors that have not found their place.

Departure: the program takes the second for the top level too, where an unused latent could then never reach sigma = 1.

Legend: B batch, D dimensions.
"""

import math

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

# Keeps log q finite where the network drives a sigma to zero; far below any useful posterior's.
MIN_SCALE = 1e-4
# Latents are clipped to this where a decoder takes them: one wild posterior must not blow up a step.
MAX_LATENT = 50.0


def unbounded_scale(raw: tf.Tensor) -> tf.Tensor:
    """softplus(s) / ln 2: positive, 1 at s = 0."""
    return tf.nn.softplus(raw) / math.log(2.0) + MIN_SCALE


def bounded_scale(raw: tf.Tensor) -> tf.Tensor:
    """(softsign(s) + 1) / 2: in (0, 1), 1/2 at s = 0."""
    return tf.maximum(0.5 * (tf.nn.softsign(raw) + 1.0), MIN_SCALE)


def bounded_loc(raw: tf.Tensor) -> tf.Tensor:
    """2 softsign(m / 2): in (-2, 2), m near m = 0."""
    return 2.0 * tf.nn.softsign(0.5 * raw)


def clip_latents(latents: tf.Tensor) -> tf.Tensor:
    """Latents as decoders take them, within +-50."""
    return tf.clip_by_value(latents, -MAX_LATENT, MAX_LATENT)


def at_least_float32(x: tf.Tensor) -> tf.Tensor:
    """Casts half precision up: log-probabilities are float32 under any dtype policy."""
    x = tf.convert_to_tensor(x)
    return tf.cast(x, tf.float32) if x.dtype.size < 4 else x


def posterior_gaussian(params: tf.Tensor, bounded: bool = False) -> tfp.distributions.Distribution:
    """The diagonal Gaussian of a vector, or of a grid of vectors, from a network's raw output.

    Args:
      params: [B, 2 D] or [B, H, W, 2 D], means then raw scales.
      bounded: whether the prior is learnt; see the module.

    Returns:
      A distribution with batch shape [B] and event shape [D] or [H, W, D].
    """
    loc, raw = tf.split(at_least_float32(params), 2, axis=-1)
    scale = bounded_scale(raw) if bounded else unbounded_scale(raw)
    return _gaussian(loc, scale, loc.shape.rank - 2)


def standard_gaussian(
    shape: tuple[int, ...], dtype: str = "float32", temperature=1.0
) -> tfp.distributions.Distribution:
    """N(0, I) on a vector (D,) or a grid (H, W, D): the prior of the top level.

    Args:
      shape: of the latent.
      dtype: of the latent.
      temperature: sigma instead of 1; scalar, or [B] for a batch.
    """
    sigma = tf.cast(temperature, dtype)
    if sigma.shape.rank:
        sigma = tf.reshape(sigma, (-1, *[1] * len(shape)))
    sigma = sigma * tf.ones(shape, dtype)
    return _gaussian(tf.zeros(shape, dtype), sigma, len(shape) - 1)


def _gaussian(loc: tf.Tensor, scale: tf.Tensor, rank: int) -> tfp.distributions.Distribution:
    """Independent normal variables, in vectors, and in a grid of vectors where `rank` is 2 and not 0."""
    vectors = tfd.Independent(tfd.Normal(loc, scale), 1)
    return tfd.Independent(vectors, rank) if rank else vectors
