"""Steppers of convolutions: of whole rows, of the row itself, and of layers that add both.

Legend: B batch, W width, C channels, F filters, G channel groups.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from pixelvae_tf.layers import masks
from pixelvae_tf.layers.causal import Nest, Stepper, take_row
from pixelvae_tf.layers.context import add_context_row
from pixelvae_tf.layers.shifts import tail
from pixelvae_tf.layers.weight_norm import add_optional, as_floats, as_matrix, matrix_product


def identity(x: tf.Tensor) -> tf.Tensor:
    """x."""
    return x


@dataclasses.dataclass
class VerticalStepper(Stepper):
    """A convolution over whole rows, the newest one included. The state is the rows that the kernel still needs.

    Attributes:
      kernel: [rows, columns, C, F].
      bias: [F], or None.
      nothing: zeros [B, rows - 1, W, C], what is above the image; () for a kernel of one row.
      padding: columns of zeros on the left and on the right.
      strides: of the columns.
    """

    kernel: tf.Tensor
    bias: tf.Tensor | None
    nothing: Nest
    padding: tuple[int, int]
    strides: int = 1

    @classmethod
    def of(cls, kernel, bias, batch_and_width, padding: tuple[int, int], strides: int = 1) -> "VerticalStepper":
        """That of a folded kernel [rows, columns, C, F], for rows of (B, W)."""
        (batch, width), (rows, _, channels, _) = batch_and_width, kernel.shape
        nothing = tf.zeros((batch, rows - 1, width, channels), kernel.dtype) if rows > 1 else ()
        return cls(kernel, bias, nothing, padding, strides)

    def start(self):
        return self.nothing

    def next_row(self, state, finished, row):
        # Not finished[:, None], whose gradient copies; see `layers.shifts`.
        window = tf.expand_dims(tf.cast(finished, self.kernel.dtype), 1)
        if self.kernel.shape[0] > 1:
            window = tf.concat([state, window], axis=1)
            state = tail(window, self.kernel.shape[0] - 1, axis=1)
        window = tf.pad(window, ((0, 0), (0, 0), self.padding, (0, 0)))
        y = tf.nn.conv2d(window, self.kernel, self.strides, "VALID")
        # Added here, TensorFlow fuses the bias with the convolution.
        return tf.squeeze(add_optional(y, self.bias), axis=1), state


@dataclasses.dataclass
class HorizontalStepper(Stepper):
    """A convolution over the row itself, up to the location (type B) or the channel group before (type A).

    The state is a queue [B, units] of the units to the left, each location with its groups one after the other; ()
    where it has none. While a location is computed, it grows by the groups that are there.

    Attributes:
      matrix: [taps * C, F], of a row.
      bias: [F], or None.
      matrices: of each group, from the queue and what a step is given to the group's units.
      biases: of each group, [B, F / G]; none without a bias.
      nothing: the queue at the start of a row: zeros, or ().
      channels: C.
      reach: how many locations to the left it sees.
      mask_type: "A" or "B".
    """

    matrix: tf.Tensor
    bias: tf.Tensor | None
    matrices: tuple[tf.Tensor, ...]
    biases: tuple[tf.Tensor, ...]
    nothing: Nest
    channels: int
    reach: int
    mask_type: masks.MaskType

    @classmethod
    def of(
        cls, kernel, bias, batch, reach: int, mask_type: masks.MaskType = "B", groups: int = 1
    ) -> "HorizontalStepper":
        """That of a folded kernel [1, taps, C, F] whose units are ordered in groups."""
        _, taps, channels, filters = kernel.shape
        matrices = (as_matrix(kernel),)
        if groups > 1:
            # [taps, G, C / G, G, F / G]: the groups of the input, then those of the output.
            by_group = tf.reshape(kernel, (taps, channels // groups, groups, filters // groups, groups))
            by_group = tf.reshape(tf.transpose(by_group, (0, 2, 1, 4, 3)), (taps * channels, groups, filters // groups))
            seen = [reach * channels + (g + (mask_type == "B")) * channels // groups for g in range(groups)]
            matrices = tuple(by_group[: seen[group], group] for group in range(groups))
        biases = ()
        if bias is not None:
            # Tensors of one shape are added faster, and not fused with the product, which takes longer.
            shape, each = (batch, filters // groups), range(groups)
            biases = tuple(tf.broadcast_to(masks.units_of_group(bias, group, groups), shape) for group in each)
        # Type A is given the last group of the location to the left by the step itself.
        units = reach * channels - (channels // groups if mask_type == "A" else 0)
        nothing = tf.zeros((batch, units), kernel.dtype) if reach else ()
        return cls(as_matrix(kernel), bias, matrices, biases, nothing, channels, reach, mask_type)

    @property
    def groups(self) -> int:
        """G."""
        return len(self.matrices)

    def _floats(self, x):
        return as_floats(x, self.matrix.dtype, "a causal convolution")

    def start(self):
        return self.nothing

    def next_row(self, state, finished, row):
        return None if finished is None else self.row((), finished)[0], self.nothing

    def row(self, state, x):
        taps, width = self.matrix.shape[0] // self.channels, x.shape[1]
        x = self._floats(x)
        if self.reach:
            # As one matrix product: for a single row a convolution has more to set up than to do.
            x = tf.pad(x, ((0, 0), (self.reach, 0), (0, 0)))
            size = tf.constant((-1, width, -1))
            x = tf.concat([tf.slice(x, (0, tap, 0), size) for tap in range(taps)], axis=-1)
        return add_optional(matrix_product(x, self.matrix), self.bias), state

    def step(self, state, x, column, group):
        x, matrix = self._floats(x), self.matrices[group]
        if self.mask_type == "A" and group == 0:
            # Nothing is to the left of a row.
            x = x * tf.cast(column > 0, x.dtype)
        window = x if isinstance(state, tuple) else tf.concat([state, x], axis=-1)
        # The first group of type A without reach sees nothing, not even what it is given.
        window = tail(window, matrix.shape[0], axis=1) if window.shape[-1] > matrix.shape[0] else window
        y = tf.matmul(window, matrix)
        if group < self.groups - 1:
            state = window
        else:  # the leftmost location leaves
            state = tail(window, window.shape[-1] - self.channels, axis=1) if self.reach else ()
        return (y + self.biases[group] if self.biases else y), state


class AddendState(NamedTuple):
    """State of an `AddendStepper`.

    Attributes:
      beside: of the layer on the row itself.
      above: of the layer on the rows above.
      rows: what the rows above and the context give the locations of the row, [B, W, F] each, or [B, 1, F] where it is
        the same for all; the addend first.
    """

    beside: Nest
    above: Nest
    rows: tuple[tf.Tensor, ...]


@dataclasses.dataclass
class AddendStepper(Stepper):
    """function(beside(x) + addend), the addend made of the rows above and the context when a row starts.

    Attributes:
      beside: sees the row itself.
      above: sees the rows above, or None.
      context: the projected context, [B, H, W, F] or [B, 1, 1, F], or None.
      nothing: zeros [B, W, F], what row 0 gets from above; None without rows above.
      function: of the sum, and of the other `rows` of the state.
      strides: of the columns.
    """

    beside: HorizontalStepper
    above: Stepper | None
    context: tf.Tensor | None
    nothing: tf.Tensor | None
    function: Callable = identity
    strides: int = 1

    @classmethod
    def of(cls, beside, above, context, batch_and_width, function: Callable = identity, strides: int = 1):
        """That of its parts, for rows of (B, W)."""
        nothing, matrix = None, beside.matrix
        if above is not None:
            batch, width = batch_and_width
            nothing = tf.zeros((batch, -(-width // strides), matrix.shape[-1]), matrix.dtype)
        return cls(beside, above, context, nothing, function, strides)

    def start(self):
        return self.new_row(self.nothing, () if self.above is None else self.above.start(), tf.constant(0))

    def new_row(self, from_above: tf.Tensor | None, above: Nest, row: tf.Tensor, *rows: tf.Tensor) -> AddendState:
        """The state before `row`, of what the rows above give it and of their own state."""
        if from_above is not None:
            rows = (add_context_row(from_above, self.context, row), *rows)
        elif self.context is not None:
            rows = (take_row(self.context, row), *rows)
        return AddendState(self.beside.start(), above, rows)

    def next_row(self, state, finished, row):
        # The row was made location by location already; once more as a whole is cheaper than keeping it.
        y = None if finished is None else self.row(state, finished)[0]
        from_above, above = self.nothing, state.above
        if self.above is not None:
            from_above, above = self.above.next_row(above, finished, row)
        return y, self.new_row(from_above, above, row)

    def row(self, state, x):
        y, _ = self.beside.row((), x)
        if self.strides > 1:
            y = y[:, :: self.strides]
        return self._combined(y, *state.rows), state

    def step(self, state, x, column, group):
        y, beside = self.beside.step(state.beside, x, column, group)
        place = column // self.strides if self.strides > 1 else column
        here = [tf.squeeze(row, 1) if row.shape[1] == 1 else tf.gather(row, place, axis=1) for row in state.rows]
        here = [masks.units_of_group(units, group, self.beside.groups) for units in here]
        return self._combined(y, *here), state._replace(beside=beside)

    def _combined(self, y, addend=None, *others):
        return self.function(add_optional(y, addend), *others)
