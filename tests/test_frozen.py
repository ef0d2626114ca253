"""What is frozen stays so: in layers, in a Keras model that holds them, and in files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from family import make_model

from pixelvae_tf import layers
from pixelvae_tf.models.encoder_model import EncoderModel


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: layers.WeightNormDense(3, **options),
        lambda **options: layers.MaskedConv2D(3, 3, "A", **options),
        lambda **options: layers.ResidualBlock(3, "down", **options),
        lambda **options: layers.Chain([layers.ScalePixels(4), layers.MaskedConv2D(3, 3, "A")], **options),
    ],
)
def test_a_layer_that_is_made_frozen_has_frozen_parts(make):
    """What holds it asks the weights themselves."""
    layer = make(trainable=False)
    holder = keras.Sequential([keras.Input((4,) if isinstance(layer, layers.WeightNormDense) else (4, 4, 1)), layer])
    assert holder.weights and not holder.trainable_weights
    layer.trainable = True
    assert len(holder.trainable_weights) == len(holder.weights)


def test_a_classifier_on_a_frozen_encoder_keeps_it_frozen_in_its_file(tmp_path):
    """Its batch normalisation too, whose averages move where it trains."""
    model = make_model("hierarchy")
    encoder = model.encoder_model()
    encoder.trainable = False
    images = keras.Input(model.config.image_shape, dtype="uint8")
    classifier = keras.Model(images, keras.layers.Dense(3)(encoder(images)["z2_mean"]))
    classifier.save(tmp_path / "classifier.keras")
    again = keras.models.load_model(tmp_path / "classifier.keras")
    assert [v.shape for v in again.trainable_variables] == [v.shape for v in classifier.trainable_variables]
    assert len(again.trainable_variables) == 2


def test_an_encoder_that_is_made_frozen_freezes_the_models():
    model = make_model("vae")
    EncoderModel(model, trainable=False)
    assert not model.levels[0].encoder.trainable_variables and model.network.trainable_variables


def test_a_model_that_is_frozen_in_part_goes_on_where_it_was_saved(tmp_path):
    model = make_model("hierarchy")
    model.levels[0].encoder.trainable = False
    model.compile("adam")
    images = np.random.default_rng(0).integers(0, model.config.num_values, (8, *model.config.image_shape), np.uint8)
    model.fit(images, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert [v.trainable for v in again.variables] == [v.trainable for v in model.variables]
    assert int(again.optimizer.iterations) == 2
    for a, b in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    again.trainable = True
    assert tf.reduce_all([v.trainable for v in again.levels[0].encoder.trainable_variables])
