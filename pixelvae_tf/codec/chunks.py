"""A chunk: images on one stack, with bits back (Townsend, Bird and Barber 2019).

An image x with latents z costs -log p(x | z) - log p(z) + log q(z | x): its latents are popped off the stack by
q(z | x), which returns bits of what was pushed before, then x is pushed by p(x | z) and z by p(z). The decoder pops z
and x, computes q(z | x), and pushes z, which gives the stack back as it was.

Images are coded in *waves*, as many at once as there are lanes: their networks run as one batch. Of a wave all latents
are popped before a pixel is pushed, so that it needs bits on the stack for all of them. The first wave is of few images
therefore, and every wave is as large as what is there allows; the first bits of all are a digest of the chunk's images.
The encoder starts from the last image, so that the decoder gives the first one first. `waves` has what is inside.

From the top of the stack:

    raw images: their number, their places, their values
    waves: runs of equal sizes, in the decoder's order
    the table of `rounding`
    how many 16-bit words the digest has
    the waves
    the digest
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np

from pixelvae_tf.codec import waves
from pixelvae_tf.codec.networks import Networks
from pixelvae_tf.codec.rounding import Decoder, Encoder, Table
from pixelvae_tf.codec.stack import WORD, Stack, digest_of
from pixelvae_tf.codec.waves import DamagedError, Settings, Wave

# Bits left on the stack when latents are popped, in words of 16.
DIGEST_WORDS = 4
MAX_DIGEST_WORDS = 2**16


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


@dataclasses.dataclass
class _Layout:
    """What a decoder must know before the waves.

    Attributes:
      digest_words: how many 16-bit words the digest has.
      raw: places of the images that are stored as they are.
      sizes: of the waves, in the encoder's order.
      table: of `rounding`.
    """

    digest_words: int
    raw: list[int] = dataclasses.field(default_factory=list)
    sizes: list[int] = dataclasses.field(default_factory=list)
    table: Table = dataclasses.field(default_factory=lambda: Table([]))


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
    layout = _Layout(min(DIGEST_WORDS + -(-needed // 16), MAX_DIGEST_WORDS))
    stack.push_uniform(digest_of(images, labels, layout.digest_words), WORD)
    statistics.digest = float(stack.num_bits)
    waiting, bits = list(range(len(images))), {}
    while waiting:
        size = _wave_size(networks, settings, images[waiting[-settings.lanes :]], stack.num_bits)
        chosen = waiting[-size:]
        rounding, trial = Encoder(), stack.copy()
        wave = Wave(networks, settings, len(layout.sizes), size, rounding)
        costs, bad = waves.push(wave, trial, images[chosen], labels[chosen] if len(labels) else labels)
        if bad.any():
            layout.raw += [place for place, is_bad in zip(chosen, bad, strict=True) if is_bad]
            waiting = sorted(set(waiting) - set(layout.raw))
            progress(int(bad.sum()))
            continue
        stack, waiting = trial, waiting[:-size]
        layout.sizes.append(size)
        bits |= rounding.bits
        for name, cost in costs.items():
            setattr(statistics, name, getattr(statistics, name) + cost)
        progress(size)
    layout.table = Table.of(bits)
    return _finish(networks, stack, statistics, images, labels, layout)


def encode_raw(networks: Networks, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, Statistics]:
    """A chunk of images as they are."""
    stack, statistics = Stack(), Statistics(images=len(images))
    stack.push_uniform(digest_of(images, labels, DIGEST_WORDS), WORD)
    layout = _Layout(DIGEST_WORDS, raw=list(range(len(images))))
    return _finish(networks, stack, statistics, images, labels, layout)


def _finish(
    networks: Networks, stack: Stack, statistics: Statistics, images: np.ndarray, labels: np.ndarray, layout: _Layout
) -> tuple[np.ndarray, Statistics]:
    """Pushes what the decoder must know first."""
    raw, before = sorted(layout.raw), stack.num_bits
    stack.push_integer(layout.digest_words)
    start = stack.num_bits
    for width, content in reversed(layout.table.buckets):
        stack.push_long(content, width)
        stack.push_integer(width)
    stack.push_integer(len(layout.table.buckets))
    statistics.table = float(stack.num_bits - start)
    runs = [(size, len(list(run))) for size, run in itertools.groupby(layout.sizes)]
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
    wave = Wave(networks, settings, 0, len(images), Encoder())
    needed = np.zeros(len(images))
    for params, bits in zip(wave.posterior(images), settings.latent_bits, strict=True):
        entropies = np.log2(np.maximum(params[..., 1], 1e-30) * math.sqrt(2 * math.pi * math.e)) + bits
        needed += np.maximum(entropies, 0.0).sum(axis=1)
    room = num_bits - 16 * DIGEST_WORDS
    return max(1, int((np.cumsum(needed[::-1]) <= room).sum()))


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
      wanted: which images are wanted; where each has a checksum, those after them are left out.
      progress: told how many images more are done.

    Returns:
      Images uint8 [M, H, W, C], the first M of N, and their labels [M], or [0] for a model without classes.

    Raises:
      DamagedError: if they are not those that were coded.
    """
    stack = Stack(words)
    raw = _pop_raw(networks, stack, num_images)
    progress(len(raw))
    layout = _pop_layout(settings, stack, num_images - len(raw))
    places = np.setdiff1d(np.arange(num_images), list(raw), assume_unique=True)
    last = max(wanted, default=-1) if wanted is not None and settings.checksums else num_images
    parts, done = [], 0
    for number in reversed(range(len(layout.sizes))):
        if places[done] > last:
            break
        size = layout.sizes[number]
        parts.append(waves.pop(Wave(networks, settings, number, size, Decoder(layout.table)), stack))
        if stack.num_bits < 8 * layout.digest_words:
            raise DamagedError("it ends before its images do")
        done += size
        progress(size)
    first = num_images if done == len(places) else int(places[done])
    images, labels = _put_together(networks, first, places[:done], parts, raw)
    if done == len(places):
        digest = stack.pop_uniform(layout.digest_words, WORD)
        if stack.num_bits or not np.array_equal(digest, digest_of(images, labels, layout.digest_words)):
            raise DamagedError("its images are not those that were coded")
    return images, labels


