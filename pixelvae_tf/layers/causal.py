"""The contract of every causal layer: one call for the whole image, and a stepper that goes through it in raster order.

    layer(x, context, training, seed) -> y            the whole image: training and log_prob

    stepper = layer.stepper(context, batch, size)     once per sample: folded kernels, the projected context
    state = stepper.start()                           before row 0
    y, state = stepper.step(state, x, column, group)  once per location and channel group, or
    y, state = stepper.row(state, x)                  a row at once
    y, state = stepper.next_row(state, finished, row) once the row above `row` is finished

Run over the same image, the stepper gives the numbers of the call. `testing.check_causal_layer` holds both together.

A layer that sees its own location (type B) is given x's units of the channel group and the location that it computes.
A network, whose first layer is of type A and does not see its own location, is given what was drawn last, as a language
model is: the units of the group before, or, for group 0, the last group of the location to the left. At the start of
a row there is nothing to the left; whatever is given there, the layer of type A ignores.

    state = stepper.start()
    for row in range(height):
        last = tf.zeros((batch, channels))            # any values
        for column in range(width):
            params, state = stepper.step(state, last, column, 0)
            last = draw(params)                       # the distribution of x[:, row, column], given all before it
        _, state = stepper.next_row(state, finished_row, row + 1)

The state is a NamedTuple (or a nest) of tensors of fixed shapes, so that it can be a loop variable, or go in and out of
a `tf.function`. So can the stepper itself.

In a gated block x is the pair (vertical, horizontal) for `call`; `finished` is a row of the vertical stream, and `row`
and `step` move the horizontal stream alone. In a masked convolution `finished` is its input row.

Legend: B batch, H height, W width, C channels, G channel groups.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from pixelvae_tf.layers import shared
from pixelvae_tf.layers.configured import PACKAGE, Configured, Freezable
from pixelvae_tf.layers.dropout import fold_in
from pixelvae_tf.layers.rematerialization import rematerialized
from pixelvae_tf.turns import RASTER

Nest = Any  # a nest of tensors
Size = tuple[int, int]  # (H, W)


class Stepper:
    """A causal layer bound to a context, for a batch of images; the module's docstring is the contract.

    Subclasses are dataclasses of tensors, other steppers and plain values. They hold no variables: what a layer folds
    is folded once. `tf.nest` takes them apart, so `tf.function`s may take and return them.

    Args of the methods:
      state: from `start` or the method before.
      x: [B, C / G] in `step`, [B, W, C] in `row`.
      finished: [B, W, C], the row above `row`, as the layer below made it; None above a layer that ends the
        vertical stream.
      row, column: scalar int32 tensors.
      group: 0 .. G - 1, a Python integer. The groups of a location are computed one after the other.
    """

    def start(self) -> Nest:
        """The state before row 0."""
        return ()

    def next_row(self, state: Nest, finished: tf.Tensor | None, row: tf.Tensor) -> tuple[Nest, Nest]:
        """Row `row - 1`, now finished, as this layer makes it, and the state before row `row`: 1 .. H."""
        raise NotImplementedError

    def row(self, state: Nest, x: tf.Tensor) -> tuple[Nest, Nest]:
        """A row at once, from the state before it, and the state after it."""
        raise NotImplementedError

    def step(self, state: Nest, x: tf.Tensor, column: tf.Tensor, group: int) -> tuple[Nest, Nest]:
        """The units of one channel group at one location, and the state after it."""
        raise NotImplementedError

    def __tf_flatten__(self):
        """What `tf.nest` asks of a dataclass: (what is no tensor, the tensors)."""
        fields = vars(self)
        tensors = {name: value for name, value in fields.items() if any(map(tf.is_tensor, tf.nest.flatten(value)))}
        plain = {name: value for name, value in fields.items() if name not in tensors}
        return (plain, tuple(tensors)), tuple(tensors.values())

    @classmethod
    def __tf_unflatten__(cls, metadata, components):
        """Undoes `__tf_flatten__`."""
        plain, names = metadata
        return cls(**plain, **dict(zip(names, components, strict=True)))


class CausalLayer(Freezable):
    """Base of the causal layers; the module's docstring is the contract.

    Attributes:
      groups: G, how many groups the layer orders the channels of a location in.
      reads_values: whether anything but the context matters.
      scans_rows: whether a stepper's `row` goes from location to location all the same.
      worth_rematerializing: whether a chain may compute the layer again for the gradient; False where that saves
        little, or where the layer does so itself, part by part.
    """

    groups: int = 1
    reads_values: bool = True
    scans_rows: bool = False
    worth_rematerializing: bool = True

    @property
    def channel_groups(self) -> int:
        """How many groups the channels of a location are computed in, one after the other."""
        return self.groups

    def call(self, x: Nest, context: tf.Tensor | None = None, training: bool = False, seed=None) -> Nest:
        """Computes the whole image.

        Args:
          x: [B, H, W, C], or a pair of streams.
          context: what the whole image is conditioned on: None, a vector [B, D] or a map [B, H, W, D].
          training: whether dropout is on.
          seed: int32 [2] for dropout.
        """
        raise NotImplementedError

    def stepper(self, context: tf.Tensor | None, batch: tf.Tensor | int, size: Size) -> Stepper:
        """The layer bound to a context, to go through images of `size` in raster order."""
        raise NotImplementedError


@dataclasses.dataclass
class PointwiseStepper(Stepper):
    """Maps rows and locations as the layer maps images."""

    layer: "PointwiseLayer"
    constants: Nest

    def next_row(self, state, finished, row):
        return None if finished is None else self.layer.apply(self.constants, finished), state

    def row(self, state, x):
        return self.layer.apply(self.constants, x), state

    def step(self, state, x, column, group):
        return self.layer.apply_to_group(self.constants, x, group), state


class PointwiseLayer(CausalLayer):
    """A layer that treats every location alike and alone: `fold` once, `apply` everywhere.

    class Halve(layers.PointwiseLayer):
        def apply(self, constants, x):
            return x / 2
    """

    worth_rematerializing = False

    def build(self, x_shape, context_shape=None) -> None:
        self.built = True

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        return tuple(x_shape)

    def fold(self) -> Nest:
        """What `apply` needs, without variables."""
        return ()

    def apply(self, constants: Nest, x: tf.Tensor) -> tf.Tensor:
        """Maps x [..., C] to [..., C']."""
        raise NotImplementedError

    def apply_to_group(self, constants: Nest, x: tf.Tensor, group: int) -> tf.Tensor:
        """Maps what a step of a channel group is given, [..., C / G], to [..., C' / G]."""
        return self.apply(constants, x)

    def call(self, x, context=None, training=False, seed=None):
        return self.apply(self.fold(), x)

    def stepper(self, context, batch, size):
        return PointwiseStepper(self, self.fold())


@dataclasses.dataclass
class ChainStepper(Stepper):
    """Hands rows and locations from stepper to stepper; with `residual`, adds what came in to what comes out."""

    steppers: tuple[Stepper, ...]
    residual: bool = False

    def start(self):
        return tuple(stepper.start() for stepper in self.steppers)

    def next_row(self, state, finished, row):
        return self._through("next_row", state, finished, row)

    def row(self, state, x):
        return self._through("row", state, x)

    def step(self, state, x, column, group):
        return self._through("step", state, x, column, group)

    def _through(self, method: str, state: Nest, x: tf.Tensor, *at) -> tuple[Nest, Nest]:
        y, states = x, []
        for stepper, own_state in zip(self.steppers, state, strict=True):
            y, own_state = getattr(stepper, method)(own_state, y, *at)
            states.append(own_state)
        # Of a finished row nothing may come in or out: the last block has no vertical stack to hand on.
        whole = self.residual and x is not None and y is not None
        return tf.cast(x, y.dtype) + y if whole else y, tuple(states)


@keras.saving.register_keras_serializable(PACKAGE)
class Chain(CausalLayer):
    """Causal layers one after the other, all conditioned on the same context.

        network = Chain([ScalePixels(2), MaskedConv2D(16, 7, "A"), Activation(), MaskedConv2D(1, 1)])
        logits = network(images)  # [B, H, W, 1]

    Args:
      layers: the causal layers, first to last. Only pointwise ones may stand below one of type A.
      orders: names of `turns.TURNS`: how images are turned before they are gone through in raster order. A network for
        several is told which by a context that ends in a one-hot of them; see `distributions.AutoregressiveGrid`.

    Examples:
      >>> network = layers.Chain([layers.ScalePixels(2), layers.MaskedConv2D(4, 3, "A"), layers.MaskedConv2D(1, 1)])
      >>> network(np.zeros((2, 5, 5, 1), "uint8")).shape
      TensorShape([2, 5, 5, 1])
    """

    def __init__(self, layers: list[CausalLayer], orders: Sequence[str] = (RASTER,), **kwargs):
        super().__init__(**kwargs)
        self.layers, self.orders = list(layers), tuple(orders)
        if turned := [layer.name for layer in self.layers if tuple(getattr(layer, "orders", (RASTER,))) != (RASTER,)]:
            raise ValueError(f"orders must be given to the outermost Chain alone. Received: some of {turned}")
        different = {id(layer) for layer in self.layers if isinstance(layer, CausalLayer)}
        if not different or len(different) < len(self.layers):
            raise ValueError(f"layers must be causal layers, at least one and each once. Received: {self.layers}")
        groups = {layer.channel_groups for layer in self.layers if layer.reads_values and not _is_pointwise(layer)}
        if len(groups) > 1:
            # A layer of fewer groups would hand units of a later group to an earlier one.
            raise ValueError(f"layers must have the same number of channel groups. Received: {sorted(groups)}")
        self.groups = max(layer.channel_groups for layer in self.layers)
        self.scans_rows = any(layer.scans_rows for layer in self.layers)
        # One layer may forget what those below it made.
        self.reads_values = all(layer.reads_values for layer in self.layers)

    def build(self, x_shape, context_shape=None) -> None:
        for layer in self.layers:
            if not layer.built:  # as one that was trained in another network
                layer.build(x_shape, context_shape)
            x_shape = layer.compute_output_shape(x_shape, context_shape)

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        for layer in self.layers:
            x_shape = layer.compute_output_shape(x_shape, context_shape)
        return x_shape

    def call(self, x, context=None, training=False, seed=None):
        alike = self._alike()
        for index, layer in enumerate(self.layers):

            def run(x, context, layer=layer, index=index):
                return shared.call(
                    alike[index], layer, "__call__", x, context=context, training=training, seed=fold_in(seed, index)
                )

            x = rematerialized(run, x, context) if layer.worth_rematerializing else run(x, context)
        return x

    def _alike(self) -> list[keras.layers.Layer | None]:
        """For each layer the one whose graphs it shares; see `layers.shared`."""
        return [None] * len(self.layers) if tf.executing_eagerly() else shared.alike(self.layers)

    def stepper(self, context, batch, size):
        pairs = zip(self._alike(), self.layers, strict=True)
        return ChainStepper(tuple(shared.call(alike, layer, "stepper", context, batch, size) for alike, layer in pairs))

    def get_config(self) -> dict:
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.layers]
        for layer in layers:
            layer.pop("build_config", None)  # The chain builds them.
        return {**super().get_config(), "layers": layers, "orders": self.orders}

    @classmethod
    def from_config(cls, config: dict) -> "Chain":
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config["layers"]]
        return cls(**{**config, "layers": layers})


