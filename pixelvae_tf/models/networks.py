"""The causal networks of the family, as chains of layers.

Legend: B batch, H height, W width, C channels, P parameters of a channel.
"""

from pixelvae_tf import layers
from pixelvae_tf.layers.gated import GAIN_AFTER_GATE
from pixelvae_tf.models.config import PixelsConfig


def gated_pixel_cnn(config: PixelsConfig, num_values: int, num_params: int, channels: int) -> layers.Chain:
    """Gated PixelCNN (2016b) as PixelVAE uses it (section 4.1): values -> site parameters.

    Args:
      config: sizes.
      num_values: how many values a channel of the input can take.
      num_params: P.
      channels: C; R, G and B are the channel groups.

    Returns:
      A causal layer from values [B, H, W, C] to [B, H, W, P * C].
    """

    def block(kernel_size: int, mask_type: str, index: int) -> layers.GatedBlock:
        return layers.GatedBlock(
            config.filters,
            kernel_size,
            mask_type,
            groups=channels,
            dropout=config.dropout,
            keep_vertical=index < config.num_layers,
            name=f"block_{index}",
        )

    if config.embedding_dim:
        encode = layers.EmbedPixels(num_values, config.embedding_dim, name="input")
    else:
        encode = layers.ScalePixels(num_values, name="input")
    return layers.Chain(
        [
            encode,
            layers.SplitStreams(),
            block(config.first_kernel_size, "A", 0),
            *(block(config.kernel_size, "B", index + 1) for index in range(config.num_layers)),
            *(
                layers.GatedPointwise(
                    config.filters, channels, gain=GAIN_AFTER_GATE if index else 1.0, name=f"output_{index}"
                )
                for index in range(config.num_output_layers)
            ),
            layers.HorizontalConv2D(num_params * channels, 1, groups=channels, name="params"),
        ],
        name="pixels",
    )
