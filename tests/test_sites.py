"""Sites: quantised logistics and normals against float64 NumPy, the mixture over colours, starts from data."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from chi_square import RIGHT, p_value
from scipy import special, stats

from pixelvae_tf.distributions import (
    BernoulliSite,
    CategoricalSite,
    LogisticMixtureSite,
    QuantizedLogistic,
    QuantizedNormal,
    QuantizedNormalSite,
)
from pixelvae_tf.distributions.categorical import Categorical

tfd = tfp.distributions
CDFS = {QuantizedLogistic: special.expit, QuantizedNormal: special.ndtr}
BASES = {QuantizedLogistic: tfd.Logistic, QuantizedNormal: tfd.Normal}


@pytest.mark.parametrize("num_values", [2, 256])
def test_a_categorical_has_tfps_probabilities_and_derivatives(num_values):
    generator = np.random.default_rng(0)
    logits = tf.constant(generator.normal(scale=5, size=(4, 3, 2, num_values)), tf.float32)
    values = tf.constant(generator.integers(num_values, size=(4, 3, 2)), tf.int32)

    def results(kind):
        with tf.GradientTape() as outer:
            outer.watch(logits)
            with tf.GradientTape() as tape:
                tape.watch(logits)
                log_prob = kind(logits=logits).log_prob(values)
                loss = tf.reduce_sum(tf.sin(log_prob))
            gradient = tape.gradient(loss, logits)
            moment = tf.reduce_sum(gradient**2)
        return log_prob, gradient, outer.gradient(moment, logits)

    for ours, theirs in zip(results(Categorical), results(tfd.Categorical), strict=True):
        # Log-probabilities of up to 30 nats are rounded at 2e-6, and all else follows them with factors of up to 4.
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "shapes", [([4, 3], [4, 3]), ([4, 3], [3]), ([3], [4, 3]), ([1, 3], [4, 1]), ([], [5]), ([0], [0])]
)
def test_a_categorical_broadcasts_as_tfps_does(shapes, known):
    generator = np.random.default_rng(0)
    of_logits, of_values = shapes
    logits = tf.constant(generator.normal(size=(*of_logits, 7)), tf.float32)
    values = tf.constant(generator.integers(7, size=of_values), tf.int32)

    def log_prob(logits, values):
        return Categorical(logits=logits).log_prob(values)

    if not known:
        signature = [[*(None for _ in of_logits), 7], [None for _ in of_values]]
        log_prob = tf.function(
            log_prob, [tf.TensorSpec(signature[0], tf.float32), tf.TensorSpec(signature[1], tf.int32)]
        )
    # Two sums of seven float32 each.
    np.testing.assert_allclose(log_prob(logits, values), tfd.Categorical(logits=logits).log_prob(values), atol=1e-5)


def exact_probabilities(cdf, loc, scale, num_values):
    """P(v) [..., V] as differences of CDFs in float64; loc and scale in units of values."""
    edges = np.arange(num_values + 1) - 0.5
    at_edges = cdf((edges - np.asarray(loc, np.float64)[..., None]) / np.asarray(scale, np.float64)[..., None])
    at_edges[..., 0], at_edges[..., -1] = 0.0, 1.0
    return np.diff(at_edges, axis=-1)


@pytest.mark.parametrize("kind", CDFS)
@pytest.mark.parametrize("num_values", [2, 4, 256])
def test_quantized_agrees_with_float64(kind, num_values):
    generator = np.random.default_rng(0)
    loc = generator.uniform(-0.2 * num_values, 1.2 * num_values, 500)
    scale = np.exp(generator.uniform(-2, 6, 500))
    log_prob = kind(tf.constant(loc, tf.float32), tf.constant(scale, tf.float32), num_values).log_prob(
        tf.range(num_values)[:, None]
    )
    expected = exact_probabilities(CDFS[kind], loc.astype(np.float32), scale.astype(np.float32), num_values)
    # Below this, the float64 difference itself has lost its digits.
    reliable = expected > 1e-8
    assert reliable.mean() > 0.3
    # A standardised edge of size z is rounded at 6e-8 z, |z| < 7 (normal) or 20 (logistic) where it is reliable, and
    # its derivative is at most |z|; differences of CDFs of wide normals lose what the logistic's closed form keeps.
    tolerance = 1e-4 if kind is QuantizedLogistic else 2e-3
    np.testing.assert_allclose(log_prob.numpy().T[reliable], np.log(expected[reliable]), atol=tolerance)
    np.testing.assert_allclose(np.exp(log_prob.numpy().astype(np.float64)).sum(axis=0), 1.0, atol=tolerance)


@pytest.mark.parametrize("kind", CDFS)
def test_quantized_is_tfps_composition(kind):
    loc, scale = tf.constant([3.0, -5.0, 100.25, 260.0]), tf.constant([0.5, 10.0, 3.0, 20.0])
    moved = tfd.TransformedDistribution(BASES[kind](loc, scale), tfp.bijectors.Shift(-0.5))
    theirs = tfd.QuantizedDistribution(moved, low=0.0, high=255.0).log_prob(tf.range(256.0)[:, None])
    ours = kind(loc, scale, 256).log_prob(tf.range(256)[:, None])
    likely = theirs > -15.0
    np.testing.assert_allclose(ours[likely], theirs[likely], atol=1e-3)  # TFP's own cancellation


@pytest.mark.parametrize("kind", CDFS)
def test_quantized_is_finite_wherever_its_parameters_are(kind):
    extremes = itertools.product([-1e6, -500.0, -0.5, 0.0, 127.5, 255.5, 1e3, 1e6], [1e-3, 0.1, 1.0, 20.0, 1e3])
    loc, scale = tf.unstack(tf.constant(list(extremes)), axis=1)
    for value in (0, 1, 128, 254, 255):
        with tf.GradientTape() as tape:
            tape.watch([loc, scale])
            log_prob = kind(loc, scale, 256).log_prob(value)
        assert np.isfinite(log_prob).all() and (log_prob.numpy() <= 1e-6).all()
        assert all(np.isfinite(gradient).all() for gradient in tape.gradient(log_prob, [loc, scale]))


@pytest.mark.parametrize("kind", CDFS)
def test_quantized_draws_follow_their_probabilities(kind):
    uniforms = (np.arange(100_000) + 0.5) / 100_000
    noise = uniforms if kind is QuantizedLogistic else stats.norm.ppf(uniforms)
    loc, scale = np.array([2.3, -4.0, 9.0]), np.array([0.7, 5.0, 0.3])
    distribution = kind(tf.constant(loc, tf.float32), tf.constant(scale, tf.float32), 8)
    values = distribution.transform(tf.constant(noise, tf.float32)[:, None]).numpy()
    assert values.min() >= 0 and values.max() <= 7
    frequencies = np.stack([(values == value).mean(axis=0) for value in range(8)], axis=-1)
    # A grid of 100,000 midpoints measures an interval to 1e-5; float32 uniforms blur its ends a little more.
    np.testing.assert_allclose(frequencies, exact_probabilities(CDFS[kind], loc, scale, 8), atol=5e-5)


@pytest.mark.parametrize("kind", CDFS)
def test_quantized_samples_as_tfp_distributions_do(kind):
    loc, scale = np.array([2.3, -4.0]), np.array([0.7, 5.0])
    distribution = kind(tf.constant(loc, tf.float32), tf.constant(scale, tf.float32), 8)
    draws = distribution.sample((200, 250), seed=(1, 2))
    assert draws.shape == (200, 250, 2) and draws.dtype == tf.int32
    frequencies = np.stack([(draws.numpy() == value).mean(axis=(0, 1)) for value in range(8)], axis=-1)
    # 50,000 draws: a frequency has a standard deviation of at most 0.0022; five of them.
    np.testing.assert_allclose(frequencies, exact_probabilities(CDFS[kind], loc, scale, 8), atol=0.011)


def test_mixture_samples_as_tfp_distributions_do():
    site = LogisticMixtureSite(4, channels=3, num_mixtures=2)
    mixture = site.distribution(tf.random.stateless_normal((5, site.units), (1, 2)))
    draws = mixture.sample(7, seed=(3, 4))
    assert draws.shape == (7, 5, 3) and draws.dtype == tf.int32
    np.testing.assert_array_equal(draws, mixture.sample(7, seed=(3, 4)))


def _colours(num_values):
    return np.array(list(itertools.product(range(num_values), repeat=3)), np.int32)


def test_mixture_sums_to_one_over_all_colours():
    site = LogisticMixtureSite(num_values=4, channels=3, num_mixtures=5)
    params = 2.0 * tf.random.stateless_normal((7, site.units), (1, 2))
    log_prob = site.distribution(params[:, None]).log_prob(_colours(4)[None])
    assert log_prob.shape == (7, 64)
    # Float32 sums of 64 probabilities.
    np.testing.assert_allclose(np.exp(log_prob).sum(axis=1), 1.0, atol=1e-5)


def _exact_mixture(logits, loc, log_scale, coefficients, num_values, colour):
    """log p of one colour, in float64, as the paper writes it."""
    scaled = 2.0 * colour / (num_values - 1) - 1.0
    total, start = special.log_softmax(logits), 0
    for channel in range(len(colour)):
        mean = loc[:, channel] + coefficients[:, start : start + channel] @ scaled[:channel]
        start += channel
        half = (num_values - 1) / 2
        probabilities = exact_probabilities(
            special.expit, (mean + 1) * half, np.exp(log_scale[:, channel]) * half, num_values
        )
        total = total + np.log(probabilities[:, colour[channel]])
    return special.logsumexp(total)


def test_mixture_agrees_with_float64():
    generator, num_values = np.random.default_rng(0), 256
    site = LogisticMixtureSite(num_values, channels=3, num_mixtures=4)
    logits, loc = generator.normal(size=4), generator.uniform(-1, 1, (4, 3))
    log_scale, raw = generator.uniform(-3, -0.5, (4, 3)), generator.normal(size=(4, 3))
    params = np.concatenate([logits[:, None], loc, log_scale, raw], axis=1).reshape(1, -1).astype(np.float32)
    colours = generator.integers(0, num_values, (200, 3))
    expected = [_exact_mixture(logits, loc, log_scale, np.tanh(raw), num_values, colour) for colour in colours]
    np.testing.assert_allclose(site.distribution(params).log_prob(colours.astype(np.int32)), expected, atol=1e-4)


def test_mixture_is_finite_at_extreme_parameters():
    site = LogisticMixtureSite(256, channels=3, num_mixtures=2)
    generator = np.random.default_rng(0)
    params = tf.constant(generator.choice([-1e4, -100.0, -7.0, 0.0, 7.0, 100.0, 1e4], (200, site.units)), tf.float32)
    values = tf.constant(generator.choice([0, 1, 127, 254, 255], (200, 3)), tf.int32)
    with tf.GradientTape() as tape:
        tape.watch(params)
        log_prob = site.distribution(params).log_prob(values)
    assert np.isfinite(log_prob).all()
    assert np.isfinite(tape.gradient(log_prob, params)).all()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_mixture_draws_follow_their_probabilities(temperature):
    site = LogisticMixtureSite(num_values=3, channels=3, num_mixtures=2)
    params = 1.5 * tf.random.stateless_normal((1, site.units), (5, 6))
    noise = np.random.default_rng(0).uniform(size=(40_000, site.noise_size)).astype(np.float32)
    draws = site.transform(tf.tile(params, (40_000, 1)), noise, temperature).numpy()
    assert p_value(draws @ [9, 3, 1], site.distribution(params, temperature).log_prob(_colours(3))) > RIGHT


def test_temperature_of_a_mixture_divides_logits_and_multiplies_scales():
    site = LogisticMixtureSite(8, channels=2, num_mixtures=3)
    params = 0.1 * tf.random.stateless_normal((2, site.units), (1, 2))  # no scale is clipped
    parts = np.split(params.numpy().reshape(2, 3, 6), [1, 3, 5], axis=-1)
    warmer = np.concatenate([parts[0] / 2, parts[1], parts[2] + np.log(2), parts[3]], axis=-1).reshape(2, -1)
    values = tf.constant([[3, 4], [0, 7]])
    np.testing.assert_allclose(
        site.distribution(params, tf.constant([2.0, 2.0])).log_prob(values),
        site.distribution(tf.constant(warmer)).log_prob(values),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "site",
    [BernoulliSite(3), CategoricalSite(2, 3), QuantizedNormalSite(2, 3), LogisticMixtureSite(2, 3, 4)],
    ids=lambda site: type(site).__name__,
)
def test_starting_parameters_are_near_the_data(site):
    """Better than any distribution that does not know the channels' frequencies."""
    images = (np.random.default_rng(0).uniform(size=(20, 8, 8, 3)) < [0.9, 0.5, 0.05]).astype(np.uint8)
    params = site.marginal_params(images)
    assert params.shape == (site.units,) and params.dtype == np.float32
    log_prob = site.distribution(params[None, None, None]).log_prob(images.astype(np.int32))
    frequencies = images.mean(axis=(0, 1, 2))
    entropy = -np.sum(special.xlogy(frequencies, frequencies) + special.xlog1py(1 - frequencies, -frequencies))
    assert entropy <= -np.mean(log_prob) < 3 * np.log(2)


@pytest.mark.parametrize("value", [0, 200])
def test_constant_images_give_finite_starting_parameters(value):
    images = np.full((2, 4, 4, 3), value, np.uint8)
    for site in (CategoricalSite(256, 3), QuantizedNormalSite(256, 3), LogisticMixtureSite(256, 3, 10)):
        params = site.marginal_params(images)
        log_prob = site.distribution(params[None]).log_prob(tf.fill((1, 3), value))
        assert np.isfinite(params).all() and np.isfinite(log_prob).all()


def test_temperature_of_a_rounded_normal_multiplies_its_scale():
    site, params = QuantizedNormalSite(16), tf.constant([[0.2, -2.0], [0.2, -2.0]])
    plain, scaled = site.channel_distribution(params), site.channel_distribution(params, tf.constant([1.0, 0.25]))
    np.testing.assert_allclose(scaled.scale, plain.scale * [[1.0], [0.25]], rtol=1e-6)
    np.testing.assert_array_equal(scaled.loc, plain.loc)
