"""A hierarchy of levels: its KL, its bound, what keeps its training alive, its sampling level by level."""

import copy
import dataclasses
import itertools
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from commands import run_function
from exports import THREE_LEVELS
from family import MASKED, MODELS, make_model
from scipy import special
from small_run import CPUS, largest_difference, small_config, steady_adam

import pixelvae_tf
from pixelvae_tf import bounds, data, distributions, noise, runs
from pixelvae_tf.config import (
    Config,
    DiagonalBiLSTMConfig,
    IndependentConfig,
    LevelConfig,
    ModelConfig,
    PixelCNNConfig,
    PixelCNNPPConfig,
    RowLSTMConfig,
    TrainConfig,
)
from pixelvae_tf.distributions import gaussian
from pixelvae_tf.train import steps

HIERARCHIES = [name for name in MODELS if len(MODELS[name].levels) > 1]


def _images(model, number):
    shape = (number, *model.config.image_shape)
    return tf.constant(np.random.default_rng(0).integers(0, model.config.num_values, shape), tf.uint8)


def _stir(model):
    """Moves posteriors and priors away from each other and from where they start."""
    for level in model.levels:
        head = level.posterior_head
        head.bias.assign(tf.random.stateless_uniform(head.bias.shape, (1, 2), -1.0, 1.0))
        if level.prior_network is not None:
            params = level.prior_network.layers[-1]
            params.g.assign(tf.ones_like(params.g))
            params.bias.assign(tf.random.stateless_uniform(params.bias.shape, (3, 4), -1.0, 1.0))


@pytest.mark.parametrize("name", HIERARCHIES)
def test_the_kl_of_every_level_agrees_with_monte_carlo(name):
    """The analytic KL given sampled latents against plain log q - log p, over many samples of the same image."""
    model = make_model(name)
    _stir(model)
    number = 4_000
    images, seeds = tf.repeat(_images(model, 1), number, axis=0), tf.range(number, dtype=tf.int64)
    posteriors = model.posterior(images)
    latents = model.sample_posterior(posteriors, seeds)
    labels = tf.zeros(number, tf.int64) if model.config.num_classes else None
    analytic = bounds.elbo(model, images, seeds, labels=labels).kl_nats.numpy()
    for level, above in enumerate([*latents, None][1:]):
        z = latents[level]
        plain = (posteriors[level].log_prob(z) - model.prior(level, above).log_prob(z)).numpy()
        # Both are means of the same 4,000 draws of the level above and differ by what the draw of z itself adds.
        error = (plain - analytic[:, level]).std() / np.sqrt(number)
        assert analytic[:, level].mean() == pytest.approx(plain.mean(), abs=5 * error)
        assert analytic[:, level].mean() > 0.1
        # The Gaussian part is integrated out: less noise, for every level.
        assert analytic[:, level].std() < plain.std()


@pytest.fixture(scope="module")
def three_numbers():
    """Images of 3x1 binary pixels, z1 on a grid of 2x1 and z2 a vector of one: all integrals can be done."""
    levels = [LevelConfig(1, (4,), True, (2, 1), prior=MASKED), LevelConfig(1, (4,))]
    model = pixelvae_tf.build(Config(model=ModelConfig((3, 1, 1), 2, levels, MASKED)))
    _stir(model)
    # Posteriors that cover p(z | x), or importance weights would have no variance to speak of.
    for level, (mean, raw_scale) in zip(model.levels, ((0.3, 4.0), (0.2, 0.8)), strict=True):
        level.posterior_head.g.assign(0.1 * level.posterior_head.g)
        level.posterior_head.bias.assign([mean, raw_scale])
    params = model.network.layers[-1]
    params.g.assign(3.0 + 0.0 * params.g)
    return model, tf.constant([[0, 1, 1]])[..., None, None]


def _grid(points):
    """All of [-R, R]^3 as (z1 [N, 2, 1, 1], z2 [N, 1]), and a cell's volume."""
    axis = np.linspace(-6.5, 6.5, points).astype(np.float32)
    z = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return tf.constant(z[:, :2].reshape(-1, 2, 1, 1)), tf.constant(z[:, 2:]), float(axis[1] - axis[0]) ** 3


