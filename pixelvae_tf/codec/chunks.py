"""A chunk: images on one stack, with bits back (Townsend, Bird and Barber 2019).

An image x with latents z costs -log p(x | z) - log p(z) + log q(z | x): its latents are popped off the stack by
q(z | x), which returns bits of what was pushed before, then x is pushed by p(x | z) and z by p(z). The decoder pops z
and x, computes q(z | x), and pushes z, which gives the stack back as it was.

Images are coded in *waves*, as many at once as there are lanes: their networks run as one batch. Of a wave all latents
are popped before a pixel is pushed, so that it needs bits on the stack for all of them. The first wave is of few images
therefore, and every wave is as large as what is there allows; the first bits of all are a digest of the chunk's images.
The encoder starts from the last image, so that the decoder gives the first one first.

All levels' q read the image, so all latents are popped first and pushed from the pixels' level to the top. (Bit-Swap,
Kingma et al. 2019, pushes a level before it pops the next, which takes a q(z_{l+1} | z_l).)

From the top of the stack:

    raw images: their number, their places, their values
    waves: runs of equal sizes, in the decoder's order
    the table of `rounding`
    how many 16-bit words the digest has
    the waves: checksums, labels, z_L, ..., z_1, the pixels; latents are then pushed back
    the digest
"""

import dataclasses
import itertools
import math
import zlib
from collections.abc import Callable

import numpy as np

from pixelvae_tf.codec import sites
from pixelvae_tf.codec.networks import Networks
from pixelvae_tf.codec.rounding import TOTAL, Decoder, Encoder, Table
from pixelvae_tf.codec.stack import WORD, Stack, digest_of
from pixelvae_tf.models.config import ModelConfig

# Latents lie in bins of 2**-k between -16 and 16, the last of either side open.
LATENT_RANGE = 16
# Bits left on the stack when latents are popped, in words of 16.
DIGEST_WORDS = 4
MAX_DIGEST_WORDS = 2**16
# Kinds of numbers that are rounded in a wave: each has places of its own.
_PRIOR, _PIXELS = 2**8, 2**9
_PLACES_OF_KIND, _KINDS = 2**36, 2**10


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


class _Writer:
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


class _Wave:
    """What encoder and decoder compute alike of a wave.

    Args:
      networks: the model.
      settings: of the file.
      number: of the wave, in the encoder's order.
      size: how many images.
      rounding: of this side.
    """

    def __init__(self, networks: Networks, settings: Settings, number: int, size: int, rounding: Encoder | Decoder):
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
        made = np.zeros((self.size, *shape), np.int64)
        self._run(f"z{level + 1}", shape, inputs, tree, places, chooser, made, tree.values)
        return made.reshape(self.size, -1)

    def pixels(self, latents: list[np.ndarray], labels: np.ndarray, chooser) -> np.ndarray:
        """The pixels [size, H, W, C] by the likelihood; see `prior`."""
        shape = self.networks.config.image_shape
        inputs = {"z1": self._values(0, latents[0])} if latents else {}
        if self.networks.config.num_classes:
            inputs["label"] = self.padded(labels.astype(np.int64))
        made = np.zeros((self.size, *shape), np.int64)
        tree, places = self.networks.tree(), self._places(_PIXELS)
        self._run("pixels", shape, inputs, tree, places, chooser, made, lambda values: values)
        return made

    def _run(self, raster, shape, inputs, tree, places, chooser, made, as_input) -> None:
        """Fills `made`, integers [size, H, W, C], location by location."""
        groups = self.networks.groups(raster, shape[2])
        order = itertools.product(*map(range, (*shape[:2], groups)))

        def value(params):
            row, column, group = next(order)
            at = (slice(None), row, column, slice(group, None, groups))
            made[at] = tree.walk(self._good(params), self.settings.tolerance, self.rounding, places, chooser(at))
            return self.padded(as_input(made[at]))

        self.networks.run(raster, shape, inputs, self.batch, groups, value)


@dataclasses.dataclass
class Statistics:
    """Where the bits of a chunk, or of several, went.

    Attributes:
      images: how many; `raw` of them as they are.
      pixels, priors, posteriors: bits of the pixels, of the latents by their priors, and those that came back.
      exact: pixels + priors - posteriors without rounding a probability.
      table, digest, other: bits of the table of `rounding`; of the first words; of the rest.
      payload: bytes of the chunks.
    """

    images: int = 0
    raw: int = 0
    pixels: float = 0.0
    priors: float = 0.0
    posteriors: float = 0.0
    exact: float = 0.0
    table: float = 0.0
    digest: float = 0.0
    other: float = 0.0
    payload: int = 0

    def __add__(self, other: "Statistics") -> "Statistics":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Statistics(*(mine + theirs for mine, theirs in pairs))


