"""The causal networks of the family, as chains of layers, from values on a raster to the parameters of sites.

The values are pixels' or, in a hierarchy, those of a level's latents (PixelVAE, section 3.1). A network is a file with
its config, which makes its layers and registers itself; docs/extending.md shows one.
"""

from pixelvae_tf.models.networks.base import NETWORKS, NetworkConfig, Place, Raster, register
from pixelvae_tf.models.networks.gated_pixel_cnn import GatedPixelCNNConfig
from pixelvae_tf.models.networks.independent import IndependentConfig
from pixelvae_tf.models.networks.masked_residual import MaskedResidualConfig
from pixelvae_tf.models.networks.pixel_cnn import PixelCNNConfig
from pixelvae_tf.models.networks.pixel_cnn_pp import PixelCNNPPConfig
from pixelvae_tf.models.networks.pixel_rnn import DiagonalBiLSTMConfig, RowLSTMConfig

__all__ = [
    "NETWORKS",
    "DiagonalBiLSTMConfig",
    "GatedPixelCNNConfig",
    "IndependentConfig",
    "MaskedResidualConfig",
    "NetworkConfig",
    "PixelCNNConfig",
    "PixelCNNPPConfig",
    "Place",
    "Raster",
    "RowLSTMConfig",
    "register",
]
