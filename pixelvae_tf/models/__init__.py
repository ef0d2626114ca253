"""The models: one class, whose levels are a list, over the networks of the family."""

from pixelvae_tf import keras_backend
from pixelvae_tf.models.config import LevelConfig, ModelConfig

__all__ = ["LevelConfig", "ModelConfig", "PixelVAE"]


def __getattr__(name: str):
    # Configs alone need no TensorFlow, which takes seconds to import.
    if name == "PixelVAE":
        keras_backend.check()
        from pixelvae_tf.models.pixel_vae import PixelVAE

        return PixelVAE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
