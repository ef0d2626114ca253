"""Gated PixelCNN: two streams, no blind spot (van den Oord et al. 2016b, figure 2 and section 2.3).

    vertical    v' = gate(Wv * v + Vv h)                         Wv: rows down to the pixel's own
    horizontal  x' = x + W1 gate(Wh * x + W2 shift_down(Wv * v) + Vh h)

with gate(a, b) = tanh(a) sigmoid(b), h the context, `*` a causal convolution. The vertical stream
at row r has seen rows up to r; shifted down one row it may enter the horizontal stream at r. The
first block (type A) leaves the pixel itself out and has no residual.

Departure: PixelVAE concatenates upsampled latent features with the image before the first layer. Here
a context of either kind, a vector or a feature map, enters every gate (a linear map, or 1x1), so
that there is one way to condition, and the pixel's own features reach the first layer too.

Legend: B batch, H height, W width, F filters.
"""

import dataclasses
from typing import NamedTuple

import keras
import tensorflow as tf

from pixelvae_tf.layers.causal import Nest, PointwiseLayer, Stepper
from pixelvae_tf.layers.configured import PACKAGE
from pixelvae_tf.layers.context import Conditioned, add_context_row
from pixelvae_tf.layers.convolutions import HorizontalConv2D, VerticalConv2D
from pixelvae_tf.layers.dropout import dropout
from pixelvae_tf.layers.masks import MaskType, check_groups, side_of_kernel
from pixelvae_tf.layers.row_steppers import AddendState, AddendStepper, HorizontalStepper
from pixelvae_tf.layers.shifts import shift_down
from pixelvae_tf.layers.weight_norm import WeightNormConv2D, add_optional, as_matrix, matrix_product


def gate(x: tf.Tensor) -> tf.Tensor:
    """tanh(a) sigmoid(b) of the halves a, b of x [..., 2 F]; equation (2) of 2016b."""
    a, b = tf.split(x, 2, axis=-1)
    return tf.tanh(a) * tf.sigmoid(b)


# Start of the norm of a kernel that follows a gate. For a standard normal pre-activation the gate's root
# mean square is 0.34; with norms of 1 the signal would fade threefold a layer, and the network would spend
# thousands of steps at the marginal distribution of a pixel.
GAIN_AFTER_GATE = 3.0


