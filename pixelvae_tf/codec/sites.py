"""A value as a walk down a binary tree, and the logit of each of its choices.

The values 0 .. V - 1 are halved again and again: a choice says whether the value lies in the upper half of those that
are left. The probability of a value is the product of its choices'. Only the logits on the way to the value need be the
same for encoder and decoder (`rounding`), not those of all values. The upper half of a value's 2**depth places may hold
no value; such a choice is not coded.

Parameters are NumPy arrays, as the SavedModel's functions give them (`functions.parameters`); B images, C channels, K
components.
"""

import itertools
from collections.abc import Callable

import numpy as np
from scipy import special

from pixelvae_tf.codec.rounding import COARSE, EXACT, FINE, Decoder, Encoder, index_of, probabilities
from pixelvae_tf.limits import MAX_LOG_SCALE, MIN_LOG_SCALE

# Gaussians are rounded before they are cut into bins: log standard deviations to these, means to these times sigma.
LOG_SCALE_STEP, LOC_STEP = 1.0 / 16.0, 1.0 / 16.0
# What single precision leaves of a small standard deviation that is a difference of larger numbers.
SMALL_SCALE = 1.0 / 32.0

# From (whether each choice is coded, counts of 1, logits, level, channels) to the choices; arrays are [B, c].
Choose = Callable[[np.ndarray, np.ndarray, np.ndarray, int, slice], np.ndarray]


class Places:
    """Numbers for what is rounded, in order from `first`."""

    def __init__(self, first: int):
        self.next = first

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """The next numbers, int64."""
        number = int(np.prod(shape))
        taken = np.arange(self.next, self.next + number).reshape(shape)
        self.next += number
        return taken


class Tree:
    """What stands at a location: choices for channels that are independent of each other.

    Attributes:
      num_values: V.
      depth: of the tree.
      half: J of the grid of logits.
    """

    half = COARSE

    def __init__(self, num_values: int):
        self.num_values, self.depth = num_values, max(int(num_values - 1).bit_length(), 1)

    def prepare(self, params: np.ndarray, tolerance: float, rounding: Encoder | Decoder, places: Places):
        """What `logits` needs of the parameters [B, ...]."""
        raise NotImplementedError

    def logits(self, prepared, level: int, node: np.ndarray) -> tuple[np.ndarray, np.ndarray | float]:
        """The logits of the choices at nodes [B, c] of a level, and how many times its tolerance a logit's is."""
        raise NotImplementedError

    def walk(
        self, params: np.ndarray, tolerance: float, rounding: Encoder | Decoder, places: Places, choose: Choose
    ) -> np.ndarray:
        """Goes from the root to values.

        Args:
          params: [B, c, P].
          tolerance: of numbers of size 1 that a network computes.
          rounding: of this side.
          places: of this kind of numbers.
          choose: codes the choices of a level, all images and channels together.

        Returns:
          int64 [B, c].
        """
        prepared = self.prepare(params, tolerance, rounding, places)
        return self._descend(prepared, params.shape[:2], rounding, places, choose, slice(None))

    def _descend(self, prepared, shape, rounding, places, choose, channels: slice) -> np.ndarray:
        """The walk of some channels, on what `prepare` gives."""
        node = np.zeros(shape, np.int64)
        for level in range(self.depth):
            logits, tolerance = self.logits(prepared, level, node)
            index = index_of(rounding, logits, self.half, tolerance, places.take(shape))
            coded = ((2 * node + 1) << (self.depth - 1 - level)) < self.num_values
            node = 2 * node + choose(coded, probabilities(self.half)[index], logits, level, channels)
        return node


class Categorical(Tree):
    """One of V values a channel; parameters [B, c, V], logits, of a binary choice [B, c, 1]."""

    def prepare(self, params, tolerance, rounding, places):
        """The total of every node, from the leaves up: no difference of nearly equal numbers."""
        params = params.astype(np.float64)  # as all that decides bits; float32 has no numbers below exp(-104)
        if params.shape[-1] == 1:
            return params[..., 0], tolerance
        # Below, doubles have no numbers; both halves of a node would be 0.
        totals = [np.exp(np.maximum(params - params.max(axis=-1, keepdims=True), -600.0))]
        missing = 2**self.depth - params.shape[-1]
        totals[0] = np.pad(totals[0], [(0, 0), (0, 0), (0, missing)])
        for _ in range(self.depth - 1):
            totals.insert(0, totals[0].reshape(*params.shape[:2], -1, 2).sum(axis=-1))
        return totals, tolerance

    def logits(self, prepared, level, node):
        """The difference of the halves' logarithms."""
        totals, tolerance = prepared
        if isinstance(totals, np.ndarray):
            return totals, tolerance * (1.0 + np.abs(totals))
        lower, upper = (
            np.take_along_axis(totals[level], (2 * node + side)[..., None], axis=-1)[..., 0] for side in (0, 1)
        )
        # Halves without values are not coded.
        tiny = np.finfo(np.float64).tiny
        logits = np.log(np.maximum(upper, tiny)) - np.log(np.maximum(lower, tiny))
        return logits, tolerance * (1.0 + np.abs(logits))


