"""Causal convolutions with kernels cropped to what their masks let through.

A k x k causal kernel is the sum of two rectangles: whole rows above, and the row of the pixel
itself up to the pixel. So nothing is multiplied by a mask's zeros:

    1 1 1 1 1      1 1 1 1 1                      VerticalConv2D    (k//2 + 1) x k or k//2 x k
    1 1 1 1 1  =   1 1 1 1 1   +
    1 1 1 0 0                     1 1 1           HorizontalConv2D  1 x (k//2 + 1), type B
                                  1 1             HorizontalConv2D  1 x k//2, type A, one group

`call` pads and convolves the whole image; `start_row` and `step` queue what the kernel still
needs and apply the same folded kernel.

Legend: B batch, H height, W width, C channels, F filters.
"""

import math

import keras
import tensorflow as tf

from pixelvae_tf.layers import masks
from pixelvae_tf.layers.causal import CausalLayer, shift_down
from pixelvae_tf.layers.context import Conditioned
from pixelvae_tf.layers.weight_norm import PACKAGE, WeightNormConv2D, add_optional


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
        masks.check_kernel_size(kernel_size[1])
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
        window = tf.concat([state, tf.cast(finished, state.dtype)[:, None]], axis=1)
        return self.row(window, *constants), window[:, 1:]

    def row(self, window: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
        """Convolves as many rows as the kernel has, [B, rows, W, C], to one [B, W / strides, F]."""
        side = self.kernel_size[1] // 2
        return self.convolve(tf.pad(window, ((0, 0), (0, 0), (side, side), (0, 0))), kernel, bias)[:, 0]

    def get_config(self) -> dict:
        """Keras' config."""
        return without(super().get_config(), "padding")


@keras.saving.register_keras_serializable(PACKAGE)
class HorizontalConv2D(WeightNormConv2D, CausalLayer):
    """Sees the row of the pixel itself, to the left: the horizontal stack of 2016b.

    Args:
      filters: number of output channels.
      kernel_size: odd k of the k x k kernel that this is the last row of.
      mask_type: "A" leaves the pixel itself out (its later channel groups, if there are groups).
      groups: number of channel groups; divides inputs and filters.
      gain, use_bias: as for `WeightNormConv2D`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        mask_type: masks.MaskType = "B",
        groups: int = 1,
        gain: float = 1.0,
        use_bias: bool = True,
        **kwargs,
    ):
        masks.check_mask_type(mask_type)
        masks.check_kernel_size(kernel_size)
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
            x = x[:, :, :-1]
        return super().call(tf.pad(x, ((0, 0), (0, 0), (self.reach, 0), (0, 0))))

    def begin(self, context, batch, size):
        """Folds the kernel to a matrix [taps * C, F]; left of the image is zero."""
        kernel, bias = self.folded()
        channels = kernel.shape[2]
        matrix = tf.reshape(kernel, (self.kernel_size[1] * channels, self.filters))
        return (matrix, bias), tf.zeros((batch, self.reach * channels), kernel.dtype)

    def start_row(self, constants, state, finished, row):
        """Convolves the finished row [B, W, C] to [B, W, F], and empties the queue."""
        if finished is None:
            return None, tf.zeros_like(state)
        matrix, bias = constants
        if not self.sees_center:
            finished = finished[:, :-1]
        kernel = tf.reshape(matrix, (1, self.kernel_size[1], -1, self.filters))
        padded = tf.pad(tf.cast(finished, matrix.dtype), ((0, 0), (self.reach, 0), (0, 0)))
        return self.convolve(padded[:, None], kernel, bias)[:, 0], tf.zeros_like(state)

    def step(self, constants, state, x, row, column):
        """Applies the kernel to the queue and, if its type lets it, to x [B, C]."""
        matrix, bias = constants
        window = tf.concat([state, tf.cast(x, state.dtype)], axis=-1) if self.sees_center else state
        if self.mask_type == "B":
            state = window[:, x.shape[-1] :]
        return add_optional(tf.matmul(window, matrix), bias), state

    def observe(self, constants, state, x, row, column):
        """Type A queues x only now, when all its channels are known."""
        if self.mask_type == "B":
            return state
        return tf.concat([state, tf.cast(x, state.dtype)], axis=-1)[:, x.shape[-1] :]

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
      kernel_size: odd k.
      mask_type: "A" or "B".
      groups: number of channel groups.
      gain: norm of every output unit's kernel at the start.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        mask_type: masks.MaskType = "B",
        groups: int = 1,
        gain: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.mask_type = filters, kernel_size, mask_type
        self.groups, self.gain = groups, gain
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
        nothing = tf.zeros((batch, size[1], self.filters), beside[0].dtype)
        return constants, (beside_state, above_state, self.add_context_row(nothing, constants[2], tf.constant(0)))

    def start_row(self, constants, state, finished, row):
        """Makes the finished row whole, and what the new row gets from above."""
        beside_state, above_state, addend = state
        # The row was made location by location already; once more as a whole is cheaper than keeping it.
        y, beside_state = self.beside.start_row(constants[0], beside_state, finished, row)
        from_above = tf.zeros_like(addend)
        if self.above is not None:
            from_above, above_state = self.above.start_row(constants[1], above_state, finished, row)
        return y + addend, (beside_state, above_state, self.add_context_row(from_above, constants[2], row))

    def step(self, constants, state, x, row, column):
        """Computes one location."""
        y, beside_state = self.beside.step(constants[0], state[0], x, row, column)
        return y + tf.gather(state[2], column, axis=1), (beside_state, *state[1:])

    def observe(self, constants, state, x, row, column):
        """Tells the horizontal part."""
        return (self.beside.observe(constants[0], state[0], x, row, column), *state[1:])

    def get_config(self) -> dict:
        """Keras' config."""
        names = ("filters", "kernel_size", "mask_type", "groups", "gain")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
