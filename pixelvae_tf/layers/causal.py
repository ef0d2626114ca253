"""The contract of every causal layer, and the chain that composes such layers.

A raster has two clocks: rows that are finished, and the pixel that is being made.

    call(x, context, training, seed)                  whole image: training and log_prob
    begin(context, batch, size)                       -> constants, state     once a sample
    start_row(constants, state, finished, row)        -> finished_out, state  once a row
    whole_row(constants, state, x, row)               -> y, state             once a row, or
    step(constants, state, x, row, column, group)     -> y, state             once a location and channel group
    observe(constants, state, x, row, column, group)  -> state                once a location and channel group

`call` on a whole image and the others, run over the same image, give the same numbers.

- `begin` folds kernels and projects the context into `constants`, which never change in the
  loop, and makes the `state` (a nest of tensors of fixed shape) that stands before row 0.
- `start_row(row)` is told row `row - 1`, which has just been finished, as the layer below made
  it; it returns that row as this layer makes it, and a state that stands before row `row`. It is
  called for rows 1 .. H; the last call only matters to a caller who wants the finished row. Above a
  layer that ends the vertical stream there is no such row, and None is handed up.
- `whole_row` computes a row all together, from the state that stands before it: what `step` and `observe` give there.
- `step` computes the units of one channel group (`layers.masks`) at one location, given x's units of that group. The
  groups come one after the other; what a later one sees of those before, the state remembers.
- `observe` tells what x's units of the group became. Only a *strict* layer (type A) needs it: it does not see them,
  so it is asked before they are known, its x is None, and it has to be told afterwards. All other layers remember x
  in `step`.

In a gated block x is the pair (vertical, horizontal) for `call`; `finished` is a vertical row, and `whole_row` and
`step` move the horizontal stream alone. In a masked convolution `finished` is its input row.

A Diagonal BiLSTM (`layers.recurrent`) scans its right-to-left half over `finished`; the coarser scales of
PixelCNN++ (`layers.pixel_cnn_pp`) hold their outputs between their ticks, which `row` and `column` tell.

Legend: B batch, H height, W width, C channels, G channel groups.
"""

from typing import Any

import keras
import tensorflow as tf

from pixelvae_tf.layers import shared
from pixelvae_tf.layers.dropout import fold_in
from pixelvae_tf.layers.rematerialization import rematerialized
from pixelvae_tf.layers.weight_norm import PACKAGE

Nest = Any  # a nest of tensors
Size = tuple[int, int]  # (H, W)


class CausalLayer(keras.layers.Layer):
    """Base of the causal layers; the module's docstring is the contract.

    Args of the methods:
      x: [B, H, W, C] in `call` (or a pair of streams), [B, W, C] in `whole_row`, [B, C / G] in `step` and `observe`.
      context: what the whole image is conditioned on: None, a vector [B, D] or a map [B, H, W, D].
      training: whether dropout is on.
      seed: int32 [2] for dropout.
      batch: scalar, the number of images.
      size: (H, W), static.
      finished: [B, W, C].
      row, column: scalar int32 tensors.
      group: 0 .. G - 1, a Python integer.

    Attributes:
      groups: G, how many groups the layer orders the channels of a pixel in.
      strict: whether a location does not see itself (type A).
      reads_values: whether anything but the context matters.
      scans_rows: whether `whole_row` goes from location to location all the same.
      worth_rematerializing: whether a chain may forget what it computes on the way; False where that is little, or
        where the layer does so itself, part by part.
    """

    groups: int = 1
    strict: bool = False
    reads_values: bool = True
    scans_rows: bool = False
    worth_rematerializing: bool = True

    @property
    def channel_groups(self) -> int:
        """How many groups the channels of a pixel are made in, one after the other.

        1 if the distribution at a location is given by the locations before it.
        """
        return self.groups

    def call(self, x: Nest, context: tf.Tensor | None = None, training: bool = False, seed=None) -> Nest:
        """Computes the whole image."""
        raise NotImplementedError

    def begin(self, context: tf.Tensor | None, batch: tf.Tensor, size: Size) -> tuple[Nest, Nest]:
        """Makes the constants of a sample and the state before its first row."""
        raise NotImplementedError

    def start_row(self, constants: Nest, state: Nest, finished: tf.Tensor, row: tf.Tensor) -> tuple[Nest, Nest]:
        """Takes the row above `row`; returns it as this layer makes it."""
        raise NotImplementedError

    def whole_row(self, constants: Nest, state: Nest, x: tf.Tensor, row: tf.Tensor) -> tuple[Nest, Nest]:
        """Computes row `row`, all together."""
        raise NotImplementedError

    def step(
        self, constants: Nest, state: Nest, x: tf.Tensor | None, row: tf.Tensor, column: tf.Tensor, group: int
    ) -> tuple[Nest, Nest]:
        """Computes the units of a channel group at one location."""
        raise NotImplementedError

    def observe(
        self, constants: Nest, state: Nest, x: tf.Tensor, row: tf.Tensor, column: tf.Tensor, group: int
    ) -> Nest:
        """Takes what x's units of a channel group became at a location."""
        return state


