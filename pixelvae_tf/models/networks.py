"""The causal networks of the family, as chains of layers, from values on a raster to the parameters of sites.

The values are pixels' or, in a hierarchy, those of a level's latents (PixelVAE, section 3.1).

Legend: B batch, H height, W width, C channels.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from pixelvae_tf import layers
from pixelvae_tf.layers.gated import GAIN_AFTER_GATE
from pixelvae_tf.models.config import (
    DiagonalBiLSTMConfig,
    GatedPixelCNNConfig,
    IndependentConfig,
    MaskedResidualConfig,
    NetworkConfig,
    PixelCNNConfig,
    PixelCNNPPConfig,
    RowLSTMConfig,
)

# A ReLU halves the second moment of a standard normal variable.
GAIN_AFTER_RELU = 2.0**0.5
# Norm of the last kernel at the start, of networks whose last features are large. All sites start near the marginal
# distribution of the data (mixtures at their quantiles), latents at a standard deviation of about 1/2. A masked
# residual network learns faster from a larger norm: Adam moves a norm by one learning rate per step.
GAIN_OF_MIXTURES, GAIN_OF_PARAMS = 0.1, 0.5


class Raster(NamedTuple):
    """What a network works on.

    Attributes:
      num_values: how many values a channel can take; 0 for real numbers.
      groups: number of channel groups.
      units: how many parameters a location has.
    """

    num_values: int
    groups: int
    units: int


def make(network: NetworkConfig, raster: Raster, name: str) -> layers.Chain:
    """The network that a config asks for.

    Args:
      network: which.
      raster: what it works on.
      name: of the layer.

    Returns:
      A causal layer from values [B, H, W, C] to [B, H, W, units].
    """
    return layers.Chain(_NETWORKS[type(network)](network, raster), name=name)


def _input(network: NetworkConfig, raster: Raster) -> layers.PointwiseLayer:
    if not raster.num_values:
        return layers.Activation("linear", name="input")
    if getattr(network, "embedding_dim", 0):
        return layers.EmbedPixels(raster.num_values, network.embedding_dim, name="input")
    return layers.ScalePixels(raster.num_values, name="input")


def _params(raster: Raster, gain: float = 1.0) -> layers.HorizontalConv2D:
    return layers.HorizontalConv2D(raster.units, 1, groups=raster.groups, gain=gain, name="params")


def _gated_pixel_cnn(network: NetworkConfig, raster: Raster) -> list[layers.CausalLayer]:
    """Gated PixelCNN (2016b) as PixelVAE uses it (section 4.1)."""
    groups = raster.groups

    def block(kernel_size: int, mask_type: str, index: int) -> layers.GatedBlock:
        return layers.GatedBlock(
            network.filters,
            kernel_size,
            mask_type,
            groups=groups,
            dropout=network.dropout,
            keep_vertical=index < network.num_layers,
            name=f"block_{index}",
        )

    return [
        _input(network, raster),
        layers.SplitStreams(),
        block(network.first_kernel_size, "A", 0),
        *(block(network.kernel_size, "B", index + 1) for index in range(network.num_layers)),
        *(
            layers.GatedPointwise(
                network.filters, groups, gain=GAIN_AFTER_GATE if index else 1.0, name=f"output_{index}"
            )
            for index in range(network.num_output_layers)
        ),
        _params(raster),
    ]


def _raster(
    network: NetworkConfig, raster: Raster, block: Callable[[str], list[layers.CausalLayer]]
) -> list[layers.CausalLayer]:
    """The frame of PixelCNN and PixelRNN (2016a, table 1): type A, residual blocks, ReLU and 1x1 twice, 1x1.

    Args:
      network, raster: as for `make`.
      block: the layers of a residual block, from 2 h channels to 2 h, given the prefix of their names.
    """
    groups = raster.groups
    found = [
        _input(network, raster),
        layers.MaskedConv2D(2 * network.filters, network.first_kernel_size, "A", groups, name="first"),
        *(layers.Residual(block(f"block_{index}"), name=f"block_{index}") for index in range(network.num_layers)),
    ]
    for index in range(network.num_output_layers):
        found += [
            layers.Activation("relu"),
            layers.HorizontalConv2D(
                network.output_filters, 1, groups=groups, gain=GAIN_AFTER_RELU, name=f"output_{index}"
            ),
        ]
    if network.num_output_layers:
        found.append(layers.Activation("relu"))
    return [*found, _params(raster)]


def _pixel_cnn(network: NetworkConfig, raster: Raster) -> list[layers.CausalLayer]:
    """PixelCNN (2016a, figure 5): residual blocks of ReLU, 1x1 to h, ReLU, k x k, ReLU, 1x1 to 2 h."""
    groups = raster.groups

    def block(name: str) -> list[layers.CausalLayer]:
        relu, pointwise = layers.Activation, layers.HorizontalConv2D
        options = {"groups": groups, "gain": GAIN_AFTER_RELU}
        return [
            relu(),
            pointwise(network.filters, 1, name=f"{name}_in", **options),
            relu(),
            layers.MaskedConv2D(network.filters, network.kernel_size, "B", name=f"{name}_masked", **options),
            relu(),
            pointwise(2 * network.filters, 1, name=f"{name}_out", **options),
        ]

    return _raster(network, raster, block)


def _pixel_rnn(
    network: NetworkConfig, raster: Raster, lstm: Callable[..., layers.CausalLayer]
) -> list[layers.CausalLayer]:
    """PixelRNN (2016a, figure 5): residual blocks of an LSTM of h units, 1x1 to 2 h."""
    groups = raster.groups

    def block(name: str) -> list[layers.CausalLayer]:
        return [
            lstm(network.filters, groups=groups, name=f"{name}_lstm"),
            layers.HorizontalConv2D(2 * network.filters, 1, groups=groups, name=f"{name}_out"),
        ]

    return _raster(network, raster, block)


def _row_lstm(network: NetworkConfig, raster: Raster) -> list[layers.CausalLayer]:
    return _pixel_rnn(network, raster, functools.partial(layers.RowLSTM, kernel_size=network.kernel_size))


def _diagonal_bilstm(network: NetworkConfig, raster: Raster) -> list[layers.CausalLayer]:
    return _pixel_rnn(network, raster, layers.DiagonalBiLSTM)


def _pixel_cnn_pp(network: NetworkConfig, raster: Raster) -> list[layers.CausalLayer]:
    """PixelCNN++ (2017)."""
    return [
        _input(network, raster),
        layers.PixelCNNPP(network.filters, network.num_blocks, network.num_scales, network.dropout, name="streams"),
        _params(raster, GAIN_OF_MIXTURES),
    ]


def _masked_residual(network: NetworkConfig, raster: Raster) -> list[layers.CausalLayer]:
    """The masked decoders of the hierarchical PixelVAE: type A, residual blocks of ELU, gated convolution, convolution.

    Departure: the program concatenates the level above's feature map, halved, with what the first layer makes; here
    it enters every masked convolution as an addend, as a context does everywhere (`layers.context`).
    """
    groups, filters, kernel_size = raster.groups, network.filters, network.kernel_size
    blocks = [
        layers.Residual(
            [
                layers.Activation("elu"),
                layers.MaskedConv2D(2 * filters, kernel_size, "B", groups, name=f"block_{index}_gated"),
                layers.Gate(),
                layers.MaskedConv2D(filters, kernel_size, "B", groups, gain=GAIN_AFTER_GATE, name=f"block_{index}_out"),
            ],
            name=f"block_{index}",
        )
        for index in range(network.num_layers)
    ]
    outputs = [
        layer
        for index in range(network.num_output_layers)
        for layer in (
            layers.Activation("elu"),
            layers.HorizontalConv2D(filters, 1, groups=groups, name=f"output_{index}"),
        )
    ]
    first = layers.MaskedConv2D(filters, network.first_kernel_size, "A", groups, name="first")
    params = _params(raster, GAIN_OF_PARAMS)
    return [_input(network, raster), first, *blocks, *outputs, layers.Activation("elu"), params]


def _independent(network: NetworkConfig, raster: Raster) -> list[layers.CausalLayer]:
    """The pixels of a VAE, or latents that are independent given the level above: its feature map, 1x1."""
    return [layers.FromContext(name="input"), _params(raster)]


_NETWORKS = {
    DiagonalBiLSTMConfig: _diagonal_bilstm,
    GatedPixelCNNConfig: _gated_pixel_cnn,
    IndependentConfig: _independent,
    MaskedResidualConfig: _masked_residual,
    PixelCNNConfig: _pixel_cnn,
    PixelCNNPPConfig: _pixel_cnn_pp,
    RowLSTMConfig: _row_lstm,
}
