"""Activations that are computed again for the gradient instead of kept: less memory for about a third more work.

Chen et al. 2016, "Training deep nets with sublinear memory cost". A setting of the training step, not of a model: the
step's tracing happens inside `rematerialization`, and the chains of causal layers ask for it.
"""

import contextlib
import contextvars
from collections.abc import Callable

import tensorflow as tf

_rematerializing = contextvars.ContextVar("rematerializing", default=False)


@contextlib.contextmanager
def rematerialization(enabled: bool = True):
    """Gradients of chains that are called inside keep what goes into each layer, and nothing of what is in it."""
    token = _rematerializing.set(enabled)
    try:
        yield
    finally:
        _rematerializing.reset(token)


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
    made = []  # the structure of what it returns, known once it has run

    @tf.recompute_grad
    def run(*tensors):
        left = iter(tensors)
        filled = tf.nest.pack_sequence_as(inputs, [None if x is None else next(left) for x in given])
        # Inside, nothing is split further: each level of chains would compute everything once more.
        with rematerialization(False):
            made[:] = [function(*filled)]
        return tuple(tf.nest.flatten(made[0]))

    results = run(*[x for x in given if x is not None])
    return tf.nest.pack_sequence_as(made[0], list(results))
