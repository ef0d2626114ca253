"""Dropout whose numbers depend on a seed alone.

`keras.layers.Dropout` draws the same numbers on every replica; here the caller folds step,
replica and layer into the seed.
"""

import tensorflow as tf


def dropout(x: tf.Tensor, rate: float, training: bool, seed: tf.Tensor | None) -> tf.Tensor:
    """Sets a share `rate` of x to zero and scales the rest by 1 / (1 - rate) (Srivastava et al. 2014).

    Args:
      x: any shape.
      rate: in [0, 1).
      training: False returns x.
      seed: int32 [2]; required when there is something to drop.

    Returns:
      A tensor like x.

    Raises:
      ValueError: if a seed is needed and missing.
    """
    if not training or not rate:
        return x
    if seed is None:
        raise ValueError(f"seed must be an int32 tensor [2] when training with dropout={rate}. Received: seed=None")
    keep = tf.random.stateless_uniform(tf.shape(x), seed) >= rate
    return tf.where(keep, x / tf.cast(1.0 - rate, x.dtype), tf.zeros([], x.dtype))


def fold_in(seed: tf.Tensor | None, index: int) -> tf.Tensor | None:
    """The seed of a part: int32 [2], or None where there is none."""
    return None if seed is None else tf.random.experimental.stateless_fold_in(seed, index)


def dropout_seed(seed: int, step: tf.Tensor, replica: int | tf.Tensor = 0) -> tf.Tensor:
    """The seed of a training step's dropout; every replica has its own.

    Args:
      seed: of the run.
      step: scalar.
      replica: its number.

    Returns:
      int32 [2].
    """
    run_and_step = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)])
    return tf.random.experimental.stateless_fold_in(tf.cast(run_and_step, tf.int32), replica)
