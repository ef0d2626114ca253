"""What every causal layer must obey; see `pixelvae_tf.layers.causal`."""

import catalogue
import keras
import numpy as np
import tensorflow as tf
from family import open_contexts

from pixelvae_tf.layers import masks

# Streams of a layer: "raster" has one; "pair" takes and gives (vertical, horizontal); "end" takes the
# pair and gives the horizontal one; "vertical" and "horizontal" are half layers with one clock.
STREAMS = ("raster", "pair", "end", "vertical", "horizontal")


def make_inputs(layer_case, batch, size, dtype="float32", seed=0):
    """Random input (or pair) and context for a case of the catalogue."""
    generator = np.random.default_rng(seed)

    def values(shape):
        if layer_case.num_values:
            return tf.constant(generator.integers(0, layer_case.num_values, shape), dtype)
        return tf.constant(generator.normal(size=shape), dtype)

    x = values((batch, *size, layer_case.channels))
    if layer_case.streams in ("pair", "end"):
        x = (x, values((batch, *size, layer_case.channels)))
    context = None
    if layer_case.context == "vector":
        context = tf.constant(generator.normal(size=(batch, 3)), dtype)
    if layer_case.context == "map":
        context = tf.constant(generator.normal(size=(batch, *size, 3)), dtype)
    return x, context


def run_in_steps(layer, streams, x, context):
    """The whole image by begin, start_row, step and observe. Returns what `call` returns.

    The same again with `whole_row` instead of the last two, beside it.
    """
    vertical, horizontal = x if streams in ("pair", "end") else (x, x)
    height, width = horizontal.shape[1:3]
    constants, state = layer.begin(context, tf.shape(horizontal)[0], (height, width))
    rows, finished_rows, state_at_once = [], [], state
    for row in range(height):
        if streams != "vertical":
            at_once, state_at_once = layer.whole_row(constants, state_at_once, horizontal[:, row], tf.constant(row))
            outputs, state = _row_in_steps(layer, constants, state, horizontal[:, row], row)
            rows.append(tf.stack(outputs, axis=1))
            assert_close(at_once, rows[-1], "the row all together")
        finished, state = layer.start_row(constants, state, vertical[:, row], tf.constant(row + 1))
        finished_rows.append(finished)
        if streams != "vertical":
            _, state_at_once = layer.start_row(constants, state_at_once, vertical[:, row], tf.constant(row + 1))
    if streams == "vertical":
        return tf.stack(finished_rows, axis=1)
    stepped = tf.stack(rows, axis=1)
    if streams == "pair":
        return tf.stack(finished_rows, axis=1), stepped
    if streams == "raster" and finished_rows[0] is not None:
        assert_close(tf.stack(finished_rows, axis=1), stepped, "the finished row")
    return stepped


def _row_in_steps(layer, constants, state, x, row):
    """A row [B, W, C] location by location and group by group: a list of W outputs [B, F], and the state."""
    outputs = []
    for column in range(x.shape[1]):
        parts = []
        for group in range(layer.channel_groups):
            here = masks.units_of_group(x[:, column], group, layer.channel_groups)
            at = (tf.constant(row), tf.constant(column), group)
            y, state = layer.step(constants, state, None if layer.strict else here, *at)
            state = layer.observe(constants, state, here, *at)
            parts.append(y)
        outputs.append(masks.merge_groups(parts))
    return outputs, state


def assert_close(actual, expected, what):
    """Tensors agree to the rounding of sums of a few hundred products."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    # Float64 rounds at 1e-16 each, bfloat16 at 4e-3, where every layer of a chain rounds its output once more.
    tolerance = {"float64": 1e-12, "bfloat16": 6e-2}[actual.dtype.name]
    actual, expected = (tf.cast(x, tf.float64) for x in (actual, expected))
    message = f"{what} differs from its locations"
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=message)


def check_steps_equal_call(case, batch, size, dtype):
    """call == step, for one batch, size and dtype policy."""
    layer = build(case, size, dtype)
    x, context = make_inputs(case, batch, size, {"mixed_bfloat16": "float32"}.get(dtype, dtype))
    if dtype == "mixed_bfloat16":
        # Inputs that bfloat16 holds exactly, so that only the arithmetic differs.
        x, context = tf.nest.map_structure(
            lambda t: None if t is None else tf.cast(tf.cast(t, tf.bfloat16), tf.float32), (x, context)
        )
    whole, stepped = layer(x, context=context), run_in_steps(layer, case.streams, x, context)
    for a, b in zip(tf.nest.flatten(whole), tf.nest.flatten(stepped), strict=True):
        assert_close(a, b, "the whole")


def build(case, size, dtype="float32"):
    """The layer of a case, built for images of a size under a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        layer = case.make()
    finally:
        keras.config.set_dtype_policy(before)
    shape = (None, *size, case.channels)
    context = {None: None, "vector": (None, 3), "map": (None, *size, 3)}[case.context]
    layer.build((shape, shape) if case.streams in ("pair", "end") else shape, context)
    open_contexts(layer)
    return layer


