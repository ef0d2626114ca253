"""How pixel values enter a causal network: scaled to [-1, 1], embedded, or not at all."""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from pixelvae_tf import pixels
from pixelvae_tf.layers.causal import CausalLayer, PointwiseLayer, Stepper, take_row
from pixelvae_tf.layers.configured import PACKAGE, Configured
from pixelvae_tf.layers.initializers import random_normal


@keras.saving.register_keras_serializable(PACKAGE)
class ScalePixels(Configured, PointwiseLayer):
    """Pixel values [..., C] -> [-1, 1], [..., C].

    Args:
      num_values: how many values a channel can take.

    Examples:
      >>> layers.ScalePixels(3)(np.array([[[[0, 1, 2]]]])).numpy().tolist()
      [[[[-1.0, 0.0, 1.0]]]]
    """

    def __init__(self, num_values: int, **kwargs):
        # Float values are taken as they come: `apply` does the cast.
        super().__init__(**{"autocast": False, **kwargs})
        self.num_values = num_values

    def apply(self, constants, x):
        return pixels.to_unit_interval(x, self.num_values, self.compute_dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class OrderedValues(keras.initializers.Initializer):
    """Vectors for ordered values: the value x on [-1, 1], then sin and cos of pi k x / 2 for k = 1, 2, 4, ...

    Neighbouring values start with similar vectors, so that "copy the neighbour" is learnt once and not value by value:
    from random vectors it takes hundreds of steps. Every column has mean 0 and variance 1 over the values. Columns
    beyond the last k < num_values, which the values could not tell apart, are standard normal.

    The table is the same for every channel.
    """

    def __call__(self, shape, dtype=None):
        """A table [channels, num_values, dim]."""
        _, num_values, dim = shape
        x = np.linspace(-1.0, 1.0, num_values)
        frequencies = 2.0 ** np.arange(math.ceil(math.log2(num_values)))
        waves = [wave(0.5 * math.pi * k * x) for k in frequencies for wave in (np.sin, np.cos)]
        columns = [column - column.mean() for column in (x, *waves)]
        # Of two values the cosine is the same: nothing to tell apart.
        columns = [column / column.std() for column in columns if column.std() > 1e-6][:dim]
        table = np.array(random_normal(stddev=1.0)(shape, "float32"))
        table[..., : len(columns)] = np.stack(columns, axis=-1)
        return keras.ops.convert_to_tensor(table, dtype or keras.config.floatx())


@keras.saving.register_keras_serializable(PACKAGE)
class EmbedPixels(Configured, PointwiseLayer):
    """Pixel values [..., C] -> learnt vectors [..., dim * C]; unit k belongs to channel k mod C.

    The program of PixelVAE's models of natural images (section 4.2) embeds its input so, in 16 dimensions a channel.

    Args:
      num_values: how many values a channel can take.
      dim: length of a value's vector.

    Examples:
      >>> layers.EmbedPixels(256, 8)(np.zeros((2, 5, 5, 3), "uint8")).shape
      TensorShape([2, 5, 5, 24])
    """

    def __init__(self, num_values: int, dim: int = 16, **kwargs):
        # Float values are taken as they come: `apply` does the cast.
        super().__init__(**{"autocast": False, **kwargs})
        self.num_values, self.dim = num_values, dim

    def build(self, x_shape, context_shape=None) -> None:
        """Creates one table per channel."""
        self.table = self.add_weight(
            name="table", shape=(x_shape[-1], self.num_values, self.dim), initializer=OrderedValues()
        )

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        return (*x_shape[:-1], x_shape[-1] * self.dim)

    def fold(self):
        """The channels' tables, cast."""
        return tuple(tf.unstack(tf.cast(tf.convert_to_tensor(self.table), self.compute_dtype)))

    def apply(self, constants, x):
        values = tf.cast(x, tf.int32)
        channels = x.shape[-1]
        vectors = [tf.gather(constants[channel], values[..., channel]) for channel in range(channels)]
        return tf.reshape(tf.stack(vectors, axis=-1), (-1, *x.shape[1:-1], self.dim * channels))

    def apply_to_group(self, constants, x, group):
        # Values come into a step one group late; see `layers.causal`.
        groups = len(constants) // x.shape[-1]
        return self.apply(constants[(group - 1) % groups :: groups], x)


@keras.saving.register_keras_serializable(PACKAGE)
class FromContext(CausalLayer):
    """The context itself, a map [B, H, W, D], instead of x: pixels independent of each other (a VAE's)."""

    reads_values = False

    def __init__(self, **kwargs):
        # Pixel values are not floats, and nothing is done with them.
        super().__init__(**{"autocast": False, **kwargs})

    def build(self, x_shape, context_shape=None) -> None:
        """Checks the context.

        Raises:
          ValueError: if the context is not a map of the size of x.
        """
        if context_shape is None or len(context_shape) != 4 or tuple(context_shape[1:3]) != tuple(x_shape[1:3]):
            raise ValueError(
                f"context must be a map [B, {x_shape[1]}, {x_shape[2]}, D]. Received: a shape of {context_shape}"
            )

    def compute_output_shape(self, x_shape, context_shape=None) -> tuple:
        return (*x_shape[:-1], context_shape[-1])

    def call(self, x, context=None, training=False, seed=None):
        return tf.cast(context, self.compute_dtype)

    def stepper(self, context, batch, size):
        return ContextStepper(tf.cast(context, self.compute_dtype))


@dataclasses.dataclass
class ContextStepper(Stepper):
    """Of `FromContext`; the state is the context's row."""

    context: tf.Tensor

    def start(self):
        return take_row(self.context, tf.constant(0))

    def next_row(self, state, finished, row):
        return state, take_row(self.context, row)

    def row(self, state, x):
        return state, state

    def step(self, state, x, column, group):
        return tf.gather(state, column, axis=1), state
