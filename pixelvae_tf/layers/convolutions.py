"""Causal convolutions with kernels cropped to what their masks let through.

A k x k causal kernel is the sum of two rectangles: whole rows above, and the row of the pixel
itself up to the pixel. So nothing is multiplied by a mask's zeros:

    1 1 1 1 1      1 1 1 1 1                      VerticalConv2D    (k//2 + 1) x k or k//2 x k
    1 1 1 1 1  =   1 1 1 1 1   +
    1 1 1 0 0                     1 1 1           HorizontalConv2D  1 x (k//2 + 1), type B
                                  1 1             HorizontalConv2D  1 x k//2, type A, one group

`call` pads and convolves the whole image; `start_row` and `step` queue what the kernel still
needs and apply the same folded kernel.

Legend: B batch, H height, W width, C channels, F filters, G channel groups.
"""

import math

import keras
import tensorflow as tf

from pixelvae_tf.layers import masks
from pixelvae_tf.layers.causal import CausalLayer
from pixelvae_tf.layers.context import Conditioned
from pixelvae_tf.layers.shifts import first, last, shift_down
from pixelvae_tf.layers.weight_norm import PACKAGE, WeightNormConv2D, add_optional, as_matrix, matrix_product


def without(config: dict, *names: str) -> dict:
    """A config less what a causal convolution leaves no choice in."""
    return {name: value for name, value in config.items() if name not in names}