def _log_joint(model, image, z1, z2):
    log_prior = model.prior(0, z2).log_prob(z1) + model.prior(1).log_prob(z2)
    return (model.likelihood([z1, z2]).log_prob(image) + log_prior).numpy().astype(np.float64)


def test_the_elbo_of_a_hierarchy_agrees_with_numerical_integration(three_numbers):
    model, image = three_numbers
    z1, z2, cell = _grid(46)
    log_joint = _log_joint(model, image, z1, z2)
    q1, q2 = model.posterior(image)
    log_q = (q1.log_prob(z1) + q2.log_prob(z2)).numpy().astype(np.float64)
    # Steps h = 0.29 under Gaussians of s > 0.26: the trapezoid rule is off by exp(-2 (pi s / h)^2), 1e-7.
    assert min(q1.stddev().numpy().min(), q2.stddev().numpy().min()) > 0.26
    assert np.exp(log_q).sum() * cell == pytest.approx(1.0, abs=1e-4)
    exact = (np.exp(log_q) * (log_joint - log_q)).sum() * cell
    log_evidence = special.logsumexp(log_joint) + np.log(cell)

    number = 20_000
    images, seeds = tf.repeat(image, number, axis=0), tf.range(number, dtype=tf.int64)
    values = bounds.elbo(model, images, seeds).log_prob.numpy()
    assert values.mean() == pytest.approx(exact, abs=5 * values.std() / np.sqrt(number))
    assert exact < log_evidence - 0.05
    many = -bounds.importance_weighted_nats(model, images[:20], seeds[:20], 5000, chunk_size=500).numpy()
    # The bias is about Var(w) / 2K, below 0.01 here; five standard errors of the mean beside it.
    assert many.mean() == pytest.approx(log_evidence, abs=0.01 + 5 * many.std() / np.sqrt(20))


def test_the_evidence_of_a_hierarchy_sums_to_one(three_numbers):
    model, _ = three_numbers
    z1, z2, cell = _grid(36)
    images = np.array(list(itertools.product((0, 1), repeat=3))).reshape(-1, 1, 3, 1, 1)
    total = sum(np.exp(_log_joint(model, image, z1, z2)).sum() * cell for image in images)
    # Steps of 0.37 under the prior's sigmas, all above 0.27: off by 3e-5. The prior's means lie within 2, its tails
    # within 6.5.
    assert total == pytest.approx(1.0, abs=1e-3)


def test_the_parameterisations_keep_their_limits():
    extremes = tf.constant([-1e30, -1e4, -1.0, 0.0, 1.0, 1e4, 1e30])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(extremes)
        scale, loc, free = (
            function(extremes) for function in (gaussian.bounded_scale, gaussian.bounded_loc, gaussian.unbounded_scale)
        )
    assert scale.numpy().min() >= gaussian.MIN_SCALE and scale.numpy().max() <= 1 and scale[3] == 0.5
    assert np.abs(loc).max() <= 2 and loc[3] == 0
    np.testing.assert_allclose(loc[4], 2 * 0.5 / 1.5)
    assert free.numpy().min() >= gaussian.MIN_SCALE and abs(free[3] - 1.0) <= 2 * gaussian.MIN_SCALE
    for values in (scale, loc, free):
        assert (np.diff(values) >= 0).all() and np.isfinite(tape.gradient(values, extremes)).all()
    np.testing.assert_array_equal(distributions.clip_latents(tf.constant([-1e9, -50, 3, 1e9])), [-50, -50, 3, 50])


def test_posteriors_below_a_prior_that_is_learnt_have_sigmas_below_one():
    model = make_model("hierarchy")
    for level in model.levels:
        level.posterior_head.bias.assign(tf.fill(level.posterior_head.bias.shape, 5.0))
    lower, top = (posterior.stddev().numpy() for posterior in model.posterior(_images(model, 2)))
    assert 0.5 < lower.max() < 1 < top.max()


