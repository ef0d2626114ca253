"""A check for causal layers of one's own: what leaks, what is not seen, and whether steps equal the whole image.

    from pixelvae_tf.testing import check_causal_layer

    def test_my_network_is_causal():
        blind_spots = check_causal_layer(MyNetwork(), (5, 6, 1))
        assert blind_spots == []

An autoregressive network that leaks has a likelihood that is none: it looks excellent, and samples are noise. What one
location depends on is seen in its Jacobian, which is asked at random points. Raster order is row by row, left to right
and, inside a location, group of channels by group.

Legend: B batch, H height, W width, C channels, K units of the output, N number of output or input units of an image.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from pixelvae_tf.layers import masks
from pixelvae_tf.layers.causal import CausalLayer, Nest, Stepper

__all__ = ["Inputs", "before", "check_causal_layer", "check_dependence", "check_steps"]

Units = tuple[np.ndarray, np.ndarray, np.ndarray]
# sees(output stream, input stream, (row, column, unit) of an output, the same of an input) -> bool; of arrays that
# broadcast against each other.
Sees = Callable[[int, int, Units, Units], np.ndarray]
# "raster" has one stream; "pair" takes and gives (vertical, horizontal), numbered so; "end" takes the pair and gives
# the horizontal one; "vertical" and "horizontal" are half layers with one clock.
Streams = Literal["raster", "pair", "end", "vertical", "horizontal"]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a layer takes.

    Attributes:
      shape: (H, W, C) of its input.
      context_shape: of the context, less the batch, that it takes as `layer(x, context=context)`; or None.
      num_values: if the input is integer pixel values, how many there are.
      streams: of a layer on a pair of streams.
    """

    shape: tuple[int, ...]
    context_shape: tuple[int, ...] | None = None
    num_values: int = 0
    streams: Streams = "raster"


# A dependence may vanish at one random point.
NUM_POINTS = 3
# Rounding of sums of a few hundred products; in bfloat16 every layer of a chain rounds its output once more.
TOLERANCES = {"float64": 1e-12, "float32": 1e-4, "bfloat16": 6e-2}


def before(mask_type: masks.MaskType, groups: int = 1) -> Sees:
    """The relation of raster order: all above, all to the left, and of the location itself what comes before.

    Args:
      mask_type: "A", strictly before; "B", the unit's own group of channels too.
      groups: number of channel groups; unit k belongs to group k mod groups.
    """

    def sees(output, source, at, place):
        (r, c, k), (i, j, unit) = at, place
        own, other = k % groups, unit % groups
        center = other <= own if mask_type == "B" else other < own
        return (i < r) | (i == r) & ((j < c) | (j == c) & center)

    return sees


def check_causal_layer(
    layer: keras.layers.Layer,
    shape: tuple[int, int, int],
    context_shape: tuple[int, ...] | None = None,
    *,
    mask_type: masks.MaskType = "A",
    groups: int = 1,
    num_values: int = 0,
) -> list[str]:
    """Checks that a layer, or a whole network, sees nothing that comes after, and tells what it does not see.

    Its weights are as they are, but that those which are all zero (biases, gates that start closed) are random
    meanwhile: they would hide what lies behind them. In float64 (`dtype="float64"`) no dependence is too weak to be
    found; in float32 one of a millionth of the largest is not. The batch is 3 H W K copies of an image: choose a
    small one, larger than the kernels. Of a `layers.CausalLayer` it is checked too that its stepper makes what `call`
    makes.

    Args:
      layer: a Keras layer or model from [B, H, W, C] to [B, H, W, K].
      shape, context_shape, num_values: as for `Inputs`.
      mask_type: "A": a location must not see itself, as for a whole network, whose steps are given what was drawn last;
        "B": it may, as for all layers but the first.
      groups: in how many groups the channels of a location are ordered; unit k belongs to group k mod groups.

    Returns:
      The blind spots, each as "2 rows above, 1 column to the right": what comes before a location in raster order, and
      is not seen there by any unit.

    Raises:
      AssertionError: for a leak, with the first place where it is, or if steps differ from the whole.

    Examples:
      >>> blind = pixelvae_tf.testing.check_causal_layer(layers.MaskedConv2D(2, 3, "A"), (3, 4, 1), mask_type="A")
    """
    inputs = Inputs(shape, context_shape, num_values)
    return _check(layer, inputs, before(mask_type, groups), mask_type, blind_spots=True)


