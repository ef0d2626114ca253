"""The model: its parts, its weights, its config; pixels and pictures."""

import json
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import pixelvae_tf
from pixelvae_tf import bounds, pictures, pixels
from pixelvae_tf.config import Config, LevelConfig, ModelConfig, PixelsConfig, TrainConfig

SMALL = PixelsConfig(num_layers=1, filters=6, kernel_size=3, first_kernel_size=3, embedding_dim=2)
CONFIG = ModelConfig((7, 6, 3), 8, [LevelConfig(4, (6, 8), upsampling=True)], SMALL)


def _images(number=3):
    return tf.constant(np.random.default_rng(0).integers(0, 8, (number, 7, 6, 3)), tf.uint8)


def test_posterior_and_prior_are_distributions_of_a_level():
    model = pixelvae_tf.build(Config(model=CONFIG))
    (posterior,) = model.posterior(_images())
    assert posterior.batch_shape == (3,) and posterior.event_shape == model.prior(0).event_shape == (4,)
    assert model.likelihood([posterior.mean()]).batch_shape == (3,)


def test_every_weight_gets_a_gradient():
    for config in (
        CONFIG,
        ModelConfig((7, 6, 3), 8, [LevelConfig(4, (6,))], SMALL),
        ModelConfig((7, 6, 3), 8, [], SMALL),
    ):
        model = pixelvae_tf.build(Config(model=config))
        with tf.GradientTape() as tape:
            loss = -tf.reduce_sum(bounds.elbo(model, _images(), tf.range(3, dtype=tf.int64)).elbo_nats)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            assert gradient is not None and np.isfinite(gradient).all(), variable.path
            assert np.any(gradient), variable.path


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_config_round_trip(dtype):
    model = pixelvae_tf.build(Config(model=CONFIG, train=TrainConfig(dtype=dtype)))
    twin = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(model))))
    assert twin.config == model.config
    assert twin.dtype_policy == model.dtype_policy == twin.network.layers[2].vertical.dtype_policy
    if not twin.built:
        twin.build()
    twin.set_weights(model.get_weights())
    seeds = tf.range(3, dtype=tf.int64)
    np.testing.assert_array_equal(twin.sample(seeds), model.sample(seeds))


def test_same_seed_same_weights_other_seed_others():
    first, again, other = (
        pixelvae_tf.build(Config(model=CONFIG, train=TrainConfig(seed=seed))).get_weights() for seed in (1, 1, 2)
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    before = random.getstate()
    pixelvae_tf.build(Config(model=CONFIG))
    assert random.getstate() == before, "building must not seed the user's generators"


def test_start_from_gives_the_pixels_their_marginal():
    model = pixelvae_tf.build(Config(model=ModelConfig((5, 5, 3), 4, [], SMALL)))
    images = np.random.default_rng(0).choice(4, (200, 5, 5, 3), p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    images[..., 1] = 3 - images[..., 1]
    params = model.network.layers[-1]
    params.g.assign(0.0 * params.g)  # what the network adds at its start
    model.start_from(images)
    site = model.likelihood([]).site.distribution(model.site.split(model.network(images[:20]), 3))
    probabilities = tf.reduce_mean(site.prob(tf.reshape(tf.range(4), (4, 1, 1, 1, 1))), axis=(1, 2, 3)).numpy()
    # Frequencies in 5,000 draws have a standard deviation of 0.006; five of them.
    np.testing.assert_allclose(
        probabilities.T, [[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7], [0.7, 0.1, 0.1, 0.1]], atol=0.03
    )


def test_fig_6_one_level_of_noise_can_be_held():
    """The same latents with other pixel noise, and the same pixel noise with other latents."""
    model = pixelvae_tf.build(Config(model=CONFIG))
    params = model.network.layers[-1]
    params.g.assign(2.0 * params.g)
    one, two = tf.constant([1], tf.int64), tf.constant([2], tf.int64)
    latents = model.sample_prior(one)
    np.testing.assert_array_equal(model.decode(latents, one), model.sample(one))
    assert (model.decode(latents, two).numpy() != model.sample(one).numpy()).any()
    assert (model.decode(model.sample_prior(two), one).numpy() != model.sample(one).numpy()).any()


def test_pixels():
    np.testing.assert_allclose(pixels.to_unit_interval(tf.range(5), 5), [-1, -0.5, 0, 0.5, 1])
    assert len(np.unique(pixels.to_unit_interval(tf.range(256), 256, "bfloat16"))) == 256
    np.testing.assert_array_equal(pixels.to_uint8_picture(np.array([0, 1]), 2), [0, 255])
    np.testing.assert_array_equal(pixels.to_uint8_picture(np.arange(256), 256), np.arange(256))
    assert pixels.bits_per_dim(np.log(256) * 12, (2, 2, 3)) == pytest.approx(8.0)


def test_pictures(tmp_path):
    images = np.stack([np.full((2, 3, 1), value) for value in (0, 1, 0)])
    grid = pictures.tile(images, 2, columns=2, scale=2)
    assert grid.shape == (12, 16, 1)
    assert (grid[0, 0, 0], grid[0, 8, 0], grid[0, 6, 0], grid[-1, -1, 0]) == (0, 255, 128, 128)
    pairs = pictures.beside(images[:2], images[1:])
    np.testing.assert_array_equal(pairs[:, 0, 0, 0], [0, 1, 1, 0])
    for channels in (1, 3):
        pictures.write_png(tmp_path / "grid.png", grid.repeat(channels, axis=-1))
        assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
