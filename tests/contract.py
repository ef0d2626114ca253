"""What every causal layer must obey; see `pixelvae_tf.layers.causal`."""

import keras
import numpy as np
import tensorflow as tf

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
    tolerance = {"float64": 1e-12, "float32": 2e-5, "bfloat16": 6e-2}[actual.dtype.name]
    actual, expected = (tf.cast(x, tf.float64) for x in (actual, expected))
    message = f"{what} differs from its locations"
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=message)


def check_steps_equal_call(case, batch, size, dtype):
    """call == step, for one batch, size and dtype."""
    layer = build(case, size, dtype)
    x, context = make_inputs(case, batch, size, {"mixed_bfloat16": "float32"}.get(dtype, dtype))
    if dtype == "mixed_bfloat16":
        # Inputs that bfloat16 holds exactly, so that only the arithmetic differs.
        x, context = tf.nest.map_structure(
            lambda t: None if t is None else tf.cast(tf.cast(t, tf.bfloat16), tf.float32), (x, context)
        )
    whole, stepped = layer(x, context=context), run_in_steps(layer, case.streams, x, context)
    # Sums of a few hundred products: float32 rounds at 6e-8 each, float64 at 1e-16, bfloat16 at 4e-3,
    # where every layer of a chain rounds its output once more.
    tolerance = {"float32": 2e-5, "float64": 1e-12, "mixed_bfloat16": 6e-2}[dtype]
    for a, b in zip(tf.nest.flatten(whole), tf.nest.flatten(stepped), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(
            tf.cast(a, tf.float64).numpy(), tf.cast(b, tf.float64).numpy(), rtol=tolerance, atol=tolerance
        )


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
    return layer


def _dependence(layer, case, size):
    """{(output stream, input stream): bool [H, W, units, H, W, units]}: does the output move with the input?

    Asked at several random points: a real dependence may vanish at one of them.
    """
    found = {}
    for seed in range(3):
        x, context = make_inputs(case, 1, size, "float64", seed)
        moved = _moved_by_changes(layer, case, x, context) if case.num_values else _jacobians(layer, x, context)
        for streams, pattern in moved.items():
            found[streams] = found.get(streams, False) | pattern
    return found


def _jacobians(layer, x, context):
    """For real inputs: where the Jacobian is not zero."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = tf.nest.flatten(layer(x, context=context))
    return {
        # Float64 rounds at 1e-16; what moves at all moves by more than 1e-14 at one of three points.
        (i, j): np.abs(tape.jacobian(y, source, unconnected_gradients="zero")[0, :, :, :, 0].numpy()) > 1e-14
        for i, y in enumerate(outputs)
        for j, source in enumerate(tf.nest.flatten(x))
    }


def _moved_by_changes(layer, case, x, context):
    """For pixel values, which have no derivative: change each of them, all in one batch."""
    number = int(np.prod(x.shape[1:]))
    changed = np.repeat(x.numpy(), number, axis=0).reshape(number, number)
    changed[np.arange(number), np.arange(number)] = (np.diag(changed) + 1) % case.num_values
    everything = tf.concat([x, changed.reshape(number, *x.shape[1:])], axis=0)
    contexts = None if context is None else tf.repeat(context, number + 1, axis=0)
    y = layer(everything, context=contexts).numpy()
    moved = np.abs(y[1:] - y[:1]) > 1e-12
    return {(0, 0): np.moveaxis(moved, 0, -1).reshape(*y.shape[1:], *x.shape[1:])}


def check_dependence(case, size):
    """The nonzero pattern of the Jacobian is exactly the listed set: no leak, no unlisted blind spot."""
    layer = build(case, size, "float64")
    found = _dependence(layer, case, size)
    for (output, source), moved in found.items():
        height, width, out_units, _, _, in_units = moved.shape
        for r, c, k in np.ndindex(height, width, out_units):
            expected = np.zeros((height, width, in_units), bool)
            for i, j, unit in np.ndindex(height, width, in_units):
                expected[i, j, unit] = case.sees(output, source, (r, c, k), (i, j, unit))
            assert (moved[r, c, k] == expected).all(), (
                f"output stream {output} at row {r}, column {c}, unit {k} must see of input stream {source}:\n"
                f"{expected.any(-1).astype(int)}\nand sees:\n{moved[r, c, k].any(-1).astype(int)}"
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
    """All that the contract promises, for one case of the catalogue."""
    size, *smaller_than_the_kernel = case.sizes
    for dtype in ("float32", "float64", "mixed_bfloat16"):
        check_steps_equal_call(case, 2, size, dtype)
    for batch, small in zip((3, 1), smaller_than_the_kernel, strict=True):
        check_steps_equal_call(case, batch, small, "float32")
    check_dependence(case, size)
    check_config_round_trip(case, size)