def check_dependence(layer: keras.layers.Layer, inputs: Inputs, sees: Sees, mask_type: masks.MaskType = "A") -> None:
    """`check_causal_layer` where it is known what a layer sees, exactly: a blind spot is an error too.

    Args:
      layer: as for `check_causal_layer`; or one of a pair of streams.
      inputs: what it takes.
      sees: what it sees: (output stream, input stream, at, place) -> bool, `at` and `place` (row, column, unit) of an
        output and an input.
      mask_type: as for `check_causal_layer`.

    Raises:
      AssertionError: for a leak or a blind spot, with the first place where it is, or if steps differ from the whole.
    """
    _check(layer, inputs, sees, mask_type, blind_spots=False)


def _check(layer, inputs: Inputs, sees: Sees, mask_type: masks.MaskType, blind_spots: bool) -> list[str]:
    """Checks a layer that may have blind spots, which are returned, or none."""
    # A model's own dtype may be another than that of its layers.
    dtype = layer.weights[0].dtype if layer.weights else layer.variable_dtype
    x, context = random_inputs(inputs, NUM_POINTS, dtype)
    _call(layer, x, context)  # builds it
    names: dict[str, None] = {}
    with _nothing_zero(layer):
        for (output, source), moved in dependence(layer, x, context, inputs.num_values).items():
            allowed = relation(sees, (output, source), moved.shape[:3], moved.shape[3:])
            raster = inputs.streams in ("raster", "horizontal")
            where = "" if raster else f" of stream {output}, of input stream {source},"
            _refuse(layer, "leaks", moved & ~allowed, f"sees{where}", moved, allowed)
            blind = allowed & ~moved
            if not blind_spots:
                _refuse(layer, "has a blind spot", blind, f"does not see{where}", moved, allowed)
            names |= dict.fromkeys(_offsets(blind, allowed))
        if isinstance(layer, CausalLayer):
            check_steps(layer, x, context, mask_type, inputs.streams)
    return list(names)


def _refuse(layer, what: str, wrong: np.ndarray, sees: str, moved: np.ndarray, allowed: np.ndarray) -> None:
    """Raises an AssertionError for the first output that has wrong inputs."""
    if not wrong.any():
        return
    r, c, k, i, j, unit = np.argwhere(wrong)[0]
    places = f"{wrong.any(axis=(2, 3, 4, 5)).sum()} of {wrong.shape[0] * wrong.shape[1]} locations"
    maps = [f"{name}\n{of[r, c, k].any(-1).astype(int)}" for name, of in (("may see", allowed), ("sees", moved))]
    raise AssertionError(
        f"layer {layer.name!r} {what}, at {places}: the output at row {r}, column {c}, unit {k} {sees} the input at "
        f"row {i}, column {j}, unit {unit}. It {maps[0]}\nand {maps[1]}"
    )


def _offsets(blind: np.ndarray, allowed: np.ndarray) -> Iterator[str]:
    """Names of the offsets, nearest first, at which no unit of some location sees any unit that it may."""
    unseen = blind.all(axis=(2, 5), where=allowed) & allowed.any(axis=(2, 5))  # [H, W, H, W]
    rows, columns, i, j = np.nonzero(unseen)
    offsets = set(zip((rows - i).tolist(), (j - columns).tolist(), strict=True))
    for up, right in sorted(offsets, key=lambda offset: (offset[0] + abs(offset[1]), offset)):
        parts = [_count(up, "row") + " above"] * (up > 0)
        parts += [_count(abs(right), "column") + f" to the {'right' if right > 0 else 'left'}"] * (right != 0)
        yield ", ".join(parts) or "the location itself"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