@keras.saving.register_keras_serializable(PACKAGE)
class Gate(PointwiseLayer):
    """The gate as a layer: [..., 2 F] -> [..., F]. The channel groups of the input must be those of both halves."""

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        return (*x_shape[:-1], x_shape[-1] // 2)

    def apply(self, constants, x):
        return gate(tf.cast(x, self.compute_dtype))


@keras.saving.register_keras_serializable(PACKAGE)
class GatedBlock(Conditioned):
    """One block of the Gated PixelCNN, on a pair of streams (vertical, horizontal).

    Args:
      filters: F, channels of both streams after the block.
      kernel_size: odd k, or (k, k).
      mask_type: "A" for the first block, which has no residual; "B" for the others.
      groups: number of channel groups of the horizontal stream; divides `filters`.
      dropout: share of the gated units dropped in training.
      keep_vertical: False for the last block, which hands on the horizontal stream alone. Layers above it must not
        look at other rows: the sampler no longer has them.

    Examples:
      >>> streams = layers.SplitStreams()(np.zeros((2, 5, 5, 1), "float32"))
      >>> vertical, horizontal = layers.GatedBlock(8, 3, "A")(streams)  # [2, 5, 5, 8] each
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        mask_type: MaskType = "B",
        groups: int = 1,
        dropout: float = 0.0,
        keep_vertical: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        kernel_size = side_of_kernel(kernel_size)
        self.filters, self.kernel_size, self.mask_type = filters, kernel_size, mask_type
        self.groups, self.dropout, self.keep_vertical = groups, dropout, keep_vertical
        self.residual = mask_type == "B"
        gain = GAIN_AFTER_GATE if self.residual else 1.0
        rows = (kernel_size // 2 + 1, kernel_size)
        self.vertical = VerticalConv2D(2 * filters, rows, gain=gain, name="vertical", dtype=self.dtype_policy)
        self.horizontal = HorizontalConv2D(
            2 * filters, kernel_size, mask_type, groups, name="horizontal", dtype=self.dtype_policy
        )
        self.vertical_to_horizontal = WeightNormConv2D(
            2 * filters, use_bias=False, name="vertical_to_horizontal", dtype=self.dtype_policy
        )
        self.output_projection = HorizontalConv2D(
            filters, 1, groups=groups, gain=GAIN_AFTER_GATE, name="output_projection", dtype=self.dtype_policy
        )

    def build(self, x_shape, context_shape=None) -> None:
        if len(x_shape) != 2:
            raise ValueError(
                "the input of a gated block must be a pair of streams (vertical, horizontal), which SplitStreams() "
                f"before the first block makes of an image. Received: one tensor of shape {tuple(x_shape)}"
            )
        vertical, horizontal = x_shape
        if self.residual and horizontal[-1] != self.filters:
            raise ValueError(
                f"filters of a residual block must equal its input's. Received: filters={self.filters}, "
                f"input channels={horizontal[-1]}"
            )
        self.vertical.build(vertical)
        self.horizontal.build(horizontal)
        self.vertical_to_horizontal.build((*vertical[:-1], 2 * self.filters))
        self.output_projection.build((*horizontal[:-1], self.filters))
        names = ("horizontal_context", "vertical_context") if self.keep_vertical else ("horizontal_context",)
        self.build_projections(context_shape, 2 * self.filters, names)

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        pair = tuple((*shape[:-1], self.filters) for shape in x_shape)
        return pair if self.keep_vertical else pair[1]

    def call(self, x, context=None, training=False, seed=None):
        """Maps the pair of streams, each [B, H, W, C], to a pair of [B, H, W, F] (or the horizontal one)."""
        vertical, horizontal = x
        above = self.vertical(vertical)
        # Nothing is above the first row, not even a bias: shift after the projection.
        y = self.horizontal(horizontal) + shift_down(self.vertical_to_horizontal(above))
        y = gate(add_optional(y, self.project("horizontal_context", context)))
        y = self.output_projection(dropout(y, self.dropout, training, seed))
        if self.residual:
            y = y + horizontal
        if not self.keep_vertical:
            return y
        return gate(add_optional(above, self.project("vertical_context", context))), y

    def stepper(self, context, batch, size):
        beside, above = (part.stepper(None, batch, size) for part in (self.horizontal, self.vertical))
        context_beside = self.project("horizontal_context", context)
        return GatedStepper(
            AddendStepper.of(beside, above, context_beside, (batch, size[1]), gate),
            self.output_projection.stepper(None, batch, size),
            as_matrix(self.vertical_to_horizontal.folded()[0]),
            self.project("vertical_context", context) if self.keep_vertical else None,
            self.residual,
            self.keep_vertical,
        )


class GatedState(NamedTuple):
    """State of a `GatedStepper`: of the gate, with the vertical stream's above it, and of the projection after it."""

    gate: AddendState
    projection: Nest


@dataclasses.dataclass
class GatedStepper(Stepper):
    """A gated block: rows of the vertical stream, which it makes as they finish, and locations of the horizontal one.

    Attributes:
      gate: of the horizontal stream, above it the vertical one.
      projection: W1.
      vertical_to_horizontal: W2, a matrix.
      vertical_context: the projected context, or None.
      residual, keep_vertical: as of the block.
    """

    gate: AddendStepper
    projection: HorizontalStepper
    vertical_to_horizontal: tf.Tensor
    vertical_context: tf.Tensor | None
    residual: bool
    keep_vertical: bool

    def start(self):
        return GatedState(self.gate.start(), self.projection.start())

    def next_row(self, state, finished, row):
        above, vertical = self.gate.above.next_row(state.gate.above, finished, row)
        from_above = matrix_product(above, self.vertical_to_horizontal)
        state = GatedState(self.gate.new_row(from_above, vertical, row), self.projection.start())
        if not self.keep_vertical:
            return None, state
        return gate(add_context_row(above, self.vertical_context, row - 1)), state

    def row(self, state, x):
        y = self.projection.row((), self.gate.row(state.gate, x)[0])[0]
        return (y + tf.cast(x, y.dtype) if self.residual else y), state

    def step(self, state, x, column, group):
        y, gate_state = self.gate.step(state.gate, x, column, group)
        y, projection = self.projection.step(state.projection, y, column, group)
        return (y + tf.cast(x, y.dtype) if self.residual else y), GatedState(gate_state, projection)


@keras.saving.register_keras_serializable(PACKAGE)
class GatedPointwise(Conditioned):
    """A gated 1x1 layer on one stream: x [B, H, W, C] -> [B, H, W, F].

    Args:
      filters: F.
      groups: number of channel groups; divides `filters`.
      gain: norm of every unit's kernel at the start; `GAIN_AFTER_GATE` on top of another such layer.
    """

    def __init__(self, filters: int, groups: int = 1, gain: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        # Else a unit's tanh and sigmoid would belong to different groups.
        check_groups("filters", filters, groups)
        self.filters, self.groups, self.gain = filters, groups, gain
        self.projection = HorizontalConv2D(
            2 * filters, 1, groups=groups, gain=gain, name="projection", dtype=self.dtype_policy
        )

    def build(self, x_shape, context_shape=None) -> None:
        self.projection.build(x_shape)
        self.build_projections(context_shape, 2 * self.filters, ("context_projection",))

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        return (*x_shape[:-1], self.filters)

    def call(self, x, context=None, training=False, seed=None):
        return gate(add_optional(self.projection(x), self.project("context_projection", context)))

    def stepper(self, context, batch, size):
        projected = self.project("context_projection", context)
        return AddendStepper.of(self.projection.stepper(None, batch, size), None, projected, (batch, size[1]), gate)


@keras.saving.register_keras_serializable(PACKAGE)
class SplitStreams(PointwiseLayer):
    """x -> (x, x): the input of both streams. A row or a location is in one stream, so it stays as it is."""

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        return tuple(x_shape), tuple(x_shape)

    def apply(self, constants, x):
        return x

    def call(self, x, context=None, training=False, seed=None):
        return x, x