class StridedCausalConv2D(WeightNormConv2D, CausalLayer):
    """What the causal convolutions that may skip rows and columns share: shapes, and weights for x [B, H, W, C]."""

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        """[B, H, W, C] -> [B, H / strides, W / strides, F]."""
        batch, height, width, _ = x_shape
        return (batch, -(-height // self.strides), -(-width // self.strides), self.filters)

    def build(self, x_shape, context_shape=None) -> None:
        """Creates the weights."""
        super().build(x_shape)


@keras.saving.register_keras_serializable(PACKAGE)
class VerticalConv2D(StridedCausalConv2D):
    """Sees rows `r - rows + 1 .. r`, to the left and the right: the vertical stack of 2016b.

    It lives on the clock of finished rows alone, so it has no `step`: what is used of it at a
    location is the row above (see `shift_down`).

    Args:
      filters: number of output channels.
      kernel_size: (rows, columns); columns odd.
      strides: step in both directions. Row i then sees input rows up to `strides * i`; the caller who goes row by row
        takes the rows that `start_row` gives for those.
      gain, use_bias: as for `WeightNormConv2D`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: tuple[int, int],
        strides: int = 1,
        gain: float = 1.0,
        use_bias: bool = True,
        **kwargs,
    ):
        masks.side_of_kernel(kernel_size[1])
        super().__init__(filters, kernel_size, strides, "valid", gain=gain, use_bias=use_bias, **kwargs)

    def call(self, x, context=None, training=False, seed=None):
        """Convolves x [B, H, W, C] to [B, H, W, F]."""
        rows, side = self.kernel_size[0] - 1, self.kernel_size[1] // 2
        return super().call(tf.pad(x, ((0, 0), (rows, 0), (side, side), (0, 0))))

    def begin(self, context, batch, size):
        """Folds the kernel; the rows above the image are zero."""
        kernel, bias = self.folded()
        return (kernel, bias), tf.zeros((batch, self.kernel_size[0] - 1, size[1], kernel.shape[2]), kernel.dtype)

    def start_row(self, constants, state, finished, row):
        """Convolves the finished row [B, W, C] with those above it to [B, W / strides, F]."""
        window = tf.concat([state, tf.expand_dims(self.floats(finished), 1)], axis=1)
        return self.row(window, *constants), last(window, state.shape[1], axis=1)

    def row(self, window: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
        """Convolves as many rows as the kernel has, [B, rows, W, C], to one [B, W / strides, F]."""
        side = self.kernel_size[1] // 2
        window = tf.pad(window, ((0, 0), (0, 0), (side, side), (0, 0)))
        return tf.squeeze(self.convolve(window, kernel, bias), axis=1)

    def get_config(self) -> dict:
        """Keras' config."""
        return without(super().get_config(), "padding")


@keras.saving.register_keras_serializable(PACKAGE)
class HorizontalConv2D(WeightNormConv2D, CausalLayer):
    """Sees the row of the pixel itself, to the left: the horizontal stack of 2016b.

    Args:
      filters: number of output channels.
      kernel_size: odd k, or (k, k), of the k x k kernel that this is the last row of.
      mask_type: "A" leaves the pixel itself out (its later channel groups, if there are groups).
      groups: number of channel groups; divides inputs and filters.
      gain, use_bias: as for `WeightNormConv2D`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        mask_type: masks.MaskType = "B",
        groups: int = 1,
        gain: float = 1.0,
        use_bias: bool = True,
        **kwargs,
    ):
        masks.check_mask_type(mask_type)
        kernel_size = masks.side_of_kernel(kernel_size)
        masks.check_groups("filters", filters, groups)
        self.mask_type, self.groups, self.reach = mask_type, groups, kernel_size // 2
        # Type A with one group never sees the pixel itself: its tap is cropped away.
        self.sees_center = mask_type == "B" or groups > 1
        taps = self.reach + self.sees_center
        if not taps:
            raise ValueError(
                'kernel_size must be at least 3 for mask_type="A" with one channel group, else nothing '
                f"is visible. Received: kernel_size={kernel_size}"
            )
        super().__init__(filters, (1, taps), 1, "valid", gain=gain, use_bias=use_bias, **kwargs)

    def build(self, x_shape, context_shape=None) -> None:
        """Creates the weights, and the mask of the centre where there are groups."""
        channels = x_shape[-1]
        mask = None
        if self.groups > 1:
            whole = masks.raster_mask(self.mask_type, 2 * self.reach + 1, channels, self.filters, self.groups)
            mask = whole[self.reach : self.reach + 1, : self.reach + 1]
        self.add_kernel((*self.kernel_size, channels, self.filters), mask, math.prod(x_shape[1:3]))

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        """[B, H, W, C] -> [B, H, W, F]."""
        return (*x_shape[:-1], self.filters)

    def call(self, x, context=None, training=False, seed=None):
        """Convolves x [B, H, W, C] to [B, H, W, F]."""
        if not self.sees_center:
            x = first(x, x.shape[2] - 1, axis=2)
        return super().call(tf.pad(x, ((0, 0), (0, 0), (self.reach, 0), (0, 0))))

    @property
    def strict(self) -> bool:
        """Type A is."""
        return self.mask_type == "A"

    @property
    def _has_queue(self) -> bool:
        """Whether there is a location to the left to remember, or a first group (of type A) that sees none."""
        return bool(self.reach) or self.mask_type == "A"

    def begin(self, context, batch, size):
        """Makes a matrix of the folded kernel, and one for each group; left of the image is zero.

        The state is a queue [B, reach * C] of the locations to the left, each with its groups one after the other;
        () where there are none. While a location is made, it grows by the groups that are known.
        """
        kernel, bias = self.folded()
        matrix, channels = as_matrix(kernel), kernel.shape[2]
        matrices = [matrix] if self.groups == 1 else self._matrices(kernel)
        biases = []
        if bias is not None:
            shape = (batch, self.filters // self.groups)
            # Tensors of one shape are added faster, and not fused with the product, which takes longer.
            biases = [
                tf.broadcast_to(masks.units_of_group(bias, group, self.groups), shape) for group in range(self.groups)
            ]
        constants = (matrix, bias, tuple(matrices), tuple(biases))
        return constants, tf.zeros((batch, self.reach * channels), kernel.dtype) if self._has_queue else ()

    def _matrices(self, kernel: tf.Tensor) -> list[tf.Tensor]:
        """The matrix of each group, from the queue that has all which the group sees to its units."""
        taps, channels, groups = self.kernel_size[1], kernel.shape[2], self.groups
        # [taps, G, C / G, G, F / G]: the groups of the input, then those of the output.
        by_group = tf.reshape(kernel, (taps, channels // groups, groups, self.filters // groups, groups))
        by_group = tf.transpose(by_group, (0, 2, 1, 4, 3))
        matrices = []
        for group in range(groups):
            matrix = tf.reshape(by_group[..., group, :], (taps * channels, self.filters // groups))
            visible = group + 1 if self.mask_type == "B" else group
            matrices.append(matrix[: self.reach * channels + visible * channels // groups])
        return matrices

    def start_row(self, constants, state, finished, row):
        """Convolves the finished row [B, W, C] to [B, W, F], and empties the queue."""
        y = None if finished is None else self.convolve_row(constants, finished)
        return y, tf.zeros_like(state) if self._has_queue else ()

    def whole_row(self, constants, state, x, row):
        """Convolves a row [B, W, C] to [B, W, F]."""
        return self.convolve_row(constants, x), state

    def convolve_row(self, constants, x: tf.Tensor) -> tf.Tensor:
        """Convolves a row [B, W, C] to [B, W, F]; needs no state."""
        matrix, bias, _, _ = constants
        width, taps = x.shape[1], self.kernel_size[1]
        x = self.floats(x)
        if self.reach:
            # As one matrix product: for a single row a convolution has more to set up than to do.
            x = tf.pad(x, ((0, 0), (self.reach, 0), (0, 0)))
            size = tf.constant((-1, width, -1))
            x = tf.concat([tf.slice(x, (0, tap, 0), size) for tap in range(taps)], axis=-1)
        return add_optional(matrix_product(x, matrix), bias)

    def step(self, constants, state, x, row, column, group):
        """Applies the group's matrix to the queue, which in type B has x [B, C / G] already."""
        _, _, matrices, biases = constants
        if self.mask_type == "B":
            window = self._grown(state, self.floats(x))
            state = self._queue(window, group)
        else:
            window = state
        y = tf.matmul(window, matrices[group])
        return (y + biases[group] if biases else y), state

    def observe(self, constants, state, x, row, column, group):
        """Type A queues x only now, when it is known."""
        if self.mask_type == "B":
            return state
        return self._queue(self._grown(state, self.floats(x)), group)

    @staticmethod
    def _grown(state, x):
        """The queue with one group more."""
        return x if isinstance(state, tuple) else tf.concat([state, x], axis=-1)

    def _queue(self, grown, group):
        """The queue after a group; with the last one the leftmost location leaves it."""
        if group < self.groups - 1:
            return grown
        if not self._has_queue:
            return ()
        return last(grown, grown.shape[-1] * self.reach // (self.reach + 1), axis=1)

    def get_config(self) -> dict:
        """Keras' config."""
        own = {"kernel_size": 2 * self.reach + 1, "mask_type": self.mask_type, "groups": self.groups}
        return {**without(super().get_config(), "padding", "strides"), **own}


@keras.saving.register_keras_serializable(PACKAGE)
class MaskedConv2D(Conditioned):
    """The masked convolution of 2016a: one stream, one k x k kernel, and its blind spot.

    Equal to a convolution with the kernel times `masks.raster_mask`, in two cropped parts, each
    with its own weight norm. Stacked, such layers never see a wedge above and to the right of the pixel.
    A context is added to what it makes.

    Args:
      filters: number of output channels.
      kernel_size: odd k, or (k, k).
      mask_type: "A", which leaves the pixel itself out, for the first layer of a network; "B" for the others.
      groups: number of channel groups.
      gain: norm of every output unit's kernel at the start.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        mask_type: masks.MaskType = "B",
        groups: int = 1,
        gain: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        kernel_size = masks.side_of_kernel(kernel_size)
        self.filters, self.kernel_size, self.mask_type = filters, kernel_size, mask_type
        self.groups, self.gain, self.strict = groups, gain, mask_type == "A"
        self.beside = HorizontalConv2D(
            filters, kernel_size, mask_type, groups, gain=gain, name="beside", dtype=self.dtype_policy
        )
        self.above = None
        if kernel_size > 1:
            rows = (kernel_size // 2, kernel_size)
            # No bias: above the first row there is nothing, and nothing must stay zero.
            self.above = VerticalConv2D(filters, rows, gain=gain, use_bias=False, name="above", dtype=self.dtype_policy)

    def build(self, x_shape, context_shape=None) -> None:
        """Builds both parts."""
        self.beside.build(x_shape)
        if self.above is not None:
            self.above.build(x_shape)
        self.build_projections(context_shape, self.filters, ("context_projection",))

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        """[B, H, W, C] -> [B, H, W, F]."""
        return (*x_shape[:-1], self.filters)

    def call(self, x, context=None, training=False, seed=None):
        """Convolves x [B, H, W, C] to [B, H, W, F]."""
        y = add_optional(self.beside(x), self.project("context_projection", context))
        return y if self.above is None else y + shift_down(self.above(x))

    def begin(self, context, batch, size):
        """Begins both parts; above row 0 is nothing."""
        beside, beside_state = self.beside.begin(None, batch, size)
        above, above_state = ((), ()) if self.above is None else self.above.begin(None, batch, size)
        constants = (beside, above, self.project("context_projection", context))
        nothing = tf.zeros((batch, size[1], self.filters), self.compute_dtype)
        return constants, (beside_state, above_state, self.add_context_row(nothing, constants[2], tf.constant(0)))

    def start_row(self, constants, state, finished, row):
        """Makes the finished row whole, and what the new row gets from above."""
        beside_state, above_state, addend = state
        # The row was made location by location already; once more as a whole is cheaper than keeping it.
        y, _ = self.whole_row(constants, state, finished, row - 1)
        _, beside_state = self.beside.start_row(constants[0], beside_state, None, row)
        from_above = tf.zeros_like(addend)
        if self.above is not None:
            from_above, above_state = self.above.start_row(constants[1], above_state, finished, row)
        return y, (beside_state, above_state, self.add_context_row(from_above, constants[2], row))

    def whole_row(self, constants, state, x, row):
        """Computes the row."""
        return self.beside.convolve_row(constants[0], x) + state[2], state

    def step(self, constants, state, x, row, column, group):
        """Computes a group of one location."""
        y, beside_state = self.beside.step(constants[0], state[0], x, row, column, group)
        addend = masks.units_of_group(tf.gather(state[2], column, axis=1), group, self.groups)
        return y + addend, (beside_state, *state[1:])

    def observe(self, constants, state, x, row, column, group):
        """Tells the horizontal part."""
        return (self.beside.observe(constants[0], state[0], x, row, column, group), *state[1:])

    def get_config(self) -> dict:
        """Keras' config."""
        names = ("filters", "kernel_size", "mask_type", "groups", "gain")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