def _is_pointwise(layer: CausalLayer) -> bool:
    """Whether a layer is pointwise, or a chain of such."""
    return all(map(_is_pointwise, layer.layers)) if isinstance(layer, Chain) else isinstance(layer, PointwiseLayer)


@keras.saving.register_keras_serializable(PACKAGE)
class Residual(Chain):
    """x + chain(x).

        block = Residual([Activation("relu"), MaskedConv2D(16, 3)])  # 16 channels in, 16 out

    Args:
      layers: as for `Chain`; none may be of type A.
    """

    def __init__(self, layers: list[CausalLayer], orders: Sequence[str] = (RASTER,), **kwargs):
        super().__init__(layers, orders, **kwargs)
        self.reads_values = True  # what comes in is added, whatever the layers forget

    def build(self, x_shape, context_shape=None) -> None:
        super().build(x_shape, context_shape)
        made = self.compute_output_shape(x_shape, context_shape)
        if tuple(made) != tuple(x_shape):
            raise ValueError(f"layers of a residual must give the shape they are given, {x_shape}. Received: {made}")

    def call(self, x, context=None, training=False, seed=None):
        return tf.nest.map_structure(tf.add, x, super().call(x, context, training, seed))  # of one stream or of a pair

    def stepper(self, context, batch, size):
        return dataclasses.replace(super().stepper(context, batch, size), residual=True)


@keras.saving.register_keras_serializable(PACKAGE)
class Activation(Configured, PointwiseLayer):
    """A nonlinearity.

        Activation("elu")(x)  # of the shape of x

    Args:
      function: Keras' name of it.
    """

    def __init__(self, function: str = "relu", **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def apply(self, constants, x):
        return keras.activations.get(self.function)(tf.cast(x, self.compute_dtype))


def take_row(rows: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """Row `row` of [B, H, W, C] (or of [B, 1, 1, C], the same everywhere) as [B, W, C].

    Behind the last row nothing is made, so the last one stands in for it.
    """
    if rows.shape[1] == 1:
        return tf.squeeze(rows, axis=1)
    return tf.gather(rows, tf.minimum(row, rows.shape[1] - 1), axis=1)