class PointwiseLayer(CausalLayer):
    """A layer that treats every location alike and alone: `fold` once, `apply` everywhere."""

    worth_rematerializing = False

    def fold(self) -> Nest:
        """Returns what `apply` needs, without variables."""
        return ()

    def apply(self, constants: Nest, x: tf.Tensor) -> tf.Tensor:
        """Maps x [..., C] to [..., C']."""
        raise NotImplementedError

    def apply_to_group(self, constants: Nest, x: tf.Tensor, group: int) -> tf.Tensor:
        """Maps the units of one channel group, [..., C / G] to [..., C' / G]."""
        return self.apply(constants, x)

    def call(self, x, context=None, training=False, seed=None):
        """Computes the whole image."""
        return self.apply(self.fold(), x)

    def begin(self, context, batch, size):
        """Folds; there is no state."""
        return self.fold(), ()

    def start_row(self, constants, state, finished, row):
        """Maps the finished row."""
        return None if finished is None else self.apply(constants, finished), state

    def whole_row(self, constants, state, x, row):
        """Maps the row."""
        return self.apply(constants, x), state

    def step(self, constants, state, x, row, column, group):
        """Maps one location, unless a strict layer above asks before it is known."""
        return None if x is None else self.apply_to_group(constants, x, group), state


@keras.saving.register_keras_serializable(PACKAGE)
class Chain(CausalLayer):
    """Causal layers one after the other, all conditioned on the same context.

    Args:
      layers: the causal layers, first to last. Below a strict layer only pointwise ones may stand.
    """

    def __init__(self, layers: list[CausalLayer], **kwargs):
        super().__init__(**kwargs)
        self.layers = list(layers)

    @property
    def channel_groups(self) -> int:
        """Those of the layer that orders them."""
        return max(layer.channel_groups for layer in self.layers)

    @property
    def strict(self) -> bool:
        """Whether one of them is."""
        return any(layer.strict for layer in self.layers)

    @property
    def scans_rows(self) -> bool:
        """Whether one of them does."""
        return any(layer.scans_rows for layer in self.layers)

    @property
    def reads_values(self) -> bool:
        """False if one layer forgets what those below it made."""
        return all(layer.reads_values for layer in self.layers)

    def build(self, x_shape, context_shape=None) -> None:
        """Builds the layers one after the other."""
        for layer in self.layers:
            layer.build(x_shape, context_shape)
            x_shape = layer.compute_output_shape(x_shape, context_shape)

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        """The shape after the last layer."""
        for layer in self.layers:
            x_shape = layer.compute_output_shape(x_shape, context_shape)
        return x_shape

    def call(self, x, context=None, training=False, seed=None):
        """Computes the whole image."""
        firsts = self._firsts()
        for index, layer in enumerate(self.layers):

            def run(x, context, layer=layer, index=index):
                return shared.call(
                    firsts[index], layer, "__call__", x, context=context, training=training, seed=fold_in(seed, index)
                )

            x = rematerialized(run, x, context) if layer.worth_rematerializing else run(x, context)
        return x

    def _firsts(self) -> list[keras.layers.Layer | None]:
        """For each layer the one whose graphs it shares; see `layers.shared`."""
        return [None] * len(self.layers) if tf.executing_eagerly() else shared.firsts(self.layers)

    def begin(self, context, batch, size):
        """Begins all layers."""
        begun = [
            shared.call(first, layer, "begin", context, batch, size)
            for first, layer in zip(self._firsts(), self.layers, strict=True)
        ]
        return tuple(constants for constants, _ in begun), tuple(state for _, state in begun)

    def start_row(self, constants, state, finished, row):
        """Hands the finished row up."""
        states = []
        for layer, layer_constants, layer_state in zip(self.layers, constants, state, strict=True):
            finished, layer_state = layer.start_row(layer_constants, layer_state, finished, row)
            states.append(layer_state)
        return finished, tuple(states)

    def whole_row(self, constants, state, x, row):
        """Hands the row up."""
        states = []
        for layer, layer_constants, layer_state in zip(self.layers, constants, state, strict=True):
            x, layer_state = layer.whole_row(layer_constants, layer_state, x, row)
            states.append(layer_state)
        return x, tuple(states)

    def step(self, constants, state, x, row, column, group):
        """Hands one location up."""
        states = []
        for layer, layer_constants, layer_state in zip(self.layers, constants, state, strict=True):
            x, layer_state = layer.step(layer_constants, layer_state, x, row, column, group)
            states.append(layer_state)
        return x, tuple(states)

    def observe(self, constants, state, x, row, column, group):
        """Tells the layers up to and including the strict one; those above saw all they may in `step`."""
        states = list(state)
        for index, (layer, layer_constants) in enumerate(zip(self.layers, constants, strict=True)):
            states[index] = layer.observe(layer_constants, states[index], x, row, column, group)
            if not isinstance(layer, PointwiseLayer):
                break
            x = layer.apply_to_group(layer_constants, x, group)
        return tuple(states)

    def get_config(self) -> dict:
        """Keras' config."""
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.layers]
        for layer in layers:
            layer.pop("build_config", None)  # The chain builds them.
        return {**super().get_config(), "layers": layers}

    @classmethod
    def from_config(cls, config: dict) -> "Chain":
        """Rebuilds the layers, then the chain."""
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config["layers"]]
        return cls(**{**config, "layers": layers})


