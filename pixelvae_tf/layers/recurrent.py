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

import keras
import tensorflow as tf

from pixelvae_tf.layers.causal import take_row
from pixelvae_tf.layers.context import Conditioned
from pixelvae_tf.layers.convolutions import HorizontalConv2D, VerticalConv2D
from pixelvae_tf.layers.masks import check_groups, merge_groups, units_of_group
from pixelvae_tf.layers.shifts import first, shift, shift_down
from pixelvae_tf.layers.weight_norm import PACKAGE, WeightNormConv2D, add_optional

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
        """Builds the parts."""
        self.input_to_state.build(x_shape)
        self.state_to_state.build((*x_shape[:-1], self.units))
        self.build_projections(context_shape, 4 * self.units, ("context_projection",))

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        """[B, H, W, C] -> [B, H, W, U]."""
        return (*x_shape[:-1], self.units)

    def call(self, x, context=None, training=False, seed=None):
        """Computes the whole image, row after row."""
        pre = add_optional(self.input_to_state(x), self.project("context_projection", context))
        kernel, _ = self.state_to_state.folded()
        hidden = tf.zeros_like(pre[:, 0, :, : self.units])

        def next_row(before, pre_row):
            hidden, cell = before
            return lstm(pre_row + self._from_above(kernel, hidden), cell)

        rows, _ = tf.scan(
            next_row, tf.transpose(pre, (1, 0, 2, 3)), (hidden, tf.cast(hidden, _cell_dtype(hidden.dtype)))
        )
        return tf.transpose(rows, (1, 0, 2, 3))

    def _from_above(self, kernel: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
        """What a row [B, W, U] gives the row below it: [B, W, 4 U]."""
        # Not hidden[:, None], whose gradient copies; see `layers.shifts`.
        return self.state_to_state.row(tf.expand_dims(hidden, 1), kernel, None)

    def begin(self, context, batch, size):
        """Folds the kernels; above row 0 is nothing."""
        input_to_state, queue = self.input_to_state.begin(None, batch, size)
        kernel, _ = self.state_to_state.folded()
        constants = (input_to_state, kernel, self.project("context_projection", context))
        hidden = tf.zeros((batch, size[1], self.units), kernel.dtype)
        cell = tf.cast(hidden, _cell_dtype(hidden.dtype))
        return constants, (queue, cell, self._addend(constants, hidden, tf.constant(0)))

    def _addend(self, constants, hidden, row):
        """[B, W, 4 U]: what `row` gets from the hidden row above and from the context."""
        _, kernel, context = constants
        return self.add_context_row(self._from_above(kernel, hidden), context, row)

    def start_row(self, constants, state, finished, row):
        """Makes the finished row whole; its cells and what it gives below are the new state."""
        hidden, cell = self._row(constants, state, finished)
        _, queue = self.input_to_state.start_row(constants[0], state[0], None, row)
        return hidden, (queue, cell, self._addend(constants, hidden, row))

    def _row(self, constants, state, x):
        """Hidden units and cells of a row, [B, W, U] each."""
        _, cell, addend = state
        return lstm(self.input_to_state.convolve_row(constants[0], x) + addend, cell)

    def whole_row(self, constants, state, x, row):
        """Computes the row from the cells above it."""
        return self._row(constants, state, x)[0], state

    def step(self, constants, state, x, row, column, group):
        """Computes a group of one location from the cell above it."""
        queue, cell, addend = state
        pre, queue = self.input_to_state.step(constants[0], queue, x, row, column, group)
        above = [units_of_group(tf.gather(rows, column, axis=1), group, self.groups) for rows in (addend, cell)]
        hidden, _ = lstm(pre + above[0], above[1])
        return hidden, (queue, cell, addend)

    def get_config(self) -> dict:
        """Keras' config."""
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_size": self.kernel_size,
            "groups": self.groups,
        }


def skew(x: tf.Tensor) -> tf.Tensor:
    """[B, H, W, C] -> [B, H, H + W - 1, C]: row r moves r places to the right (2016a, figure 3)."""
    _, height, width, channels = x.shape
    flat = tf.reshape(tf.pad(x, ((0, 0), (0, 0), (0, height), (0, 0))), (-1, height * (width + height), channels))
    return tf.reshape(first(flat, height * (height + width - 1), axis=1), (-1, height, height + width - 1, channels))


def unskew(x: tf.Tensor) -> tf.Tensor:
    """Undoes `skew`: [B, H, H + W - 1, C] -> [B, H, W, C]."""
    _, height, length, channels = x.shape
    flat = tf.pad(tf.reshape(x, (-1, height * length, channels)), ((0, 0), (0, height), (0, 0)))
    return first(tf.reshape(flat, (-1, height, length + 1, channels)), length - height + 1, axis=2)


