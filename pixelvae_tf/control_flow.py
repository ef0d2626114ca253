"""Loops and branches whose bodies stay functions when they run.

TensorFlow turns `tf.while_loop` and `tf.cond` into operations on single tensors (Enter, Merge, Switch, NextIteration).
Every tensor that a body reads takes a handful, which run in every iteration; the bodies of a sampler read hundreds.
Called as functions, bodies run faster, and TensorFlow optimizes only the operations that were written.

The price: a body starts when all its inputs are there, and iterations do not overlap.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

_FUNCTIONAL = {"While", "StatelessWhile", "If", "StatelessIf"}


def while_loop(cond: Callable, body: Callable, loop_vars: tuple, maximum_iterations: int | None = None) -> tuple:
    """`tf.while_loop`, whose first variable must be a tensor."""
    return _as_functions(tf.while_loop(cond, body, loop_vars, maximum_iterations=maximum_iterations))


def cond(predicate: tf.Tensor, true_fn: Callable, false_fn: Callable) -> Any:
    """`tf.cond`, of branches that return a tensor, or a tuple that starts with one."""
    return _as_functions(tf.cond(predicate, true_fn, false_fn))


def _as_functions(outputs: Any) -> Any:
    """Takes the mark off the operation of a loop or branch by which TensorFlow splits it up."""
    first = tf.nest.flatten(outputs)[0]
    if not hasattr(first, "numpy"):  # run eagerly there is no such operation
        operation = first.op
        while operation.type == "Identity":
            operation = operation.inputs[0].op
        assert operation.type in _FUNCTIONAL, operation.type
        operation._set_attr("_lower_using_switch_merge", attr_value_pb2.AttrValue(b=False))
    return outputs
