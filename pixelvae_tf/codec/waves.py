"""A wave: images whose networks run as one batch, pushed on a stack and popped off it.

From the top of the stack: checksums, labels, z_L, ..., z_1, the pixels; latents are then pushed back. All levels' q
read the image, so all latents are popped first and pushed from the pixels' level to the top. (Bit-Swap, Kingma et al.
2019, pushes a level before it pops the next, which takes a q(z_{l+1} | z_l).)
"""

import dataclasses
import itertools
import math
import zlib
from collections.abc import Callable

import numpy as np

from pixelvae_tf.codec import sites
from pixelvae_tf.codec.networks import Networks
from pixelvae_tf.codec.rounding import TOTAL, Decoder, Encoder
from pixelvae_tf.codec.stack import WORD, Stack
from pixelvae_tf.models.config import ModelConfig

# Latents lie in bins of 2**-k between -16 and 16, the last of either side open.
LATENT_RANGE = 16
# Kinds of numbers that are rounded in a wave: each has places of its own.
_PRIOR, _PIXELS = 2**8, 2**9
_PLACES_OF_KIND, _KINDS = 2**36, 2**10
# Of a chunk: places of more are beyond int64.
MAX_WAVES = 2**63 // (_KINDS * _PLACES_OF_KIND)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a file's images are coded.

    Attributes:
      lanes: the largest wave.
      tolerance: by how much numbers of size 1 that a network computes may differ between encoder and decoder.
      latent_bits: for each level k, of bins as wide as 2**-k.
      checksums: whether every image has one of its own, of 32 bits.
    """

    lanes: int
    tolerance: float
    latent_bits: tuple[int, ...]
    checksums: bool


class DamagedError(ValueError):
    """A chunk that does not decode to the images that were coded."""


def latent_tree(bits: int) -> sites.Gaussian:
    """The bins of a level."""
    number, step = 2 * LATENT_RANGE << bits, 2.0**-bits
    return sites.Gaussian(number, (1 - number // 2) * step, step)


class Writer:
    """Chooses what is known, and keeps it to be pushed.

    Attributes:
      cost: bits [B] that each image takes.
      exact: the same without any rounding.
    """

    def __init__(self, number: int):
        self.bits: list[np.ndarray] = []
        self.counts: list[np.ndarray] = []
        self.cost, self.exact = np.zeros(number), np.zeros(number)

    def chooser(self, values: np.ndarray, depth: int) -> sites.Choose:
        """Walks to values [B, c]."""

        def choose(coded, counts, logits, level, channels):
            chosen = (values[:, channels] >> (depth - 1 - level)) & 1
            self.bits.append(chosen[coded])
            self.counts.append(counts[coded])
            self.cost -= (np.log2(np.where(chosen, counts, TOTAL - counts) / TOTAL) * coded).sum(axis=1)
            self.exact += (np.logaddexp(0.0, np.where(chosen, -logits, logits)) * coded).sum(axis=1) / math.log(2.0)
            return chosen

        return choose

    def push(self, stack: Stack) -> None:
        """Pushes all that was chosen, the last first."""
        if self.bits:
            stack.push_bits(np.concatenate(self.bits), np.concatenate(self.counts))


def _reader(stack: Stack) -> sites.Choose:
    """Chooses what is popped."""

    def choose(coded, counts, logits, level, channels):
        chosen = np.zeros(counts.shape, np.int64)
        chosen[coded] = stack.pop_bits(counts[coded])
        return chosen

    return choose


class Wave:
    """What encoder and decoder compute alike of a wave.

    Args:
      networks: the model.
      settings: of the file.
      number: of the wave, in the encoder's order.
      size: how many images.
      rounding: of this side.
    """

    def __init__(self, networks: Networks, settings: Settings, number: int, size: int, rounding: Encoder | Decoder):
        if number >= MAX_WAVES:
            raise DamagedError(f"it has more than {MAX_WAVES} waves")
        self.networks, self.settings, self.number, self.size = networks, settings, number, size
        self.rounding = rounding
        self.batch = min(1 << (size - 1).bit_length(), settings.lanes)
        self.trees = [latent_tree(bits) for bits in settings.latent_bits]
        self.finite = np.ones(size, bool)

    def _places(self, kind: int) -> sites.Places:
        return sites.Places((self.number * _KINDS + kind) * _PLACES_OF_KIND)

    def padded(self, array: np.ndarray) -> np.ndarray:
        """[size, ...] -> [batch, ...], with zeros."""
        return np.pad(array, [(0, self.batch - self.size)] + [(0, 0)] * (array.ndim - 1))

    def _good(self, params: np.ndarray) -> np.ndarray:
        """The wave's rows; ones for those that are not finite, which `finite` tells."""
        params = params[: self.size]
        finite = np.isfinite(params).reshape(self.size, -1).all(axis=1)
        self.finite &= finite
        return params if finite.all() else np.where(finite.reshape(-1, *[1] * (params.ndim - 1)), params, 1.0)

    def posterior(self, images: np.ndarray) -> list[np.ndarray]:
        """Means and standard deviations of all levels, [size, D, 2]."""
        return [self._good(params) for params in self.networks.posterior(self.padded(images))]

    def latents(self, posteriors: list[np.ndarray], chooser: Callable[[int], sites.Choose]) -> list[np.ndarray]:
        """The bins of all levels, [size, D], by the posteriors; `chooser` is asked for each level."""
        return [
            tree.walk(params, self.settings.tolerance, self.rounding, self._places(level), chooser(level))
            for level, (tree, params) in enumerate(zip(self.trees, posteriors, strict=True))
        ]

    def _values(self, level: int, bins: np.ndarray) -> np.ndarray:
        """A level's latents [batch, *shape] of bins [size, D]."""
        values = self.trees[level].values(bins).astype(np.float32)
        return self.padded(values.reshape(self.size, *self.networks.latent_shapes[level]))

    def prior(self, level: int, above: np.ndarray | None, chooser: Callable[[tuple], sites.Choose]) -> np.ndarray:
        """The bins of a level, [size, D], by the prior.

        Args:
          level: which, from 0.
          above: the bins of the level above; None of the top level.
          chooser: asked for each row, column and channels of a grid, as an index of [size, h, w, D].
        """
        tree, places = self.trees[level], self._places(_PRIOR + level)
        shape = self.networks.latent_shapes[level]
        if above is None:
            params = np.broadcast_to([0.0, 1.0], (self.size, math.prod(shape), 2))
            return tree.walk(params, self.settings.tolerance, self.rounding, places, chooser(()))
        inputs = {f"z{level + 2}": self._values(level + 1, above)}
        values = np.zeros((self.size, *shape), np.int64)
        self._run(f"z{level + 1}", shape, inputs, tree, places, chooser, values, tree.values)
        return values.reshape(self.size, -1)

    def pixels(self, latents: list[np.ndarray], labels: np.ndarray, chooser) -> np.ndarray:
        """The pixels [size, H, W, C] by the likelihood; see `prior`."""
        shape = self.networks.config.image_shape
        inputs = {"z1": self._values(0, latents[0])} if latents else {}
        if self.networks.config.num_classes:
            inputs["label"] = self.padded(labels.astype(np.int64))
        values = np.zeros((self.size, *shape), np.int64)
        tree, places = self.networks.tree(), self._places(_PIXELS)
        self._run("pixels", shape, inputs, tree, places, chooser, values, lambda values: values)
        return values

    def _run(self, raster, shape, inputs, tree, places, chooser, values, as_input) -> None:
        """Fills `values`, integers [size, H, W, C], location by location."""
        groups = self.networks.groups(raster, shape[2])
        order = itertools.product(*map(range, (*shape[:2], groups)))

        def value(params):
            row, column, group = next(order)
            at = (slice(None), row, column, slice(group, None, groups))
            values[at] = tree.walk(self._good(params), self.settings.tolerance, self.rounding, places, chooser(at))
            return self.padded(as_input(values[at]))

        self.networks.run(raster, shape, inputs, self.batch, groups, value)


