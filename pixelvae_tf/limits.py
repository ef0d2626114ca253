"""The largest numbers of configs and flags: what Python holds and the computation does not is refused by name."""

import math

# TensorFlow counts in 32 bits at one place or another.
MAX_COUNT = 2**31 - 1
# Images at once, and the height and width of one.
MAX_BATCH = 2**20
MAX_SIDE = 2**16
# Draws of an image: importance samples, or rounds of completion; see `noise.stream`.
MAX_DRAWS = 2**20
# Processes, devices or parts of a batch that work side by side.
MAX_PARALLEL = 2**10
# Floating-point numbers: far within float32, whose squares and sums of many stay finite and above 0.
MIN_FLOAT, MAX_FLOAT = 1e-15, 1e15

# By the name of the field; the others have MAX_COUNT or MAX_FLOAT.
_LARGEST = {
    "batch_size": MAX_BATCH,
    "free_nats": 1e9,
    "num_scales": 16,
    **dict.fromkeys(("num_layers", "num_output_layers", "num_blocks", "num_mixtures"), 2**10),
    **dict.fromkeys(("kernel_size", "first_kernel_size"), 2**10 - 1),
    **dict.fromkeys(("dim", "filters", "output_filters", "stem_filters", "decoder_filters", "embedding_dim"), 2**16),
    **dict.fromkeys(("image_shape", "grid", "num_classes"), MAX_SIDE),
}


def check_number(number: int | float, name: str, kind: type | None = None) -> None:
    """Checks that the computation holds a number; whether it makes sense is checked where it is used.

    Args:
      number: of a field.
      name: the field's, as "train.steps" or "model.levels[0].filters[1]".
      kind: the field's type, if it is not the number's.

    Raises:
      ValueError: if it is too large, not finite, or so small that it would become 0.
    """
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{name} must be finite. Received: {number}")
    default = MAX_FLOAT if (kind or type(number)) is float else MAX_COUNT
    largest = _LARGEST.get(name.rpartition(".")[2].partition("[")[0], default)
    if number > largest:
        raise ValueError(f"{name} must be at most {largest:.10g}. Received: {_shown(number)}")
    if 0 < abs(number) < MIN_FLOAT:
        raise ValueError(f"{name} must be 0 or at least {MIN_FLOAT}. Received: {number}")


def _shown(number: int | float) -> str:
    """A number for a message; Python refuses to write integers of thousands of digits."""
    long = isinstance(number, int) and number.bit_length() > 1000
    return f"an integer of {number.bit_length()} bits" if long else str(number)