def _dependence(layer, case, size):
    """{(output stream, input stream): bool [H, W, units, H, W, units]}: does the output move with the input?

    Asked at three random points: a real dependence may vanish at one of them.
    """
    x, context = make_inputs(case, 3, size, "float64")
    by_point = _moved_by_changes(layer, case, x, context) if case.num_values else _jacobians(layer, x, context)
    return {streams: moved.any(axis=0) for streams, moved in by_point.items()}


def _copies(tensors, number):
    """Every row `number` times over; None stays."""
    return tf.nest.map_structure(lambda t: None if t is None else tf.repeat(t, number, axis=0), tensors)


def _jacobians(layer, x, context):
    """For real inputs, by point: where the Jacobian is not zero. A copy of the point for each unit of the output."""
    found = {}
    for i, y in enumerate(tf.nest.flatten(layer(x, context=context))):
        shape, number = y.shape, int(np.prod(y.shape[1:]))
        copies, contexts = _copies((x, context), number)
        with tf.GradientTape() as tape:
            tape.watch(copies)
            y = tf.nest.flatten(layer(copies, context=contexts))[i]
            own_units = tf.linalg.diag_part(tf.reshape(y, (-1, number, number)))
        gradients = tape.gradient(own_units, tf.nest.flatten(copies), unconnected_gradients="zero")
        for j, gradient in enumerate(gradients):
            # Float64 rounds at 1e-16; what moves at all moves by more than 1e-14 at one of three points.
            found[i, j] = np.abs(gradient.numpy().reshape(*shape, *gradient.shape[1:])) > 1e-14
    return found


def _moved_by_changes(layer, case, x, context):
    """For pixel values, which have no derivative, by point: change each of them, all in one batch."""
    number = int(np.prod(x.shape[1:]))
    copies, contexts = _copies((x, context), number)
    changed, own = copies.numpy().reshape(-1, number, number), np.arange(number)
    changed[:, own, own] = (changed[:, own, own] + 1) % case.num_values
    y = layer(x, context=context).numpy()
    moved_y = layer(tf.constant(changed.reshape(copies.shape)), context=contexts).numpy()
    moved = np.abs(moved_y.reshape(len(y), number, *y.shape[1:]) - y[:, None]) > 1e-12
    return {(0, 0): np.moveaxis(moved, 1, -1).reshape(*y.shape, *x.shape[1:])}


def check_dependence(case, size):
    """The nonzero pattern of the Jacobian is exactly the listed set: no leak, no unlisted blind spot."""
    layer = build(case, size, "float64")
    for (output, source), moved in _dependence(layer, case, size).items():
        expected = catalogue.relation(case.sees, (output, source), moved.shape[:3], moved.shape[3:])
        wrong = np.argwhere((moved != expected).any(axis=(3, 4, 5)))
        if len(wrong):
            r, c, k = wrong[0]
            raise AssertionError(
                f"output stream {output} at row {r}, column {c}, unit {k} must see of input stream {source}:\n"
                f"{expected[r, c, k].any(-1).astype(int)}\nand sees:\n{moved[r, c, k].any(-1).astype(int)}"
            )


def check_config_round_trip(case, size):
    """A layer rebuilt from its config, with the weights copied, computes the same."""
    layer = build(case, size)
    config = keras.saving.serialize_keras_object(layer)
    twin = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(twin)["config"] == config["config"]
    shape = (None, *size, case.channels)
    context = {None: None, "vector": (None, 3), "map": (None, *size, 3)}[case.context]
    if not twin.built:
        twin.build((shape, shape) if case.streams in ("pair", "end") else shape, context)
    twin.set_weights(layer.get_weights())
    x, context = make_inputs(case, 2, size)
    for a, b in zip(tf.nest.flatten(layer(x, context=context)), tf.nest.flatten(twin(x, context=context)), strict=True):
        np.testing.assert_array_equal(a, b)


def check_causal_layer(case):
    """All that the contract promises, for one case of the catalogue.

    Float64 decides whether steps equal the whole. Bfloat16 shows what is cast where.
    """
    size, *smaller_than_the_kernel = case.sizes
    check_steps_equal_call(case, 2, size, "float64")
    for batch, small in zip((3, 1), smaller_than_the_kernel, strict=True):
        check_steps_equal_call(case, batch, small, "float64")
    check_steps_equal_call(case, 2, size, "mixed_bfloat16")
    check_dependence(case, size)
    check_config_round_trip(case, size)