def push(wave: Wave, stack: Stack, images: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Pushes a wave; bits by kind, and which images had better be stored as they are."""
    config, targets = wave.networks.config, images.astype(np.int64)
    posteriors = wave.posterior(images)
    latents = wave.latents(posteriors, lambda level: _reader(stack))
    # What the decoder will push: for its cost.
    returned = Writer(wave.size)
    wave.latents(posteriors, lambda level: returned.chooser(latents[level], wave.trees[level].depth))
    pixels, priors = Writer(wave.size), Writer(wave.size)
    depth = wave.networks.tree().depth
    wave.pixels(latents, labels, lambda at: pixels.chooser(targets[at], depth))
    pixels.push(stack)
    for level in range(len(latents)):
        writer = _push_prior(wave, stack, level, latents)
        priors.cost, priors.exact = priors.cost + writer.cost, priors.exact + writer.exact
    if config.num_classes:
        stack.push_uniform(labels, config.num_classes)
    if wave.settings.checksums:
        stack.push_uniform(_checksums(images), WORD)
    costs = {
        "pixels": pixels.cost.sum(),
        "priors": priors.cost.sum(),
        "posteriors": returned.cost.sum(),
        "exact": (pixels.exact + priors.exact - returned.exact).sum(),
    }
    bad = ~wave.finite | (pixels.cost + priors.cost - returned.cost > raw_bits(config))
    return {name: float(cost) for name, cost in costs.items()}, bad


def _push_prior(wave: Wave, stack: Stack, level: int, latents: list[np.ndarray]) -> Writer:
    """Pushes a level's latents, given those of the level above."""
    writer, depth = Writer(wave.size), wave.trees[level].depth
    above = latents[level + 1] if level + 1 < len(latents) else None
    shape = latents[level].shape[1:] if above is None else wave.networks.latent_shapes[level]
    targets = latents[level].reshape(wave.size, *shape)
    wave.prior(level, above, lambda at: writer.chooser(targets[at], depth))
    writer.push(stack)
    return writer


def raw_bits(config: ModelConfig) -> float:
    """What an image takes as it is."""
    return math.prod(config.image_shape) * math.log2(config.num_values)


def _checksums(images: np.ndarray) -> np.ndarray:
    """CRC-32 of images, in two words of 16 bits each, the lower one first."""
    sums = [zlib.crc32(image.astype(np.uint8).tobytes()) for image in images]
    return np.array([[number % WORD, number // WORD] for number in sums]).ravel()


def pop(wave: Wave, stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """Pops a wave's images and labels, and pushes its latents back."""
    config, checksums = wave.networks.config, None
    if wave.settings.checksums:
        checksums = stack.pop_uniform(2 * wave.size, WORD)
    labels = stack.pop_uniform(wave.size if config.num_classes else 0, config.num_classes or 1)
    latents: list[np.ndarray] = []
    for level in reversed(range(len(wave.trees))):
        above = latents[0] if latents else None
        latents.insert(0, wave.prior(level, above, lambda at: _reader(stack)))
    images = wave.pixels(latents, labels, lambda at: _reader(stack)).astype(np.uint8)
    if checksums is not None and not np.array_equal(checksums, _checksums(images)):
        raise DamagedError("an image is not the one that was coded")
    posteriors = wave.posterior(images)
    if not wave.finite.all():
        raise DamagedError("the model gives numbers that are not finite")
    writer = Writer(wave.size)
    wave.latents(posteriors, lambda level: writer.chooser(latents[level], wave.trees[level].depth))
    writer.push(stack)
    return images, labels
