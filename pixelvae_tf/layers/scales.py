"""The resolutions of PixelCNN++, each inside the next higher one; see `layers.pixel_cnn_pp`.

    down   blocks  --2-->  blocks  --2-->  blocks
              |               |              |           inside a scale there is the next one
    up     blocks  <--2--  blocks  <--2------+

A row of the coarse map sees fine rows up to 2 i, location (i, j) fine locations up to (2 i, 2 j): it can be made when
the fine location (2 i, 2 j) is, and serves the four locations from there on.

Legend: B batch, H height, W width, F filters.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from pixelvae_tf.layers.causal import Nest, Stepper
from pixelvae_tf.layers.convolutions import VerticalConv2D
from pixelvae_tf.layers.dropout import fold_in
from pixelvae_tf.layers.rematerialization import rematerialized
from pixelvae_tf.layers.residual_streams import DownRightConv2D, Pair, PairStepper, ResidualPair
from pixelvae_tf.layers.row_steppers import AddendStepper, VerticalStepper
from pixelvae_tf.layers.weight_norm import WeightNormConv2D, add_optional, as_matrix, matrix_product


class Scale(keras.layers.Layer):
    """A resolution and, inside it, all lower ones: (vertical, horizontal) -> the same, [B, H, W, F] each.

    Args:
      filters: F.
      num_blocks: blocks on the way down; one more on the way up, but at the lowest resolution.
      num_scales: how many resolutions, this one included.
      dropout: share of the units dropped in training.
    """

    def __init__(self, filters: int, num_blocks: int, num_scales: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        options = {"dtype": self.dtype_policy}

        def blocks(count: int, has_shortcut: bool, name: str) -> list[ResidualPair]:
            return [ResidualPair(filters, has_shortcut, dropout, name=f"{name}_{i}", **options) for i in range(count)]

        self.down = blocks(num_blocks, False, "down")
        self.inner = None
        if num_scales > 1:
            self.downsample_vertical = VerticalConv2D(filters, (2, 3), strides=2, name="downsample_vertical", **options)
            self.downsample_horizontal = DownRightConv2D(filters, strides=2, name="downsample_horizontal", **options)
            self.inner = Scale(filters, num_blocks, num_scales - 1, dropout, name="inner", **options)
            self.upsample_vertical = WeightNormConv2D(4 * filters, name="upsample_vertical", **options)
            self.upsample_horizontal = WeightNormConv2D(4 * filters, name="upsample_horizontal", **options)
        self.up = blocks(num_blocks + (num_scales > 1), True, "up")

    def build(self, x_shape, context_shape=None) -> None:
        for block in (*self.down, *self.up):
            block.build(x_shape, context_shape)
        if self.inner is not None:
            for layer in (self.downsample_vertical, self.downsample_horizontal):
                layer.build(x_shape)
            coarse = self.downsample_vertical.compute_output_shape(x_shape)
            if context_shape is not None and len(context_shape) == 4:
                context_shape = (context_shape[0], *coarse[1:3], context_shape[3])
            self.inner.build(coarse, context_shape)
            for layer in (self.upsample_vertical, self.upsample_horizontal):
                layer.build(coarse)

    @staticmethod
    def _downsampled(context: tf.Tensor | None) -> tf.Tensor | None:
        """A map of the context at half the resolution."""
        if context is None or context.shape.rank == 2:
            return context
        return tf.nn.avg_pool2d(context, 2, 2, "SAME")

    def call(self, x: Pair, context=None, training=False, seed=None) -> Pair:
        """Maps the pair of streams."""
        shortcuts = [x]

        def through(block, index, *inputs):
            def run(context, *inputs):
                return block(*inputs, context=context, training=training, seed=fold_in(seed, index))

            return rematerialized(run, context, *inputs)

        for index, block in enumerate(self.down):
            x = through(block, index, x)
            shortcuts.append(x)
        if self.inner is None:
            shortcuts.pop()
        else:
            x = (self.downsample_vertical(x[0]), self.downsample_horizontal(x[1]))
            x = self.inner(x, context=self._downsampled(context), training=training, seed=fold_in(seed, len(self.down)))
            x = (
                tf.nn.depth_to_space(self.upsample_vertical(x[0]), 2),
                tf.nn.depth_to_space(self.upsample_horizontal(x[1]), 2),
            )
        for index, block in enumerate(self.up):
            x = through(block, len(self.down) + 1 + index, x, shortcuts.pop())
        return x

    def stepper(self, context, batch, size):
        down, up = (tuple(block.stepper(context, batch, size) for block in blocks) for blocks in (self.down, self.up))
        if self.inner is None:
            return ScaleStepper(down, None, up)
        coarse = (size[0] // 2, size[1] // 2)
        upsamplings = (self.upsample_vertical.folded(), self.upsample_horizontal.folded())
        inner = EveryOther(
            self.inner.stepper(self._downsampled(context), batch, coarse),
            self.downsample_vertical.stepper(None, batch, size),
            self.downsample_horizontal.stepper(None, batch, size),
            *((as_matrix(kernel), bias) for kernel, bias in upsamplings),
            tf.zeros((batch, coarse[1], 4 * self.filters), self.compute_dtype),
        )
        return ScaleStepper(down, inner, up)


class EveryOtherState(NamedTuple):
    """State of an `EveryOther`.

    Attributes:
      inner, down_vertical, down_horizontal: of its parts.
      vertical, horizontal: the last rows from inside, upsampled, [B, W / 2, 4 F]: each serves two rows.
      here: the last location from inside, upsampled, [B, 4 F]: it serves two locations of this row.
      row: the row that is open.
    """

    inner: Nest
    down_vertical: Nest
    down_horizontal: Nest
    vertical: tf.Tensor
    horizontal: tf.Tensor
    here: tf.Tensor
    row: tf.Tensor


@dataclasses.dataclass
class EveryOther(Stepper):
    """The scales inside one, which tick at every other row and location and hold what they made in between.

    Attributes:
      inner: the scales.
      down_vertical, down_horizontal: the convolutions on the way to them.
      up_vertical, up_horizontal: matrix [F, 4 F] and bias of the way back, each to the four locations it serves.
      nothing: zeros [B, W / 2, 4 F].
    """

    inner: "ScaleStepper"
    down_vertical: VerticalStepper
    down_horizontal: AddendStepper
    up_vertical: tuple[tf.Tensor, tf.Tensor]
    up_horizontal: tuple[tf.Tensor, tf.Tensor]
    nothing: tf.Tensor

    def start(self):
        parts = (self.inner.start(), self.down_vertical.start(), self.down_horizontal.start())
        return EveryOtherState(*parts, self.nothing, self.nothing, self.nothing[:, 0], tf.constant(0))

    @staticmethod
    def _tick_or_hold(even: tf.Tensor, inside: Callable, upsampling: tuple, held: Callable, state: EveryOtherState):
        """What comes from inside, upsampled [..., 4 F], and its state: new if `even`, else what is held."""

        def tick():
            y, inner = inside()
            return add_optional(matrix_product(y, upsampling[0]), upsampling[1]), inner

        upsampled, inner = tf.cond(even, tick, lambda: (held(), state.inner))
        return upsampled, state._replace(inner=inner)

    @staticmethod
    def _half(upsampled: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        """The upper or lower half of an upsampled row [B, W / 2, 4 F], as [B, W, F]."""
        _, width, filters = upsampled.shape
        parts = tf.gather(tf.reshape(upsampled, (-1, width, 2, filters // 2)), row % 2, axis=2)
        return tf.reshape(parts, (-1, 2 * width, filters // 4))

    def open_row(self, state, x, shortcut, row):
        """Takes the vertical stream's new row [B, W, F]."""
        coarse, down = self.down_vertical.next_row(state.down_vertical, x, row)
        upsampled, state = self._tick_or_hold(
            row % 2 == 0,
            lambda: self.inner.open_row(state.inner, coarse, row // 2),
            self.up_vertical,
            lambda: state.vertical,
            state._replace(down_vertical=down, row=row),
        )
        upsampled = tf.ensure_shape(upsampled, self.nothing.shape)
        return self._half(upsampled, row), state._replace(vertical=upsampled)

    def finish_row(self, state, x, shortcut):
        """Takes the horizontal stream's finished row [B, W, F]."""
        coarse, down = self.down_horizontal.next_row(state.down_horizontal, x, None)
        upsampled, state = self._tick_or_hold(
            state.row % 2 == 0,
            lambda: self.inner.finish_row(state.inner, coarse),
            self.up_horizontal,
            lambda: state.horizontal,
            state._replace(down_horizontal=down),
        )
        upsampled = tf.ensure_shape(upsampled, self.nothing.shape)
        return self._half(upsampled, state.row), state._replace(horizontal=upsampled)

    def step(self, state, x, shortcut, column):
        """Takes a location [B, F] of the horizontal stream."""
        coarse, down = self.down_horizontal.step(state.down_horizontal, x, column, 0)
        even_row = state.row % 2 == 0

        def hold():
            # The row below was made as a whole when its upper half was finished.
            return tf.where(even_row, state.here, tf.gather(state.horizontal, column // 2, axis=1))

        upsampled, state = self._tick_or_hold(
            even_row & (column % 2 == 0),
            lambda: self.inner.step(state.inner, coarse, column // 2),
            self.up_horizontal,
            hold,
            state._replace(down_horizontal=down),
        )
        upsampled = tf.ensure_shape(upsampled, state.here.shape)
        parts = tf.reshape(upsampled, (-1, 4, upsampled.shape[-1] // 4))
        here = tf.gather(parts, 2 * (state.row % 2) + column % 2, axis=1)
        return here, state._replace(here=upsampled)


@dataclasses.dataclass
class ScaleStepper(Stepper):
    """A scale, by the clocks of its blocks: down, through the scales inside, and up."""

    down: tuple[PairStepper, ...]
    inner: EveryOther | None
    up: tuple[PairStepper, ...]

    @property
    def _parts(self) -> tuple:
        return (*self.down, *([] if self.inner is None else [self.inner]), *self.up)

    def start(self):
        return tuple(part.start() for part in self._parts)

    def open_row(self, state, vertical, row):
        """Takes the vertical stream's new row [B, W, F]."""
        return self._through("open_row", state, vertical, row)

    def finish_row(self, state, horizontal):
        """Takes the horizontal stream's finished row [B, W, F]."""
        return self._through("finish_row", state, horizontal)

    def step(self, state, horizontal, column):
        """Takes a location [B, F] of the horizontal stream."""
        return self._through("step", state, horizontal, column)

    def _through(self, method: str, state: Nest, x: tf.Tensor, *at):
        parts, states, shortcuts = self._parts, [], [x]
        first_up = len(parts) - len(self.up)
        for index, (part, own) in enumerate(zip(parts, state, strict=True)):
            x, own = getattr(part, method)(own, x, shortcuts.pop() if index >= first_up else None, *at)
            states.append(own)
            if index + 1 < first_up:
                shortcuts.append(x)
        return x, tuple(states)
