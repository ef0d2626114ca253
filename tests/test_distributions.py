"""Distributions: probabilities sum to one, samples follow them, shapes are TFP's."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from chi_square import RIGHT, p_value
from family import MIXTURE, SIZES, STREAMS, leave_the_start
from scipy import stats

import pixelvae_tf
from pixelvae_tf.config import (
    Config,
    DiagonalBiLSTMConfig,
    GatedPixelCNNConfig,
    IndependentConfig,
    LevelConfig,
    ModelConfig,
    PixelCNNConfig,
    RowLSTMConfig,
)
from pixelvae_tf.distributions import (
    AutoregressiveGrid,
    BernoulliSite,
    CategoricalSite,
    GaussianSite,
    LogisticMixtureSite,
    QuantizedNormalSite,
    posterior_gaussian,
    standard_gaussian,
)
from pixelvae_tf.distributions.gaussian import MIN_SCALE
from pixelvae_tf.layers import Chain, FromContext, GatedBlock, HorizontalConv2D, MaskedConv2D, ScalePixels, SplitStreams

SMALL = GatedPixelCNNConfig(num_layers=1, filters=6, kernel_size=3, first_kernel_size=3)


def _grid(config, **options):
    model = pixelvae_tf.build(Config(model=config))
    params = model.network.layers[-1]
    params.g.assign(2.0 * params.g / params.gain)  # away from uniform
    leave_the_start(model)
    latents = model.sample_prior(tf.constant([5], tf.int64)) if config.levels else []
    return model.likelihood(latents, **options)


def _all_images(shape, num_values):
    return np.array(list(itertools.product(range(num_values), repeat=int(np.prod(shape))))).reshape(-1, *shape)


MAP = LevelConfig(2, (4,), upsampling=True)
CASES = {
    "all 512 binary 3x3 images": ModelConfig((3, 3, 1), 2, [], SMALL),
    "all 512 binary 3x3 images given z": ModelConfig((3, 3, 1), 2, [LevelConfig(2, (4,))], SMALL),
    "all 512 binary 3x3 images of a PixelCNN": ModelConfig((3, 3, 1), 2, [], PixelCNNConfig(**SIZES)),
    "all 512 binary 3x3 images of a Row LSTM": ModelConfig((3, 3, 1), 2, [], RowLSTMConfig(**SIZES)),
    "all 512 binary 3x3 images of a Diagonal BiLSTM": ModelConfig((3, 3, 1), 2, [], DiagonalBiLSTMConfig(**SIZES)),
    "all 64 colours of a pixel": ModelConfig((1, 1, 3), 4, [], SMALL),
    "all 64 colours of a pixel, a mixture": ModelConfig((1, 1, 3), 4, [], SMALL, **MIXTURE),
    "all 256 2x2 images of 4 values": ModelConfig((2, 2, 1), 4, [], SMALL),
    "all 256 2x2 images of PixelCNN++": ModelConfig((2, 2, 1), 4, [], STREAMS, **MIXTURE),
    "all 64 images of two colours of PixelCNN++": ModelConfig(
        (1, 2, 3), 2, [], dataclasses.replace(STREAMS, num_scales=1), **MIXTURE
    ),
    "all 256 2x2 images of a VAE": ModelConfig((2, 2, 1), 4, [MAP], IndependentConfig(), "quantized_normal"),
}


@pytest.mark.parametrize("case", CASES)
def test_probabilities_sum_to_one_and_samples_follow_them(case):
    config = CASES[case]
    grid, num_values = _grid(config), config.num_values
    images = _all_images(config.image_shape, num_values)
    log_prob = grid.log_prob(images[:, None] if config.levels else images).numpy().ravel()
    # Float32 sums of up to 9 log-probabilities.
    assert np.exp(log_prob).sum() == pytest.approx(1.0, abs=1e-5)

    samples = grid.sample(20_000, seed=(3, 4)).numpy().reshape(20_000, -1)
    index = samples @ (num_values ** np.arange(samples.shape[1])[::-1])
    assert p_value(index, log_prob) > RIGHT


def test_the_chi_square_test_finds_a_wrong_sampler():
    """The same test on samples of another temperature must fail."""
    config = CASES["all 512 binary 3x3 images"]
    grid, wrong = _grid(config), _grid(config, temperature=0.6)
    log_prob = grid.log_prob(_all_images((3, 3, 1), 2))
    index = wrong.sample(20_000, seed=(3, 4)).numpy().reshape(20_000, -1) @ (2 ** np.arange(9)[::-1])
    assert p_value(index, log_prob) < 1e-6


@pytest.mark.parametrize(
    ("levels", "sample_shape", "batch"),
    [
        ([], (), ()),
        ([], (7,), ()),
        ([], (2, 3), ()),
        ([LevelConfig(2, (4,))], (), (4,)),
        ([LevelConfig(2, (4,), upsampling=True)], (5, 2), (4,)),
    ],
)
def test_shapes(levels, sample_shape, batch):
    model = pixelvae_tf.build(Config(model=ModelConfig((4, 3, 1), 4, levels, SMALL)))
    leave_the_start(model)
    grid = model.likelihood(model.sample_prior(tf.range(4, dtype=tf.int64)))
    assert isinstance(grid, tfp.distributions.Distribution)
    assert (grid.batch_shape, grid.event_shape, grid.dtype) == (batch, (4, 3, 1), tf.int32)
    assert tuple(grid.batch_shape_tensor()) == batch and tuple(grid.event_shape_tensor()) == (4, 3, 1)
    samples = grid.sample(sample_shape, seed=(1, 2))
    assert samples.shape == (*sample_shape, *batch, 4, 3, 1)
    log_prob = grid.log_prob(samples)
    assert log_prob.shape == (*sample_shape, *batch)
    # One value for the whole batch broadcasts over it.
    one = tf.zeros((4, 3, 1), tf.int32)
    assert grid.log_prob(one).shape == batch
    # Images are independent of each other: all at once equals one by one.
    if batch and sample_shape:
        again = tf.stack([grid.log_prob(samples[i]) for i in range(sample_shape[0])])
        np.testing.assert_allclose(log_prob, again, rtol=1e-5)


def test_seeds():
    grid = _grid(ModelConfig((4, 3, 1), 4, [], SMALL))
    # A pair is a stateless seed; TFP takes a single integer as a seed of its global state.
    first, again, other = (grid.sample(6, seed=seed).numpy() for seed in ((3, 4), (3, 4), (4, 3)))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and len({image.tobytes() for image in first}) == 6
    np.testing.assert_array_equal(first, grid.sample(6, seed=tf.constant([3, 4])))
    assert grid.sample(2).shape == (2, 4, 3, 1)  # no seed: some numbers


def test_gaussian_grid_is_the_product_of_its_conditionals():
    blocks = [SplitStreams(), GatedBlock(8, 3, "A", keep_vertical=False), HorizontalConv2D(4, 1)]
    network = Chain(blocks)
    network.build((None, 3, 4, 2))
    network.layers[-1].g.assign(3.0 * tf.ones(4))
    grid = AutoregressiveGrid(network, GaussianSite(2), (3, 4, 2))
    samples = grid.sample(2000, seed=(1, 2))
    assert samples.dtype == tf.float32 and grid.log_prob(samples).shape == (2000,)
    site = grid.site.channel_distribution(network(samples))
    standardised = ((samples - site.mean()) / site.stddev()).numpy()
    # Given what came before, every entry is a standard normal: 24 tests at 1e-5 each.
    for entry in standardised.reshape(2000, -1).T:
        assert stats.kstest(entry, "norm").pvalue > 1e-5
    # Sums of 24 terms of order one, taken in another order.
    expected = tf.reduce_sum(site.log_prob(samples), axis=(1, 2, 3))
    np.testing.assert_allclose(grid.log_prob(samples), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("site", [BernoulliSite(3), CategoricalSite(5, 3)])
def test_transform_inverts_the_cdf(site):
    params = tf.random.stateless_normal((1, site.units), (1, 2))
    uniforms = tf.tile((tf.range(10_000, dtype=tf.float32)[:, None] + 0.5) / 10_000, (1, 3))
    values = site.transform(tf.tile(params, (10_000, 1)), uniforms).numpy()
    assert (np.diff(values, axis=0) >= 0).all()  # monotone in u
    for value in range(max(2, site.num_params)):
        # A grid of 10,000 midpoints measures an interval to 1e-4.
        np.testing.assert_allclose(
            (values == value).mean(axis=0), site.channel_distribution(params).prob(value)[0], atol=1.1e-4
        )


def test_temperature_divides_logits_and_multiplies_scales():
    params = tf.random.stateless_normal((2, 30), (1, 2))
    temperature = tf.constant([0.5, 2.0])
    site = CategoricalSite(10, 3)
    cold = site.channel_distribution(params, temperature)
    np.testing.assert_allclose(cold.logits, site.split(params) / temperature[:, None, None])
    normal = GaussianSite(15).channel_distribution(params, temperature)
    plain = GaussianSite(15).channel_distribution(params)
    np.testing.assert_allclose(normal.stddev(), plain.stddev() * temperature[:, None], rtol=1e-6)
    np.testing.assert_array_equal(normal.mean(), plain.mean())


@pytest.mark.parametrize(("site", "num_values"), [(BernoulliSite(2), 2), (CategoricalSite(7, 2), 7)])
def test_marginal_params_are_the_frequencies(site, num_values):
    images = np.random.default_rng(0).integers(0, num_values, (50, 4, 4, 2)).astype(np.uint8)
    images[..., 1] = num_values - 1
    probabilities = (
        site.channel_distribution(tf.constant(site.marginal_params(images))[None])
        .prob(tf.range(num_values)[:, None])
        .numpy()
    )
    for channel in range(2):
        frequencies = np.bincount(images[..., channel].ravel(), minlength=num_values) / 800
        np.testing.assert_allclose(probabilities[:, channel], frequencies, atol=0.01)  # half a count in 800
    assert (probabilities > 0).all()


def test_posterior_gaussian():
    extreme = posterior_gaussian(tf.constant([[0.0, 1.0, -1e4, 1e4]]))
    assert extreme.event_shape == (2,) and extreme.batch_shape == (1,)
    np.testing.assert_allclose(extreme.stddev()[0], [MIN_SCALE, 1e4 / np.log(2)], rtol=1e-5)
    assert np.isfinite(extreme.kl_divergence(standard_gaussian((2,)))).all()
    # A raw scale of 0 is a sigma of 1.
    np.testing.assert_allclose(posterior_gaussian(tf.zeros((1, 4))).stddev(), np.ones((1, 2)), rtol=2e-4)


def test_half_precision_parameters_become_float32():
    assert posterior_gaussian(tf.zeros((1, 4), tf.bfloat16)).dtype == tf.float32
    assert BernoulliSite(3).split(tf.zeros((1, 2, 2, 3), tf.bfloat16)).dtype == tf.float32


def test_bad_arguments():
    with pytest.raises(ValueError, match="context must be"):
        AutoregressiveGrid(Chain([MaskedConv2D(2, 3, "A")]), BernoulliSite(), (3, 3, 1), context=tf.zeros((2, 3, 4)))


def test_latents_and_pixels_of_a_seed_have_noise_of_their_own():
    shape = (5, 4, 2)
    network = Chain([FromContext()])
    context = tf.zeros((500, 5, 4, 4))
    network.build((None, *shape), context.shape)
    # Parameters of 0: a scale of 1/2 and of 127.5, far wider than the rounding.
    latents, images = (
        AutoregressiveGrid(network, site, shape, context).sample(seed=(1, 2)).numpy().astype(np.float64).ravel()
        for site in (GaussianSite(2), QuantizedNormalSite(256, 2))
    )
    assert latents.std() == pytest.approx(0.5, rel=0.02) and images.std() > 50
    # Five standard deviations of a correlation of independent numbers.
    assert abs(np.corrcoef(latents, images)[0, 1]) < 5 / np.sqrt(latents.size)


def test_a_network_that_orders_channels_is_for_sites_whose_channels_are_apart():
    """A mixture's weights of all channels would come from units that see the first ones."""
    network = Chain([MaskedConv2D(30, 3, "A", groups=3), MaskedConv2D(30, 1, groups=3)])
    for site, shape in ((LogisticMixtureSite(4, 3, 3), (2, 2, 3)), (CategoricalSite(15, 2), (2, 2, 2))):
        with pytest.raises(ValueError, match=rf"at once for {type(site).__name__} of .*one with 3 channel groups"):
            AutoregressiveGrid(network, site, shape)
    AutoregressiveGrid(network, CategoricalSite(10, 3), (2, 2, 3))