@contextlib.contextmanager
def _nothing_zero(layer: keras.layers.Layer) -> Iterator[None]:
    """Weights that are all zero are random inside."""
    generator, before = np.random.default_rng(0), layer.get_weights()
    layer.set_weights([w if w.any() else generator.normal(size=w.shape).astype(w.dtype) for w in before])
    try:
        yield
    finally:
        layer.set_weights(before)


def random_inputs(inputs: Inputs, batch: int, dtype: str = "float32") -> tuple[Nest, tf.Tensor | None]:
    """Random input (or a pair of streams), [B, H, W, C], and context, [B, *context_shape], or None."""
    generator = np.random.default_rng(0)

    def values() -> tf.Tensor:
        if inputs.num_values:
            return tf.constant(generator.integers(0, inputs.num_values, (batch, *inputs.shape)), tf.int32)
        return tf.constant(generator.normal(size=(batch, *inputs.shape)), dtype)

    x = (values(), values()) if inputs.streams in ("pair", "end") else values()
    context = None
    if inputs.context_shape is not None:
        context = tf.constant(generator.normal(size=(batch, *inputs.context_shape)), dtype)
    return x, context


def _call(layer: keras.layers.Layer, x: Nest, context: tf.Tensor | None) -> Nest:
    return layer(x) if context is None else layer(x, context=context)


def relation(sees: Sees, streams: tuple[int, int], at_shape: tuple, place_shape: tuple) -> np.ndarray:
    """Boolean [*at_shape, *place_shape]: which unit of an output stream sees which of an input stream.

    Args:
      sees: the relation.
      streams: (output, input).
      at_shape: (H, W, units) of the output.
      place_shape: (H, W, units) of the input.
    """
    shape = (*at_shape, *place_shape)
    coordinates: Any = np.ogrid[tuple(slice(size) for size in shape)]
    return np.broadcast_to(sees(*streams, coordinates[:3], coordinates[3:]), shape)


def dependence(layer, x: Nest, context: tf.Tensor | None, num_values: int = 0) -> dict[tuple[int, int], np.ndarray]:
    """{(output stream, input stream): bool [H, W, K, H, W, C]}: does the output move with the input, at some point?"""
    by_point = _moved_by_changes(layer, x, context, num_values) if num_values else _jacobians(layer, x, context)
    return {streams: np.asarray(moved.any(axis=0)) for streams, moved in by_point.items()}


def _copies(tensors: Nest, number: int) -> Nest:
    """Every row `number` times over; None stays."""
    return tf.nest.map_structure(lambda t: None if t is None else tf.repeat(t, number, axis=0), tensors)


def _jacobians(layer, x: Nest, context: tf.Tensor | None) -> dict[tuple[int, int], np.ndarray]:
    """For real inputs, by point: where the Jacobian is not zero. A copy of the point for each unit of the output."""
    moved = {}
    for i, y in enumerate(tf.nest.flatten(_call(layer, x, context))):
        shape, number = y.shape, int(np.prod(y.shape[1:]))
        copies, contexts = _copies((x, context), number)
        with tf.GradientTape() as tape:
            tape.watch(copies)
            y = tf.nest.flatten(_call(layer, copies, contexts))[i]
            own_units = tf.linalg.diag_part(tf.reshape(y, (-1, number, number)))
        gradients = tape.gradient(own_units, tf.nest.flatten(copies), unconnected_gradients="zero")
        for j, gradient in enumerate(gradients):
            gradient = np.abs(gradient.numpy().reshape(*shape, *gradient.shape[1:]))
            # Float64 rounds at 1e-16; what moves at all moves by more than 1e-14 at one of the points.
            moved[i, j] = gradient > (1e-14 if gradient.dtype == np.float64 else 1e-6 * gradient.max())
    return moved