@pytest.mark.parametrize("floor", [0.0, 0.7, 1.0])
def test_the_floor_is_under_the_priors_sigma_alone(floor):
    params = tf.constant([[0.3, -5.0], [0.1, 5.0]])
    site = distributions.GaussianSite(1, floor)
    normal, free = site.channel_distribution(params), distributions.GaussianSite(1).channel_distribution(params)
    np.testing.assert_array_equal(normal.stddev(), np.maximum(free.stddev(), floor))
    np.testing.assert_array_equal(normal.mean(), free.mean())
    model = make_model("hierarchy")
    above = tf.zeros((2, *model.config.levels[1].shape))
    z = tf.zeros((2, *model.config.levels[0].shape))
    assert model.prior(0, above, floor=floor).conditionals(z).stddev().numpy().min() >= floor
    # Decoders see clipped latents: what lies beyond makes no difference.
    level = model.levels[0]
    np.testing.assert_array_equal(level.condition(z + 50.0), level.condition(z + 1e6))


def test_training_survives_noise_from_a_random_start():
    """100 steps at the usual rate, without a clip: loss and gradients stay finite, through priors of three kinds."""
    config = small_config("digits/hierarchical", kl_warmup_steps=(25, 40, 40), prior_floor_steps=25)
    config.model = THREE_LEVELS
    config.train.clip_norm, config.train.learning_rate, config.train.batch_size = 0.0, 1e-3, 8
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        state = steps.TrainState(config)
    generator = np.random.default_rng(0)
    images = generator.integers(0, config.model.num_values, (8, *config.model.image_shape)).astype(np.uint8)
    state.start_from(_set(images, config))
    batch = {"images": images, "seeds": np.arange(8), "labels": np.arange(8) % 3}
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    totals = steps.make_training_loop(strategy, state, config)(batches, tf.constant(100))
    assert int(totals.bad_step) == -1
    assert all(np.isfinite(weights).all() for weights in state.model.get_weights())


def _set(images, config):
    labels = np.arange(len(images)) % 3 if config.model.num_classes else None
    return data.ImageSet(images, labels, "noise/train", config.model.num_values, "none")


def test_levels_are_sampled_with_their_own_seeds():
    """Figure 6: what is held stays, what varies moves what is below it and nothing else."""
    model = make_model("hierarchy_three_levels")
    _stir(model)
    same, other = tf.constant([1, 2], tf.int64), tf.constant([3, 4], tf.int64)
    latents = model.sample_prior(same)
    np.testing.assert_array_equal(model.sample(same), model.sample(same, level_seeds=[same] * 3))
    np.testing.assert_array_equal(model.sample(same), model.decode(latents, same))
    for varied in range(3):
        seeds = [other if level == varied else same for level in range(3)]
        drawn = model.sample_prior(level_seeds=seeds)
        for level in range(3):
            moved = np.abs(drawn[level] - latents[level]).reshape(2, -1).max(axis=1) > 1e-6
            assert (moved == (level <= varied)).all()
        assert (model.sample(same, level_seeds=seeds) != model.sample(same)).numpy().any()


SIZES = {"num_layers": 1, "filters": 6, "first_kernel_size": 3}


@pytest.mark.parametrize(
    "prior",
    [
        PixelCNNConfig(**SIZES),
        RowLSTMConfig(**SIZES),
        DiagonalBiLSTMConfig(**SIZES),
        PixelCNNPPConfig(num_blocks=1, num_scales=2, filters=4),
    ],
    ids=lambda prior: prior.network,
)
def test_any_network_of_the_family_is_a_prior(prior):
    levels = [LevelConfig(2, (4,), True, (4, 4), prior=prior), LevelConfig(3, (4,), True)]
    config = ModelConfig((8, 8, 1), 2, levels, IndependentConfig())
    model = pixelvae_tf.build(Config(model=config, train=TrainConfig(dtype="float64")))
    _stir(model)
    seeds = tf.range(3, dtype=tf.int64)
    z, above = model.sample_prior(seeds)
    # What one pass draws at every location given those before it, and float64 rounds at 1e-16.
    locations = model.prior(0, above).conditionals(z)
    normals = noise.normal(seeds, noise.stream(noise.Kind.PRIOR, 0), z.shape[1:])
    drawn = locations.mean() + locations.stddev() * tf.cast(normals, z.dtype)
    np.testing.assert_allclose(z, drawn, rtol=0, atol=1e-12)
    assert np.abs(z).max() > 0.1
    parts = bounds.elbo(model, _images(model, 3), seeds)
    assert np.isfinite(parts.log_prob).all()


