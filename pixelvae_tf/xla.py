"""Functions compiled by XLA, for one core or several.

What XLA compiles for a CPU runs its small operations one after the other, on one core. The rows of a batch do not know
of each other outside of training, so that other cores can have rows of their own.
"""

from collections.abc import Callable

import tensorflow as tf

__all__ = ["compiled"]


def compiled(function: Callable, parts: int = 1) -> Callable:
    """A function compiled by XLA, anew for every batch size.

    Args:
      function: of tensors, by place or by name, to any structure of tensors; of all of them the first dimension is the
        same batch, whose rows do not depend on each other. A scalar, a text, None belong to all rows, as arguments.
      parts: into how many nearly equal parts a batch is cut, which are computed side by side; as many as there are
        cores, 1 for a GPU. A batch of fewer rows stays whole.

    Returns:
      A graph function like it.

    Raises:
      ValueError: if there is not at least one part.
    """
    if parts < 1:
        raise ValueError(f"parts must be at least 1. Received: {parts}")
    whole = tf.function(function, jit_compile=True, autograph=False)
    if parts == 1:
        return whole

    @tf.function(autograph=False)
    def side_by_side(*args, **kwargs):
        batch = next(tf.shape(x)[0] for x in tf.nest.flatten((args, kwargs)) if _has_rows(x))
        ends = [batch * part // parts for part in range(parts + 1)]

        def of(part: int):
            rows, named_rows = tf.nest.map_structure(
                lambda x: x[ends[part] : ends[part + 1]] if _has_rows(x) else x, (args, kwargs)
            )
            return whole(*rows, **named_rows)

        def cut():
            return tf.nest.map_structure(lambda *outputs: tf.concat(outputs, axis=0), *map(of, range(parts)))

        return tf.cond(batch < parts, lambda: whole(*args, **kwargs), cut)

    return side_by_side


def _has_rows(x) -> bool:
    return tf.is_tensor(x) and x.shape.rank != 0
