"""The blocks of PixelCNN++: a gated residual block of each of its two streams (Salimans et al. 2017).

`layers.pixel_cnn_pp` says how they are put together, and what is departed from.

Legend: B batch, H height, W width, C channels, F filters.
"""

import dataclasses
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from pixelvae_tf.layers.causal import CausalLayer, Nest, Stepper, take_row
from pixelvae_tf.layers.configured import PACKAGE
from pixelvae_tf.layers.context import Conditioned
from pixelvae_tf.layers.convolutions import StridedCausalConv2D, VerticalConv2D
from pixelvae_tf.layers.dropout import dropout, fold_in
from pixelvae_tf.layers.row_steppers import AddendStepper, HorizontalStepper, VerticalStepper
from pixelvae_tf.layers.weight_norm import WeightNormConv2D, add_optional, as_matrix, matrix_product

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
      strides: step in both directions. Location (i, j) then sees input locations up to `strides * (i, j)`; whoever
        goes step by step takes the outputs at those.
      gain, use_bias: as for `WeightNormConv2D`.
    """

    def __init__(self, filters: int, strides: int = 1, gain: float = 1.0, use_bias: bool = True, **kwargs):
        super().__init__(filters, (2, 2), strides, "valid", gain=gain, use_bias=use_bias, **kwargs)

    def call(self, x, context=None, training=False, seed=None):
        """Convolves x [B, H, W, C]."""
        return super().call(tf.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0))))

    def stepper(self, context, batch, size):
        kernel, bias = self.folded()
        beside = HorizontalStepper.of(kernel[1:], bias, batch, 1)
        above = VerticalStepper.of(kernel[:1], None, (batch, size[1]), (1, 0), self.strides)
        return AddendStepper.of(beside, above, None, (batch, size[1]), strides=self.strides)


class ResidualStream(Conditioned):
    """A gated residual block of one stream.

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
        self.others: list[Any] = [
            WeightNormConv2D(filters, use_bias=False, name=f"other_{index}", dtype=self.dtype_policy)
            for index in range(num_others)
        ]

    def build(self, x_shape, context_shape=None) -> None:
        doubled = (*x_shape[:-1], 2 * self.filters)
        for part in (self.first, self.second, *self.others):
            part.build(doubled)
        self.build_projections(context_shape, self.filters, ("context_projection",))

    def call(self, x, others=(), context=None, training=False, seed=None):
        """Maps x [B, H, W, F], given other maps of its shape."""
        y = add_optional(self.first(concat_elu(x)), self.project("context_projection", context))
        for layer, other in zip(self.others, others, strict=True):
            y = y + layer(concat_elu(other))
        return _gated(x, self.second(dropout(concat_elu(y), self.dropout, training, seed)))

    def stepper(self, context, batch, size):
        return StreamStepper(
            *(part.stepper(None, batch, size) for part in (self.first, self.second)),
            tuple(as_matrix(layer.folded()[0]) for layer in self.others),
            self.project("context_projection", context),
        )


def _gated(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    a, b = tf.split(y, 2, axis=-1)
    return x + a * tf.sigmoid(b)


@dataclasses.dataclass
class StreamStepper(Stepper):
    """A block of one stream, given what the other maps and the context add to it.

    Attributes:
      first, second: its convolutions; those of the vertical stream have no `step`.
      others: W_i, matrices.
      context: the projected context, or None.
    """

    first: Any
    second: Any
    others: tuple[tf.Tensor, ...]
    context: tf.Tensor | None

    def start(self):
        return self.first.start(), self.second.start()

    def addend(self, row: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
        """What `row` gets from the context and from other rows [B, W, F], the first ones given: broadcasts to that."""
        parts = [matrix_product(concat_elu(other), matrix) for other, matrix in zip(others, self.others, strict=False)]
        if self.context is not None:
            parts.append(take_row(self.context, row))
        return sum(parts) if parts else tf.zeros([], self.first.kernel.dtype)

    def next_row(self, state, x, addend, row):
        """Takes a row [B, W, F]: of the vertical stream the new one, of the horizontal stream the finished one."""
        return self._through("next_row", state, x, addend, row)

    def step(self, state, x, addend, column):
        """Takes a location [B, F] of the horizontal stream."""
        return self._through("step", state, x, addend, column, 0)

    def _through(self, method: str, state: tuple[Nest, Nest], x: tf.Tensor, addend: tf.Tensor, *at):
        y, first = getattr(self.first, method)(state[0], concat_elu(x), *at)
        y, second = getattr(self.second, method)(state[1], concat_elu(y + addend), *at)
        return _gated(x, y), (first, second)


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

    def stepper(self, context, batch, size):
        vertical, horizontal = (part.stepper(context, batch, size) for part in (self.vertical, self.horizontal))
        return PairStepper(vertical, horizontal, tf.zeros((batch, size[1], self.vertical.filters), self.compute_dtype))


class PairState(NamedTuple):
    """State of a `PairStepper`: of both streams, and what the horizontal one gets in this row, [B, W, F]."""

    vertical: Nest
    horizontal: Nest
    addend: tf.Tensor


@dataclasses.dataclass
class PairStepper(Stepper):
    """A block of both streams, by three clocks; a shortcut is a tensor like x, or None.

    Attributes:
      vertical, horizontal: the streams.
      nothing: zeros [B, W, F].
    """

    vertical: StreamStepper
    horizontal: StreamStepper
    nothing: tf.Tensor

    def start(self):
        return PairState(self.vertical.start(), self.horizontal.start(), self.nothing)

    def open_row(self, state, vertical, shortcut, row):
        """Takes the vertical stream's new row [B, W, F]."""
        others = () if shortcut is None else (shortcut,)
        vertical, own = self.vertical.next_row(state.vertical, vertical, self.vertical.addend(row, *others), row)
        return vertical, PairState(own, state.horizontal, self.horizontal.addend(row, vertical))

    def finish_row(self, state, horizontal, shortcut):
        """Takes the horizontal stream's finished row [B, W, F]."""
        addend = self._with_shortcut(state.addend, shortcut)
        horizontal, own = self.horizontal.next_row(state.horizontal, horizontal, addend, None)
        return horizontal, state._replace(horizontal=own)

    def step(self, state, horizontal, shortcut, column):
        """Takes a location [B, F] of the horizontal stream."""
        addend = self._with_shortcut(tf.gather(state.addend, column, axis=1), shortcut)
        horizontal, own = self.horizontal.step(state.horizontal, horizontal, addend, column)
        return horizontal, state._replace(horizontal=own)

    def _with_shortcut(self, addend, shortcut):
        return addend if shortcut is None else addend + matrix_product(concat_elu(shortcut), self.horizontal.others[1])
