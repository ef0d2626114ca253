"""The recurrent layers of PixelRNN (van den Oord et al. 2016a, sections 3.1 and 3.2).

    [i, f, o, g] = K_is * x + K_ss * h_before        c = sigmoid(f + 1) c_before + sigmoid(i) tanh(g)
                                                     h = sigmoid(o) tanh(c)

    Row LSTM: h_before is the row above, seen       Diagonal BiLSTM: h_before are the neighbours above and beside,
    three wide; c_before is the cell above.         c_before is the cell beside.

        1 1 1 1 1 .                                     1 1 1 . .        . . 1 1 1
        . 1 1 1 . .        the triangle                 1 1 1 . .  and   . . 1 1 1  from the right,
        . 1 x . . .                                     1 1 x . .        . . x . .  one row lower

The right-to-left half of the diagonal layer is shifted down one row before it is added, so that together they see all
that is above and to the left.

Departures: weight normalisation; the forget gate starts open (its pre-activation has a bias of 1); the right-to-left
half, which works on finished rows, needs no mask of channel groups. A context enters the pre-activations
(of the left-to-right half, in the diagonal layer).

Legend: B batch, H height, W width, C channels, U units.
"""

import dataclasses
from typing import NamedTuple

import keras
import tensorflow as tf

from pixelvae_tf.layers.causal import Nest, Stepper, take_row
from pixelvae_tf.layers.configured import PACKAGE
from pixelvae_tf.layers.context import Conditioned
from pixelvae_tf.layers.convolutions import HorizontalConv2D, VerticalConv2D
from pixelvae_tf.layers.masks import check_groups, merge_groups, units_of_group
from pixelvae_tf.layers.row_steppers import AddendStepper, HorizontalStepper
from pixelvae_tf.layers.shifts import head, shift, shift_down
from pixelvae_tf.layers.weight_norm import WeightNormConv2D, add_optional

FORGET_BIAS = 1.0


