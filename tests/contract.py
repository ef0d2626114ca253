"""What every causal layer must obey; see `pixelvae_tf.layers.causal` and `pixelvae_tf.testing`."""

import keras
import numpy as np
import tensorflow as tf
from family import leave_the_start

from pixelvae_tf import testing


def context_shape(case, size):
    """What a case of the catalogue is conditioned on, less the batch."""
    return {None: None, "vector": (3,), "map": (*size, 3)}[case.context]


def inputs_of(case, size):
    """What the layer of a case takes."""
    return testing.Inputs((*size, case.channels), context_shape(case, size), case.num_values, case.streams)


def make_inputs(case, batch, size, dtype="float32"):
    """Random input (or pair) and context for a case of the catalogue."""
    return testing.random_inputs(inputs_of(case, size), batch, dtype)


def mask_type(case):
    """ "A" if no unit sees itself: then steps are given what was drawn last."""
    streams, shape = {"pair": (1, 1), "end": (0, 1)}.get(case.streams, (0, 0)), (2, 2, 3)
    sees_itself = testing.relation(case.sees, streams, shape, shape).reshape(12, 12).diagonal()
    return "B" if sees_itself.any() else "A"


def check_steps_equal_call(case, batch, size, dtype):
    """call == step, for one batch, size and dtype policy."""
    layer = build(case, size, dtype)
    x, context = make_inputs(case, batch, size, {"mixed_bfloat16": "float32"}.get(dtype, dtype))
    if dtype == "mixed_bfloat16":
        # Inputs that bfloat16 holds exactly, so that only the arithmetic differs.
        x, context = tf.nest.map_structure(
            lambda t: t if t is None or t.dtype.is_integer else tf.cast(tf.cast(t, tf.bfloat16), tf.float32),
            (x, context),
        )
    testing.check_steps(layer, x, context, mask_type(case), case.streams)


def build(case, size, dtype="float32"):
    """The layer of a case, built for images of a size under a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        layer = case.make()
    finally:
        keras.config.set_dtype_policy(before)
    _build(layer, case, size)
    leave_the_start(layer)
    return layer


def _build(layer, case, size):
    shape, context = (None, *size, case.channels), context_shape(case, size)
    streams = (shape, shape) if case.streams in ("pair", "end") else shape
    layer.build(streams, None if context is None else (None, *context))


def check_dependence(case, size):
    """The nonzero pattern of the Jacobian is exactly the listed set, and steps equal the whole, in float64."""
    testing.check_dependence(build(case, size, "float64"), inputs_of(case, size), case.sees, mask_type(case))


def check_config_round_trip(case, size):
    """A layer rebuilt from its config, with the weights copied, computes the same."""
    layer = build(case, size)
    config = keras.saving.serialize_keras_object(layer)
    twin = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(twin)["config"] == config["config"]
    if not twin.built:
        _build(twin, case, size)
    twin.set_weights(layer.get_weights())
    x, context = make_inputs(case, 2, size)
    for a, b in zip(tf.nest.flatten(layer(x, context=context)), tf.nest.flatten(twin(x, context=context)), strict=True):
        np.testing.assert_array_equal(a, b)


def check_causal_layer(case):
    """All that the contract promises, for one case of the catalogue.

    Float64 decides whether steps equal the whole. Bfloat16 shows what is cast where.
    """
    size, *smaller_than_the_kernel = case.sizes
    check_dependence(case, size)
    for batch, small in zip((3, 1), smaller_than_the_kernel, strict=True):
        check_steps_equal_call(case, batch, small, "float64")
    check_steps_equal_call(case, 2, size, "mixed_bfloat16")
    check_config_round_trip(case, size)
