"""The file: what it says of itself, an index of its chunks, and the chunks. docs/codec.md is its specification.

    8 bytes     the magic number, the last byte the version
    4 bytes     L, the length of the header
    L bytes     the header, JSON
    12 bytes a chunk: how many images, how many words, CRC-32 of the words
    4 bytes     CRC-32 of all before
    the words of the chunks

All integers are unsigned, the lowest byte first.
"""

import concurrent.futures
import dataclasses
import json
import math
import threading
import zlib
from collections.abc import Callable, Iterable

import numpy as np

from pixelvae_tf import pixels
from pixelvae_tf.codec import chunks
from pixelvae_tf.codec.networks import Networks

VERSION = 1
MAGIC = b"PIXVAEC" + bytes([VERSION])
_ENTRY = np.dtype([("images", "<u4"), ("words", "<u4"), ("crc32", "<u4")])
MAX_HEADER, MAX_CHUNKS, MAX_IMAGES, MAX_ALL_IMAGES = 2**16, 2**20, 2**20, 2**24
MAX_LANES = 2**16
# An image's own checksum is worth its 32 bits where they are nothing beside the image.
CHECKSUMS_FROM_BITS = 2**14

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
      jobs: chunks at a time.

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
        for name, largest in (("images_per_chunk", MAX_IMAGES), ("lanes", MAX_LANES), ("jobs", 2**10)):
            if not 1 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must be in 1..{largest}. Received: {getattr(self, name)}")
        if not 0.0 <= self.tolerance <= 0.1:
            raise ValueError(f"tolerance must be in 0..0.1. Received: {self.tolerance}")


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
    if len(images) > MAX_ALL_IMAGES:
        raise ValueError(f"images must be at most {MAX_ALL_IMAGES} a file. Received: {len(images)}")
    images = np.asarray(images, np.uint8)
    lanes = min(options.lanes, networks.max_batch)
    checksums = options.checksums
    if checksums is None:
        checksums = chunks.raw_bits(config) >= CHECKSUMS_FROM_BITS
    settings = chunks.Settings(lanes, options.tolerance, _latent_bits(networks, images, lanes), checksums)
    count = _counter(len(images) * (2 if options.verify else 1), progress)

    def one(first: int) -> tuple[np.ndarray, chunks.Statistics]:
        some = slice(first, first + options.images_per_chunk)
        some_labels = labels[some] if config.num_classes else labels
        words, statistics = chunks.encode(networks, settings, images[some], some_labels, count)
        if options.verify:
            try:
                decoded, _ = chunks.decode(networks, settings, words, len(images[some]), progress=count)
                good = np.array_equal(decoded, images[some])
            except chunks.DamagedError:
                good = False
            if not good:
                words, statistics = chunks.encode_raw(networks, images[some], some_labels)
        return words, statistics

    made = _in_parallel(one, range(0, len(images), options.images_per_chunk), options.jobs)
    content, overhead = _assemble(
        networks, settings, len(images), options.images_per_chunk, [words for words, _ in made]
    )
    return Compressed(content, sum((each for _, each in made), chunks.Statistics()), overhead)


def _in_parallel(function: Callable, items: Iterable, jobs: int) -> list:
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(function, items))


def _counter(total: int, progress: Progress) -> Callable[[int], None]:
    """Adds up what several threads have done."""
    done, lock = [0], threading.Lock()

    def count(number: int) -> None:
        with lock:
            done[0] += number
            progress(min(done[0], total), total)

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
    sigmas = [np.quantile(params[..., 1], 0.05) for params in networks.posterior(some)]
    return tuple(int(np.clip(math.ceil(1.0 - math.log2(max(sigma, 1e-6))), 3, 16)) for sigma in sigmas)