def lstm(pre_activations: tf.Tensor, cell: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """One LSTM cell: pre-activations [..., 4 U], in the order i, f, o, g, and cell [..., U] -> hidden, cell [..., U].

    The cell, which sums over a whole image, is at least float32; the hidden state has the dtype of the pre-activations.
    """
    i, f, o, g = tf.split(tf.cast(pre_activations, cell.dtype), 4, axis=-1)
    cell = tf.sigmoid(f + FORGET_BIAS) * cell + tf.sigmoid(i) * tf.tanh(g)
    return tf.cast(tf.sigmoid(o) * tf.tanh(cell), pre_activations.dtype), cell


def _cell_dtype(dtype: tf.DType) -> tf.DType:
    return tf.float32 if dtype.size < 4 else dtype


@keras.saving.register_keras_serializable(PACKAGE)
class RowLSTM(Conditioned):
    """One LSTM row by row, all columns at once: [B, H, W, C] -> [B, H, W, U].

    Args:
      units: U.
      kernel_size: odd k of the 1 x k kernels; the one on the input sees k // 2 to the left, and the pixel.
      groups: number of channel groups; divides inputs and units.

    Examples:
      >>> layers.RowLSTM(8)(np.zeros((2, 5, 5, 4), "float32")).shape
      TensorShape([2, 5, 5, 8])
    """

    def __init__(self, units: int, kernel_size: int = 3, groups: int = 1, **kwargs):
        super().__init__(**kwargs)
        # Else a unit's four gates would belong to different groups.
        check_groups("units", units, groups)
        self.units, self.kernel_size, self.groups = units, kernel_size, groups
        self.input_to_state = HorizontalConv2D(
            4 * units, kernel_size, "B", groups, name="input_to_state", dtype=self.dtype_policy
        )
        # No bias, and no mask: all channels of the row above are known.
        self.state_to_state = VerticalConv2D(
            4 * units, (1, kernel_size), use_bias=False, name="state_to_state", dtype=self.dtype_policy
        )

    def build(self, x_shape, context_shape=None) -> None:
        self.input_to_state.build(x_shape)
        self.state_to_state.build((*x_shape[:-1], self.units))
        self.build_projections(context_shape, 4 * self.units, ("context_projection",))

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        return (*x_shape[:-1], self.units)

    def call(self, x, context=None, training=False, seed=None):
        """Computes the whole image, row after row."""
        pre = add_optional(self.input_to_state(x), self.project("context_projection", context))
        above = self.state_to_state.stepper(None, tf.shape(x)[0], tuple(x.shape[1:3]))
        hidden = tf.zeros_like(pre[:, 0, :, : self.units])

        def next_row(before, pre_row):
            hidden, cell = before
            return lstm(pre_row + above.next_row((), hidden, None)[0], cell)

        rows, _ = tf.scan(
            next_row, tf.transpose(pre, (1, 0, 2, 3)), (hidden, tf.cast(hidden, _cell_dtype(hidden.dtype)))
        )
        return tf.transpose(rows, (1, 0, 2, 3))

    def stepper(self, context, batch, size):
        beside, above = (part.stepper(None, batch, size) for part in (self.input_to_state, self.state_to_state))
        projected = self.project("context_projection", context)
        return RowLSTMStepper.of(beside, above, projected, (batch, size[1]), _hidden)


def _hidden(pre_activations: tf.Tensor, cell: tf.Tensor) -> tf.Tensor:
    return lstm(pre_activations, cell)[0]


class RowLSTMStepper(AddendStepper):
    """A Row LSTM: the cells of the row above are the second of the state's `rows`."""

    def start(self):
        cell = tf.zeros_like(self.nothing[..., : self.nothing.shape[-1] // 4])
        return self.new_row(self.nothing, (), tf.constant(0), tf.cast(cell, _cell_dtype(cell.dtype)))

    def next_row(self, state, finished, row):
        addend, cell = state.rows
        hidden, cell = lstm(self.beside.row((), finished)[0] + addend, cell)
        return hidden, self.new_row(self.above.next_row((), hidden, row)[0], (), row, cell)


def skew(x: tf.Tensor) -> tf.Tensor:
    """[B, H, W, C] -> [B, H, H + W - 1, C]: row r moves r places to the right (2016a, figure 3)."""
    _, height, width, channels = x.shape
    flat = tf.reshape(tf.pad(x, ((0, 0), (0, 0), (0, height), (0, 0))), (-1, height * (width + height), channels))
    return tf.reshape(head(flat, height * (height + width - 1), axis=1), (-1, height, height + width - 1, channels))


def unskew(x: tf.Tensor) -> tf.Tensor:
    """Undoes `skew`: [B, H, H + W - 1, C] -> [B, H, W, C]."""
    _, height, length, channels = x.shape
    flat = tf.pad(tf.reshape(x, (-1, height * length, channels)), ((0, 0), (0, height), (0, 0)))
    return head(tf.reshape(flat, (-1, height, length + 1, channels)), length - height + 1, axis=2)


@keras.saving.register_keras_serializable(PACKAGE)
class DiagonalBiLSTM(Conditioned):
    """Two LSTMs along the diagonals, from the left and from the right: [B, H, W, C] -> [B, H, W, U].

    Args:
      units: U.
      groups: number of channel groups; divides inputs and units.

    Examples:
      >>> layers.DiagonalBiLSTM(8)(np.zeros((2, 5, 5, 4), "float32")).shape
      TensorShape([2, 5, 5, 8])
    """

    scans_rows = True

    def __init__(self, units: int, groups: int = 1, **kwargs):
        super().__init__(**kwargs)
        # Else a unit's four gates would belong to different groups.
        check_groups("units", units, groups)
        self.units, self.groups = units, groups
        options = {"dtype": self.dtype_policy}
        self.left_input = HorizontalConv2D(4 * units, 1, "B", groups, name="left_input", **options)
        self.right_input = WeightNormConv2D(4 * units, name="right_input", **options)
        # The 2x1 kernels of the paper, on the neighbours beside and above.
        self.left_state = WeightNormConv2D(4 * units, use_bias=False, name="left_state", **options)
        self.right_state = WeightNormConv2D(4 * units, use_bias=False, name="right_state", **options)

    def build(self, x_shape, context_shape=None) -> None:
        for part in (self.left_input, self.right_input):
            part.build(x_shape)
        for part in (self.left_state, self.right_state):
            part.build((*x_shape[:-1], 2 * self.units))
        self.build_projections(context_shape, 4 * self.units, ("context_projection",))

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        return (*x_shape[:-1], self.units)

    def call(self, x, context=None, training=False, seed=None):
        """Computes the whole image, both halves together, diagonal after diagonal."""
        left = add_optional(self.left_input(x), self.project("context_projection", context))
        right = tf.reverse(self.right_input(x), axis=[2])
        kernels = tf.stack([self._folded(self.left_state), self._folded(self.right_state)])
        height, width = x.shape[1:3]
        # Mirrored, the right-to-left half walks the same diagonals: [D, 2, B, H, 4 U].
        pre = tf.transpose(tf.stack([skew(left), skew(right)]), (3, 0, 1, 2, 4))
        # Beside the image, where the diagonals start and end, there is nothing.
        inside = tf.cast(skew(tf.ones((1, height, width, 1))), pre.dtype)
        inside = tf.transpose(inside, (2, 0, 1, 3))[:, None]

        def next_diagonal(before, inputs):
            hidden, cell = before
            pre_diagonal, inside_diagonal = inputs
            neighbours = tf.reshape(tf.concat([hidden, shift(hidden, axis=2)], axis=-1), (2, -1, 2 * self.units))
            from_neighbours = tf.reshape(tf.matmul(neighbours, kernels), tf.shape(pre_diagonal))
            hidden, cell = lstm(pre_diagonal + from_neighbours, cell)
            return hidden * inside_diagonal, cell * tf.cast(inside_diagonal, cell.dtype)

        hidden = tf.zeros_like(pre[0, ..., : self.units])
        diagonals, _ = tf.scan(next_diagonal, (pre, inside), (hidden, tf.cast(hidden, _cell_dtype(hidden.dtype))))
        left, right = tf.unstack(tf.transpose(diagonals, (1, 2, 3, 0, 4)))
        return unskew(left) + shift_down(tf.reverse(unskew(right), axis=[2]))

    def _folded(self, state: WeightNormConv2D) -> tf.Tensor:
        """A state-to-state kernel as a matrix [2 U, 4 U]: from the neighbour beside, then from the one above."""
        return tf.reshape(state.folded()[0], (2 * self.units, 4 * self.units))

    def stepper(self, context, batch, size):
        beside, above = tf.split(self._folded(self.left_state), 2)
        right_beside, right_above = tf.split(self._folded(self.right_state), 2)
        return DiagonalStepper(
            left_input=self.left_input.stepper(None, batch, size),
            right_input=HorizontalStepper.of(*self.right_input.folded(), batch, 0),
            beside=beside,
            beside_by_group=tuple(units_of_group(beside, group, self.groups) for group in range(self.groups)),
            above=above,
            right_beside=right_beside,
            right_above=right_above,
            context=self.project("context_projection", context),
            nothing=tf.zeros((size[1], batch, self.units), beside.dtype),
        )


class DiagonalState(NamedTuple):
    """State of a `DiagonalStepper`.

    Attributes:
      hidden, cell: of the location to the left, [B, U].
      input: of the left input.
      groups: of the location that is computed, (hidden, cell) of each group so far.
      left: the left-to-right half's hidden row [W, B, U], overwritten from left to right.
      right: the right-to-left half's hidden units of the row above, [W, B, U].
      addend: what the row above and the context give the left-to-right half, [W, B, 4 U].
    """

    hidden: tf.Tensor
    cell: tf.Tensor
    input: Nest
    groups: tuple[tuple[tf.Tensor, tf.Tensor], ...]
    left: tf.Tensor
    right: tf.Tensor
    addend: tf.Tensor


@dataclasses.dataclass
class DiagonalStepper(Stepper):
    """A Diagonal BiLSTM: the left-to-right half location by location, the right-to-left half over finished rows.

    Attributes:
      left_input, right_input: 1x1, from the input to the pre-activations of the halves.
      beside, above, right_beside, right_above: matrices [U, 4 U], from the hidden units of the neighbours.
      beside_by_group: `beside` to the units of each group.
      context: the projected context, or None.
      nothing: zeros [W, B, U], the row above row 0.
    """

    left_input: HorizontalStepper
    right_input: HorizontalStepper
    beside: tf.Tensor
    beside_by_group: tuple[tf.Tensor, ...]
    above: tf.Tensor
    right_beside: tf.Tensor
    right_above: tf.Tensor
    context: tf.Tensor | None
    nothing: tf.Tensor

    def start(self):
        return self._new_row(self.nothing, self.nothing, tf.constant(0))

    def _new_row(self, left, right, row):
        """The state before `row`, from the two hidden rows above it."""
        addend = tf.matmul(left, self.above)
        if self.context is not None:
            addend = addend + tf.transpose(take_row(self.context, row), (1, 0, 2))
        hidden = tf.zeros_like(left[0])
        cell = tf.cast(hidden, _cell_dtype(hidden.dtype))
        return DiagonalState(hidden, cell, self.left_input.start(), (), left, right, addend)

    def _scan(self, pre, beside, state, reverse=False):
        """The hidden units [W, B, U] of a row of pre-activations [W, B, 4 U], from the state beside it."""

        def next_column(before, pre_column):
            hidden, cell = before
            return lstm(pre_column + tf.matmul(hidden, beside), cell)

        return tf.scan(next_column, pre, state, reverse=reverse)[0]

    def next_row(self, state, finished, row):
        y = tf.transpose(state.left + state.right, (1, 0, 2))
        pre = tf.transpose(self.right_input.row((), finished)[0], (1, 0, 2)) + tf.matmul(state.right, self.right_above)
        nothing = tf.zeros_like(state.hidden), tf.zeros_like(state.cell)
        right = self._scan(pre, self.right_beside, nothing, reverse=True)
        return y, self._new_row(state.left, right, row)

    def row(self, state, x):
        pre = tf.transpose(self.left_input.row((), x)[0], (1, 0, 2)) + state.addend
        left = self._scan(pre, self.beside, (state.hidden, state.cell))
        return tf.transpose(left + state.right, (1, 0, 2)), state._replace(left=left)

    def step(self, state, x, column, group):
        groups = self.left_input.groups

        def of_group(units):
            return units_of_group(units, group, groups)

        pre, input_state = self.left_input.step(state.input, x, column, group)
        # The location beside has all its groups.
        pre = pre + tf.matmul(state.hidden, self.beside_by_group[group]) + of_group(tf.gather(state.addend, column))
        hidden, cell = lstm(pre, of_group(state.cell))
        y = hidden + of_group(tf.gather(state.right, column))
        state = state._replace(input=input_state, groups=(*state.groups, (hidden, cell)))
        if group < groups - 1:
            return y, state
        hidden, cell = (merge_groups(parts) for parts in zip(*state.groups, strict=True))
        left = tf.tensor_scatter_nd_update(state.left, [[column]], hidden[None])
        return y, state._replace(groups=(), hidden=hidden, cell=cell, left=left)
