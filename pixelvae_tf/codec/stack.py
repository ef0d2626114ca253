"""The stack of an asymmetric numeral system (Duda 2009), by constriction: last in, first out.

What is popped off it need not have been pushed: drawn from a distribution, it is a sample, whose bits come back when it
is pushed again. That is how latents cost no more than their KL divergence.
"""

import hashlib

import numpy as np

from pixelvae_tf.codec.rounding import TOTAL

# A digit of an integer of any size: 7 bits of it, and whether there are more.
_DIGITS = 10
WORD = 2**16


def _constriction():
    try:
        import constriction
    except ImportError as error:
        raise ValueError("the codec needs constriction: pip install 'pixelvae_tf[codec]'") from error
    return constriction.stream


class Stack:
    """A stack of symbols.

    Args:
      words: uint32 words of `words`, or none.
    """

    def __init__(self, words: np.ndarray | None = None):
        stream = _constriction()
        self._bernoulli, self._uniform = stream.model.Bernoulli(perfect=False), stream.model.Uniform
        new = stream.stack.AnsCoder
        self._coder = new() if words is None or not len(words) else new(np.ascontiguousarray(words, np.uint32))

    @property
    def num_bits(self) -> int:
        """How many bits there are."""
        return self._coder.num_valid_bits()

    def words(self) -> np.ndarray:
        """The content, uint32."""
        return self._coder.get_compressed()

    def copy(self) -> "Stack":
        """Another stack of the same content."""
        other = Stack()
        other._coder = self._coder.clone()
        return other

    def push_bits(self, bits: np.ndarray, counts: np.ndarray) -> None:
        """Pushes binary choices [N], the last one first, so that they are popped in order.

        Args:
          bits: 0 and 1.
          counts: of 1, out of 2**24, in 1 .. 2**24 - 1.
        """
        if len(bits):
            self._coder.encode_reverse(bits.astype(np.int32), self._bernoulli, _as_probabilities(counts))

    def pop_bits(self, counts: np.ndarray) -> np.ndarray:
        """Pops binary choices, int64 [N]."""
        if not len(counts):
            return np.zeros(0, np.int64)
        return self._coder.decode(self._bernoulli, _as_probabilities(counts)).astype(np.int64)

    def push_uniform(self, values: np.ndarray, size: int) -> None:
        """Pushes values [N] of 0 .. size - 1, size at most 2**16."""
        if len(values) and size > 1:
            self._coder.encode_reverse(np.asarray(values).astype(np.int32), self._uniform(size))

    def pop_uniform(self, number: int, size: int) -> np.ndarray:
        """Pops values, int64 [number]."""
        if not number or size == 1:
            return np.zeros(number, np.int64)
        return self._coder.decode(self._uniform(size), number).astype(np.int64)

    def push_integer(self, value: int) -> None:
        """Pushes an integer of at most 70 bits, in digits of 7 bits."""
        digits = []
        while value >= 128:
            digits.append(value % 128 + 128)
            value //= 128
        self.push_uniform(np.array([*digits, value]), 256)

    def pop_integer(self) -> int:
        """Pops an integer.

        Raises:
          ValueError: if it has more digits than there can be.
        """
        value = 0
        for place in range(_DIGITS):
            digit = int(self.pop_uniform(1, 256)[0])
            value += (digit % 128) << (7 * place)
            if digit < 128:
                return value
        raise ValueError("an integer has too many digits")

    def push_long(self, value: int, num_bits: int) -> None:
        """Pushes an integer of a known number of bits."""
        number = -(-num_bits // 8)
        self.push_uniform(np.frombuffer(value.to_bytes(number, "little"), np.uint8), 256)

    def pop_long(self, num_bits: int) -> int:
        """Pops it."""
        return int.from_bytes(self.pop_uniform(-(-num_bits // 8), 256).astype(np.uint8).tobytes(), "little")


def _as_probabilities(counts: np.ndarray) -> np.ndarray:
    """Probabilities p of which constriction makes these counts: 0 has 1 + floor((1 - p) (2**24 - 2)) of them."""
    # In the middle of those that do, where no rounding matters.
    return np.maximum(counts - 1.5, 0.0) / (TOTAL - 2.0)


def digest_of(images: np.ndarray, labels: np.ndarray, num_words: int) -> np.ndarray:
    """Words of 16 bits that other images would not have: SHAKE-128 of their values, then of their labels.

    Args:
      images: uint8 [N, H, W, C].
      labels: [N], or of no length.
      num_words: how many.
    """
    content = np.ascontiguousarray(images, np.uint8).tobytes() + np.asarray(labels).astype("<u4").tobytes()
    return np.frombuffer(hashlib.shake_128(content).digest(2 * num_words), "<u2").astype(np.int64)