def test_a_learnt_prior_takes_latents_of_any_float():
    model = make_model("hierarchy_three_levels")
    z, above = model.sample_prior(2)[:2]
    prior, value = model.prior(0, above), z.numpy().astype(np.float64)
    np.testing.assert_array_equal(prior.log_prob(value), prior.log_prob(z))


def test_every_levels_prior_has_noise_of_its_own():
    model = make_model("hierarchy_three_levels")
    with mock.patch.object(noise, "stream", wraps=noise.stream) as streams:
        model.sample_prior([1])
    assert len({call.args for call in streams.call_args_list}) == model.num_levels == 3


def test_temperature_scales_every_levels_sigma():
    model = make_model("hierarchy_three_levels")
    _stir(model)
    seeds = tf.range(3, dtype=tf.int64)
    cold = model.sample_prior(seeds, tf.constant([1e-6, 1e-6, 1.0]))
    warm = model.sample_prior(seeds)
    for level in (2, 1, 0):
        np.testing.assert_allclose(cold[level][2], warm[level][2], rtol=1e-5, atol=1e-6)
        # Without noise all images are the mean.
        np.testing.assert_allclose(cold[level][0], cold[level][1], atol=1e-4)
    assert np.abs(cold[2][0]).max() < 1e-4


def test_a_plain_gaussian_prior_has_locations_that_do_not_see_each_other():
    for name, sees in (("hierarchy_gaussian_prior", False), ("hierarchy", True)):
        model = make_model(name)
        _stir(model)
        above = tf.ones((1, *model.config.levels[1].shape))
        z = tf.zeros((1, *model.config.levels[0].shape))
        prior = model.prior(0, above)
        moved = prior.conditionals(z + 1.0).mean().numpy() - prior.conditionals(z).mean().numpy()
        assert (np.abs(moved).max() > 1e-3) == sees
    kl = tfp.distributions.kl_divergence(model.posterior(_images(model, 1))[0], prior.conditionals(z))
    assert kl.shape == (1,)


def _weights_after_steps(strategy):
    """The weights by name before and after three steps on 16 images."""
    config = small_config("digits/vae", batch_size=16)
    config.model.levels[0] = dataclasses.replace(config.model.levels[0], filters=(8,), batch_norm=True)
    with strategy.scope():
        state = steps.TrainState(config)
        state.optimizer = steady_adam(1e-2)
        state.optimizer.build(state.model.trainable_variables)
    names, before = list(runs.weights_of(state.model)), state.model.get_weights()
    images = data.load(config.data, "train")
    dataset = strategy.distribute_datasets_from_function(
        lambda context: data.training_batches(images, config.train.batch_size, 0, input_context=context)
    )
    steps.make_training_loop(strategy, state, config)(iter(dataset), tf.constant(3))
    after = state.model.get_weights()
    return [dict(zip(names, weights, strict=True)) for weights in (before, after)]


def _with_one_device_and_with_two():
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    one, two = tf.distribute.OneDeviceStrategy("CPU:0"), tf.distribute.MirroredStrategy(CPUS)
    return _weights_after_steps(one), _weights_after_steps(two)


def test_replicas_equal_one_device_with_batch_normalisation():
    """In a process of its own: TensorFlow keeps the shapes of a process's first collectives."""
    (before, one), (_, two) = run_function(_with_one_device_and_with_two)
    # Both replicas take the statistics of the global batch. Float32 rounds at 6e-8 of weights of order one.
    trained = [name for name in one if "moving_" not in name]
    assert largest_difference([one[name] for name in trained], [two[name] for name in trained]) < 1e-6
    assert largest_difference([one[name] for name in trained], [before[name] for name in trained]) > 1e-4
    statistics = [name for name in one if "moving_" in name]
    assert len(statistics) == 4
    for name in statistics:
        # The global batch's: the mean of two halves' variances would be another number.
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5, atol=1e-7)
        assert np.abs(one[name] - before[name]).max() > 1e-4


