"""The way between two latents."""

import types
from typing import Any

import numpy as np

# In radians: between directions that are nearer to the same, or to opposite, float32 does not tell which way to turn.
LEAST_ANGLE = 1e-2


def interpolate(first: Any, last: Any, number: int, numpy: types.ModuleType = np) -> Any:
    """Latents from some to others, with both ends as they are.

    On the sphere where they are vectors (Shoemake 1985; White 2016, "Sampling generative networks"), whose lengths are
    interpolated beside; in a straight line at each location of a grid, and between opposite directions.

    Args:
      first, last: [B, *latent_shape], float32 or float64.
      number: N, at least 2.
      numpy: what computes on them; `tf.experimental.numpy` for tensors.

    Returns:
      [B, N, *latent_shape], of their dtype.
    """
    share = np.linspace(0, 1, number, dtype=getattr(first.dtype, "as_numpy_dtype", first.dtype))
    weights = (1 - share)[None], share[None]
    if len(first.shape) == 2:
        weights = _on_the_sphere(first, last, *weights, numpy)
    dims = [1] * (len(first.shape) - 1)
    of_first, of_last = (numpy.reshape(weight, (-1, number, *dims)) for weight in weights)
    return of_first * first[:, None] + of_last * last[:, None]


def _on_the_sphere(first: Any, last: Any, rest: np.ndarray, share: np.ndarray, numpy: types.ModuleType) -> tuple:
    """The weights [B, N] of both vectors [B, D] at the shares [1, N] of the way, of which `rest` is left."""
    one = share.dtype.type(1)
    lengths = [numpy.sqrt(numpy.sum(x * x, axis=-1, keepdims=True)) for x in (first, last)]
    product = lengths[0] * lengths[1]
    cosine = numpy.sum(first * last, axis=-1, keepdims=True) / numpy.where(product > 0, product, one)
    angle = numpy.arccos(numpy.clip(cosine, -one, one))
    turns = (product > 0) & (angle > LEAST_ANGLE) & (angle < np.pi - LEAST_ANGLE)
    angle = numpy.where(turns, angle, one)
    length = rest * lengths[0] + share * lengths[1]
    return tuple(
        numpy.where(turns, numpy.sin(way * angle) / numpy.sin(angle) * length / numpy.where(turns, own, one), way)
        for way, own in zip((rest, share), lengths, strict=True)
    )
