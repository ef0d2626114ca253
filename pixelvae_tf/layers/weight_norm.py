"""Weight normalisation: w = g v / |v| (Salimans and Kingma 2016), one norm an output unit.

The norm is taken in float32 under any dtype policy. A layer starts with |w| = `gain`, so that an
input of unit variance gives outputs of variance `gain ** 2`, whatever the fan-in or the mask. Or, within
`data_dependent_initialization`, so that the data at hand gives outputs of mean 0 and standard deviation
`gain` (section 3).
"""

import contextlib
import contextvars
import math

import keras
import numpy as np
import tensorflow as tf

from pixelvae_tf.layers.configured import PACKAGE, Configured
from pixelvae_tf.layers.initializers import random_normal

# How far a data-dependent start may move a norm, in either direction: where the data do not vary (a constant
# image), no norm gives a unit its variance.
MAX_INITIALIZATION_FACTOR = 10.0
# Outputs for each input from which on a bias is cheaper as the weights of a further input.
WIDE = 4
_initializing = contextvars.ContextVar("initializing", default=False)


@contextlib.contextmanager
def data_dependent_initialization():
    """A call of weight-normalised convolutions inside, eagerly, first sets their norms and biases by the data.

    Salimans and Kingma 2016, section 3: one batch goes up through the layers, each of which starts from what
    those below it have become.
    """
    token = _initializing.set(True)
    try:
        yield
    finally:
        _initializing.reset(token)