def test_one_context_holds_for_a_batch_of_temperatures():
    """[D] and [B]: as the same context for each of B."""
    network = Chain([ScalePixels(2), MaskedConv2D(1, 3, "A")])
    one = AutoregressiveGrid(network, BernoulliSite(), (2, 3, 1), tf.constant([1.0, -2.0]), tf.constant([0.5, 2.0]))
    each = AutoregressiveGrid(network, BernoulliSite(), (2, 3, 1), tf.constant([[1.0, -2.0]] * 2), one._temperature)
    samples = one.sample(3, seed=(0, 1))
    np.testing.assert_array_equal(samples, each.sample(3, seed=(0, 1)))
    np.testing.assert_array_equal(one.log_prob(samples), each.log_prob(samples))


def test_noise_is_of_the_grid_and_the_batch():
    network = Chain([ScalePixels(2), MaskedConv2D(1, 3, "A")])
    grid = AutoregressiveGrid(network, BernoulliSite(), (2, 3, 1), tf.zeros((4, 5)))
    for shape in ((4, 1, 3, 1), (1, 2, 3, 1), (4, 2, 3, 2)):
        with pytest.raises(ValueError, match=r"noise must be .*\[4, 2, 3, 1\]\. Received: shape"):
            grid.transform(tf.zeros(shape) + 0.5)
    assert grid.transform(tf.zeros((4, 2, 3, 1)) + 0.5).shape == (4, 2, 3, 1)
