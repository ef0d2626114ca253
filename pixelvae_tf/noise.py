"""Counter-based noise: (seed, stream, site) -> uniform or normal.

Every image has one int64 seed; every random number that makes or encodes it is a pure function
of that seed, the *stream* (what the number is for) and the *site* (where in the tensor it goes).
Hence a sample does not depend on its neighbours in the batch, on the replica it was made on, or
on whether the program ran eagerly, as a graph or under XLA. TensorFlow's own stateless
generators give other numbers under XLA, so the bits are made here from integer operations.

The generator is Threefry-2x32 with 20 rounds: Salmon, Moraes, Dror and Shaw, "Parallel random
numbers: as easy as 1, 2, 3" (SC 2011). The key is the seed; the counter is (stream, site).
"""

import enum
import math

import numpy as np
import tensorflow as tf

from pixelvae_tf.limits import MAX_BATCH, MAX_DRAWS

__all__ = ["Kind", "as_seeds", "derive_seeds", "image_seeds", "normal", "stream", "uniform"]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
# Kind, level and draw share the 32 bits of a stream: 4 + 8 + 20.
MAX_LEVELS = 2**8


class Kind(enum.IntEnum):
    """What a number is for. A new purpose is a new last line: the values are part of every seed."""

    POSTERIOR = 0
    PRIOR = 1
    PIXELS = 2
    DERIVED_SEED = 3
    GIBBS = 4
    MUTATION = 5
    BINARIZATION = 6


def stream(kind: Kind, level: int = 0, draw: int | tf.Tensor = 0) -> tf.Tensor:
    """Names an independent stream of numbers.

    Args:
      kind: what the numbers are for.
      level: level of latents, 0 .. MAX_LEVELS - 1.
      draw: importance sample or Gibbs round, 0 .. MAX_DRAWS - 1; may be a tensor, [] or [K] for K streams.

    Returns:
      A uint32 tensor, [] or [K].

    Raises:
      ValueError: if `level`, or a `draw` known beforehand, is out of range.
    """
    if not 0 <= level < MAX_LEVELS:
        raise ValueError(f"level must be in 0..{MAX_LEVELS - 1}. Received: level={level}")
    if not tf.is_tensor(draw) and not ((np.asarray(draw) >= 0) & (np.asarray(draw) < MAX_DRAWS)).all():
        raise ValueError(f"draw must be in 0..{MAX_DRAWS - 1}. Received: draw={draw}")
    name = (int(kind) << 28) | (level << 20)
    return tf.constant(name, tf.uint32) + tf.cast(draw, tf.uint32)


