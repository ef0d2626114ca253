"""Causal convolutions with kernels cropped to what their masks let through.

A k x k causal kernel is the sum of two rectangles: whole rows above, and the row of the pixel
itself up to the pixel. So nothing is multiplied by a mask's zeros:

    1 1 1 1 1      1 1 1 1 1                      VerticalConv2D    (k//2 + 1) x k or k//2 x k
    1 1 1 1 1  =   1 1 1 1 1   +
    1 1 1 0 0                     1 1 1           HorizontalConv2D  1 x (k//2 + 1), type B
                                  1 1             HorizontalConv2D  1 x k//2, type A, one group

`call` pads and convolves the whole image; the steppers queue what the kernel still needs and apply
the same folded kernel.

Legend: B batch, H height, W width, C channels, F filters, G channel groups.
"""

import math

import keras
import tensorflow as tf

from pixelvae_tf.layers import masks
from pixelvae_tf.layers.causal import CausalLayer
from pixelvae_tf.layers.configured import PACKAGE
from pixelvae_tf.layers.context import Conditioned
from pixelvae_tf.layers.row_steppers import AddendStepper, HorizontalStepper, VerticalStepper
from pixelvae_tf.layers.shifts import head, shift_down
from pixelvae_tf.layers.weight_norm import WeightNormConv2D, add_optional


class StridedCausalConv2D(WeightNormConv2D, CausalLayer):  # type: ignore[misc]  # `call` of a layer without context
    """What the causal convolutions that may skip rows and columns share: shapes, and weights for x [B, H, W, C]."""

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        """[B, H, W, C] -> [B, H / strides, W / strides, F]."""
        batch, height, width, _ = x_shape
        return (batch, -(-height // self.strides), -(-width // self.strides), self.filters)

    def build(self, x_shape, context_shape=None) -> None:
        super().build(x_shape)


@keras.saving.register_keras_serializable(PACKAGE)
class VerticalConv2D(StridedCausalConv2D):
    """Sees rows `r - rows + 1 .. r`, to the left and the right: the vertical stack of 2016b.

    A layer of whole rows: its stepper has no `row` and no `step`. What is used of it at a location is the row above
    (see `shift_down`).

    Args:
      filters: number of output channels.
      kernel_size: (rows, columns), or one number for both; columns odd.
      strides: step in both directions. Row i then sees input rows up to `strides * i`; whoever goes row by
        row takes the rows that the stepper gives for those.
      gain, use_bias: as for `WeightNormConv2D`.

    Examples:
      >>> layers.VerticalConv2D(8, (2, 3))(np.zeros((2, 5, 5, 4), "float32")).shape
      TensorShape([2, 5, 5, 8])
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int = 1,
        gain: float = 1.0,
        use_bias: bool = True,
        **kwargs,
    ):
        super().__init__(filters, kernel_size, strides, "valid", gain=gain, use_bias=use_bias, **kwargs)
        masks.side_of_kernel(self.kernel_size[1])

    def call(self, x, context=None, training=False, seed=None):
        """Convolves x [B, H, W, C] to [B, H, W, F]."""
        rows, side = self.kernel_size[0] - 1, self.kernel_size[1] // 2
        return super().call(tf.pad(x, ((0, 0), (rows, 0), (side, side), (0, 0))))

    def stepper(self, context, batch, size):
        side = self.kernel_size[1] // 2
        return VerticalStepper.of(*self.folded(), (batch, size[1]), (side, side), self.strides)


@keras.saving.register_keras_serializable(PACKAGE)
class HorizontalConv2D(WeightNormConv2D, CausalLayer):
    """Sees the row of the pixel itself, to the left: the horizontal stack of 2016b.

    Args:
      filters: number of output channels.
      kernel_size: odd k, or (k, k), of the k x k kernel that this is the last row of.
      mask_type: "A" leaves the pixel itself out (its later channel groups, if there are groups).
      groups: number of channel groups; divides inputs and filters.
      gain, use_bias: as for `WeightNormConv2D`.

    Examples:
      >>> layers.HorizontalConv2D(8, 3)(np.zeros((2, 5, 5, 4), "float32")).shape
      TensorShape([2, 5, 5, 8])
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
            x = head(x, x.shape[2] - 1, axis=2)
        return super().call(tf.pad(x, ((0, 0), (0, 0), (self.reach, 0), (0, 0))))

    def stepper(self, context, batch, size):
        return HorizontalStepper.of(*self.folded(), batch, self.reach, self.mask_type, self.groups)

    def get_config(self) -> dict:
        return {**super().get_config(), "kernel_size": 2 * self.reach + 1}


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

    Examples:
      >>> layers.MaskedConv2D(8, 3, "A")(np.zeros((2, 5, 5, 1), "float32")).shape
      TensorShape([2, 5, 5, 8])
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

    def stepper(self, context, batch, size):
        beside = self.beside.stepper(None, batch, size)
        above = None if self.above is None else self.above.stepper(None, batch, size)
        return AddendStepper.of(beside, above, self.project("context_projection", context), (batch, size[1]))
