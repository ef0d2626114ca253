"""Keras layers. The causal ones obey the contract of `causal.CausalLayer`."""

from pixelvae_tf import keras_backend

keras_backend.check()

from pixelvae_tf.layers.causal import Activation, CausalLayer, Chain, PointwiseLayer, Residual, Stepper
from pixelvae_tf.layers.convolutions import HorizontalConv2D, MaskedConv2D, VerticalConv2D
from pixelvae_tf.layers.dropout import dropout_seed
from pixelvae_tf.layers.encoders import Encoder, FeatureDecoder, ResidualBlock
from pixelvae_tf.layers.gated import Gate, GatedBlock, GatedPointwise, SplitStreams
from pixelvae_tf.layers.initializers import seeded_weights
from pixelvae_tf.layers.inputs import EmbedPixels, FromContext, ScalePixels
from pixelvae_tf.layers.masks import raster_mask
from pixelvae_tf.layers.pixel_cnn_pp import PixelCNNPP
from pixelvae_tf.layers.recurrent import DiagonalBiLSTM, RowLSTM
from pixelvae_tf.layers.rematerialization import rematerialization
from pixelvae_tf.layers.residual_streams import DownRightConv2D
from pixelvae_tf.layers.weight_norm import WeightNormConv2D, WeightNormDense, data_dependent_initialization

__all__ = [
    "Activation",
    "CausalLayer",
    "Chain",
    "DiagonalBiLSTM",
    "DownRightConv2D",
    "EmbedPixels",
    "Encoder",
    "FeatureDecoder",
    "FromContext",
    "Gate",
    "GatedBlock",
    "GatedPointwise",
    "HorizontalConv2D",
    "MaskedConv2D",
    "PixelCNNPP",
    "PointwiseLayer",
    "Residual",
    "ResidualBlock",
    "RowLSTM",
    "ScalePixels",
    "SplitStreams",
    "Stepper",
    "VerticalConv2D",
    "WeightNormConv2D",
    "WeightNormDense",
    "data_dependent_initialization",
    "dropout_seed",
    "raster_mask",
    "rematerialization",
    "seeded_weights",
]