@keras.saving.register_keras_serializable(PACKAGE)
class Residual(Chain):
    """x + chain(x); no layer in it may be strict."""

    def call(self, x, context=None, training=False, seed=None):
        """Computes the whole image."""
        return x + super().call(x, context, training, seed)

    def start_row(self, constants, state, finished, row):
        """Adds the row to what the chain makes of it."""
        y, state = super().start_row(constants, state, finished, row)
        return tf.cast(finished, y.dtype) + y, state

    def whole_row(self, constants, state, x, row):
        """Adds the row to what the chain makes of it."""
        y, state = super().whole_row(constants, state, x, row)
        return tf.cast(x, y.dtype) + y, state

    def step(self, constants, state, x, row, column, group):
        """Adds the location to what the chain makes of it."""
        y, state = super().step(constants, state, x, row, column, group)
        return tf.cast(x, y.dtype) + y, state


@keras.saving.register_keras_serializable(PACKAGE)
class Activation(PointwiseLayer):
    """A nonlinearity.

    Args:
      function: Keras' name of it.
    """

    def __init__(self, function: str = "relu", **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def build(self, x_shape, context_shape=None) -> None:
        """Has no weights."""

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        """The shape of the input."""
        return tuple(x_shape)

    def apply(self, constants, x):
        """Applies it."""
        return keras.activations.get(self.function)(tf.cast(x, self.compute_dtype))

    def get_config(self) -> dict:
        """Keras' config."""
        return {**super().get_config(), "function": self.function}


def take_row(rows: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """Row `row` of [B, H, W, C] (or of [B, 1, 1, C], the same everywhere) as [B, W, C].

    Beyond the last row nothing is made, so the last one stands in for it.
    """
    if rows.shape[1] == 1:
        return tf.squeeze(rows, axis=1)
    return tf.gather(rows, tf.minimum(row, rows.shape[1] - 1), axis=1)
