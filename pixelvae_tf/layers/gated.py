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

import keras
import tensorflow as tf

from pixelvae_tf.layers.causal import PointwiseLayer, take_row
from pixelvae_tf.layers.context import Conditioned
from pixelvae_tf.layers.convolutions import HorizontalConv2D, VerticalConv2D
from pixelvae_tf.layers.dropout import dropout
from pixelvae_tf.layers.masks import MaskType, check_groups, side_of_kernel, units_of_group
from pixelvae_tf.layers.shifts import shift_down
from pixelvae_tf.layers.weight_norm import PACKAGE, WeightNormConv2D, add_optional, as_matrix, matrix_product


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

    def build(self, x_shape, context_shape=None) -> None:
        """Has no weights."""

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        """[..., 2 F] -> [..., F]."""
        return (*x_shape[:-1], x_shape[-1] // 2)

    def apply(self, constants, x):
        """Applies it."""
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
      keep_vertical: False for the last block, which hands on the horizontal stream alone.
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
        self.residual, self.strict = mask_type == "B", mask_type == "A"
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
        """Builds the parts for a pair of streams."""
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
        """A pair of [B, H, W, F], or one."""
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

    def begin(self, context, batch, size):
        """Folds kernels, projects the context; above row 0 is nothing."""
        constants, state = {}, {}
        for name in ("vertical", "horizontal", "output_projection"):
            constants[name], state[name] = getattr(self, name).begin(None, batch, size)
        constants["vertical_to_horizontal"] = as_matrix(self.vertical_to_horizontal.folded()[0])
        constants["horizontal_context"] = self.project("horizontal_context", context)
        if self.keep_vertical:
            constants["vertical_context"] = self.project("vertical_context", context)
        nothing = tf.zeros((batch, size[1], 2 * self.filters), self.compute_dtype)
        state["addend"] = self.add_context_row(nothing, constants["horizontal_context"], tf.constant(0))
        return constants, state

    def start_row(self, constants, state, finished, row):
        """Moves the vertical stream one row on, and prepares what the new row gets from it."""
        above, vertical = self.vertical.start_row(constants["vertical"], state["vertical"], finished, row)
        from_above = matrix_product(above, constants["vertical_to_horizontal"])
        _, horizontal = self.horizontal.start_row(constants["horizontal"], state["horizontal"], None, row)
        state = {
            "vertical": vertical,
            "horizontal": horizontal,
            "output_projection": state["output_projection"],
            "addend": self.add_context_row(from_above, constants["horizontal_context"], row),
        }
        if not self.keep_vertical:
            return None, state
        return gate(self.add_context_row(above, constants["vertical_context"], row - 1)), state

    def whole_row(self, constants, state, x, row):
        """Computes a row of the horizontal stream: x [B, W, C] -> [B, W, F]."""
        y = gate(self.horizontal.convolve_row(constants["horizontal"], x) + state["addend"])
        y = self.output_projection.convolve_row(constants["output_projection"], y)
        return (y + tf.cast(x, y.dtype) if self.residual else y), state

    def step(self, constants, state, x, row, column, group):
        """Moves the horizontal stream one location on: x [B, C / G] -> [B, F / G]."""
        at = (row, column, group)
        y, horizontal = self.horizontal.step(constants["horizontal"], state["horizontal"], x, *at)
        y = gate(y + units_of_group(tf.gather(state["addend"], column, axis=1), group, self.groups))
        y, projection = self.output_projection.step(constants["output_projection"], state["output_projection"], y, *at)
        if self.residual:
            y = y + tf.cast(x, y.dtype)
        return y, {**state, "horizontal": horizontal, "output_projection": projection}

    def observe(self, constants, state, x, row, column, group):
        """Tells the horizontal convolution."""
        told = self.horizontal.observe(constants["horizontal"], state["horizontal"], x, row, column, group)
        return {**state, "horizontal": told}

    def get_config(self) -> dict:
        """Keras' config."""
        names = ("filters", "kernel_size", "mask_type", "groups", "dropout", "keep_vertical")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


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
        """Builds the parts."""
        self.projection.build(x_shape)
        self.build_projections(context_shape, 2 * self.filters, ("context_projection",))

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        """[B, H, W, C] -> [B, H, W, F]."""
        return (*x_shape[:-1], self.filters)

    def call(self, x, context=None, training=False, seed=None):
        """Computes the whole image."""
        return gate(add_optional(self.projection(x), self.project("context_projection", context)))

    def begin(self, context, batch, size):
        """Folds the kernel; the state is the context's row."""
        projection, state = self.projection.begin(None, batch, size)
        context = self.project("context_projection", context)
        return (projection, context), (state, self._context_row(context, tf.constant(0)))

    @staticmethod
    def _context_row(context, row):
        return () if context is None else (take_row(context, row),)

    def start_row(self, constants, state, finished, row):
        """Maps the finished row and takes the new row of the context."""
        y = None if finished is None else self.whole_row(constants, state, finished, row - 1)[0]
        return y, (state[0], self._context_row(constants[1], row))

    def whole_row(self, constants, state, x, row):
        """Computes the row."""
        return gate(sum(state[1], start=self.projection.convolve_row(constants[0], x))), state

    def step(self, constants, state, x, row, column, group):
        """Computes a group of one location."""
        y, projection = self.projection.step(constants[0], state[0], x, row, column, group)
        for context_row in state[1]:
            here = tf.gather(context_row, tf.minimum(column, context_row.shape[1] - 1), axis=1)
            y = y + units_of_group(here, group, self.groups)
        return gate(y), (projection, state[1])

    def get_config(self) -> dict:
        """Keras' config."""
        return {**super().get_config(), "filters": self.filters, "groups": self.groups, "gain": self.gain}


@keras.saving.register_keras_serializable(PACKAGE)
class SplitStreams(PointwiseLayer):
    """x -> (x, x): the input of both streams. A row or a location is in one stream, so it stays as it is."""

    def build(self, x_shape, context_shape=None) -> None:
        """Has no weights."""

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        """A pair of the input's shape."""
        return (tuple(x_shape), tuple(x_shape))

    def apply(self, constants, x):
        """Leaves a row or a location as it is."""
        return x

    def call(self, x, context=None, training=False, seed=None):
        """Doubles."""
        return x, x
