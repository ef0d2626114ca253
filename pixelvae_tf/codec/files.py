"""Images to a file and back: a front (`front`), and chunks (`chunks`) that are coded one by one."""

import dataclasses
import math
from collections.abc import Callable, Iterable

import numpy as np

from pixelvae_tf import pixels
from pixelvae_tf.codec import chunks, front, waves
from pixelvae_tf.codec import jobs as jobs_lib
from pixelvae_tf.codec.networks import Networks
from pixelvae_tf.codec.stack import Stack
from pixelvae_tf.limits import MAX_PARALLEL

# An image's own checksum is worth its 32 bits where they are nothing beside the image.
CHECKSUMS_FROM_BITS = 2**14
# Chunks that a message names.
MOST_NAMED = 20

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Options:
    """How images are coded.

    Attributes:
      images_per_chunk: a damaged chunk costs these, and one image is had by decoding a chunk.
      lanes: images that the networks compute at once; the model's largest batch where it is smaller.
      tolerance: by how much a number of size 1 that the network computes may differ between two machines.
      checksums: whether each image has a checksum of its own beside the chunk's; None where an image has 2 KB.
      verify: whether each chunk is decoded at once, and stored as it is where that fails.
      jobs: chunks at a time, each in a process of its own.

    Raises:
      ValueError: for what is out of range.
    """

    images_per_chunk: int = 5000
    lanes: int = 128
    tolerance: float = 4e-6
    checksums: bool | None = None
    verify: bool = True
    jobs: int = 1

    def __post_init__(self):
        # An image may be a wave.
        for name, largest in (
            ("images_per_chunk", waves.MAX_WAVES),
            ("lanes", front.MAX_LANES),
            ("jobs", MAX_PARALLEL),
        ):
            if not 1 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must be in 1..{largest}. Received: {getattr(self, name)}")
        if not 0.0 <= self.tolerance <= front.MAX_TOLERANCE:
            raise ValueError(f"tolerance must be in 0..{front.MAX_TOLERANCE}. Received: {self.tolerance}")


@dataclasses.dataclass(frozen=True)
class Compressed:
    """A file.

    Attributes:
      content: its bytes.
      statistics: where they went; `overhead` beside the chunks' payload.
      overhead: bytes of header and index.
    """

    content: bytes
    statistics: chunks.Statistics
    overhead: int


def compress(
    networks: Networks,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    options: Options = Options(),
    progress: Progress = lambda done, total: None,
) -> Compressed:
    """Codes images.

    Args:
      networks: the model.
      images: uint8 [N, H, W, C] of its values.
      labels: integers [N], for a class-conditional model alone.
      options: how.
      progress: told of (images done, images in all).

    Returns:
      The file.

    Raises:
      ValueError: for images or labels that are not the model's.
    """
    config = networks.config
    pixels.check_images(images, config.image_shape, config.num_values)
    labels = _checked_labels(labels, len(images), config.num_classes)
    if len(images) > front.MAX_ALL_IMAGES:
        raise ValueError(f"images must be at most {front.MAX_ALL_IMAGES} a file. Received: {len(images)}")
    if len(images) > front.MAX_CHUNKS * options.images_per_chunk:
        raise ValueError(
            f"images_per_chunk must make at most {front.MAX_CHUNKS} chunks of {len(images)} images. "
            f"Received: {options.images_per_chunk}"
        )
    images = np.asarray(images, np.uint8)
    lanes = min(options.lanes, networks.max_batch)
    checksums = options.checksums
    if checksums is None:
        checksums = waves.raw_bits(config) >= CHECKSUMS_FROM_BITS
    settings = waves.Settings(lanes, options.tolerance, _latent_bits(networks, images, lanes), checksums)
    count = _counter(len(images) * (2 if options.verify else 1), progress)

    tasks = []
    for first in range(0, len(images), options.images_per_chunk):
        some = slice(first, first + options.images_per_chunk)
        tasks.append((settings, images[some], labels[some], options.verify))
    encoded = jobs_lib.run(_encode, networks, tasks, options.jobs, count)
    words = [words for words, _ in encoded]
    start = front.write_front(networks, settings, len(images), options.images_per_chunk, words)
    content = start + b"".join(each.astype("<u4").tobytes() for each in words)
    return Compressed(content, sum((each for _, each in encoded), chunks.Statistics()), len(start))


def _encode(networks: Networks, settings: waves.Settings, images, labels, verify: bool, count):
    """A chunk: its words, and where they went."""
    words, statistics = chunks.encode(networks, settings, images, labels, count)
    if verify:
        try:
            decoded, _ = chunks.decode(networks, settings, words, len(images), progress=count)
            good = np.array_equal(decoded, images)
        except waves.DamagedError:
            good = False
        if not good:
            return chunks.encode_raw(networks, images, labels)
    return words, statistics


def _counter(total: int, progress: Progress) -> Callable[[int], None]:
    """Adds up what is done."""
    done = 0

    def count(number: int) -> None:
        nonlocal done
        done += number
        progress(min(done, total), total)

    return count


