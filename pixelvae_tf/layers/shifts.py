"""Cutting and moving maps along an axis.

By `tf.slice`, because the gradient of x[:, :n] (StridedSliceGrad, on one core) took up to a quarter of a training step.
"""

import tensorflow as tf


def head(x: tf.Tensor, number: int, axis: int) -> tf.Tensor:
    """The first `number` places of x along an axis."""
    size = [-1] * x.shape.rank
    size[axis] = number
    return tf.slice(x, [0] * x.shape.rank, size)


def tail(x: tf.Tensor, number: int, axis: int) -> tf.Tensor:
    """The last `number` places of x along an axis."""
    begin, size = [0] * x.shape.rank, [-1] * x.shape.rank
    begin[axis], size[axis] = x.shape[axis] - number, number
    return tf.slice(x, begin, size)


def shift(x: tf.Tensor, axis: int) -> tf.Tensor:
    """Moves x one place along an axis; the first place becomes zero, the last one is lost."""
    paddings = [(0, 0)] * x.shape.rank
    paddings[axis] = (1, 0)
    return tf.pad(head(x, x.shape[axis] - 1, axis), paddings)


def shift_down(x: tf.Tensor) -> tf.Tensor:
    """Moves [B, H, W, C] down one row; the first row becomes zero."""
    return shift(x, axis=1)
