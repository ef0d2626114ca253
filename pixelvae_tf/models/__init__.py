"""The models: one class, whose levels are a list, over the networks of the family."""

from pixelvae_tf import keras_backend

keras_backend.check()

from pixelvae_tf.models.config import LevelConfig, ModelConfig
from pixelvae_tf.models.pixel_vae import PixelVAE

__all__ = ["LevelConfig", "ModelConfig", "PixelVAE"]