@keras.saving.register_keras_serializable(PACKAGE)
class DiagonalBiLSTM(Conditioned):
    """Two LSTMs along the diagonals, from the left and from the right: [B, H, W, C] -> [B, H, W, U].

    Args:
      units: U.
      groups: number of channel groups; divides inputs and units.
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
        """Builds the parts."""
        for part in (self.left_input, self.right_input):
            part.build(x_shape)
        for part in (self.left_state, self.right_state):
            part.build((*x_shape[:-1], 2 * self.units))
        self.build_projections(context_shape, 4 * self.units, ("context_projection",))

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        """[B, H, W, C] -> [B, H, W, U]."""
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

    def begin(self, context, batch, size):
        """Folds the kernels; beside and above the image is nothing."""
        left_input, here = self.left_input.begin(None, batch, size)
        beside, above = tf.split(self._folded(self.left_state), 2)
        right_beside, right_above = tf.split(self._folded(self.right_state), 2)
        constants = {
            "left_input": left_input,
            "right_input": self.right_input.folded(),
            "beside": beside,
            "beside_by_group": tuple(units_of_group(beside, group, self.groups) for group in range(self.groups)),
            "above": above,
            "right_beside": right_beside,
            "right_above": right_above,
            "context": self.project("context_projection", context),
        }
        row = tf.zeros((size[1], batch, self.units), beside.dtype)
        return constants, self._new_row(constants, here, row, row, tf.constant(0))

    def _new_row(self, constants, here, made, right, row):
        """The state before `row`, from the two hidden rows above it, each [W, B, U]."""
        addend = tf.matmul(made, constants["above"])
        if constants["context"] is not None:
            addend = addend + tf.transpose(take_row(constants["context"], row), (1, 0, 2))
        hidden = tf.zeros_like(made[0])
        return {
            "hidden": hidden,
            "cell": tf.cast(hidden, _cell_dtype(hidden.dtype)),
            "here": here,  # x at the location being made, group by group
            "groups": (),  # and what was made of it: (hidden, cell) of each group
            "made": made,  # overwritten from left to right
            "right": right,
            "addend": addend,
        }

    def start_row(self, constants, state, finished, row):
        """Scans the right-to-left half over the finished row, which the left-to-right half has made already."""
        y = tf.transpose(state["made"] + state["right"], (1, 0, 2))
        kernel, bias = constants["right_input"]
        pre = self.right_input.convolve(tf.cast(finished, kernel.dtype)[:, None], kernel, bias)[:, 0]
        pre = tf.transpose(pre, (1, 0, 2)) + tf.matmul(state["right"], constants["right_above"])

        def next_column(before, pre_column):
            hidden, cell = before
            return lstm(pre_column + tf.matmul(hidden, constants["right_beside"]), cell)

        nothing = tf.zeros_like(state["hidden"]), tf.zeros_like(state["cell"])
        right, _ = tf.scan(next_column, pre, nothing, reverse=True)
        return y, self._new_row(constants, state["here"], state["made"], right, row)

    def whole_row(self, constants, state, x, row):
        """Scans the left-to-right half over the row."""
        pre = self.left_input.convolve_row(constants["left_input"], x)
        pre = tf.transpose(pre, (1, 0, 2)) + state["addend"]

        def next_column(before, pre_column):
            hidden, cell = before
            return lstm(pre_column + tf.matmul(hidden, constants["beside"]), cell)

        made, _ = tf.scan(next_column, pre, (state["hidden"], state["cell"]))
        return tf.transpose(made + state["right"], (1, 0, 2)), {**state, "made": made}

    def step(self, constants, state, x, row, column, group):
        """Moves a group of the left-to-right half one location on."""

        def of_group(units):
            return units_of_group(units, group, self.groups)

        pre, here = self.left_input.step(constants["left_input"], state["here"], x, row, column, group)
        # The location beside has all its groups.
        pre = pre + tf.matmul(state["hidden"], constants["beside_by_group"][group])
        pre = pre + of_group(tf.gather(state["addend"], column))
        hidden, cell = lstm(pre, of_group(state["cell"]))
        y, groups = hidden + of_group(tf.gather(state["right"], column)), (*state["groups"], (hidden, cell))
        if group < self.groups - 1:
            return y, {**state, "here": here, "groups": groups}
        hidden, cell = (merge_groups(parts) for parts in zip(*groups, strict=True))
        made = tf.tensor_scatter_nd_update(state["made"], [[column]], hidden[None])
        return y, {**state, "here": here, "groups": (), "hidden": hidden, "cell": cell, "made": made}

    def get_config(self) -> dict:
        """Keras' config."""
        return {**super().get_config(), "units": self.units, "groups": self.groups}