def encode(
    networks: Networks,
    settings: Settings,
    images: np.ndarray,
    labels: np.ndarray,
    progress: Callable[[int], None] = lambda number: None,
) -> tuple[np.ndarray, Statistics]:
    """Codes a chunk.

    Args:
      networks: the model.
      settings: of the file.
      images: uint8 [N, H, W, C].
      labels: integers [N], or of no length for a model without classes.
      progress: told how many images more are done.

    Returns:
      The words, uint32, and where they went.
    """
    stack, statistics = Stack(), Statistics(images=len(images))
    needed = sum(
        math.prod(shape) * (bits + 2) for shape, bits in zip(networks.latent_shapes, settings.latent_bits, strict=True)
    )
    digest = digest_of(images, labels, min(DIGEST_WORDS + -(-needed // 16), MAX_DIGEST_WORDS))
    stack.push_digest(digest)
    statistics.digest = float(stack.num_bits)
    waiting, raw, sizes, bits = list(range(len(images))), [], [], {}
    while waiting:
        size = _wave_size(networks, settings, images[waiting[-settings.lanes :]], stack.num_bits)
        chosen = waiting[-size:]
        rounding, trial = Encoder(), stack.copy()
        wave = _Wave(networks, settings, len(sizes), size, rounding)
        costs, bad = _push_wave(wave, trial, images[chosen], labels[chosen] if len(labels) else labels)
        if bad.any():
            raw += [place for place, is_bad in zip(chosen, bad, strict=True) if is_bad]
            waiting = [place for place in waiting if place not in set(raw)]
            progress(int(bad.sum()))
            continue
        stack, waiting = trial, waiting[:-size]
        sizes.append(size)
        bits |= rounding.bits
        for name, cost in costs.items():
            setattr(statistics, name, getattr(statistics, name) + cost)
        progress(size)
    return _finish(networks, stack, statistics, images, labels, raw, sizes, bits, len(digest))


def encode_raw(networks: Networks, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, Statistics]:
    """A chunk of images as they are."""
    stack, statistics = Stack(), Statistics(images=len(images))
    stack.push_digest(digest_of(images, labels, DIGEST_WORDS))
    return _finish(networks, stack, statistics, images, labels, list(range(len(images))), [], {}, DIGEST_WORDS)


def _finish(networks, stack, statistics, images, labels, raw, sizes, bits, digest_words):
    """Pushes what the decoder must know first."""
    raw.sort()
    before = stack.num_bits
    stack.push_integer(digest_words)
    table = Table.of(bits)
    start = stack.num_bits
    for width, content in reversed(table.buckets):
        stack.push_long(content, width)
        stack.push_integer(width)
    stack.push_integer(len(table.buckets))
    statistics.table = float(stack.num_bits - start)
    runs = [(size, len(list(run))) for size, run in itertools.groupby(sizes)]
    for size, number in runs:
        stack.push_integer(number)
        stack.push_integer(size)
    stack.push_integer(len(runs))
    if networks.config.num_classes:
        stack.push_uniform(labels[raw], networks.config.num_classes)
    stack.push_uniform(images[raw].ravel(), networks.config.num_values)
    for place in reversed(raw):
        stack.push_integer(place)
    stack.push_integer(len(raw))
    statistics.raw, words = len(raw), stack.words()
    statistics.payload = 4 * len(words)
    statistics.other += 8 * statistics.payload - before - statistics.table
    return words, statistics


def _wave_size(networks: Networks, settings: Settings, images: np.ndarray, num_bits: int) -> int:
    """How many of the last images find bits for their latents on the stack; one at least."""
    if not networks.latent_shapes:
        return len(images)
    wave = _Wave(networks, settings, 0, len(images), Encoder())
    needed = np.zeros(len(images))
    for params, bits in zip(wave.posterior(images), settings.latent_bits, strict=True):
        entropies = np.log2(np.maximum(params[..., 1], 1e-30) * math.sqrt(2 * math.pi * math.e)) + bits
        needed += np.maximum(entropies, 0.0).sum(axis=1)
    room = num_bits - 16 * DIGEST_WORDS
    return max(1, int((np.cumsum(needed[::-1]) <= room).sum()))


def _push_wave(
    wave: _Wave, stack: Stack, images: np.ndarray, labels: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Pushes a wave; bits by kind, and which images had better be stored as they are."""
    config, targets = wave.networks.config, images.astype(np.int64)
    posteriors = wave.posterior(images)
    latents = wave.latents(posteriors, lambda level: _reader(stack))
    # What the decoder will push: for its cost.
    returned = _Writer(wave.size)
    wave.latents(posteriors, lambda level: returned.chooser(latents[level], wave.trees[level].depth))
    pixels, priors = _Writer(wave.size), _Writer(wave.size)
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


def _push_prior(wave: _Wave, stack: Stack, level: int, latents: list[np.ndarray]) -> _Writer:
    """Pushes a level's latents, given those of the level above."""
    writer, depth = _Writer(wave.size), wave.trees[level].depth
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


def decode(
    networks: Networks,
    settings: Settings,
    words: np.ndarray,
    num_images: int,
    wanted: set[int] | None = None,
    progress: Callable[[int], None] = lambda number: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a chunk.

    Args:
      networks: the model.
      settings: of the file.
      words: uint32.
      num_images: N.
      wanted: which images are wanted; where each has a checksum, those behind are left out.
      progress: told how many images more are done.

    Returns:
      Images uint8 [M, H, W, C], the first M of N, and their labels [M], or [0] for a model without classes.

    Raises:
      DamagedError: if they are not those that were coded.
    """
    config, stack = networks.config, Stack(words)
    shape = config.image_shape
    raw = _pop_raw(networks, stack, num_images)
    progress(len(raw))
    sizes, table, digest_words = _pop_layout(settings, stack, num_images - len(raw))
    images = np.zeros((0, *shape), np.uint8)
    parts, labels = [], [np.zeros(0, np.int64)]
    places = [place for place in range(num_images) if place not in raw]
    done = 0
    for number in reversed(range(len(sizes))):
        if wanted is not None and settings.checksums and not any(place in wanted for place in places[done:]):
            break
        wave = _Wave(networks, settings, number, sizes[number], Decoder(table))
        wave_images, wave_labels = _pop_wave(wave, stack)
        if stack.num_bits < 8 * digest_words:
            raise DamagedError("it ends before its images do")
        parts.append(wave_images)
        labels.append(wave_labels)
        done += len(wave_images)
        progress(len(wave_images))
    coded, coded_labels = np.concatenate([images, *parts]), np.concatenate(labels)
    whole = done == len(places)
    first = num_images if whole else places[done - 1] + 1 if done else 0
    images = np.zeros((first, *shape), np.uint8)
    labels = np.zeros(first if config.num_classes else 0, np.int64)
    images[places[:done]] = coded
    if config.num_classes:
        labels[places[:done]] = coded_labels
    for place, (image, label) in raw.items():
        if place < first:
            images[place] = image
            if config.num_classes:
                labels[place] = label
    if whole:
        digest = stack.pop_uniform(digest_words, WORD)
        if stack.num_bits or not np.array_equal(digest, digest_of(images, labels, digest_words)):
            raise DamagedError("its images are not those that were coded")
    return images, labels


def _pop_raw(networks: Networks, stack: Stack, num_images: int) -> dict[int, tuple[np.ndarray, int]]:
    """The images that are stored as they are, and their labels."""
    number = stack.pop_integer()
    size = math.prod(networks.config.image_shape)
    if number > num_images or number * size > stack.num_bits:
        raise DamagedError(f"it has {number} raw images of {num_images}")
    places = [stack.pop_integer() for _ in range(number)]
    if places != sorted(set(places)) or (places and places[-1] >= num_images):
        raise DamagedError("the places of its raw images are out of order")
    values = stack.pop_uniform(number * size, networks.config.num_values)
    labels = np.zeros(number, np.int64)
    if networks.config.num_classes:
        labels = stack.pop_uniform(number, networks.config.num_classes)
    images = values.reshape(number, *networks.config.image_shape)
    return dict(zip(places, zip(images, labels, strict=True), strict=True))


def _pop_layout(settings: Settings, stack: Stack, num_images: int) -> tuple[list[int], Table, int]:
    """The sizes of the waves in the encoder's order, the table, and the words of the digest."""
    sizes, left = [], num_images
    for _ in range(stack.pop_integer()):
        size, number = stack.pop_integer(), stack.pop_integer()
        left -= size * number
        if not 1 <= size <= settings.lanes or not number or left < 0:
            raise DamagedError("its waves are not of its images")
        sizes += [size] * number
    if left:
        raise DamagedError("its waves are not of its images")
    buckets, number = [], stack.pop_integer()
    if number > stack.num_bits:
        raise DamagedError("its tables are longer than it")
    for _ in range(number):
        width = stack.pop_integer()
        if width > stack.num_bits:
            raise DamagedError("its tables are longer than it")
        buckets.append((width, stack.pop_long(width)))
    digest_words = stack.pop_integer()
    if not DIGEST_WORDS <= digest_words <= MAX_DIGEST_WORDS:
        raise DamagedError(f"its digest has {digest_words} words")
    return sizes[::-1], Table(buckets), digest_words


def _pop_wave(wave: _Wave, stack: Stack) -> tuple[np.ndarray, np.ndarray]:
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
    writer = _Writer(wave.size)
    wave.latents(posteriors, lambda level: writer.chooser(latents[level], wave.trees[level].depth))
    writer.push(stack)
    return images, labels