class Gaussian(Tree):
    """A normal variable, cut into bins; parameters [B, c, 2], means and standard deviations.

    Args:
      num_bins: V.
      first_edge, step: bin i ends at first_edge + i step; the first and the last bin are open.
    """

    half = FINE

    def __init__(self, num_bins: int, first_edge: float, step: float):
        super().__init__(num_bins)
        self.first_edge, self.step = first_edge, step

    def values(self, bins: np.ndarray) -> np.ndarray:
        """The middles of bins."""
        return self.first_edge + (bins - 0.5) * self.step

    def prepare(self, params, tolerance, rounding, places):
        """Means and standard deviations, rounded."""
        loc, scale = params[..., 0].astype(np.float64), params[..., 1].astype(np.float64)
        error = tolerance * (1.0 + SMALL_SCALE / scale) / LOG_SCALE_STEP
        scale = np.exp(rounding.round(np.log(scale) / LOG_SCALE_STEP, error, places.take(loc.shape)) * LOG_SCALE_STEP)
        error = tolerance * (1.0 + np.abs(loc)) / (scale * LOC_STEP)
        return rounding.round(loc / (scale * LOC_STEP), error, places.take(loc.shape)) * (scale * LOC_STEP), scale

    def logits(self, prepared, level, node):
        """By the logarithm of the normal CDF."""
        loc, scale = prepared
        width = 1 << (self.depth - 1 - level)
        ends = [(2 * node + side) * width for side in range(3)]
        lower, upper = (self._log_probability(*ends[side : side + 2], loc, scale) for side in (0, 1))
        logits = upper - lower
        return logits, EXACT * (1.0 + np.abs(logits))

    def _log_probability(self, first: np.ndarray, end: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Of the bins first .. end - 1; of bins that there are not, which are not coded, a number."""
        lower, upper = ((self.first_edge + (index - 1) * self.step - loc) / scale for index in (first, end))
        lower, upper = np.where(first <= 0, -np.inf, lower), np.where(end >= self.num_values, np.inf, upper)
        return _normal_between(lower, upper)


def _normal_between(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """log(F(upper) - F(lower)) of the normal CDF."""
    # In the upper tail both CDFs round to 1; mirrored, the difference is one of the lower tail.
    mirror = lower > 0.0
    low, high = np.where(mirror, -upper, lower), np.where(mirror, -lower, upper)
    log_low, log_high = special.log_ndtr(low), special.log_ndtr(high)
    return log_high + np.log(-np.expm1(np.minimum(log_low - log_high, -1e-15)))


class LogisticMixture(Tree):
    """PixelCNN++'s mixture, a channel after the other; parameters [B, 1, K (1 + 2 C + C (C - 1) / 2)].

    Those of a component are its logit, then means, log scales and coefficients, on [-1, 1] as in
    `distributions.logistic_mixture`.

    Args:
      num_values: V.
      channels: C.
      num_mixtures: K.
    """

    def __init__(self, num_values: int, channels: int, num_mixtures: int):
        super().__init__(num_values)
        self.channels, self.num_mixtures = channels, num_mixtures

    def walk(self, params, tolerance, rounding, places, choose):
        """Goes down a tree for each channel; int64 [B, C]."""
        count, half_range = self.channels, (self.num_values - 1) / 2.0
        parts = params.reshape(len(params), self.num_mixtures, -1).astype(np.float64)
        weights, loc, log_scale = parts[..., 0], parts[..., 1 : 1 + count], parts[..., 1 + count : 1 + 2 * count]
        coefficients = parts[..., 1 + 2 * count :]
        weights = weights - special.logsumexp(weights, axis=-1, keepdims=True)
        noise, values = np.ones_like(weights), []
        for channel in range(count):
            first = channel * (channel - 1) // 2
            mean = loc[..., channel].copy()
            for before in range(channel):
                mean += coefficients[..., first + before] * (values[before] / half_range - 1.0)
            mean = (mean + 1.0) * half_range
            scale = np.exp(np.clip(log_scale[..., channel], MIN_LOG_SCALE, MAX_LOG_SCALE)) * half_range
            noise = noise + half_range / scale
            prepared = weights[:, None], mean[:, None], scale[:, None], noise[:, None], tolerance
            channels = slice(channel, channel + 1)
            value = self._descend(prepared, (len(params), 1), rounding, places, choose, channels)
            values.append(value)
            weights = weights + self._between(mean[:, None], scale[:, None], value, value + 1)[:, 0]
        return np.concatenate(values, axis=1)

    def _between(self, mean: np.ndarray, scale: np.ndarray, first: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The logarithm of the probability of the values first .. end - 1, [B, 1], in each component, [B, 1, K]."""
        lower, upper = first[..., None] - 0.5, end[..., None] - 0.5
        lower = np.where(lower < 0.0, -np.inf, (lower - mean) / scale)
        upper = np.where(upper > self.num_values - 1.0, np.inf, (upper - mean) / scale)
        return special.log_expit(upper) + special.log_expit(-lower) + np.log(-np.expm1(lower - upper))

    def logits(self, prepared, level, node):
        """By the logistic CDF; a mean's error counts by how steep its component is there."""
        weights, mean, scale, noise, tolerance = prepared
        width = 1 << (self.depth - 1 - level)
        ends = [np.minimum((2 * node + side) * width, self.num_values) for side in range(3)]
        # Of a half without values, which is not coded, the probability of one.
        ends[1:] = [np.maximum(end, before + 1) for before, end in itertools.pairwise(ends)]
        lower, upper = (weights + self._between(mean, scale, *ends[side : side + 2]) for side in (0, 1))
        totals = [special.logsumexp(half, axis=-1) for half in (lower, upper)]
        shares = np.exp(lower - totals[0][..., None]) + np.exp(upper - totals[1][..., None])
        logits = totals[1] - totals[0]
        return logits, tolerance * (1.0 + np.abs(logits) + (shares * noise).sum(axis=-1))
