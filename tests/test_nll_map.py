"""Likelihood maps: they sum to the bound's parts, and each location says what it should."""

import numpy as np
import pytest
import tensorflow as tf
from family import labels_for, make_model

from pixelvae_tf import bounds
from pixelvae_tf.bounds import terms

# A vector; orders; a grid under N(0, I); grids whose priors are autoregressive; classes and channels; no latents.
NAMES = [
    "gated_pixel_vae",
    "gated_pixel_vae_orders",
    "latents_on_a_grid",
    "hierarchy_three_levels",
    "pixel_vae_classes",
    "gated_pixel_cnn",
]


def _images(model, number=3):
    config = model.config
    images = np.random.default_rng(0).integers(0, config.num_values, (number, *config.image_shape))
    return tf.constant(images, tf.uint8), tf.range(number, dtype=tf.int64)


@pytest.mark.parametrize("name", NAMES)
def test_maps_sum_to_the_parts_of_the_bound(name):
    model = make_model(name)
    images, seeds = _images(model)
    maps = model.nll_map(images, seeds, labels_for(model, 3))
    parts = bounds.elbo(model, images, seeds, labels=labels_for(model, 3))
    grids = [tuple(level.grid) for level in model.config.levels]
    assert maps.pixel_nats.shape == images.shape[:3] and maps.pixel_nats.dtype == tf.float32
    assert [tuple(nats.shape) for nats in maps.latent_nats] == [(3, *grid) for grid in grids]
    # Sums of at most some hundred float32 numbers.
    np.testing.assert_allclose(tf.reduce_sum(maps.pixel_nats, axis=(1, 2)), parts.reconstruction_nats, rtol=1e-5)
    np.testing.assert_allclose(maps.kl_nats, parts.kl_nats, rtol=1e-5)
    assert (maps.pixel_nats > 0).numpy().all() and np.ptp(maps.pixel_nats) > 0.1


def test_a_location_depends_on_those_before_it_alone():
    model = make_model("gated_pixel_cnn", "float64")
    images, seeds = _images(model, 1)
    changed = images.numpy()
    changed[0, 2, 3] = 1 - changed[0, 2, 3]
    before, after = (model.nll_map(x, seeds).pixel_nats.numpy().ravel() for x in (images, tf.constant(changed)))
    place = 2 * images.shape[2] + 3
    np.testing.assert_array_equal(before[:place], after[:place])
    # A binary value and its opposite: their probabilities sum to one.
    assert np.exp(-before[place]) + np.exp(-after[place]) == pytest.approx(1.0, abs=1e-6)
    assert (before[place + 1 :] != after[place + 1 :]).any()


def test_draws_are_averaged():
    model = make_model("hierarchy_gaussian_prior")
    images, seeds = _images(model)
    posteriors = model.posterior(images)
    draws = [model.sample_posterior(posteriors, seeds, k) for k in range(3)]
    each = [
        bounds.NllMap(-model.likelihood(z).log_prob_map(images), terms.kl_maps(model, posteriors, z, z)) for z in draws
    ]
    mean = tf.nest.map_structure(lambda *nats: sum(nats) / 3, *each)
    assert np.abs(each[0].pixel_nats - each[1].pixel_nats).max() > 1e-3
    # As a graph for any number of images, which is how it is exported.
    spec = tf.TensorSpec((None, *images.shape[1:]), tf.uint8)
    function = tf.function(
        lambda images, seeds: model.nll_map(images, seeds, num_draws=3),
        input_signature=[spec, tf.TensorSpec((None,), tf.int64)],
    )
    for found in (model.nll_map(images, seeds, num_draws=3), function(images, seeds)):
        np.testing.assert_allclose(found.pixel_nats, mean.pixel_nats, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.kl_nats, mean.kl_nats, rtol=1e-4)


def test_latents_on_a_grid_have_their_kl_by_location():
    model = make_model("latents_on_a_grid")
    images, seeds = _images(model)
    (posterior,) = model.posterior(images)
    mean, sigma = posterior.mean().numpy(), posterior.stddev().numpy()
    expected = 0.5 * (mean**2 + sigma**2 - 1) - np.log(sigma)
    np.testing.assert_allclose(model.nll_map(images, seeds).latent_nats[0], expected.sum(axis=-1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_draws", [0, 2**20 + 1])
def test_the_number_of_draws_must_be_possible(num_draws):
    model = make_model("gated_pixel_cnn")
    with pytest.raises(ValueError, match=rf"num_draws must be in 1\.\.\d+\. Received: num_draws={num_draws}"):
        model.nll_map(*_images(model), num_draws=num_draws)
