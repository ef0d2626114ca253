"""Bounds: against quadrature, against each other, and free of the chunks they are computed in."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from family import labels_for, leave_the_start, make_model
from scipy import special

import pixelvae_tf
from pixelvae_tf import bounds, noise
from pixelvae_tf.config import Config, GatedPixelCNNConfig, LevelConfig, ModelConfig

SMALL = GatedPixelCNNConfig(num_layers=1, filters=4, kernel_size=3, first_kernel_size=3)


@pytest.fixture(scope="module")
def one_latent():
    """A model of 3x3 binary images with one latent dimension that matters, and an image."""
    model = pixelvae_tf.build(Config(model=ModelConfig((3, 3, 1), 2, [LevelConfig(1, (4,))], SMALL)))
    params = model.network.layers[-1]
    params.g.assign(3.0 * params.g)
    leave_the_start(model)
    # A posterior away from the prior, so that importance sampling has something to gain.
    model.levels[0].posterior_head.bias.assign([0.8, -0.5])
    return model, tf.constant([[0, 1, 1], [1, 0, 1], [0, 0, 1]])[None, ..., None]


def _quadrature(log_weights):
    """log of the integral of exp(log_weights(z)), by the trapezoid rule on [-8, 8]."""
    z = np.linspace(-8, 8, 4001).astype(np.float32)[:, None]
    step = float(z[1, 0] - z[0, 0])
    return special.logsumexp(log_weights(tf.constant(z)).numpy().astype(np.float64)) + np.log(step)


def _log_joint(model, image, z):
    return model.likelihood([z]).log_prob(image) + model.prior(0).log_prob(z)


def test_elbo_and_importance_weighted_reach_their_integrals(one_latent):
    model, image = one_latent
    posterior = model.posterior(image)[0]
    log_evidence = _quadrature(lambda z: _log_joint(model, image, z))
    # The ELBO by quadrature: the integral of q (log p(x, z) - log q).
    z = tf.linspace(-8.0, 8.0, 4001)[:, None]
    ratio = (_log_joint(model, image, z) - posterior.log_prob(z)).numpy().astype(np.float64)
    exact_elbo = np.trapezoid(np.exp(posterior.log_prob(z).numpy().astype(np.float64)) * ratio, z[:, 0])

    number = 5_000
    seeds, images = tf.range(number, dtype=tf.int64), tf.repeat(image, number, axis=0)
    elbo = bounds.elbo(model, images, seeds).log_prob.numpy()
    gap = 5 * elbo.std() / np.sqrt(number)  # five standard errors of the mean
    assert elbo.mean() == pytest.approx(exact_elbo, abs=gap)
    assert exact_elbo < log_evidence - 0.01  # there is something to gain

    previous, previous_error = -np.inf, 0.0
    for num_samples in (1, 2, 8, 64):
        values = -bounds.importance_weighted_nats(model, images[:1000], seeds[:1000], num_samples).numpy()
        error = values.std() / np.sqrt(len(values))
        if num_samples == 1:
            assert values.mean() == pytest.approx(exact_elbo, abs=5 * error)
        # The expectation does not fall with K (Burda et al. 2016, theorem 1), and stays under log p(x).
        assert values.mean() > previous - 5 * np.hypot(error, previous_error)
        assert values.mean() < log_evidence + 5 * error
        previous, previous_error = values.mean(), error
    # Large K reaches log p(x): the bias is about Var(w) / 2K and is below 0.01 here.
    many = tf.function(
        lambda: -bounds.importance_weighted_nats(model, images[:20], seeds[:20], 5000, chunk_size=50)
    )().numpy()
    assert many.mean() == pytest.approx(log_evidence, abs=0.01)


def test_the_evidence_sums_to_one_over_all_images(one_latent):
    model, _ = one_latent
    images = np.array(list(itertools.product((0, 1), repeat=9))).reshape(-1, 3, 3, 1)
    z = np.linspace(-6, 6, 61).astype(np.float32)
    # The trapezoid rule on 61 points integrates a Gaussian to float32's precision.
    weights = np.exp(model.prior(0).log_prob(z[:, None]).numpy()) * (z[1] - z[0])
    total = 0.0
    for value, weight in zip(z, weights, strict=True):
        grid = model.likelihood([tf.constant([[value]])])
        total += weight * np.exp(grid.log_prob(images[:, None]).numpy()).sum()
    assert total == pytest.approx(1.0, abs=1e-5)


def test_chunks_do_not_matter(one_latent):
    model, image = one_latent
    images, seeds = tf.repeat(image, 3, axis=0), tf.range(3, dtype=tf.int64)
    whole = -bounds.importance_weighted_nats(model, images, seeds, 7, chunk_size=7)
    for chunk_size in (1, 2, 3, 100):
        # The same 7 numbers in another order of summation.
        np.testing.assert_allclose(
            -bounds.importance_weighted_nats(model, images, seeds, 7, chunk_size), whole, rtol=1e-5
        )


def test_every_draw_is_a_new_one(one_latent):
    model, image = one_latent
    posterior, seeds = model.posterior(image), tf.constant([3], tf.int64)
    draws = [float(model.sample_posterior(posterior, seeds, k)[0][0, 0]) for k in range(5)]
    assert len(set(draws)) == 5
    twice = model.posterior(tf.repeat(image, 2, axis=0))
    together = model.sample_posterior(twice, tf.constant([8, 3], tf.int64), tf.range(5))[0]
    assert together.shape == (5, 2, 1)
    # The bits are the same; `log` and `cos` round otherwise in longer vectors.
    np.testing.assert_allclose(together[:, 1, 0], draws, rtol=1e-5, atol=1e-5)


def test_kl_agrees_with_monte_carlo(one_latent):
    model, image = one_latent
    posterior, prior = model.posterior(image)[0], model.prior(0)
    kl = float(bounds.elbo(model, image, tf.constant([0], tf.int64)).kl_nats[0, 0])
    z = posterior.sample(100_000, seed=(1, 2))
    terms = (posterior.log_prob(z) - prior.log_prob(z)).numpy()
    assert terms.mean() == pytest.approx(kl, abs=5 * terms.std() / np.sqrt(terms.size))


def test_without_latents_the_bound_is_exact():
    model = pixelvae_tf.build(Config(model=ModelConfig((3, 3, 1), 2, [], SMALL)))
    images, seeds = tf.zeros((2, 3, 3, 1), tf.int32), tf.range(2, dtype=tf.int64)
    parts = bounds.elbo(model, images, seeds)
    assert parts.kl_nats.shape == (2, 0)
    np.testing.assert_allclose(parts.log_prob, model.likelihood([]).log_prob(images))
    np.testing.assert_allclose(-bounds.importance_weighted_nats(model, images, seeds, 5), parts.log_prob, rtol=1e-6)


@pytest.mark.parametrize("name", ["hierarchy", "gated_pixel_cnn_mixture", "vae", "pixel_vae_classes"])
def test_usage_is_what_another_images_pixels_and_latents_cost(name):
    model = make_model(name)
    images = tf.constant(np.random.default_rng(0).integers(0, model.config.num_values, (4, *model.config.image_shape)))
    seeds, labels = tf.range(4, dtype=tf.int64), labels_for(model, 4)
    usage = bounds.usage(model, images, seeds, labels)
    posteriors, values = model.posterior(images), tf.cast(images, model.site.dtype)
    latents = model.sample_posterior(posteriors, seeds)
    others = [tf.roll(z, 2, axis=0) for z in latents]

    def cost(level, z):  # of what z_{level + 1} conditions
        if level == 0:
            return -model.likelihood(z, labels=labels).log_prob(images)
        return posteriors[level - 1].kl_divergence(model.prior(level - 1, z[level]).conditionals(latents[level - 1]))

    assert usage.latents_nats.shape == (4, model.num_levels)
    for level in range(model.num_levels):
        expected = cost(level, others) - cost(level, latents)
        # Differences of sums of up to 1,000 float32 terms of a few nats.
        np.testing.assert_allclose(usage.latents_nats[:, level], expected, rtol=1e-4, atol=1e-3)
        assert np.abs(expected).max() > 0.01, "and it matters"
    likelihood = model.likelihood(latents, labels=labels)
    preceding = likelihood.conditionals(tf.roll(values, 2, axis=0)).log_prob(values)
    np.testing.assert_allclose(usage.preceding_nats, likelihood.log_prob(images) - preceding, rtol=1e-4, atol=1e-3)
    assert (np.abs(usage.preceding_nats).max() > 0.1) == (name != "vae"), "pixels of a VAE are independent"


def test_usage_wants_another_image():
    model = make_model("vae")
    with pytest.raises(ValueError, match="images must be at least 2"):
        bounds.usage(model, tf.zeros((1, *model.config.image_shape), tf.int32), tf.zeros([1], tf.int64))
    with pytest.raises(ValueError, match="images must be at least 2"):
        bounds.usage(model, [])


def test_kl_weights_free_nats_and_the_priors_floor_change_with_the_step():
    objective = bounds.Objective(
        kl_warmup_steps=(20, 40), free_nats=(3.0, 0.5), free_nats_steps=30, prior_floor_steps=10
    )
    weights = {step: objective.kl_weights(tf.constant(step), 3).numpy().tolist() for step in (0, 10, 20, 99)}
    # The last number is that of all levels above.
    assert weights == {0: [0, 0, 0], 10: [0.5, 0.25, 0.25], 20: [1, 0.5, 0.5], 99: [1, 1, 1]}
    allowances = {step: objective.allowances(tf.constant(step), 3).numpy().tolist() for step in (0, 29, 30)}
    assert allowances == {0: [3, 0.5, 0.5], 29: [3, 0.5, 0.5], 30: [0, 0, 0]}
    assert objective.kl_weights(tf.constant(0), 0).shape == objective.allowances(tf.constant(0), 0).shape == (0,)
    assert bounds.Objective(free_nats=2.0).allowances(tf.constant(99), 2).numpy().tolist() == [2, 2]
    floors = [float(objective.prior_floor(tf.constant(step))) for step in (0, 5, 10, 99)]
    assert floors == [1, 0.5, 0, 0]
    assert objective.warmup_steps == 40
    longest = [objective._replace(**{name: 50}) for name in ("kl_warmup_steps", "free_nats_steps", "prior_floor_steps")]
    assert [longer.warmup_steps for longer in longest] == [50, 50, 50]
    assert bounds.Objective().kl_weights(tf.constant(0), 2).numpy().tolist() == [1, 1]
    assert float(bounds.Objective().prior_floor(tf.constant(0))) == 0
    # Level 1 costs its allowance of 3, level 2 half of its KL.
    parts = bounds.Elbo(tf.constant([6.0, 8.0]), tf.constant([[1.0, 4.0], [3.0, 4.0]]))
    assert float(objective.loss(parts, tf.constant(20), 2).nats) == 7 + 3 + 2


def test_without_warm_ups_the_objective_is_the_negative_elbo(one_latent):
    model, image = one_latent
    parts = bounds.elbo(model, image, tf.constant([0], tf.int64))
    loss = bounds.Objective().loss(parts, tf.constant(0), 1)
    np.testing.assert_allclose(loss.nats, -parts.log_prob[0], rtol=1e-6)


def test_the_loss_of_shares_has_the_value_and_the_gradient_of_the_whole():
    """Also where the free nats of a level cover the KL of one share and not of the batch."""
    reconstruction = tf.Variable([7.0, 9.0, 8.0, 6.0])
    kl = tf.Variable([[3.0, 0.1, 0.9], [3.0, 0.2, 0.9], [2.0, 0.3, 2.0], [2.0, 0.4, 2.0]])
    objective, step = bounds.Objective(kl_warmup_steps=10, free_nats=1.0), tf.constant(5)
    with tf.GradientTape(persistent=True) as tape:
        mean_kl = tf.reduce_mean(kl, axis=0)
        expected = tf.reduce_mean(reconstruction) + 0.5 * tf.reduce_sum(tf.maximum(mean_kl, 1.0))
        means = iter([tf.reduce_mean(reconstruction), mean_kl] * 2)
        shares = [
            objective.loss(bounds.Elbo(reconstruction[rows], kl[rows]), step, 4, lambda _: next(means))
            for rows in (slice(0, 2), slice(2, 4))
        ]
        both = shares[0].nats + shares[1].nats
    for share in shares:
        np.testing.assert_allclose(share.nats, expected, rtol=1e-6)
    for x in (reconstruction, kl):
        np.testing.assert_allclose(tape.gradient(both, x), tape.gradient(expected, x), rtol=1e-6)
    assert np.all(tape.gradient(both, kl).numpy() == np.array([0.125, 0.0, 0.125]))


def test_active_units_count_means_that_vary():
    generator = np.random.default_rng(0)
    means = np.stack([generator.normal(0, 0.5, 1000), generator.normal(3, 0.05, 1000), np.zeros(1000)], axis=1)
    # Variances 0.25, 0.0025 and 0 against 0.01.
    assert bounds.active_units(means.var(axis=0)) == 1


def test_memory_does_not_grow_with_the_samples(one_latent):
    """The loop carries one number an image and nothing else."""
    model, image = one_latent
    seeds = tf.constant([0], tf.int64)
    function = tf.function(lambda k: -bounds.importance_weighted_nats(model, image, seeds, k, chunk_size=2))
    graphs = [function.get_concrete_function(k).graph for k in (4, 4000)]
    assert len(graphs[0].get_operations()) == len(graphs[1].get_operations())
    functions = graphs[1].as_graph_def().library.function
    assert not {node.op for function in functions for node in function.node_def if node.op.startswith("TensorList")}
    loop = next(op for op in graphs[1].get_operations() if op.type in ("While", "StatelessWhile"))
    carried = [output.shape for output in loop.outputs if output.shape.rank and output.dtype == tf.float32]
    assert max(int(np.prod(shape.as_list())) for shape in carried) <= max(
        int(tf.size(v)) for v in model.trainable_variables
    )


def test_bad_arguments(one_latent):
    model, image = one_latent
    with pytest.raises(ValueError, match=r"num_samples must be in 1\.\.\d+\. Received: num_samples=0"):
        -bounds.importance_weighted_nats(model, image, tf.constant([0], tf.int64), 0)


def test_posterior_draws_use_each_images_seed(one_latent):
    model, image = one_latent
    posterior = model.posterior(image)[0]
    z = model.sample_posterior([posterior], tf.constant([9], tf.int64), 2)[0]
    normal = noise.normal(tf.constant([9], tf.int64), noise.stream(noise.Kind.POSTERIOR, 0, 2), (1,))
    np.testing.assert_allclose(z, posterior.mean() + posterior.stddev() * normal, rtol=1e-6)


def test_settings_are_one_per_level_or_one_for_all():
    for levels in (0, 1, 2, 3):
        bounds.Objective((5,), (3.0,)).validate(levels)
    bounds.Objective((5, 6)).validate(2)
    for settings, levels in (((5, 6), 1), ((5, 6, 7), 2), ((), 2)):
        with pytest.raises(ValueError, match="kl_warmup_steps must be one number per level or one for all"):
            bounds.Objective(settings).validate(levels, "train.")
    for settings, place in (((5, -1), 1), ((-1, 5), 0)):
        with pytest.raises(ValueError, match=rf"train\.kl_warmup_steps\[{place}\] must be at least 0\. Received: -1"):
            bounds.Objective(settings).validate(2, "train.")
    for name in ("free_nats_steps", "prior_floor_steps"):  # which are one for all
        with pytest.raises(ValueError, match=rf"train\.{name} must be .*Received: \(10, 20\)"):
            bounds.Objective(**{name: (10, 20)}).validate(2, "train.")