def test_evaluation_is_frozen_and_training_is_not():
    model = make_model("hierarchy")
    images, seeds = _images(model, 4), tf.range(4, dtype=tf.int64)
    before = model.get_weights()
    alone = bounds.elbo(model, images[:1], seeds[:1])
    together = bounds.elbo(model, images, seeds)
    np.testing.assert_allclose(alone.log_prob[0], together.log_prob[0], rtol=1e-5)
    assert largest_difference(before, model.get_weights()) == 0
    training = bounds.elbo(model, images, seeds, dropout_seed=tf.constant([1, 2]))
    assert np.abs(training.log_prob - together.log_prob).max() > 1e-3
    moved = [v.path for v, old in zip(model.variables, before, strict=True) if (v.numpy() != old).any()]
    assert moved and all("moving_" in path for path in moved)


def test_fit_takes_a_hierarchy():
    config = small_config("digits/hierarchical")
    config.model = MODELS["hierarchy_independent_pixels"]
    model = runs.build(config)
    model.compile(keras.optimizers.Adam(1e-3), kl_warmup_steps=(4, 6), prior_floor_steps=4)
    history = model.fit(_images(model, 32), batch_size=8, epochs=2, verbose=0).history
    assert set(history) == {"loss", "reconstruction_nats", "kl_nats_level_1", "kl_nats_level_2"}
    assert np.isfinite(history["loss"]).all()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert again.config == model.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: setattr(m.levels[0], "grid", (4, 4)),
            r"levels\[0\].grid must be \(3, 3\), which the 1 halvings",
        ),
        (
            lambda m: setattr(m.levels[1], "grid", (3, 3)),
            r"levels\[1\].grid must be \(1, 1\), which the 2 halvings",
        ),
        (lambda m: setattr(m.levels[0], "grid", (1, 1)), "only the top level may be a vector, there are 2"),
        (lambda m: m.levels.pop(), r"model.levels\[0\].prior must be a network for every level but the top"),
        (lambda m: m.levels.append(m.levels[1]), r"model.levels\[1\].*Received"),
        (lambda m: setattr(m.levels[0], "prior", None), r"model.levels\[0\].prior must be a network for every"),
        (lambda m: setattr(m.levels[0], "upsampling", False), r"model.levels\[0\].*upsampling"),
        (lambda m: setattr(m.levels[0], "decoder_filters", (3, 3)), r"model.levels\[0\].decoder_filters must be empty"),
        (
            lambda m: setattr(m.levels[0], "num_blocks", -1),
            r"Config.model.levels\[0\].num_blocks must be at least 0\. Received: -1",
        ),
        (lambda m: setattr(m.levels[0].prior, "embedding_dim", 3), r"model.levels\[0\].prior.embedding_dim must be 0"),
        (lambda m: setattr(m.levels[0].prior, "kernel_size", 2), r"model.levels\[0\].prior.kernel_size must be odd"),
    ],
)
def test_levels_that_contradict_each_other_are_named(change, message):
    config = copy.deepcopy(MODELS["hierarchy"])
    change(config)
    with pytest.raises(ValueError, match=message):
        pixelvae_tf.build(Config(model=config))


def test_a_gaussian_prior_needs_a_map_from_above():
    levels = [LevelConfig(2, (4,), True, (3, 3), prior=IndependentConfig()), LevelConfig(2, (4,))]
    with pytest.raises(ValueError, match=r"model.levels\[0\].prior may be independent only below a level with"):
        pixelvae_tf.build(Config(model=ModelConfig((6, 6, 1), 2, levels, MASKED)))


def test_schedules_of_hierarchies_are_refused_without_one():
    config = small_config("digits/gated_pixel_vae", prior_floor_steps=3)
    with pytest.raises(ValueError, match=r"train\.prior_floor_steps must be 0 for a model of fewer than two levels"):
        config.validate()


def test_bad_latents_of_levels_are_named():
    model = make_model("hierarchy")
    z = model.sample_prior(tf.range(2, dtype=tf.int64))
    with pytest.raises(ValueError, match=r"latents must be a list of tensors, of shapes \[B, 3, 3, 2\], \[B, 3\]"):
        model.likelihood(z[::-1])
    with pytest.raises(ValueError, match=r"above, as a list, must be a list of tensors, of shapes \[B, 3\]"):
        model.prior(0)
    with pytest.raises(ValueError, match=r"level must be in 0..1. Received: 2"):
        model.prior(2)
    with pytest.raises(ValueError, match="seeds of the levels must be a list of 2"):
        model.sample(tf.range(2, dtype=tf.int64), level_seeds=[tf.range(2, dtype=tf.int64)])