def _moved_by_changes(layer, x: tf.Tensor, context, num_values: int) -> dict[tuple[int, int], np.ndarray]:
    """For pixel values, which have no derivative, by point: change each of them, all in one batch."""
    number = int(np.prod(x.shape[1:]))
    copies, contexts = _copies((x, context), number)
    changed, own = copies.numpy().reshape(-1, number, number), np.arange(number)
    changed[:, own, own] = (changed[:, own, own] + 1) % num_values
    y = _call(layer, x, context).numpy()
    moved_y = _call(layer, tf.constant(changed.reshape(copies.shape)), contexts).numpy()
    differences = np.abs(moved_y.reshape(len(y), number, *y.shape[1:]) - y[:, None])
    moved = differences > (1e-12 if y.dtype == np.float64 else 1e-6 * differences.max())
    return {(0, 0): np.moveaxis(moved, 1, -1).reshape(*y.shape, *x.shape[1:])}


def check_steps(
    layer: CausalLayer,
    x: Nest,
    context: tf.Tensor | None = None,
    mask_type: masks.MaskType = "A",
    streams: Streams = "raster",
) -> None:
    """Checks that a causal layer's steps, and its rows at once, make what its `call` makes.

    Args:
      layer: built.
      x: [B, H, W, C], or a pair of such.
      context: or None.
      mask_type, streams: as for `check_causal_layer`.

    Raises:
      AssertionError: where they differ by more than rounding.
    """
    whole, stepped = _call(layer, x, context), _run_in_steps(layer, x, context, mask_type, streams)
    for a, b in zip(tf.nest.flatten(whole), tf.nest.flatten(stepped), strict=True):
        _assert_close(a, b, "the whole")


def _run_in_steps(
    layer: CausalLayer, x: Nest, context: tf.Tensor | None, mask_type: masks.MaskType, streams: Streams
) -> Nest:
    """The whole image by `step` and `next_row`, and beside it by `row`. Returns what `call` returns."""
    vertical, horizontal = x if streams in ("pair", "end") else (x, x)
    height, width = horizontal.shape[1:3]
    stepper = layer.stepper(context, tf.shape(horizontal)[0], (height, width))
    rows, finished_rows, state = [], [], stepper.start()
    state_at_once = state
    for row in range(height):
        if streams != "vertical":
            at_once, state_at_once = stepper.row(state_at_once, horizontal[:, row])
            outputs, state = _row_in_steps(stepper, layer.channel_groups, state, horizontal[:, row], mask_type)
            rows.append(tf.stack(outputs, axis=1))
            _assert_close(at_once, rows[-1], "the row at once")
        finished, state = stepper.next_row(state, vertical[:, row], tf.constant(row + 1))
        finished_rows.append(finished)
        if streams != "vertical":
            _, state_at_once = stepper.next_row(state_at_once, vertical[:, row], tf.constant(row + 1))
    if streams == "vertical":
        return tf.stack(finished_rows, axis=1)
    stepped = tf.stack(rows, axis=1)
    if streams == "pair":
        return tf.stack(finished_rows, axis=1), stepped
    if streams == "raster" and finished_rows[0] is not None:
        _assert_close(tf.stack(finished_rows, axis=1), stepped, "the finished row")
    return stepped


def _row_in_steps(
    stepper: Stepper, groups: int, state: Nest, x: tf.Tensor, mask_type: masks.MaskType
) -> tuple[list, Nest]:
    """A row [B, W, C] location by location and group by group: a list of W outputs [B, F], and the state."""
    width = x.shape[1]
    units = [masks.units_of_group(x[:, column], group, groups) for column in range(width) for group in range(groups)]
    if mask_type == "A":
        # What was drawn last. At the row's start anything must do: here ones.
        units = [tf.ones_like(units[0]), *units[:-1]]
    outputs, units = [], iter(units)
    for column in range(width):
        parts = []
        for group in range(groups):
            y, state = stepper.step(state, next(units), tf.constant(column), group)
            parts.append(y)
        outputs.append(masks.merge_groups(parts))
    return outputs, state


def _assert_close(actual: tf.Tensor, expected: tf.Tensor, what: str) -> None:
    assert actual.shape == expected.shape and actual.dtype == expected.dtype, (
        f"{what} is {actual.dtype.name} {actual.shape}, its locations {expected.dtype.name} {expected.shape}"
    )
    tolerance = TOLERANCES[actual.dtype.name]
    actual, expected = (tf.cast(x, tf.float64) for x in (actual, expected))
    message = f"{what} differs from its locations"
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=message)
