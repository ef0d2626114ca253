"""The blocks of PixelCNN++: a gated residual block of each of its two streams (Salimans et al. 2017).

`layers.pixel_cnn_pp` says how they are put together, and what is departed from.

Legend: B batch, H height, W width, C channels, F filters.
"""

import keras
import tensorflow as tf

from pixelvae_tf.layers.causal import CausalLayer, take_row
from pixelvae_tf.layers.context import Conditioned
from pixelvae_tf.layers.convolutions import StridedCausalConv2D, VerticalConv2D, without
from pixelvae_tf.layers.dropout import dropout, fold_in
from pixelvae_tf.layers.weight_norm import PACKAGE, WeightNormConv2D, add_optional

# What the second convolution of a block starts with, so that blocks start near the identity (the program's).
SECOND_CONV_GAIN = 0.1
Pair = tuple  # (vertical, horizontal)


def concat_elu(x: tf.Tensor) -> tf.Tensor:
    """[..., F] -> [..., 2 F]: elu of x and of -x."""
    return tf.nn.elu(tf.concat([x, -x], axis=-1))


@keras.saving.register_keras_serializable(PACKAGE)
class DownRightConv2D(StridedCausalConv2D):
    """The 2x2 kernel of PixelCNN++'s horizontal stream: the pixel, those above and to the left, and the one between.

    Args:
      filters: number of output channels.
      strides: step in both directions. Location (i, j) then sees input locations up to `strides * (i, j)`; the
        caller who goes step by step takes the outputs at those.
      gain, use_bias: as for `WeightNormConv2D`.
    """

    def __init__(self, filters: int, strides: int = 1, gain: float = 1.0, use_bias: bool = True, **kwargs):
        super().__init__(filters, (2, 2), strides, "valid", gain=gain, use_bias=use_bias, **kwargs)

    def call(self, x, context=None, training=False, seed=None):
        """Convolves x [B, H, W, C]."""
        return super().call(tf.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0))))

    def begin(self, context, batch, size):
        """Folds the kernel; above and left of the image is zero."""
        kernel, bias = self.folded()
        above, beside = kernel[:1], kernel[1:]
        width = -(-size[1] // self.strides)
        state = tf.zeros((batch, kernel.shape[2]), kernel.dtype), tf.zeros((batch, width, self.filters), kernel.dtype)
        return (above, beside, bias), state

    def start_row(self, constants, state, finished, row):
        """Makes the finished row [B, W, C] whole, and what the new row gets from it."""
        above, _, _ = constants
        y, (queue, _) = self.whole_row(constants, state, finished, row - 1)
        return y, (tf.zeros_like(queue), self.convolve(self._padded(finished, above.dtype), above, None)[:, 0])

    @staticmethod
    def _padded(x, dtype):
        """A row [B, W, C] with nothing on its left: [B, 1, 1 + W, C]."""
        return tf.pad(tf.cast(x, dtype), ((0, 0), (1, 0), (0, 0)))[:, None]

    def whole_row(self, constants, state, x, row):
        """Convolves a row [B, W, C], given what it gets from above."""
        _, beside, bias = constants
        return self.convolve(self._padded(x, beside.dtype), beside, bias)[:, 0] + state[1], state

    def step(self, constants, state, x, row, column, group):
        """Applies the kernel's lower half to the location before and x [B, C]."""
        _, beside, bias = constants
        queue, addend = state
        x = tf.cast(x, queue.dtype)
        y = tf.matmul(tf.concat([queue, x], axis=-1), tf.reshape(beside, (-1, self.filters)))
        return add_optional(y + tf.gather(addend, column // self.strides, axis=1), bias), (x, addend)

    def get_config(self) -> dict:
        """Keras' config."""
        return without(super().get_config(), "padding", "kernel_size")


class ResidualStream(Conditioned):
    """A gated residual block of one stream; `step` is for the horizontal one.

        y = conv(concat_elu(x)) + sum_i W_i concat_elu(other_i) + V h
        [a, b] = conv(dropout(concat_elu(y)))
        x' = x + a sigmoid(b)

    Args:
      filters: F.
      stream: "vertical" or "horizontal".
      num_others: how many other maps enter: the vertical stream, a shortcut.
      dropout: share of the inner units dropped in training.
    """

    def __init__(self, filters: int, stream: str, num_others: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.dropout = dropout

        def convolution(width: int, gain: float, name: str) -> CausalLayer:
            options = {"gain": gain, "name": name, "dtype": self.dtype_policy}
            if stream == "vertical":
                return VerticalConv2D(width, (2, 3), **options)
            return DownRightConv2D(width, **options)

        self.filters = filters
        self.first = convolution(filters, 1.0, "first")
        self.second = convolution(2 * filters, SECOND_CONV_GAIN, "second")
        self.others = [
            WeightNormConv2D(filters, use_bias=False, name=f"other_{index}", dtype=self.dtype_policy)
            for index in range(num_others)
        ]

    def build(self, x_shape, context_shape=None) -> None:
        """Builds the parts."""
        doubled = (*x_shape[:-1], 2 * self.filters)
        for part in (self.first, self.second, *self.others):
            part.build(doubled)
        self.build_projections(context_shape, self.filters, ("context_projection",))

    def call(self, x, others=(), context=None, training=False, seed=None):
        """Maps x [B, H, W, F], given other maps of its shape."""
        y = add_optional(self.first(concat_elu(x)), self.project("context_projection", context))
        for layer, other in zip(self.others, others, strict=True):
            y = y + layer(concat_elu(other))
        return self._gated(x, self.second(dropout(concat_elu(y), self.dropout, training, seed)))

    @staticmethod
    def _gated(x, y):
        a, b = tf.split(y, 2, axis=-1)
        return x + a * tf.sigmoid(b)

    def begin(self, context, batch, size):
        """Folds kernels and projects the context."""
        first, first_state = self.first.begin(None, batch, size)
        second, second_state = self.second.begin(None, batch, size)
        constants = {
            "first": first,
            "second": second,
            "others": [layer.folded()[0] for layer in self.others],
            "context": self.project("context_projection", context),
        }
        return constants, (first_state, second_state)

    def addend(self, constants, row, *others: tf.Tensor):
        """What `row` gets from the context and from other rows [B, W, F], the first ones given: broadcasts to that."""
        parts = [
            self.others[index].convolve(concat_elu(other)[:, None], constants["others"][index], None)[:, 0]
            for index, other in enumerate(others)
        ]
        if constants["context"] is not None:
            parts.append(take_row(constants["context"], row))
        return sum(parts) if parts else tf.zeros([], self.compute_dtype)

    def start_row(self, constants, state, x, addend, row):
        """Feeds a row: x [B, W, F] of the vertical stream's new row, or of the horizontal one's finished row."""
        first, second = state
        y, first = self.first.start_row(constants["first"], first, concat_elu(x), row)
        y, second = self.second.start_row(constants["second"], second, concat_elu(y + addend), row)
        return self._gated(x, y), (first, second)

    def step(self, constants, state, x, addend, row, column):
        """Feeds a location x [B, F] of the horizontal stream."""
        first, second = state
        y, first = self.first.step(constants["first"], first, concat_elu(x), row, column, 0)
        y, second = self.second.step(constants["second"], second, concat_elu(y + addend), row, column, 0)
        return self._gated(x, y), (first, second)


class ResidualPair(keras.layers.Layer):
    """A block of both streams. The horizontal one takes the vertical one, and both may take a shortcut.

    Args:
      filters: F.
      has_shortcut: whether there is one: on the way up.
      dropout: share of the inner units dropped in training.
    """

    def __init__(self, filters: int, has_shortcut: bool, dropout: float, **kwargs):
        super().__init__(**kwargs)
        options = {"dropout": dropout, "dtype": self.dtype_policy}
        self.vertical = ResidualStream(filters, "vertical", int(has_shortcut), name="vertical", **options)
        self.horizontal = ResidualStream(filters, "horizontal", 1 + int(has_shortcut), name="horizontal", **options)

    def build(self, x_shape, context_shape=None) -> None:
        """Builds both."""
        self.vertical.build(x_shape, context_shape)
        self.horizontal.build(x_shape, context_shape)

    def call(self, x: Pair, shortcut: Pair | None = None, context=None, training=False, seed=None) -> Pair:
        """Maps (vertical, horizontal), each [B, H, W, F]."""
        vertical, horizontal = x
        above, beside = ((), ()) if shortcut is None else ((shortcut[0],), (shortcut[1],))
        vertical = self.vertical(vertical, above, context=context, training=training, seed=fold_in(seed, 0))
        horizontal = self.horizontal(
            horizontal, (vertical, *beside), context=context, training=training, seed=fold_in(seed, 1)
        )
        return vertical, horizontal

    def begin(self, context, batch, size):
        """Begins both; what the horizontal stream gets in a row is made by `open_row`."""
        vertical, vertical_state = self.vertical.begin(context, batch, size)
        horizontal, horizontal_state = self.horizontal.begin(context, batch, size)
        addend = tf.zeros((batch, size[1], self.vertical.filters), self.compute_dtype)
        return (vertical, horizontal), (vertical_state, horizontal_state, addend)

    def open_row(self, constants, state, vertical, shortcut, row):
        """Feeds the vertical stream's new row [B, W, F], and its shortcut's or None."""
        vertical_state, horizontal_state, _ = state
        others = () if shortcut is None else (shortcut,)
        addend = self.vertical.addend(constants[0], row, *others)
        vertical, vertical_state = self.vertical.start_row(constants[0], vertical_state, vertical, addend, row)
        addend = self.horizontal.addend(constants[1], row, vertical)
        return vertical, (vertical_state, horizontal_state, addend)

    def _with_shortcut(self, constants, addend, shortcut):
        """Adds what a shortcut [..., F] of the horizontal stream gives."""
        if shortcut is None:
            return addend
        kernel = constants[1]["others"][1]
        return addend + tf.tensordot(concat_elu(shortcut), kernel[0, 0], 1)

    def finish_row(self, constants, state, horizontal, shortcut, row):
        """Feeds the horizontal stream's finished row [B, W, F], and its shortcut's or None."""
        vertical_state, horizontal_state, addend = state
        whole = self._with_shortcut(constants, addend, shortcut)
        horizontal, horizontal_state = self.horizontal.start_row(constants[1], horizontal_state, horizontal, whole, row)
        return horizontal, (vertical_state, horizontal_state, addend)

    def step(self, constants, state, horizontal, shortcut, row, column):
        """Feeds a location [B, F] of the horizontal stream, and its shortcut's or None."""
        vertical_state, horizontal_state, addend = state
        here = self._with_shortcut(constants, tf.gather(addend, column, axis=1), shortcut)
        horizontal, horizontal_state = self.horizontal.step(
            constants[1], horizontal_state, horizontal, here, row, column
        )
        return horizontal, (vertical_state, horizontal_state, addend)
