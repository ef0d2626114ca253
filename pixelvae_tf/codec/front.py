"""The front of a file: what it says of itself, and an index of its chunks. docs/codec.md is its specification.

    8 bytes     the magic number, the last byte the version
    4 bytes     L, the length of the header
    L bytes     the header, JSON
    12 bytes a chunk: how many images, how many words, CRC-32 of the words
    4 bytes     CRC-32 of all before
    the words of the chunks

All integers are unsigned, the lowest byte first.
"""

import dataclasses
import functools
import json
import zlib
from collections.abc import Sequence

import numpy as np

from pixelvae_tf.codec.networks import Networks
from pixelvae_tf.codec.waves import DamagedError, Settings

VERSION = 1
MAGIC = b"PIXVAEC" + bytes([VERSION])
ENTRY = np.dtype([("images", "<u4"), ("words", "<u4"), ("crc32", "<u4")])
MAX_HEADER, MAX_CHUNKS, MAX_IMAGES, MAX_ALL_IMAGES = 2**16, 2**20, 2**20, 2**24
MAX_LANES = 2**16
MAX_TOLERANCE = 0.1
MAX_LATENT_BITS = 16


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
    settings: Settings
    images: np.ndarray
    words: np.ndarray
    crc32: np.ndarray
    start: int

    @property
    def num_images(self) -> int:
        """In all chunks."""
        return int(self.images.sum(dtype=np.int64))

    @functools.cached_property
    def _word_ends(self) -> np.ndarray:
        return np.cumsum(self.words, dtype=np.int64)

    def words_of(self, content: bytes, chunk: int) -> np.ndarray:
        """The words of a chunk, uint32.

        Raises:
          DamagedError: if they are not those that were written.
        """
        end = self.start + 4 * int(self._word_ends[chunk])
        payload = content[end - 4 * int(self.words[chunk]) : end]
        if zlib.crc32(payload) != self.crc32[chunk]:
            raise DamagedError("its bytes are not those that were written")
        return np.frombuffer(payload, "<u4")


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
    index = np.frombuffer(take(number * ENTRY.itemsize), ENTRY)
    if zlib.crc32(content[:at]) != int.from_bytes(take(4), "little"):
        raise ValueError(
            "input must be as it was written. Received: a header or index that does not match its checksum"
        )
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


def _read_header(text: bytes) -> tuple[dict, Settings]:
    try:
        header = dict(json.loads(text))
        bits = tuple(map(int, header["latent_bits"]))
        settings = Settings(int(header["lanes"]), float(header["tolerance"]), bits, bool(header["checksums"]))
        shape, fingerprint = list(header["shape"]), header["fingerprint"]
        good = 1 <= settings.lanes <= MAX_LANES and 0.0 <= settings.tolerance <= MAX_TOLERANCE
        good = good and all(0 <= each <= MAX_LATENT_BITS for each in bits)
        good = good and isinstance(fingerprint, str) and len(shape) == 3
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"input must have a header that this version knows. Received: {error!r:.200}") from error
    if not good:
        raise ValueError(f"input must have a header that this version knows. Received: {text[:200]!r}")
    return header, settings


def check_model(layout: Layout, networks: Networks) -> None:
    """Raises a ValueError unless a file was made by this model."""
    header, config = layout.header, networks.config
    if header["fingerprint"] != networks.fingerprint:
        model = f"{header.get('model')!r:.100} of fingerprint {header['fingerprint']!r:.100}"
        raise ValueError(
            f"saved_model must be the one that made the file, {model}. Received: {networks.card.get('name')!r} of "
            f"fingerprint {networks.fingerprint!r}"
        )
    computed = header.get("dtype", ""), networks.card.get("dtype", "")
    if all(computed) and computed[0] != computed[1]:  # earlier versions do not say
        raise ValueError(
            f"saved_model must compute in the precision that the file was made with, {computed[0]!r:.100}. Received: "
            f"one that computes in {computed[1]!r}; pixelvae-export --dtype writes another"
        )
    expected = list(config.image_shape), config.num_values, len(networks.latent_shapes)
    if (header["shape"], header.get("values"), len(layout.settings.latent_bits)) != expected:
        raise ValueError(
            f"input must be of images {list(config.image_shape)} of {config.num_values} values. Received: "
            f"{header['shape']!r:.100} of {header.get('values')!r:.100} values"
        )
    if layout.settings.lanes > networks.max_batch:
        raise ValueError(
            f"saved_model must take batches of {layout.settings.lanes}, as the file was made with. Received: one of at "
            f"most {networks.max_batch}; pixelvae-export --max_batch={layout.settings.lanes} writes one"
        )


def write_front(
    networks: Networks, settings: Settings, num_images: int, images_per_chunk: int, payloads: Sequence[np.ndarray]
) -> bytes:
    """The front of a file.

    Args:
      networks: the model.
      settings: of the chunks.
      num_images: in all of them.
      images_per_chunk: in each but the last.
      payloads: the words of the chunks.
    """
    card = networks.card
    header = {
        "fingerprint": networks.fingerprint,
        "dtype": card.get("dtype", ""),
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
    index = np.zeros(len(payloads), ENTRY)
    for place, words in enumerate(payloads):
        images = min(images_per_chunk, num_images - place * images_per_chunk)
        index[place] = images, len(words), zlib.crc32(words.astype("<u4").tobytes())
    front = MAGIC + len(text).to_bytes(4, "little") + text + len(payloads).to_bytes(4, "little") + index.tobytes()
    return front + zlib.crc32(front).to_bytes(4, "little")
