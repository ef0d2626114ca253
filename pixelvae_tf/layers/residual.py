"""Residual networks without masks: images -> features, latents -> feature maps.

The blocks are the paper's for natural images (ELU, 3x3, upsampling by a convolution to four times
the channels and depth-to-space), here weight-normalised. For MNIST the released program has plain
ReLU convolutions of the same widths and strides; residual blocks serve both here.

Legend: B batch, H height, W width, C channels, F filters.
"""

import keras
import tensorflow as tf

from pixelvae_tf.layers.weight_norm import PACKAGE, WeightNormConv2D, WeightNormDense


@keras.saving.register_keras_serializable(PACKAGE)
class ResidualBlock(keras.layers.Layer):
    """x -> shortcut(x) + conv(elu(conv(elu(x)))), at the same, half or double the resolution.

    Args:
      filters: F.
      resample: "none", "down" (stride 2; odd sides round up) or "up" (depth-to-space).
    """

    def __init__(self, filters: int, resample: str = "none", **kwargs):
        super().__init__(**kwargs)
        if resample not in ("none", "down", "up"):
            raise ValueError(f'resample must be "none", "down" or "up". Received: resample={resample!r}')
        self.filters, self.resample = filters, resample
        options = {"strides": 2 if resample == "down" else 1, "dtype": self.dtype_policy}
        first = filters * 4 if resample == "up" else filters
        self.first = WeightNormConv2D(first, (3, 3), name="first", **options)
        self.second = WeightNormConv2D(filters, (3, 3), name="second", dtype=self.dtype_policy)
        self.shortcut = WeightNormConv2D(first, name="shortcut", **options)

    def build(self, x_shape) -> None:
        """Builds the three convolutions."""
        self.first.build(x_shape)
        self.second.build((*x_shape[:-1], self.filters))
        # The identity needs no weights.
        self.project = self.resample != "none" or x_shape[-1] != self.filters
        if self.project:
            self.shortcut.build(x_shape)

    def compute_output_shape(self, x_shape) -> tuple:
        """[B, H, W, C] -> [B, H', W', F]."""
        batch, height, width, _ = x_shape
        sizes = {"none": (height, width), "down": (-(-height // 2), -(-width // 2)), "up": (2 * height, 2 * width)}
        return (batch, *sizes[self.resample], self.filters)

    def call(self, x):
        """Maps x [B, H, W, C]."""

        def move(y: tf.Tensor) -> tf.Tensor:
            return tf.nn.depth_to_space(y, 2) if self.resample == "up" else y

        y = self.second(tf.nn.elu(move(self.first(tf.nn.elu(x)))))
        return y + (move(self.shortcut(x)) if self.project else x)

    def get_config(self) -> dict:
        """Keras' config."""
        return {**super().get_config(), "filters": self.filters, "resample": self.resample}


@keras.saving.register_keras_serializable(PACKAGE)
class Encoder(keras.layers.Layer):
    """A feature map -> features at a 2**len(filters) times lower resolution.

    Args:
      filters: channels after each halving, first to last.
    """

    def __init__(self, filters: list[int], **kwargs):
        super().__init__(**kwargs)
        self.filters = list(filters)
        self.stem = WeightNormConv2D(filters[0], (3, 3), name="stem", dtype=self.dtype_policy)
        self.blocks = [
            ResidualBlock(f, "down", name=f"block_{index}", dtype=self.dtype_policy) for index, f in enumerate(filters)
        ]

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

    def call(self, x):
        """Maps x [B, H, W, C] to [B, H', W', F]."""
        for layer in (self.stem, *self.blocks):
            x = layer(x)
        return tf.nn.elu(x)

    def get_config(self) -> dict:
        """Keras' config."""
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(PACKAGE)
class FeatureDecoder(keras.layers.Layer):
    """A vector of latents -> a feature map of the image's size: the encoder run backwards.

    Args:
      size: (H, W) of the map.
      filters: channels of the encoder, first to last; the map has `filters[0]`.
    """

    def __init__(self, size: tuple[int, int], filters: list[int], **kwargs):
        super().__init__(**kwargs)
        self.size, self.filters = tuple(size), list(filters)
        self.sizes = [self.size]
        for _ in filters:
            self.sizes.append(tuple(-(-length // 2) for length in self.sizes[-1]))
        height, width = self.sizes[-1]
        self.first = WeightNormDense(height * width * self.filters[-1], name="first", dtype=self.dtype_policy)
        self.blocks = [
            ResidualBlock(f, "up", name=f"block_{index}", dtype=self.dtype_policy)
            for index, f in enumerate(reversed(self.filters))
        ]

    def build(self, latents_shape) -> None:
        """Builds the blocks."""
        self.first.build(latents_shape)
        channels = self.filters[-1]
        for size, block in zip(reversed(self.sizes[1:]), self.blocks, strict=True):
            block.build((latents_shape[0], *size, channels))
            channels = block.filters

    def compute_output_shape(self, latents_shape) -> tuple:
        """[B, D] -> [B, H, W, F]."""
        return (latents_shape[0], *self.size, self.filters[0])

    def call(self, latents):
        """Maps latents [B, D] to [B, H, W, F]."""
        x = tf.reshape(self.first(latents), (-1, *self.sizes[-1], self.filters[-1]))
        for (height, width), block in zip(reversed(self.sizes[:-1]), self.blocks, strict=True):
            # Where the encoder rounded an odd side up, the row too many is cropped.
            x = block(x)[:, :height, :width]
        return tf.nn.elu(x)

    def get_config(self) -> dict:
        """Keras' config."""
        return {**super().get_config(), "size": self.size, "filters": self.filters}
