"""How a SavedModel is to be served."""

import dataclasses

from pixelvae_tf.limits import MAX_BATCH, MAX_DRAWS, MAX_PARALLEL
from pixelvae_tf.models.config import COMPLETION_ROUNDS

__all__ = ["ServingOptions"]


@dataclasses.dataclass(frozen=True)
class ServingOptions:
    """How an export is to be served.

    Attributes:
      max_batch: the largest batch that a signature takes; a server merges requests up to it.
      warmup: batch sizes that a server runs every signature with before it answers, ascending.
      xla: whether the numbers are computed by XLA, compiled anew for every batch size; a stock server on the CPU does
        so only when it is told to.
      xla_parts: into how many parts XLA's variant cuts a batch, which are computed side by side; see `xla.compiled`.
      completion_rounds: of encoding and filling in, by the signature `complete`.

    Raises:
      ValueError: for sizes that are not positive, negative rounds, a warm-up beyond `max_batch`, or parts without XLA
        or beyond it.

    Examples:
      >>> options.ServingOptions(max_batch=16, warmup=(1, 16)).completion_rounds
      8
    """

    max_batch: int = 128
    warmup: tuple[int, ...] = ()
    xla: bool = False
    xla_parts: int = 1
    completion_rounds: int = COMPLETION_ROUNDS

    def __post_init__(self):
        if self.max_batch < 1:
            raise ValueError(f"max_batch must be at least 1. Received: {self.max_batch}")
        if self.max_batch > MAX_BATCH:
            raise ValueError(f"max_batch must be at most {MAX_BATCH}. Received: {self.max_batch}")
        if not 1 <= self.xla_parts <= (min(self.max_batch, MAX_PARALLEL) if self.xla else 1):
            limit = MAX_PARALLEL if self.max_batch > MAX_PARALLEL else f"{self.max_batch}, the max_batch"
            expected = f"1..{limit}, and 1 without xla"
            raise ValueError(f"xla_parts must be in {expected}. Received: {self.xla_parts}, xla={self.xla}")
        if not 0 <= self.completion_rounds < MAX_DRAWS:
            raise ValueError(f"completion_rounds must be in 0..{MAX_DRAWS - 1}. Received: {self.completion_rounds}")
        if not all(1 <= size <= self.max_batch for size in self.warmup):
            sizes = ",".join(map(str, self.warmup))
            raise ValueError(f"warmup must be batch sizes in 1..{self.max_batch}, the max_batch. Received: {sizes}")
        object.__setattr__(self, "warmup", tuple(sorted(set(self.warmup))))
