"""The encoder of a PixelVAE as a Keras model.

Legend: B batch, H height, W width, C channels.
"""

import keras
import tensorflow as tf

from pixelvae_tf.layers.configured import PACKAGE, Freezable


@keras.saving.register_keras_serializable(PACKAGE)
class EncoderModel(Freezable, keras.Model):
    """q(z | x) of a `PixelVAE` as a Keras model, to stand in another one.

        encoder = model.encoder_model()
        images = keras.Input((28, 28, 1), dtype="uint8")
        classifier = keras.Model(images, keras.layers.Dense(10)(encoder(images)["z1_mean"]))

    The weights are the PixelVAE's: training the one changes the other. `trainable = False` freezes them in both.

    Args:
      model: the PixelVAE.
    """

    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        if not model.num_levels:
            raise ValueError("the model must have latents, to encode. Received: one without")
        # The encoder's weights alone are this model's own; Keras does not look behind a method for more.
        self.parts = [part for level in model.levels for part in (level.encoder, level.posterior_head)]
        self._encode = model.encode
        self.built = True
        self.freeze_parts()

    def call(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Images, integer pixel values [B, H, W, C], to what `PixelVAE.encode` gives."""
        return self._encode(images, training)

    def get_config(self) -> dict:
        """Keras' config, with that of the whole model."""
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self._encode.__self__)}

    @classmethod
    def from_config(cls, config: dict) -> "EncoderModel":
        """Rebuilds the model, then its encoder."""
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})
