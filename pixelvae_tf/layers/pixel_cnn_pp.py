"""The network of PixelCNN++ (Salimans et al. 2017, sections 2.3 to 2.5; the released program).

Two streams at every place: `vertical`, which has seen the rows above, and `horizontal`, which has also seen the row
itself, to the left. They go down through ever lower resolutions and up again (`layers.scales`); every block on the way
up takes what the block opposite made on the way down (a shortcut).

Here the vertical stream at a row is what the *rows above* made, so it needs no shift on its way to the horizontal one.

Departures: the program adds a channel of ones to the input, to tell the padding from mid-grey; here there is none.
Upsampling is a 1x1 convolution to four times the channels and depth-to-space (the program: a transposed
2x2 convolution in the horizontal stream, which is the same, 2x3 in the vertical one). The horizontal stream's kernels
on a shortcut and on the vertical stream have a norm each. A context enters with the shortcuts; a map is averaged to
each scale.

Legend: B batch, H height, W width, C channels, F filters.
"""

import dataclasses
from typing import NamedTuple

import keras
import tensorflow as tf

from pixelvae_tf.layers.causal import CausalLayer, Nest, Stepper
from pixelvae_tf.layers.configured import PACKAGE, Configured
from pixelvae_tf.layers.convolutions import MaskedConv2D, VerticalConv2D
from pixelvae_tf.layers.row_steppers import AddendStepper, VerticalStepper
from pixelvae_tf.layers.scales import Scale, ScaleStepper
from pixelvae_tf.layers.shifts import shift_down


@keras.saving.register_keras_serializable(PACKAGE)
class PixelCNNPP(Configured, CausalLayer):
    """The network from pixels on [-1, 1] to features: [B, H, W, C] -> [B, H, W, F]. It is strict (type A).

    Args:
      filters: F.
      num_blocks, num_scales, dropout: as for `Scale`.

    Examples:
      >>> layers.PixelCNNPP(8, num_blocks=1, num_scales=2)(np.zeros((2, 4, 4, 1), "float32")).shape
      TensorShape([2, 4, 4, 8])
    """

    # `Scale` does so, block by block.
    worth_rematerializing = False

    def __init__(self, filters: int, num_blocks: int, num_scales: int, dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.num_blocks, self.num_scales, self.dropout = filters, num_blocks, num_scales, dropout
        options = {"dtype": self.dtype_policy}
        self.first_vertical = VerticalConv2D(filters, (2, 3), name="first_vertical", **options)
        # The row above, three wide, and the pixel to the left.
        self.first_horizontal = MaskedConv2D(filters, 3, "A", name="first_horizontal", **options)
        self.scale = Scale(filters, num_blocks, num_scales, dropout, name="scale", **options)

    def build(self, x_shape, context_shape=None) -> None:
        """Builds the parts.

        Raises:
          ValueError: if the strides do not divide the sides.
        """
        stride = 2 ** (self.num_scales - 1)
        if x_shape[1] % stride or x_shape[2] % stride:
            raise ValueError(
                f"x must have sides that are multiples of {stride} for num_scales={self.num_scales}. "
                f"Received: x of shape {tuple(x_shape)}"
            )
        self.first_vertical.build(x_shape)
        self.first_horizontal.build(x_shape)
        self.scale.build((*x_shape[:-1], self.filters), context_shape)

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        return (*x_shape[:-1], self.filters)

    def call(self, x, context=None, training=False, seed=None):
        pair = shift_down(self.first_vertical(x)), self.first_horizontal(x)
        return tf.nn.elu(self.scale(pair, context=context, training=training, seed=seed)[1])

    def stepper(self, context, batch, size):
        return PixelCNNPPStepper(
            self.first_vertical.stepper(None, batch, size),
            self.first_horizontal.stepper(None, batch, size),
            self.scale.stepper(context, batch, size),
            tf.zeros((batch, size[1], self.filters), self.compute_dtype),
        )


class PixelCNNPPState(NamedTuple):
    """State of a `PixelCNNPPStepper`: of its parts."""

    first_vertical: Nest
    first_horizontal: Nest
    scale: Nest


@dataclasses.dataclass
class PixelCNNPPStepper(Stepper):
    """The network: the vertical streams when a row opens, the horizontal ones location by location.

    Attributes:
      first_vertical, first_horizontal, scale: its parts.
      nothing: zeros [B, W, F].
    """

    first_vertical: VerticalStepper
    first_horizontal: AddendStepper
    scale: ScaleStepper
    nothing: tf.Tensor

    def start(self):
        _, scale = self.scale.open_row(self.scale.start(), self.nothing, tf.constant(0))
        return PixelCNNPPState(self.first_vertical.start(), self.first_horizontal.start(), scale)

    def next_row(self, state, finished, row):
        vertical, first_vertical = self.first_vertical.next_row(state.first_vertical, finished, row)
        horizontal, first_horizontal = self.first_horizontal.next_row(state.first_horizontal, finished, row)
        y, scale = self.scale.finish_row(state.scale, horizontal)
        _, scale = self.scale.open_row(scale, vertical, row)
        return tf.nn.elu(y), PixelCNNPPState(first_vertical, first_horizontal, scale)

    def row(self, state, x):
        horizontal, _ = self.first_horizontal.row(state.first_horizontal, x)
        return tf.nn.elu(self.scale.finish_row(state.scale, horizontal)[0]), state

    def step(self, state, x, column, group):
        horizontal, first = self.first_horizontal.step(state.first_horizontal, x, column, group)
        y, scale = self.scale.step(state.scale, horizontal, column)
        return tf.nn.elu(y), state._replace(first_horizontal=first, scale=scale)
