"""Residual networks without masks: images -> features, latents -> feature maps.

The blocks are the paper's for natural images (ELU, 3x3, upsampling by a convolution to four times
the channels and depth-to-space), weight-normalised. For MNIST the released program has plain
ReLU convolutions of the same widths and strides; residual blocks serve both here.

With batch normalisation, as the program for natural images has it on everything without masks, a block is
normalised between its two convolutions. It needs no scale and shift of its own: the weight norm and the bias of the
second convolution are those. (The program normalises after the second, whose kernel has no norm.)

Legend: B batch, H height, W width, C channels, F filters.
"""

import functools
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from pixelvae_tf.layers.configured import PACKAGE, Configured
from pixelvae_tf.layers.rematerialization import computed_again, rematerialized
from pixelvae_tf.layers.shifts import head
from pixelvae_tf.layers.weight_norm import WeightNormConv2D, WeightNormDense

# Of the moving statistics that evaluation and export use.
BATCH_NORM_MOMENTUM = 0.99


@keras.saving.register_keras_serializable(PACKAGE)
class ResidualBlock(Configured):
    """x -> shortcut(x) + conv(elu(conv(elu(x)))), at the same, half or double the resolution.

    Args:
      filters: F.
      resample: "none", "down" (stride 2; odd sides round up) or "up" (depth-to-space).
      batch_norm: whether what goes into the second convolution is normalised: in training by the statistics of the
        batch, the global one under a strategy; else by their moving averages.
    """

    def __init__(self, filters: int, resample: str = "none", batch_norm: bool = False, **kwargs):
        super().__init__(**kwargs)
        if resample not in ("none", "down", "up"):
            raise ValueError(f'resample must be "none", "down" or "up". Received: resample={resample!r}')
        self.filters, self.resample, self.batch_norm = filters, resample, batch_norm
        options = {"strides": 2 if resample == "down" else 1, "dtype": self.dtype_policy}
        first = filters * 4 if resample == "up" else filters
        self.first = WeightNormConv2D(first, (3, 3), name="first", **options)
        self.second = WeightNormConv2D(filters, (3, 3), name="second", dtype=self.dtype_policy)
        self.shortcut = WeightNormConv2D(first, name="shortcut", **options)
        self.normalization = None
        if batch_norm:
            self.normalization = keras.layers.BatchNormalization(
                momentum=BATCH_NORM_MOMENTUM,
                center=False,
                scale=False,
                synchronized=True,
                name="normalization",
                dtype=self.dtype_policy,
            )

    def build(self, x_shape) -> None:
        """Builds the three convolutions."""
        self.first.build(x_shape)
        self.second.build((*self.compute_output_shape(x_shape)[:-1], self.filters))
        if self.normalization is not None:
            self.normalization.build((None, None, None, self.filters))
        # The identity needs no weights.
        self.project = self.resample != "none" or x_shape[-1] != self.filters
        if self.project:
            self.shortcut.build(x_shape)

    def compute_output_shape(self, x_shape) -> tuple:
        """[B, H, W, C] -> [B, H', W', F]."""
        batch, height, width, _ = x_shape
        sizes = {"none": (height, width), "down": (-(-height // 2), -(-width // 2)), "up": (2 * height, 2 * width)}
        return (batch, *sizes[self.resample], self.filters)

    def call(self, x, training=False):
        """Maps x [B, H, W, C]."""

        def move(y: tf.Tensor) -> tf.Tensor:
            return tf.nn.depth_to_space(y, 2) if self.resample == "up" else y

        y = tf.nn.elu(move(self.first(tf.nn.elu(x))))
        if self.normalization is not None:
            # A second computation, for the gradient, leaves the moving averages where the first has moved them.
            self.normalization.momentum = 1.0 if computed_again() else BATCH_NORM_MOMENTUM
            y = self.normalization(y, training=training)
        return self.second(y) + (move(self.shortcut(x)) if self.project else x)


class _Blocks(Configured):
    """Residual blocks one after the other, some of which halve or double the resolution.

    Args:
      filters: channels after each halving or doubling.
      num_blocks: blocks that keep the resolution, as many at each.
      batch_norm: as for `ResidualBlock`.
    """

    def __init__(self, filters: Sequence[int], num_blocks: int = 0, batch_norm: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.num_blocks, self.batch_norm = list(filters), num_blocks, batch_norm

    def _block(self, filters: int, resample: str, name: str) -> ResidualBlock:
        return ResidualBlock(filters, resample, self.batch_norm, name=name, dtype=self.dtype_policy)

    def _keeping(self, filters: int, name: str) -> list[ResidualBlock]:
        return [self._block(filters, "none", f"{name}_{index}") for index in range(self.num_blocks)]


@keras.saving.register_keras_serializable(PACKAGE)
class Encoder(_Blocks):
    """A feature map -> features at a 2**len(filters) times lower resolution.

    Args:
      filters: channels after each halving, first to last.
      stem_filters: channels before the first halving; 0 for `filters[0]`.
      num_blocks, batch_norm: as for `_Blocks`.

    Examples:
      >>> layers.Encoder([8, 16])(np.zeros((2, 8, 8, 1), "float32")).shape
      TensorShape([2, 2, 2, 16])
    """

    def __init__(
        self, filters: Sequence[int], stem_filters: int = 0, num_blocks: int = 0, batch_norm: bool = False, **kwargs
    ):
        super().__init__(filters, num_blocks, batch_norm, **kwargs)
        self.stem_filters = stem_filters
        width = stem_filters or self.filters[0]
        self.stem = WeightNormConv2D(width, (3, 3), name="stem", dtype=self.dtype_policy)
        self.blocks = self._keeping(width, "stem_block")
        for index, f in enumerate(self.filters):
            self.blocks += [self._block(f, "down", f"block_{index}"), *self._keeping(f, f"block_{index}_block")]

    def build(self, x_shape) -> None:
        """Builds the blocks."""
        for layer in (self.stem, *self.blocks):
            layer.build(x_shape)
            x_shape = layer.compute_output_shape(x_shape)

    def compute_output_shape(self, x_shape) -> tuple:
        """[B, H, W, C] -> [B, H', W', F]."""
        for layer in (self.stem, *self.blocks):
            x_shape = layer.compute_output_shape(x_shape)
        return x_shape

    def call(self, x, training=False):
        """Maps x [B, H, W, C] to [B, H', W', F]."""
        x = self.stem(x)
        for block in self.blocks:
            x = rematerialized(functools.partial(block, training=training), x)
        return tf.nn.elu(x)


@keras.saving.register_keras_serializable(PACKAGE)
class FeatureDecoder(_Blocks):
    """Latents, a vector or on a grid -> a feature map of the size of the level below.

    Args:
      size: (H, W) of the map.
      filters: channels after each doubling, first to last; the map has the last.
      first_filters: channels before the first doubling.
      num_blocks, batch_norm: as for `_Blocks`.
    """

    def __init__(
        self,
        size: tuple[int, int],
        filters: Sequence[int],
        first_filters: int,
        num_blocks: int = 0,
        batch_norm: bool = False,
        **kwargs,
    ):
        super().__init__(filters, num_blocks, batch_norm, **kwargs)
        self.size, self.first_filters = tuple(size), first_filters
        # After each doubling, and before the first: what the encoder's halvings, which round odd sides up, leave.
        self.sizes = [self.size]
        for _ in filters:
            self.sizes.insert(0, tuple(-(-length // 2) for length in self.sizes[0]))
        # One flat list: Keras 3.10 leaves the weights of layers in nested ones out of its files (keras#20598).
        self.blocks = self._keeping(first_filters, "first_block")
        for index, f in enumerate(self.filters):
            self.blocks += [self._block(f, "up", f"block_{index}"), *self._keeping(f, f"block_{index}_block")]

    def _sized_blocks(self) -> Iterator[tuple[tuple[int, ...], ResidualBlock]]:
        """The blocks, each with the (H, W) of what it makes."""
        sizes = iter(self.sizes)
        size = next(sizes)
        for block in self.blocks:
            if block.resample == "up":
                size = next(sizes)
            yield size, block

    def build(self, latents_shape) -> None:
        """Builds for latents [B, D] or [B, h, w, D]."""
        height, width = self.sizes[0]
        options = {"name": "first", "dtype": self.dtype_policy}
        if len(latents_shape) == 2:
            self.first = WeightNormDense(height * width * self.first_filters, **options)
        else:
            self.first = WeightNormConv2D(self.first_filters, (3, 3), **options)
        self.first.build(latents_shape)
        x_shape = (latents_shape[0], height, width, self.first_filters)
        for size, block in self._sized_blocks():
            block.build(x_shape)
            x_shape = (latents_shape[0], *size, block.filters)

    def compute_output_shape(self, latents_shape) -> tuple:
        """[B, D] or [B, h, w, D] -> [B, H, W, F]."""
        return (latents_shape[0], *self.size, self.filters[-1])

    def call(self, latents, training=False):
        """Maps latents [B, D] or [B, h, w, D] to [B, H, W, F]."""
        x = tf.reshape(self.first(latents), (-1, *self.sizes[0], self.first_filters))
        for (height, width), block in self._sized_blocks():
            # Where the encoder rounded an odd side up, the row too many is cropped.
            x = rematerialized(functools.partial(block, training=training), x)
            x = head(head(x, height, axis=1), width, axis=2)
        return tf.nn.elu(x)
