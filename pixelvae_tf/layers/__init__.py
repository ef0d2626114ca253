"""Keras layers. The causal ones obey the contract of `causal.CausalLayer`."""

from pixelvae_tf.layers.causal import CausalLayer, Chain, PointwiseLayer
from pixelvae_tf.layers.convolutions import HorizontalConv2D, MaskedConv2D, VerticalConv2D
from pixelvae_tf.layers.dropout import dropout_seed
from pixelvae_tf.layers.gated import GatedBlock, GatedPointwise, SplitStreams
from pixelvae_tf.layers.inputs import EmbedPixels, ScalePixels
from pixelvae_tf.layers.masks import raster_mask
from pixelvae_tf.layers.residual import Encoder, FeatureDecoder, ResidualBlock
from pixelvae_tf.layers.weight_norm import WeightNormConv2D, WeightNormDense

__all__ = [
    "CausalLayer",
    "Chain",
    "EmbedPixels",
    "Encoder",
    "FeatureDecoder",
    "GatedBlock",
    "GatedPointwise",
    "HorizontalConv2D",
    "MaskedConv2D",
    "PointwiseLayer",
    "ResidualBlock",
    "ScalePixels",
    "SplitStreams",
    "VerticalConv2D",
    "WeightNormConv2D",
    "WeightNormDense",
    "dropout_seed",
    "raster_mask",
]
