"""Activations that are computed again for the gradient instead of kept: less memory for about a third more work.

Chen et al. 2016, "Training deep nets with sublinear memory cost". A setting of the training step, not of a model: the
step is traced inside `rematerialization`, and chains of causal layers, encoders and decoders ask for it.
"""

import contextlib
import contextvars
from collections.abc import Callable

import tensorflow as tf

_rematerializing = contextvars.ContextVar("rematerializing", default=False)
_again = contextvars.ContextVar("again", default=False)


@contextlib.contextmanager
def _set(variable: contextvars.ContextVar, value: bool):
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def rematerialization(enabled: bool = True):
    """A context: gradients of what is called inside keep what goes into each block, and nothing of what is in it."""
    return _set(_rematerializing, enabled)


def computed_again() -> bool:
    """Whether a block is being computed for its gradient, after it has been computed for its result.

    What it does beside its result, as moving an average, it must not do twice.
    """
    return _again.get()


def rematerialized(function: Callable, *inputs):
    """function(*inputs), with what it computes on the way forgotten inside `rematerialization`.

    Args:
      function: of nests of tensors (or None), to a nest of tensors. It may use variables; any other tensor that it
        closes over gets no gradient.
      *inputs: its arguments.

    Returns:
      What it returns.
    """
    if not _rematerializing.get():
        return function(*inputs)
    given = tf.nest.flatten(inputs)
    outputs = []  # what it returned, each time it ran

    @tf.recompute_grad
    def run(*tensors):
        left = iter(tensors)
        filled = tf.nest.pack_sequence_as(inputs, [None if x is None else next(left) for x in given])
        # Inside, nothing is split further: each level of chains would compute everything once more.
        with rematerialization(False), _set(_again, bool(outputs)):
            outputs.append(function(*filled))
        return tuple(tf.nest.flatten(outputs[-1]))

    results = run(*[x for x in given if x is not None])
    return tf.nest.pack_sequence_as(outputs[0], list(results))
