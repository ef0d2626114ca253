"""Sampling: the cache agrees with the oracle, pixel for pixel."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import pixelvae_tf
from pixelvae_tf import noise, sampling
from pixelvae_tf.config import Config, LevelConfig, ModelConfig, PixelsConfig, TrainConfig
from pixelvae_tf.distributions import CategoricalSite, GaussianSite
from pixelvae_tf.layers import CausalLayer, Chain, MaskedConv2D

SMALL = PixelsConfig(num_layers=2, filters=6, kernel_size=3, first_kernel_size=5)
MODELS = {
    "binary": ModelConfig((6, 5, 1), 2, [], SMALL),
    "latents": ModelConfig((5, 6, 1), 2, [LevelConfig(3, (4,))], SMALL),
    "upsampling": ModelConfig((7, 7, 1), 4, [LevelConfig(3, (4, 6), upsampling=True)], SMALL),
    "rgb": ModelConfig((4, 5, 3), 4, [LevelConfig(3, (4,))], SMALL),
    "embedded": ModelConfig((4, 4, 3), 256, [], dataclasses.replace(SMALL, embedding_dim=2)),
    "one_pixel": ModelConfig((1, 1, 3), 4, [], SMALL),
}


def make_model(name: str, dtype: str = "float32"):
    model = pixelvae_tf.build(Config(model=MODELS[name], train=TrainConfig(dtype=dtype)))
    # Untrained sites are near uniform; larger weights at the output make every one of them matter.
    params = model.network.layers[-1]
    params.g.assign(2.0 * params.g)
    return model


def _samples(model, method, seeds, temperature=1.0, **options):
    return tf.function(lambda: model.sample(seeds, temperature, method), **options)().numpy()


@pytest.mark.parametrize("name", MODELS)
def test_cached_equals_oracle_in_float64(name):
    model = make_model(name, "float64")
    seeds = tf.range(20, dtype=tf.int64)
    cached, oracle = _samples(model, "cached", seeds), _samples(model, "oracle", seeds)
    np.testing.assert_array_equal(cached, oracle)
    assert cached.std() > 0


def _cdf_distance(model, latents, seeds, images):
    """For every sub-pixel, how far its uniform number lies from the nearest boundary of its site's CDF."""
    grid = model.likelihood(latents)
    uniforms = grid.noise(seeds, noise.stream(noise.Kind.PIXELS))
    context = model.levels[0].condition(latents[0]) if latents else None
    site = model.site.distribution(model.site.split(model.network(images, context=context), images.shape[-1]))
    values = tf.range(model.config.num_values)[:, None, None, None, None]
    boundaries = tf.cumsum(site.prob(values), axis=0)[:-1]
    return tf.reduce_min(tf.abs(boundaries - uniforms), axis=0).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_cached_equals_oracle_in_float32_but_at_boundaries(name, record_property):
    model = make_model(name)
    seeds = tf.range(64, dtype=tf.int64)
    cached, oracle = _samples(model, "cached", seeds), _samples(model, "oracle", seeds)
    distance = _cdf_distance(model, model.sample_prior(seeds), seeds, tf.constant(oracle))
    differs = (cached != oracle).reshape(len(cached), -1)
    record_property("images_that_differ", int(differs.any(axis=1).sum()))
    for image in np.flatnonzero(differs.any(axis=1)):
        first = differs[image].argmax()
        assert distance.reshape(len(cached), -1)[image, first] < 1e-5


@pytest.mark.parametrize("name", ["latents", "rgb"])
def test_xla_and_unknown_batch_agree(name):
    model = make_model(name, "float64")
    seeds = tf.range(9, dtype=tf.int64)
    expected = _samples(model, "cached", seeds)
    np.testing.assert_array_equal(_samples(model, "cached", seeds, jit_compile=True), expected)
    dynamic = tf.function(model.sample, input_signature=[tf.TensorSpec([None], tf.int64)])
    np.testing.assert_array_equal(dynamic(seeds), expected)
    np.testing.assert_array_equal(dynamic(seeds[2:3]), expected[2:3])


def test_temperature_is_each_images_own():
    model = make_model("latents", "float64")
    seeds = tf.range(6, dtype=tf.int64)
    cold = _samples(model, "cached", seeds, 0.5)
    mixed = _samples(model, "cached", seeds, tf.constant([1.0, 0.5] * 3))
    np.testing.assert_array_equal(mixed[1::2], cold[1::2])
    np.testing.assert_array_equal(mixed[::2], _samples(model, "cached", seeds)[::2])
    np.testing.assert_array_equal(cold, _samples(model, "oracle", seeds, 0.5))


def test_memory_of_the_loop_does_not_grow_with_the_image():
    """What the loops carry is a few rows: its size grows with the width, not the height."""
    network = make_model("binary").network

    def carried(height):
        _, state = network.begin(None, 2, (height, 8))
        return sum(int(tf.size(tensor)) for tensor in tf.nest.flatten(state))

    assert carried(64) == carried(8)


class _Recall(CausalLayer):
    """A network that answers with what it was told: the value at the location before, plus one."""

    channel_groups = 1

    def call(self, x, context=None, training=False, seed=None):
        shape = tf.shape(x)
        flat = tf.reshape(x, (shape[0], -1))
        before = tf.pad(flat[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        return 1e6 * tf.one_hot(tf.reshape(before + 1, shape[:3]) % 5, 5)

    def begin(self, context, batch, size):
        return (), tf.fill((batch,), -1)

    def start_row(self, constants, state, finished, row):
        return finished, state

    def step(self, constants, state, x, row, column):
        return 1e6 * tf.one_hot((state + 1) % 5, 5), state

    def observe(self, constants, state, x, row, column):
        return x[:, 0]


@pytest.mark.parametrize("method", ["cached", "oracle"])
def test_the_loop_asks_then_tells(method):
    images = sampling.sample(_Recall(), CategoricalSite(5), None, tf.fill((2, 3, 4, 1), 0.5), method=method)
    np.testing.assert_array_equal(images[0].numpy().ravel(), np.arange(12) % 5)


def test_gaussian_grids_are_sampled_by_the_same_loop():
    network = Chain([MaskedConv2D(8, 3, "A"), MaskedConv2D(4, 3, "B")])
    network.build((None, 4, 4, 2))
    normals = noise.normal(tf.range(3, dtype=tf.int64), noise.stream(noise.Kind.PRIOR), (4, 4, 2))
    cached, oracle = (sampling.sample(network, GaussianSite(), None, normals, method=m) for m in ("cached", "oracle"))
    # 16 locations, each a sum of 36 products of order one in float32, the errors carried on.
    np.testing.assert_allclose(cached, oracle, atol=1e-4)
    assert np.std(cached) > 0.5


def test_unknown_method():
    with pytest.raises(ValueError, match='method must be "cached" or "oracle"'):
        sampling.sample(_Recall(), CategoricalSite(5), None, tf.zeros((1, 1, 1, 1)), method="magic")
