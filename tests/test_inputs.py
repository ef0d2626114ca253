"""How values and contexts enter networks at the start of training."""

import numpy as np
import pytest
import tensorflow as tf
from family import MODELS

import pixelvae_tf
from pixelvae_tf import layers
from pixelvae_tf.config import Config
from pixelvae_tf.layers.inputs import OrderedValues


@pytest.mark.parametrize(("num_values", "dim"), [(256, 1), (256, 8), (256, 16), (17, 8), (3, 4), (2, 6)])
def test_embeddings_start_ordered_and_standardised(num_values, dim):
    table = np.array(OrderedValues()((3, num_values, dim)))
    assert table.shape == (3, num_values, dim) and np.isfinite(table).all()
    x = np.linspace(-1, 1, num_values)
    # sqrt(3) x where there are many values: x on [-1, 1] has the variance 1/3.
    np.testing.assert_allclose(table[:, :, 0], np.tile(x / x.std(), (3, 1)), rtol=1e-6)
    waves = 2 * int(np.ceil(np.log2(num_values))) - (num_values == 2)  # of two values, the cosine is a constant
    ordered = table[:, :, : 1 + waves]
    np.testing.assert_array_equal(ordered[0], ordered[2])
    np.testing.assert_allclose(ordered.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(ordered.std(1), 1, rtol=1e-5)
    noise = table[:, :, 1 + waves :]
    assert not noise.size or (noise[0] != noise[2]).all()


def test_neighbouring_values_start_alike():
    layer = layers.EmbedPixels(256, 8)
    layer.build((None, 2, 2, 3))
    table = np.array(layer.table)[0]
    near = np.linalg.norm(np.diff(table, axis=0), axis=1)
    far = np.linalg.norm(table[:128] - table[128:], axis=1)
    # The fastest wave of 8 columns, sin(4 pi x), moves by up to 0.14 from value to value.
    assert near.max() < 0.2 and far.min() > 1
    assert len(np.unique(table, axis=0)) == 256


@pytest.mark.parametrize("name", ["gated_pixel_vae", "pixel_vae", "diagonal_bilstm", "pixel_vae_pp", "hierarchy"])
def test_feature_maps_start_without_effect_and_can_be_learnt(name):
    config = MODELS[name]
    model = pixelvae_tf.build(Config(model=config))
    images = tf.zeros((2, *config.image_shape), tf.int32)
    low, high = ([tf.fill((2, *level.shape), value) for level in config.levels] for value in (-1.0, 1.0))
    gains = [v for v in model.network.trainable_variables if "projection" in v.path and v.path.endswith("/g")]
    with tf.GradientTape() as tape:
        log_probs = [model.likelihood(z).log_prob(images) for z in (low, high)]
    np.testing.assert_array_equal(*log_probs)
    gradients = tape.gradient(log_probs[1], [gain.value for gain in gains])
    assert gains and all(np.abs(gradient).max() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", ["gated_pixel_vae_no_upsampling", "row_lstm"])
def test_latents_without_a_map_matter_from_the_start(name):
    config = MODELS[name]
    model = pixelvae_tf.build(Config(model=config))
    images = tf.zeros((1, *config.image_shape), tf.int32)
    low, high = (
        model.likelihood([tf.fill((1, *config.levels[0].shape), value)]).log_prob(images) for value in (-1.0, 1.0)
    )
    assert np.abs(low - high).max() > 1e-3


def test_what_starts_at_zero_survives_a_data_dependent_start():
    model = pixelvae_tf.build(Config(model=MODELS["pixel_vae_pp"]))
    images = np.random.default_rng(0).integers(0, 8, (8, *model.config.image_shape))
    model.start_from(images)
    assert all(np.isfinite(weights).all() for weights in model.get_weights())