class WeightNormalized(Configured):
    """Owns `v`, `g` and the bias; `folded` gives the kernel that they stand for."""

    def __init__(self, filters: int, gain: float = 1.0, use_bias: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.gain, self.use_bias = filters, gain, use_bias
        self.kernel_mask: np.ndarray | None = None
        self.multiply_adds = 0  # of an image; known when the kernel is there

    def add_kernel(self, kernel_shape: tuple[int, ...], mask: np.ndarray | None = None, num_locations: int = 1) -> None:
        """Creates the weights of a kernel [..., filters].

        Args:
          kernel_shape: its shape.
          mask: multiplied onto `v`, or None.
          num_locations: how often an image applies it.
        """
        self.kernel_mask = mask
        self.multiply_adds = num_locations * int(math.prod(kernel_shape) if mask is None else np.count_nonzero(mask))
        # Not autocast: under a bfloat16 policy the norm would be taken of rounded weights.
        self.v = self.add_weight(name="v", shape=kernel_shape, initializer=random_normal(stddev=0.05), autocast=False)
        self.g = self.add_weight(
            name="g", shape=(self.filters,), initializer=keras.initializers.Constant(self.gain), autocast=False
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros", autocast=False)

    def folded(self) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The kernel [..., filters] and bias [filters] (or None), in the compute dtype."""
        v = tf.convert_to_tensor(self.v)
        if self.kernel_mask is not None:
            v = v * tf.constant(self.kernel_mask, v.dtype)
        square = tf.reduce_sum(tf.square(v), axis=list(range(v.shape.rank - 1)))
        # A unit that sees nothing (type A, first group, kernel 1) has the norm 0 and the kernel 0.
        kernel = v * (tf.convert_to_tensor(self.g) * tf.math.rsqrt(square + 1e-12))
        bias = None if self.bias is None else tf.cast(tf.convert_to_tensor(self.bias), self.compute_dtype)
        return tf.cast(kernel, self.compute_dtype), bias

    def floats(self, x: tf.Tensor) -> tf.Tensor:
        """x in the compute dtype; see `as_floats`."""
        return as_floats(x, self.compute_dtype, f"layer {self.name!r}")

    def initialize_from(self, y: tf.Tensor) -> None:
        """Sets norm and bias so that outputs [..., filters] of the weights as they are would be standardised."""
        mean, variance = tf.nn.moments(tf.cast(y, self.g.dtype), axes=list(range(y.shape.rank - 1)))
        factor = self.gain / tf.maximum(tf.sqrt(variance), self.gain / MAX_INITIALIZATION_FACTOR)
        factor = tf.maximum(factor, 1.0 / MAX_INITIALIZATION_FACTOR)
        self.g.assign(self.g * factor)
        if self.bias is not None:
            self.bias.assign((self.bias - mean) * factor)


def multiply_adds(layer: keras.layers.Layer) -> int:
    """Multiply-adds of an image through all weight-normalised layers in a built one, without what masks hide."""
    return sum(part.multiply_adds for part in layer._flatten_layers() if isinstance(part, WeightNormalized))


def as_floats(x: tf.Tensor, dtype: str | tf.DType, where: str) -> tf.Tensor:
    """x in a dtype; `where` says whose input it is.

    Raises:
      ValueError: for integers. As they are, pixel values would be features of up to 255.
    """
    if not tf.as_dtype(x.dtype).is_floating:
        raise ValueError(
            f"the input of {where} must be floating point; a layer ScalePixels(num_values) or EmbedPixels(num_values) "
            f"before it makes features of pixel values. Received: {x.dtype.name}"
        )
    return tf.cast(x, dtype)


def as_matrix(kernel: tf.Tensor) -> tf.Tensor:
    """A kernel [..., C, F] as a matrix, from all that it sees to its units; itself if it is one."""
    return kernel if kernel.shape.rank == 2 else tf.reshape(kernel, (-1, kernel.shape[-1]))


def matrix_product(x: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """x [..., C] times a matrix [C, F], as one product: [..., F]. All dimensions but the first are static."""
    flat = tf.matmul(tf.reshape(x, (-1, x.shape[-1])), matrix)
    return tf.reshape(flat, (-1, *x.shape[1:-1], matrix.shape[-1]))


def affine(x: tf.Tensor, matrix: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    """x [..., C] times a matrix [C, F], and a bias [F] or None: [..., F], as `matrix_product`."""
    if bias is not None and matrix.shape[1] >= WIDE * matrix.shape[0]:
        # As the weights of a further input that is always 1. A sum, and that over all locations which is its gradient,
        # read and write all outputs once more: half the time of the parameters of 256 values.
        x = tf.pad(x, [*[[0, 0]] * (x.shape.rank - 1), [0, 1]], constant_values=1)
        matrix, bias = tf.concat([matrix, bias[None]], axis=0), None
    return add_optional(matrix_product(x, matrix), bias)


def add_optional(x: tf.Tensor, addend: tf.Tensor | None) -> tf.Tensor:
    """x + addend, or x where there is none."""
    return x if addend is None else x + addend


@keras.saving.register_keras_serializable(PACKAGE)
class WeightNormDense(WeightNormalized):
    """A weight-normalised linear map, [B, D] -> [B, filters]."""

    def build(self, input_shape) -> None:
        """Creates the weights for inputs [B, D]."""
        self.add_kernel((input_shape[-1], self.filters))

    def compute_output_shape(self, input_shape) -> tuple:
        """[B, D] -> [B, filters]."""
        return (*input_shape[:-1], self.filters)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps x [B, D] to [B, filters]."""
        kernel, bias = self.folded()
        return add_optional(tf.matmul(self.floats(x), kernel), bias)


@keras.saving.register_keras_serializable(PACKAGE)
class WeightNormConv2D(WeightNormalized):
    """A weight-normalised convolution, [B, H, W, C] -> [B, H', W', filters].

    Args:
      filters: number of output channels.
      kernel_size: (height, width), or one number for both.
      strides: step in both directions.
      padding: "same" or "valid". The causal subclasses pad by themselves and convolve "valid".
      gain: norm of every output unit's kernel at the start.
      use_bias: whether a bias is added.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int] = (1, 1),
        strides: int = 1,
        padding: str = "same",
        gain: float = 1.0,
        use_bias: bool = True,
        **kwargs,
    ):
        super().__init__(filters, gain=gain, use_bias=use_bias, **kwargs)
        if padding not in ("same", "valid"):
            raise ValueError(f"padding must be same or valid. Received: {padding!r}")
        kernel_size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.kernel_size, self.strides, self.padding = kernel_size, strides, padding

    def build(self, input_shape) -> None:
        """Creates the weights for inputs [B, H, W, C]."""
        self.add_kernel(
            (*self.kernel_size, input_shape[-1], self.filters),
            num_locations=math.prod(self.compute_output_shape(input_shape)[1:3]),
        )

    def compute_output_shape(self, input_shape) -> tuple:
        """[B, H, W, C] -> [B, H', W', filters]."""

        def size(length: int, kernel: int) -> int:
            return -(-(length if self.padding == "same" else length - kernel + 1) // self.strides)

        batch, height, width, _ = input_shape
        return (batch, size(height, self.kernel_size[0]), size(width, self.kernel_size[1]), self.filters)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Convolves x [B, H, W, C]."""
        x = self.floats(x)
        if _initializing.get() and self.gain:
            self.initialize_from(self.convolve(x, *self.folded()))
        return self.convolve(x, *self.folded())

    def convolve(self, x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
        """Convolves x [B, H, W, C] with a kernel folded before."""
        if self.kernel_size == (1, 1) and self.strides == 1:
            # The same as a matrix product, which has less to set up.
            return affine(x, as_matrix(kernel), bias)
        return add_optional(tf.nn.conv2d(x, kernel, self.strides, self.padding.upper()), bias)
