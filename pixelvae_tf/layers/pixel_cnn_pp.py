"""The network of PixelCNN++ (Salimans et al. 2017, sections 2.3 to 2.5; the released program).

Two streams at every place: `vertical`, which has seen the rows above, and `horizontal`, which has also seen the row
itself, to the left. They go down through ever lower resolutions and up again; every block on the way up takes what the
block opposite made on the way down (a shortcut).

    down   blocks  --2-->  blocks  --2-->  blocks
              |               |              |           inside a scale there is the next one
    up     blocks  <--2--  blocks  <--2------+

A row of the coarse map sees fine rows up to 2 i, location (i, j) fine locations up to (2 i, 2 j): it can be made when
the fine location (2 i, 2 j) is, and serves the four locations from there on. Here the vertical stream at a row is what
the *rows above* made, so it needs no shift on its way to the horizontal one.

Departures: the program adds a channel of ones to the input, to tell the padding from mid-grey; here there is none.
Upsampling is a 1x1 convolution to four times the channels and depth-to-space (the program: a transposed
2x2 convolution in the horizontal stream, which is the same, 2x3 in the vertical one). The horizontal stream's kernels
on a shortcut and on the vertical stream have a norm each. A context enters with the shortcuts; a map is averaged to
each scale.

Legend: B batch, H height, W width, C channels, F filters.
"""

import keras
import tensorflow as tf

