"""Numbers that two machines agree on although their floating-point numbers differ in the last digits.

Everything that decides how a value is coded is rounded to an integer: floor(x + 1/2). Two machines whose x differ by
less than a tolerance round alike, unless x lies that close to a boundary between two integers. Of these the encoder
keeps the parity of its integer, by which the decoder chooses between the two neighbours of the boundary.

A list of such places would cost some 17 bits each, for where they are. What is kept instead is a table that answers
one bit for every place, the right one for those that the encoder put in, of no meaning for the others (a retrieval
structure: Dietzfelbinger and Pagh 2008). It costs about one bit a place, and no decoder asks for the others: the
encoder puts in what lies within two tolerances of a boundary, and the decoder asks where its own x lies within one.

    the decoder's x within 1 tolerance      the encoder's is within 2: it is in the table
    farther away                            the encoder's is on the same side

The logits of a binary choice are rounded on a grid that is finer near 0, where a choice costs most:

    index j of -J .. J       odds e^-|logit| = (1 - 2 |j| / (2 J + 1))^3

so that the probabilities are ratios of integers, the same everywhere.
"""

import functools
import hashlib
from collections.abc import Iterator

import numpy as np

# A choice is coded with counts of 2**24, the precision of constriction's coders; either side has at least one.
TOTAL = 2**24
# J of logits that a network computes, and of those computed in float64 from integers.
COARSE, FINE = 32, 1023
# Tolerance of numbers computed in float64 from integers: far above their rounding, far below what costs anything.
EXACT = 1e-9
# Tables are made for so many places at a time: their time grows with the square.
BUCKET = 1024
# Beyond half a step there would be three integers to choose from.
MAX_TOLERANCE = 0.45


@functools.cache
def probabilities(half: int) -> np.ndarray:
    """The probability of 1, in counts of 2**24, of the indices -J .. J, where J is `half`: int64 [2 J + 1]."""
    odd = 2 * half + 1
    counts = []
    for index in range(half + 1):
        denominator = odd**3 + (odd - 2 * index) ** 3
        counts.append(min((2 * TOTAL * odd**3 + denominator) // (2 * denominator), TOTAL - 1))
    return np.array([TOTAL - count for count in counts[:0:-1]] + counts)


def coordinate(logits: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Where logits lie on the grid: x, which rounds to the index, and its derivative."""
    far = np.exp(-np.abs(logits) / 3.0)
    x = np.sign(logits) * (1.0 - far) * (half + 0.5)
    return np.clip(x, -half, half), far * (half + 0.5) / 3.0


class Table:
    """The bits of some places.

    Args:
      buckets: for each, its number of bits and the bits; a place is in that of its number modulo their number.
    """

    def __init__(self, buckets: list[tuple[int, int]]):
        self.buckets = buckets

    @classmethod
    def of(cls, bits: dict[int, int]) -> "Table":
        """The table of {place: bit}."""
        number = -(-len(bits) // BUCKET)
        kept = [{} for _ in range(number)]
        for place, bit in bits.items():
            kept[place % number][place] = bit
        return cls([_solve(bucket) for bucket in kept])

    def __getitem__(self, place: int) -> int:
        """The bit of a place; of one that was not put in, any."""
        if not self.buckets:
            return 0
        width, bits = self.buckets[place % len(self.buckets)]
        return (_row(place, width) & bits).bit_count() & 1


def _row(place: int, width: int) -> int:
    """The pseudo-random bits of a place: SHAKE-128 of its number, 8 bytes, the lowest first."""
    digest = hashlib.shake_128(place.to_bytes(8, "little")).digest(-(-width // 8))
    return int.from_bytes(digest, "little") & ((1 << width) - 1)


def _solve(bits: dict[int, int]) -> tuple[int, int]:
    """A number of bits, and bits of which those in the row of every place have its bit as their parity."""
    width = len(bits)
    while (solution := _solution(bits, width)) is None:
        width += 1
    return width, solution


def _solution(bits: dict[int, int], width: int) -> int | None:
    """Gaussian elimination modulo 2; None where there is no solution."""
    pivots = {}
    for place, bit in bits.items():
        row = _row(place, width)
        while row and (top := row.bit_length() - 1) in pivots:
            row, bit = row ^ pivots[top][0], bit ^ pivots[top][1]
        if row:
            pivots[top] = row, bit
        elif bit:
            return None
    solution = 0
    for top in sorted(pivots):  # the bits below a row's highest are known then
        row, bit = pivots[top]
        solution |= (((row & solution).bit_count() & 1) ^ bit) << top
    return solution


class Encoder:
    """Rounds, and keeps the parity of what is near a boundary.

    Attributes:
      bits: {place: parity}.
    """

    def __init__(self):
        self.bits: dict[int, int] = {}

    def round(self, x: np.ndarray, tolerance: np.ndarray | float, places: np.ndarray) -> np.ndarray:
        """Integers [...] of numbers [...].

        Args:
          x: finite.
          tolerance: by how much the decoder's may differ.
          places: a number each, another one for every number of a chunk.
        """
        nearest = np.floor(x + 0.5)
        for index in _near(x, nearest, 2.0 * np.minimum(tolerance, MAX_TOLERANCE)):
            self.bits[int(places[index])] = int(nearest[index]) & 1
        return nearest.astype(np.int64)


class Decoder:
    """Rounds as the encoder did, by the table of its bits."""

    def __init__(self, table: Table):
        self.table = table

    def round(self, x: np.ndarray, tolerance: np.ndarray | float, places: np.ndarray) -> np.ndarray:
        """See `Encoder.round`."""
        nearest = np.floor(x + 0.5)
        for index in _near(x, nearest, np.minimum(tolerance, MAX_TOLERANCE)):
            if int(nearest[index]) & 1 != self.table[int(places[index])]:
                nearest[index] += 1.0 if x[index] > nearest[index] else -1.0
        return nearest.astype(np.int64)


def _near(x: np.ndarray, nearest: np.ndarray, tolerance: np.ndarray | float) -> Iterator[tuple]:
    """Where x is within a tolerance of a boundary."""
    return zip(*np.nonzero(0.5 - np.abs(x - nearest) < tolerance), strict=True)


def index_of(
    rounding: Encoder | Decoder, logits: np.ndarray, half: int, tolerance: np.ndarray | float, places: np.ndarray
) -> np.ndarray:
    """The places of logits [...] in `probabilities(half)`, int64.

    Args:
      rounding: of this side.
      logits: finite.
      half: J.
      tolerance: of the logits.
      places: as of `Encoder.round`.
    """
    x, slope = coordinate(logits, half)
    return np.clip(rounding.round(x, tolerance * slope, places), -half, half) + half
