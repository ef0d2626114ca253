"""The way between two latents."""

import math

import numpy as np


def interpolate(first: np.ndarray, last: np.ndarray, number: int) -> np.ndarray:
    """Latents from one to another, both of them included.

    On the sphere where they are vectors (Shoemake 1985; White 2016, "Sampling generative networks"), whose lengths are
    interpolated beside; in a straight line at each location of a grid.

    Args:
      first, last: float [*latent_shape].
      number: how many.

    Returns:
      float32 [number, *latent_shape].
    """
    share = np.linspace(0, 1, number).reshape(-1, *[1] * first.ndim)
    lengths = [float(np.linalg.norm(each)) for each in (first, last)]
    if first.ndim == 1 and min(lengths) > 0:
        directions = [each.astype(np.float64) / length for each, length in zip((first, last), lengths, strict=True)]
        angle = math.acos(float(np.clip(np.dot(*directions), -1, 1)))
        if 1e-3 < angle < math.pi - 1e-3:
            turned = np.sin((1 - share) * angle) * directions[0] + np.sin(share * angle) * directions[1]
            return (turned / math.sin(angle) * ((1 - share) * lengths[0] + share * lengths[1])).astype(np.float32)
    return ((1 - share) * first + share * last).astype(np.float32)