from pixelvae_tf.layers.causal import CausalLayer
from pixelvae_tf.layers.convolutions import MaskedConv2D, VerticalConv2D
from pixelvae_tf.layers.dropout import fold_in
from pixelvae_tf.layers.rematerialization import rematerialized
from pixelvae_tf.layers.residual_streams import DownRightConv2D, Pair, ResidualPair
from pixelvae_tf.layers.shifts import shift_down
from pixelvae_tf.layers.weight_norm import PACKAGE, WeightNormConv2D, add_optional


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
        """Builds the blocks and the scales inside."""
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

    def begin(self, context, batch, size):
        """Begins the blocks and the scales inside."""
        begun = [block.begin(context, batch, size) for block in (*self.down, *self.up)]
        constants = {"blocks": [constants for constants, _ in begun]}
        state = {"blocks": [state for _, state in begun]}
        if self.inner is not None:
            coarse = (size[0] // 2, size[1] // 2)
            constants["inner"], state["inner"] = self.inner.begin(self._downsampled(context), batch, coarse)
            for name in ("downsample_vertical", "downsample_horizontal"):
                constants[name], state[name] = getattr(self, name).begin(None, batch, size)
            for name in ("upsample_vertical", "upsample_horizontal"):
                constants[name] = getattr(self, name).folded()
            # What the scale inside made last, upsampled: it serves two rows, or four locations.
            state["vertical"] = tf.zeros((batch, coarse[1], 4 * self.filters), self.compute_dtype)
            state["horizontal"] = tf.zeros((batch, coarse[1], 4 * self.filters), self.compute_dtype)
            state["here"] = tf.zeros((batch, 4 * self.filters), self.compute_dtype)
        return constants, state

    def _halves(self, upsampled: tf.Tensor, row) -> tf.Tensor:
        """The upper or lower half of an upsampled row [B, W / 2, 4 F], as [B, W, F]."""
        parts = tf.reshape(upsampled, (-1, upsampled.shape[1], 2, 2, self.filters))
        return tf.reshape(tf.gather(parts, row % 2, axis=2), (-1, 2 * upsampled.shape[1], self.filters))

    def _walk(self, constants, state, x, feed, through_inner):
        """Down, through the scales inside, and up: what all clocks have in common.

        Args:
          feed: (block, its constants, its state, x, shortcut) -> x, state.
          through_inner: (x, state) -> x, state; the way to the scales inside and back.
        """
        shortcuts, states = [x], []
        each = zip((*self.down, *self.up), constants["blocks"], state["blocks"], strict=True)
        for index, (block, block_constants, block_state) in enumerate(each):
            if index == len(self.down):
                if self.inner is None:
                    shortcuts.pop()
                else:
                    x, state = through_inner(x, state)
            shortcut = shortcuts.pop() if index >= len(self.down) else None
            x, block_state = feed(block, block_constants, block_state, x, shortcut)
            if index < len(self.down):
                shortcuts.append(x)
            states.append(block_state)
        return x, {**state, "blocks": states}

    def _row_through_inner(self, stream, feed_inner, constants, state, x, at, row):
        """The way of a row `at`, fed when `row` starts, to the scales inside, which have every other row, and back.

        Args:
          stream: "vertical" or "horizontal".
          feed_inner: `open_row` or `finish_row` of the scale inside.
        """
        down, up = f"downsample_{stream}", f"upsample_{stream}"
        coarse, downsampling = getattr(self, down).start_row(constants[down], state[down], x, row)

        def tick():
            # The row inside is `at // 2`; the one that starts is as far from it as `row` from `at`.
            y, inner = feed_inner(constants["inner"], state["inner"], coarse, at // 2 + (row - at))
            return getattr(self, up).convolve(y[:, None], *constants[up])[:, 0], inner

        upsampled, inner = tf.cond(at % 2 == 0, tick, lambda: (state[stream], state["inner"]))
        upsampled = tf.ensure_shape(upsampled, state[stream].shape)
        return self._halves(upsampled, at), {**state, "inner": inner, down: downsampling, stream: upsampled}

    def open_row(self, constants, state, vertical, row):
        """Feeds the vertical stream's new row [B, W, F]."""

        def through_inner(x, state):
            return self._row_through_inner("vertical", self.inner.open_row, constants, state, x, row, row)

        def feed(block, block_constants, block_state, x, shortcut):
            return block.open_row(block_constants, block_state, x, shortcut, row)

        return self._walk(constants, state, vertical, feed, through_inner)

    def finish_row(self, constants, state, horizontal, row):
        """Feeds the horizontal stream's row `row - 1` [B, W, F], which is finished."""

        def through_inner(x, state):
            return self._row_through_inner("horizontal", self.inner.finish_row, constants, state, x, row - 1, row)

        def feed(block, block_constants, block_state, x, shortcut):
            return block.finish_row(block_constants, block_state, x, shortcut, row)

        return self._walk(constants, state, horizontal, feed, through_inner)

    def step(self, constants, state, horizontal, row, column):
        """Feeds a location [B, F] of the horizontal stream."""

        def through_inner(x, state):
            coarse, downsampling = self.downsample_horizontal.step(
                constants["downsample_horizontal"], state["downsample_horizontal"], x, row, column, 0
            )

            def tick():
                y, inner = self.inner.step(constants["inner"], state["inner"], coarse, row // 2, column // 2)
                kernel, bias = constants["upsample_horizontal"]
                return add_optional(tf.matmul(y, kernel[0, 0]), bias), inner

            def hold():
                # The row below was made as a whole when its upper half was finished.
                below = tf.gather(state["horizontal"], column // 2, axis=1)
                return tf.where(row % 2 == 0, state["here"], below), state["inner"]

            upsampled, inner = tf.cond((row % 2 == 0) & (column % 2 == 0), tick, hold)
            upsampled = tf.ensure_shape(upsampled, state["here"].shape)
            parts = tf.reshape(upsampled, (-1, 4, self.filters))
            here = tf.gather(parts, 2 * (row % 2) + column % 2, axis=1)
            return here, {**state, "inner": inner, "downsample_horizontal": downsampling, "here": upsampled}

        def feed(block, block_constants, block_state, x, shortcut):
            return block.step(block_constants, block_state, x, shortcut, row, column)

        return self._walk(constants, state, horizontal, feed, through_inner)


@keras.saving.register_keras_serializable(PACKAGE)
class PixelCNNPP(CausalLayer):
    """The network from pixels on [-1, 1] to features: [B, H, W, C] -> [B, H, W, F]. It is strict (type A).

    Args:
      filters: F.
      num_blocks, num_scales, dropout: as for `Scale`.
    """

    strict = True
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
        """[B, H, W, C] -> [B, H, W, F]."""
        return (*x_shape[:-1], self.filters)

    def call(self, x, context=None, training=False, seed=None):
        """Computes the whole image."""
        pair = shift_down(self.first_vertical(x)), self.first_horizontal(x)
        return tf.nn.elu(self.scale(pair, context=context, training=training, seed=seed)[1])

    def begin(self, context, batch, size):
        """Begins all parts and opens row 0, above which there is nothing."""
        constants, state = {}, {}
        for name in ("first_vertical", "first_horizontal"):
            constants[name], state[name] = getattr(self, name).begin(None, batch, size)
        constants["scale"], scale = self.scale.begin(context, batch, size)
        nothing = tf.zeros((batch, size[1], self.filters), self.compute_dtype)
        _, state["scale"] = self.scale.open_row(constants["scale"], scale, nothing, tf.constant(0))
        return constants, state

    def start_row(self, constants, state, finished, row):
        """Makes the finished row whole in the horizontal streams, then the new one in the vertical streams."""
        vertical, first_vertical = self.first_vertical.start_row(
            constants["first_vertical"], state["first_vertical"], finished, row
        )
        horizontal, first_horizontal = self.first_horizontal.start_row(
            constants["first_horizontal"], state["first_horizontal"], finished, row
        )
        y, scale = self.scale.finish_row(constants["scale"], state["scale"], horizontal, row)
        _, scale = self.scale.open_row(constants["scale"], scale, vertical, row)
        return tf.nn.elu(y), {"first_vertical": first_vertical, "first_horizontal": first_horizontal, "scale": scale}

    def whole_row(self, constants, state, x, row):
        """Computes a row of the horizontal streams."""
        first = self.first_horizontal.whole_row(constants["first_horizontal"], state["first_horizontal"], x, row)[0]
        y, _ = self.scale.finish_row(constants["scale"], state["scale"], first, row + 1)
        return tf.nn.elu(y), state

    def step(self, constants, state, x, row, column, group):
        """Computes one location of the horizontal streams."""
        at = (row, column, group)
        y, first = self.first_horizontal.step(constants["first_horizontal"], state["first_horizontal"], x, *at)
        y, scale = self.scale.step(constants["scale"], state["scale"], y, row, column)
        return tf.nn.elu(y), {**state, "first_horizontal": first, "scale": scale}

    def observe(self, constants, state, x, row, column, group):
        """Tells the first horizontal convolution."""
        at = (row, column, group)
        first = self.first_horizontal.observe(constants["first_horizontal"], state["first_horizontal"], x, *at)
        return {**state, "first_horizontal": first}

    def get_config(self) -> dict:
        """Keras' config."""
        names = ("filters", "num_blocks", "num_scales", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