def _put_together(
    networks: Networks, number: int, places: np.ndarray, parts: list[tuple], raw: dict[int, tuple]
) -> tuple[np.ndarray, np.ndarray]:
    """The first so many images and labels of a chunk, of waves and of what was stored as it is."""
    images = np.zeros((number, *networks.config.image_shape), np.uint8)
    labels = np.zeros(number if networks.config.num_classes else 0, np.int64)
    coded = [(places, *map(np.concatenate, zip(*parts, strict=True)))] if parts else []
    stored = [([place], image[None], label[None]) for place, (image, label) in raw.items() if place < number]
    for where, of_images, of_labels in (*coded, *stored):
        images[where] = of_images
        if len(labels):
            labels[where] = of_labels
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


def _pop_layout(settings: Settings, stack: Stack, num_images: int) -> _Layout:
    """The rest of it, of so many coded images."""
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
    if 8 * number > stack.num_bits:  # an empty stack gives as many zeros as one asks for
        raise DamagedError("its tables are longer than it")
    for _ in range(number):
        width = stack.pop_integer()
        if width > stack.num_bits:
            raise DamagedError("its tables are longer than it")
        buckets.append((width, stack.pop_long(width)))
    digest_words = stack.pop_integer()
    if not DIGEST_WORDS <= digest_words <= MAX_DIGEST_WORDS:
        raise DamagedError(f"its digest has {digest_words} words")
    return _Layout(digest_words, sizes=sizes[::-1], table=Table(buckets))
