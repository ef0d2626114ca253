"""Models: chains of conditional distributions, described by `config.ModelConfig`."""

from pixelvae_tf.models.config import LevelConfig, ModelConfig, PixelsConfig
from pixelvae_tf.models.pixel_vae import PixelVAE

__all__ = ["LevelConfig", "ModelConfig", "PixelVAE", "PixelsConfig"]