def _checked_labels(labels: np.ndarray | None, number: int, num_classes: int) -> np.ndarray:
    if not num_classes:
        if labels is not None:
            raise ValueError("labels must be None: the model is not class-conditional. Received: labels")
        return np.zeros(0, np.int64)
    given = None if labels is None else np.asarray(labels)
    if given is None or given.dtype.kind not in "iu" or given.shape != (number,):
        received = "none" if given is None else f"{given.dtype.name} of shape {given.shape}"
        raise ValueError(f"labels must be integers [{number}], one an image. Received: {received}")
    if number and not 0 <= given.min() <= given.max() < num_classes:
        raise ValueError(f"labels must be in 0..{num_classes - 1}. Received: {given.min()}..{given.max()}")
    return given.astype(np.int64)


def _latent_bits(networks: Networks, images: np.ndarray, lanes: int) -> tuple[int, ...]:
    """Bins of half the width of narrow posteriors: the 5th percentile of their sigmas, over some of the images."""
    if not len(images):
        return (0,) * len(networks.latent_shapes)
    some = images[np.linspace(0, len(images) - 1, min(len(images), lanes)).astype(np.int64)]
    of_levels = [params[..., 1][np.isfinite(params[..., 1])] for params in networks.posterior(some)]
    sigmas = [np.quantile(of_level, 0.05) if len(of_level) else 1.0 for of_level in of_levels]
    bits = [math.ceil(1.0 - math.log2(max(sigma, 1e-6))) for sigma in sigmas]
    return tuple(int(np.clip(each, 3, front.MAX_LATENT_BITS)) for each in bits)


def decompress(
    networks: Networks,
    content: bytes,
    only: Iterable[int] | None = None,
    progress: Progress = lambda done, total: None,
    jobs: int = 1,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes a file.

    Args:
      networks: the model that made it.
      content: of the file.
      only: the places of the images that are wanted, from 0; all by default. Other chunks are not looked at.
      progress: told of (images done, images in all).
      jobs: chunks at a time, each in a process of its own.

    Returns:
      Images uint8 [N, H, W, C], exactly those that were coded, in the order of `only`; labels int64 [N], or None for a
      model without classes.

    Raises:
      ValueError: for another model's file, a file that is not whole, places that it does not have; or
        `DamagedError`, which names the chunks that do not decode, and why.
    """
    Stack()  # raises if its package is missing, which is no fault of the file
    layout = front.read_layout(content)
    front.check_model(layout, networks)
    wanted = range(layout.num_images) if only is None else [int(place) for place in only]
    if wanted and not 0 <= min(wanted) <= max(wanted) < layout.num_images:
        raise ValueError(f"only must be places in 0..{layout.num_images - 1}. Received: {min(wanted)}..{max(wanted)}")
    places = np.array(wanted, np.int64)
    ends = np.cumsum(layout.images, dtype=np.int64)
    firsts, of_chunk = ends - layout.images, np.searchsorted(ends, places, side="right")
    # The chunks that are needed, and which of `places` are in each.
    needed, starts = np.unique(np.sort(of_chunk), return_index=True)
    here = dict(zip(needed.tolist(), np.split(np.argsort(of_chunk, kind="stable"), starts[1:]), strict=False))
    count = _counter(int(layout.images[needed].sum(dtype=np.int64)), progress)

    failed, tasks = {}, {}
    for chunk in needed.tolist():
        wanted = None if only is None else set((places[here[chunk]] - firsts[chunk]).tolist())
        try:
            words = layout.words_of(content, chunk)
            tasks[chunk] = layout.settings, words, int(layout.images[chunk]), wanted
        except waves.DamagedError as error:
            failed[chunk] = str(error)
    if failed:  # which is known before the others are decoded
        raise _damaged(failed, firsts, ends)
    decoded = dict(zip(tasks, jobs_lib.run(_decode, networks, list(tasks.values()), jobs, count), strict=True))
    failed = {chunk: part for chunk, part in decoded.items() if isinstance(part, str)}
    if failed:
        raise _damaged(failed, firsts, ends)
    images = np.zeros((len(places), *networks.config.image_shape), np.uint8)
    labels = np.zeros(len(places), np.int64) if networks.config.num_classes else None
    for chunk, (of_images, of_labels) in decoded.items():
        images[here[chunk]] = of_images[places[here[chunk]] - firsts[chunk]]
        if labels is not None:
            labels[here[chunk]] = of_labels[places[here[chunk]] - firsts[chunk]]
    return images, labels


def _damaged(failed: dict[int, str], firsts: np.ndarray, ends: np.ndarray) -> waves.DamagedError:
    """An error that names chunks by the places of their images, and why each has none."""
    names = [f"chunk {at} (images {firsts[at]}..{ends[at] - 1}): {failed[at]}" for at in sorted(failed)]
    more = f"; and {len(names) - MOST_NAMED} more chunks" if len(names) > MOST_NAMED else ""
    shown = "; ".join(names[:MOST_NAMED]) + more
    return waves.DamagedError(f"input must decode to the images that were coded. Received: {shown}")


def _decode(networks: Networks, settings: waves.Settings, words, number: int, wanted: set[int] | None, count):
    """A chunk's images and labels, or why it has none."""
    try:
        return chunks.decode(networks, settings, words, number, wanted, count)
    except (ValueError, OverflowError) as error:
        return str(error)
