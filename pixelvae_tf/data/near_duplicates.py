"""Images that look the same, by perceptual hashes.

A hash is which of the 64 lowest frequencies of a 32x32 grey picture lie above their median. Near-duplicates are images
whose hashes differ in few bits. Colour does not enter: images of a single colour are all near-duplicates. (The paper
hashed the codes of an autoencoder.)
"""

import array
import itertools

import numpy as np

HASH_BITS = 64


class NearDuplicates:
    """A growing set of 64-bit hashes no two of which are close.

    Cut into d + 1 bands, two hashes that differ in at most d bits agree in one band at least: only those that share a
    band are compared.

    Args:
      distance: d, the most bits that near-duplicates differ in; -1: nothing is a near-duplicate.
    """

    def __init__(self, distance: int):
        self.distance = distance
        edges = np.linspace(0, HASH_BITS, distance + 2).astype(int).tolist() if distance >= 0 else []
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in itertools.pairwise(edges)]
        self._buckets: list[dict[int, array.array]] = [{} for _ in self._bands]

    def add(self, code: int) -> bool:
        """Adds a hash and returns True, or returns False if it is close to one in the set."""
        keys = [(code >> low) & mask for low, mask in self._bands]
        for bucket, key in zip(self._buckets, keys, strict=True):
            others = bucket.get(key)
            if others is not None:
                differing = np.bitwise_count(np.frombuffer(others, np.uint64) ^ np.uint64(code))
                if differing.min() <= self.distance:
                    return False
        for bucket, key in zip(self._buckets, keys, strict=True):
            bucket.setdefault(key, array.array("Q")).append(code)
        return True


def perceptual_hash(pixels: np.ndarray) -> int:
    """The 64 bits of `imagehash.phash` of an image [H, W, C]."""
    import imagehash  # Brings SciPy and wavelets; only this needs it.
    from PIL import Image

    bits = imagehash.phash(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
