"""The causal networks of the family, as chains of layers, from pixel values to the parameters of sites.

Legend: B batch, H height, W width, C channels.
"""

import functools
from collections.abc import Callable

from pixelvae_tf import layers
from pixelvae_tf.layers.gated import GAIN_AFTER_GATE
from pixelvae_tf.models.config import (
    DiagonalBiLSTMConfig,
    GatedPixelCNNConfig,
    IndependentConfig,
    ModelConfig,
    PixelCNNConfig,
    PixelCNNPPConfig,
    RowLSTMConfig,
)

# A ReLU halves the second moment of a standard normal variable.
GAIN_AFTER_RELU = 2.0**0.5
# Norm of the last kernel of PixelCNN++ at the start: its mixtures start at the data's quantiles.
GAIN_OF_PARAMS = 0.1


def make(config: ModelConfig, units: int) -> layers.Chain:
    """The network over the pixels that a config asks for.

    Args:
      config: the model's.
      units: how many parameters a location has.

    Returns:
      A causal layer from values [B, H, W, C] to [B, H, W, units].
    """
    return layers.Chain(_NETWORKS[type(config.pixels)](config, units), name="pixels")


def _input(config: ModelConfig) -> layers.PointwiseLayer:
    if config.pixels.embedding_dim:
        return layers.EmbedPixels(config.num_values, config.pixels.embedding_dim, name="input")
    return layers.ScalePixels(config.num_values, name="input")


def _params(config: ModelConfig, units: int, gain: float = 1.0) -> layers.HorizontalConv2D:
    return layers.HorizontalConv2D(units, 1, groups=config.channel_groups, gain=gain, name="params")


def _gated_pixel_cnn(config: ModelConfig, units: int) -> list[layers.CausalLayer]:
    """Gated PixelCNN (2016b) as PixelVAE uses it (section 4.1)."""
    pixels, groups = config.pixels, config.channel_groups

    def block(kernel_size: int, mask_type: str, index: int) -> layers.GatedBlock:
        return layers.GatedBlock(
            pixels.filters,
            kernel_size,
            mask_type,
            groups=groups,
            dropout=pixels.dropout,
            keep_vertical=index < pixels.num_layers,
            name=f"block_{index}",
        )

    return [
        _input(config),
        layers.SplitStreams(),
        block(pixels.first_kernel_size, "A", 0),
        *(block(pixels.kernel_size, "B", index + 1) for index in range(pixels.num_layers)),
        *(
            layers.GatedPointwise(
                pixels.filters, groups, gain=GAIN_AFTER_GATE if index else 1.0, name=f"output_{index}"
            )
            for index in range(pixels.num_output_layers)
        ),
        _params(config, units),
    ]


def _raster(
    config: ModelConfig, units: int, block: Callable[[str], list[layers.CausalLayer]]
) -> list[layers.CausalLayer]:
    """The frame of PixelCNN and PixelRNN (2016a, table 1): type A, residual blocks, ReLU and 1x1 twice, 1x1.

    Args:
      config: the model's.
      units: how many parameters a location has.
      block: the layers of a residual block, from 2 h channels to 2 h, given the prefix of their names.
    """
    pixels, groups = config.pixels, config.channel_groups
    found = [
        _input(config),
        layers.MaskedConv2D(2 * pixels.filters, pixels.first_kernel_size, "A", groups, name="first"),
        *(layers.Residual(block(f"block_{index}"), name=f"block_{index}") for index in range(pixels.num_layers)),
    ]
    for index in range(pixels.num_output_layers):
        found += [
            layers.Activation("relu"),
            layers.HorizontalConv2D(
                pixels.output_filters, 1, groups=groups, gain=GAIN_AFTER_RELU, name=f"output_{index}"
            ),
        ]
    if pixels.num_output_layers:
        found.append(layers.Activation("relu"))
    return [*found, _params(config, units)]


def _pixel_cnn(config: ModelConfig, units: int) -> list[layers.CausalLayer]:
    """PixelCNN (2016a, figure 5): residual blocks of ReLU, 1x1 to h, ReLU, k x k, ReLU, 1x1 to 2 h."""
    pixels, groups = config.pixels, config.channel_groups

    def block(name: str) -> list[layers.CausalLayer]:
        relu, pointwise = layers.Activation, layers.HorizontalConv2D
        options = {"groups": groups, "gain": GAIN_AFTER_RELU}
        return [
            relu(),
            pointwise(pixels.filters, 1, name=f"{name}_in", **options),
            relu(),
            layers.MaskedConv2D(pixels.filters, pixels.kernel_size, "B", name=f"{name}_masked", **options),
            relu(),
            pointwise(2 * pixels.filters, 1, name=f"{name}_out", **options),
        ]

    return _raster(config, units, block)


def _pixel_rnn(config: ModelConfig, units: int, lstm: Callable[..., layers.CausalLayer]) -> list[layers.CausalLayer]:
    """PixelRNN (2016a, figure 5): residual blocks of an LSTM of h units, 1x1 to 2 h."""
    pixels, groups = config.pixels, config.channel_groups

    def block(name: str) -> list[layers.CausalLayer]:
        return [
            lstm(pixels.filters, groups=groups, name=f"{name}_lstm"),
            layers.HorizontalConv2D(2 * pixels.filters, 1, groups=groups, name=f"{name}_out"),
        ]

    return _raster(config, units, block)


def _row_lstm(config: ModelConfig, units: int) -> list[layers.CausalLayer]:
    return _pixel_rnn(config, units, functools.partial(layers.RowLSTM, kernel_size=config.pixels.kernel_size))


def _diagonal_bilstm(config: ModelConfig, units: int) -> list[layers.CausalLayer]:
    return _pixel_rnn(config, units, layers.DiagonalBiLSTM)


def _pixel_cnn_pp(config: ModelConfig, units: int) -> list[layers.CausalLayer]:
    """PixelCNN++ (2017)."""
    pixels = config.pixels
    return [
        layers.ScalePixels(config.num_values, name="input"),
        layers.PixelCNNPP(pixels.filters, pixels.num_blocks, pixels.num_scales, pixels.dropout, name="streams"),
        _params(config, units, GAIN_OF_PARAMS),
    ]


def _independent(config: ModelConfig, units: int) -> list[layers.CausalLayer]:
    """The pixels of a VAE: the latents' feature map, 1x1."""
    return [layers.FromContext(name="input"), _params(config, units)]


_NETWORKS = {
    DiagonalBiLSTMConfig: _diagonal_bilstm,
    GatedPixelCNNConfig: _gated_pixel_cnn,
    IndependentConfig: _independent,
    PixelCNNConfig: _pixel_cnn,
    PixelCNNPPConfig: _pixel_cnn_pp,
    RowLSTMConfig: _row_lstm,
}