def _assemble(networks, settings, num_images, images_per_chunk, payloads) -> tuple[bytes, int]:
    card = networks.card
    header = {
        "fingerprint": networks.fingerprint,
        "model": card.get("name", ""),
        "data": card.get("data", {}).get("name", ""),
        "shape": list(networks.config.image_shape),
        "values": networks.config.num_values,
        "lanes": settings.lanes,
        "tolerance": settings.tolerance,
        "latent_bits": list(settings.latent_bits),
        "checksums": int(settings.checksums),
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    index = np.zeros(len(payloads), _ENTRY)
    for place, words in enumerate(payloads):
        images = min(images_per_chunk, num_images - place * images_per_chunk)
        index[place] = images, len(words), zlib.crc32(words.astype("<u4").tobytes())
    front = MAGIC + len(text).to_bytes(4, "little") + text + len(payloads).to_bytes(4, "little") + index.tobytes()
    front += zlib.crc32(front).to_bytes(4, "little")
    return front + b"".join(words.astype("<u4").tobytes() for words in payloads), len(front)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the front of a file says.

    Attributes:
      header: the JSON object.
      settings: of its chunks.
      images, words, crc32: of each chunk.
      start: where the words of the first chunk are.
    """

    header: dict
    settings: chunks.Settings
    images: np.ndarray
    words: np.ndarray
    crc32: np.ndarray
    start: int

    @property
    def num_images(self) -> int:
        """In all chunks."""
        return int(self.images.sum(dtype=np.int64))


def read_layout(content: bytes) -> Layout:
    """Reads and checks the front of a file.

    Raises:
      ValueError: if it is no such file, of another version, truncated or damaged.
    """
    content = memoryview(content)
    if content[: len(MAGIC) - 1] != MAGIC[:-1] or len(content) < len(MAGIC) + 4:
        raise ValueError(
            "input must be a file of pixelvae-compress. Received: another kind of file, or the start of one"
        )
    if content[len(MAGIC) - 1] != VERSION:
        raise ValueError(f"input must be of version {VERSION}. Received: version {content[len(MAGIC) - 1]}")
    at = len(MAGIC)

    def take(number: int) -> memoryview:
        nonlocal at
        if number > len(content) - at:
            raise ValueError(f"input must be whole. Received: a file that ends after {len(content)} bytes")
        at += number
        return content[at - number : at]

    length = int.from_bytes(take(4), "little")
    if length > MAX_HEADER:
        raise ValueError(f"input must have a header of at most {MAX_HEADER} bytes. Received: {length}")
    text = bytes(take(length))
    number = int.from_bytes(take(4), "little")
    if number > MAX_CHUNKS:
        raise ValueError(f"input must have at most {MAX_CHUNKS} chunks. Received: {number}")
    index = np.frombuffer(take(number * _ENTRY.itemsize), _ENTRY)
    if zlib.crc32(content[:at]) != int.from_bytes(take(4), "little"):
        raise ValueError("input must be as it was written. Received: a header or index whose checksum is another")
    expected, actual = 4 * int(index["words"].sum(dtype=np.int64)), len(content) - at
    if expected != actual:
        raise ValueError(f"input must be whole. Received: {actual} bytes of chunks, where {expected} are announced")
    header, settings = _read_header(text)
    if (index["images"] > MAX_IMAGES).any() or (index["images"] < 1).any():
        raise ValueError(f"input must have 1..{MAX_IMAGES} images in a chunk. Received: other numbers")
    layout = Layout(header, settings, index["images"], index["words"], index["crc32"], at)
    if layout.num_images > MAX_ALL_IMAGES:
        raise ValueError(f"input must have at most {MAX_ALL_IMAGES} images. Received: {layout.num_images}")
    return layout


def _read_header(text: bytes) -> tuple[dict, chunks.Settings]:
    try:
        header = dict(json.loads(text))
        bits = tuple(map(int, header["latent_bits"]))
        settings = chunks.Settings(int(header["lanes"]), float(header["tolerance"]), bits, bool(header["checksums"]))
        shape, fingerprint = list(header["shape"]), header["fingerprint"]
        good = 1 <= settings.lanes <= MAX_LANES and 0.0 <= settings.tolerance <= 0.1
        good = good and all(0 <= each <= 16 for each in bits) and isinstance(fingerprint, str) and len(shape) == 3
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"input must have a header that this version knows. Received: {error!r}") from error
    if not good:
        raise ValueError(f"input must have a header that this version knows. Received: {text[:200]!r}")
    return header, settings


def check_model(layout: Layout, networks: Networks) -> None:
    """Raises a ValueError unless a file was made by this model."""
    header, config = layout.header, networks.config
    if header["fingerprint"] != networks.fingerprint:
        raise ValueError(
            f"saved_model must be the one that made the file, {header.get('model')!r} of fingerprint "
            f"{header['fingerprint']}. Received: {networks.card.get('name')!r} of fingerprint {networks.fingerprint}"
        )
    expected = list(config.image_shape), config.num_values, len(networks.latent_shapes)
    if (list(header["shape"]), header.get("values"), len(layout.settings.latent_bits)) != expected:
        raise ValueError(
            f"input must be of images {list(config.image_shape)} of {config.num_values} values. Received: "
            f"{header['shape']} of {header.get('values')} values"
        )
    if layout.settings.lanes > networks.max_batch:
        raise ValueError(
            f"saved_model must take batches of {layout.settings.lanes}, as the file was made with. Received: one of at "
            f"most {networks.max_batch}; pixelvae-export --max_batch={layout.settings.lanes} writes one"
        )


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
      jobs: chunks at a time.

    Returns:
      Images uint8 [N, H, W, C], exactly those that were coded, in the order of `only`; labels int64 [N], or None for a
      model without classes.

    Raises:
      ValueError: for another model's file, a file that is not whole, places that it does not have; or
        `DamagedError`, which names the chunks that do not decode, and why.
    """
    layout = read_layout(content)
    check_model(layout, networks)
    places = np.arange(layout.num_images) if only is None else np.array([int(place) for place in only], np.int64)
    if len(places) and not 0 <= places.min() <= places.max() < layout.num_images:
        raise ValueError(f"only must be places in 0..{layout.num_images - 1}. Received: {places.min()}..{places.max()}")
    ends = np.cumsum(layout.images, dtype=np.int64)
    firsts, word_ends = ends - layout.images, np.cumsum(layout.words, dtype=np.int64)
    of_chunk = np.searchsorted(ends, places, side="right")
    needed = sorted(set(of_chunk.tolist()))
    total = int(layout.images[needed].sum(dtype=np.int64))
    count = _counter(total, progress)

    def one(chunk: int):
        start = layout.start + 4 * int(word_ends[chunk] - layout.words[chunk])
        payload = content[start : start + 4 * int(layout.words[chunk])]
        if zlib.crc32(payload) != layout.crc32[chunk]:
            return "its bytes are not those that were written"
        wanted = None if only is None else {int(place - firsts[chunk]) for place in places[of_chunk == chunk]}
        words = np.frombuffer(payload, "<u4")
        try:
            return chunks.decode(networks, layout.settings, words, int(layout.images[chunk]), wanted, count)
        except (ValueError, OverflowError) as error:
            return str(error)

    decoded = dict(zip(needed, _in_parallel(one, needed, jobs), strict=True))
    failed = {chunk: reason for chunk, reason in decoded.items() if isinstance(reason, str)}
    if failed:
        shown = "; ".join(
            f"chunk {chunk} (images {firsts[chunk]}..{ends[chunk] - 1}): {reason}" for chunk, reason in failed.items()
        )
        raise chunks.DamagedError(f"input must decode to the images that were coded. Received: {shown}")
    config = networks.config
    images = np.zeros((len(places), *config.image_shape), np.uint8)
    labels = np.zeros(len(places), np.int64) if config.num_classes else None
    for place, chunk in enumerate(of_chunk.tolist()):
        images[place] = decoded[chunk][0][places[place] - firsts[chunk]]
        if labels is not None:
            labels[place] = decoded[chunk][1][places[place] - firsts[chunk]]
    return images, labels
