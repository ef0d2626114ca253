"""Example requests for signatures."""

import zlib

import numpy as np
import tensorflow as tf


def example(
    inputs: dict[str, tf.TensorSpec], batch: int, spoil_last: bool = False, num_values: int = 2
) -> dict[str, np.ndarray]:
    """A request.

    Args:
      inputs: the specs of a signature's inputs.
      batch: number of rows.
      spoil_last: whether the last row is to be wrong in every input that can be.
      num_values: of the images' channels.

    Returns:
      By name: valid rows, the same for the same arguments, except the last row if `spoil_last`.
    """
    return {name: _example(spec, batch, spoil_last, num_values) for name, spec in inputs.items()}


def _example(spec: tf.TensorSpec, batch: int, spoil_last: bool, num_values: int) -> np.ndarray:
    # Different values for each tensor: a mask equal to the images would test little.
    generator = np.random.default_rng((batch, zlib.crc32(spec.name.encode())))
    shape = (batch, *spec.shape[1:])
    spoilt = (np.arange(batch) == batch - 1) & spoil_last
    if spec.dtype == tf.uint8:
        values = generator.integers(0, num_values if spec.name == "images" else 2, shape).astype(np.uint8)
        values[spoilt] = 255  # out of range, but for images of 256 values
        return values
    if spec.name == "label":
        return np.where(spoilt, -1, generator.integers(0, 2, shape))
    if spec.name == "rounds":
        return np.where(spoilt, -1, generator.integers(0, 4, shape))
    if spec.dtype == tf.int64:
        return generator.integers(0, 2**40, shape)
    if spec.name == "temperature":
        return np.where(spoilt, np.nan, 0.9).astype(np.float32)
    return generator.normal(size=shape).astype(np.float32)