def _words(integers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """int64 [...] -> (low, high) uint32 [...]."""
    integers = tf.cast(integers, tf.int64)
    mask = tf.constant(0xFFFFFFFF, tf.int64)
    high = tf.bitwise.bitwise_and(tf.bitwise.right_shift(integers, tf.constant(32, tf.int64)), mask)
    return tf.cast(tf.bitwise.bitwise_and(integers, mask), tf.uint32), tf.cast(high, tf.uint32)


def threefry(key: tuple[tf.Tensor, tf.Tensor], counter: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Threefry-2x32, 20 rounds.

    Args:
      key: two uint32 tensors.
      counter: two uint32 tensors; all four broadcast together.

    Returns:
      Two uint32 tensors of the broadcast shape.
    """
    key0, key1 = key
    parity = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(key0, key1), tf.constant(_PARITY, tf.uint32))
    keys = (key0, key1, parity)
    x0, x1 = counter[0] + key0, counter[1] + key1
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x0 = x0 + x1
            left = tf.bitwise.left_shift(x1, tf.constant(rotation, tf.uint32))
            right = tf.bitwise.right_shift(x1, tf.constant(32 - rotation, tf.uint32))
            x1 = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_or(left, right), x0)
        x0 = x0 + keys[(block + 1) % 3]
        x1 = x1 + keys[(block + 2) % 3] + tf.constant(block + 1, tf.uint32)
    return x0, x1


def as_seeds(seeds) -> tf.Tensor:
    """One seed for each image, from whatever integers a caller has.

    Args:
      seeds: integers [B] of any dtype, as an array, tensor, list or range; or a number B, which stands for the seeds
        0 .. B - 1.

    Returns:
      int64 [B].

    Raises:
      ValueError: for what is not integers, of another rank, or a number (known beforehand) below 1 or above 2**20.
    """
    expected = "seeds must be integers [B], or a number of images, whose seeds are 0, 1, 2, ..."
    given = tf.convert_to_tensor(seeds if tf.is_tensor(seeds) else _integers(seeds, expected))
    if not given.dtype.is_integer or given.shape.rank not in (0, 1, None):
        raise ValueError(f"{expected} Received: {given.dtype.name} of shape {given.shape}")
    given = tf.cast(given, tf.int64)
    if given.shape.rank != 0:
        return given
    number = tf.get_static_value(given)
    if number is not None and not 1 <= number <= MAX_BATCH:
        raise ValueError(f"{expected} Received: {number}, where 1..{MAX_BATCH} images can be made at once")
    return tf.range(given)


def _integers(seeds, expected: str) -> np.ndarray:
    """Python's or NumPy's integers as an array."""
    array = np.asarray(seeds)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{expected} Received: {seeds!r}")
    return array


def seeds_for(images: tf.Tensor, seeds=None) -> tf.Tensor:
    """The seeds that are given, as `as_seeds` reads them, or each image's own: `image_seeds`."""
    return image_seeds(images) if seeds is None else as_seeds(seeds)


def bits(seeds: tf.Tensor, stream: tf.Tensor, num_sites: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Two independent random words for each image and site.

    Args:
      seeds: one for each image, as for `as_seeds`.
      stream: uint32 [] or, K known beforehand, [K], from `stream`.
      num_sites: how many sites an image has.

    Returns:
      Two uint32 tensors [B, num_sites], of K streams [K, B, num_sites].

    Raises:
      ValueError: as `as_seeds`.
    """
    low, high = _words(as_seeds(seeds))
    sites = tf.range(tf.cast(num_sites, tf.int64), dtype=tf.int64)
    return threefry((low[:, None], high[:, None]), (stream[..., None, None], tf.cast(sites, tf.uint32)))


def _open_interval(word: tf.Tensor) -> tf.Tensor:
    """uint32 -> float32 in (0, 1): the 2**23 midpoints (k + 1/2) / 2**23, each exact in float32."""
    word = tf.cast(tf.bitwise.right_shift(word, tf.constant(9, tf.uint32)), tf.int32)
    return (tf.cast(word, tf.float32) + 0.5) * 2.0**-23


def uniform(seeds: tf.Tensor, stream: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Uniform numbers in the open interval (0, 1), equal bit for bit on every path.

    Args:
      seeds: as for `as_seeds`.
      stream: uint32 [] or, K known beforehand, [K], from `stream`.
      shape: shape of one image's numbers.

    Returns:
      float32 [B, *shape], of K streams [K, B, *shape].
    """
    word, _ = bits(seeds, stream, math.prod(shape))
    return tf.reshape(_open_interval(word), (*stream.shape, -1, *shape))


def normal(seeds: tf.Tensor, stream: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Standard normal numbers by Box and Muller (1958), within +-5.8.

    Equal to about 1e-6 between eager, graph and XLA: the bits agree, `log` and `cos` round.

    Args:
      seeds: as for `as_seeds`.
      stream: uint32 [] or, K known beforehand, [K], from `stream`.
      shape: shape of one image's numbers.

    Returns:
      float32 [B, *shape], of K streams [K, B, *shape].
    """
    first, second = bits(seeds, stream, math.prod(shape))
    radius = tf.sqrt(-2.0 * tf.math.log(_open_interval(first)))
    normals = radius * tf.cos(2.0 * math.pi * _open_interval(second))
    return tf.reshape(normals, (*stream.shape, -1, *shape))


def derive_seeds(seed: int | tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """One new seed for each index: those of images in a batch, of batches in a run.

    Args:
      seed: scalar int64.
      indices: int64 [N], for example positions in an epoch-free stream of images.

    Returns:
      int64 [N].
    """
    # The index takes the whole counter, so the key is first moved to a stream of its own.
    zero = tf.zeros([], tf.uint32)
    key = threefry(_words(tf.convert_to_tensor(seed, tf.int64)), (stream(Kind.DERIVED_SEED), zero))
    low, high = threefry(key, _words(indices))
    return tf.bitwise.bitwise_or(
        tf.cast(low, tf.int64), tf.bitwise.left_shift(tf.cast(high, tf.int64), tf.constant(32, tf.int64))
    )


def image_seeds(images: tf.Tensor) -> tf.Tensor:
    """Each image's own seed, a hash of its pixels: the same in any batch.

    Args:
      images: integers [B, H, W, C].

    Returns:
      int64 [B].
    """
    flat = tf.reshape(tf.cast(images, tf.int64), (tf.shape(images)[0], math.prod(images.shape[1:])))
    # Multiply-add modulo 2**64 (Carter and Wegman 1979): integers wrap.
    multipliers = derive_seeds(0, tf.range(flat.shape[1], dtype=tf.int64))
    return tf.reduce_sum(flat * multipliers, axis=1)
