"""Several replicas: the same numbers as one device."""

import copy

import numpy as np
import pytest
import tensorflow as tf
from small_run import CPUS, largest_difference, mirrored_config, run_steps, small_config, steady_adam

from pixelvae_tf import bounds, data, runs
from pixelvae_tf.train import steps
from pixelvae_tf.train.strategies import make_strategy

ONE, TWO = (lambda: tf.distribute.OneDeviceStrategy("CPU:0")), (lambda: tf.distribute.MirroredStrategy(CPUS))


@pytest.fixture(scope="module")
def one_device():
    """A config, and what steps with it give on one device: labels, a clipped gradient, a warm-up, free bits."""
    config = mirrored_config(clip_norm=1.0, kl_warmup_steps=5, free_nats=(0.1,))
    return config, run_steps(config, ONE(), 10, steady_adam)


def _check_equal(one, other):
    # Sums over 16 images taken in another order: float32 rounds at 6e-8 of weights of order one.
    for weights in range(2):
        assert largest_difference(one[weights], other[weights]) < 1e-6
    for a, b in zip(tf.nest.flatten(one[2]), tf.nest.flatten(other[2]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)  # metrics are the global batch's


def test_replicas_equal_one_device(one_device):
    config, one = one_device
    _check_equal(one, run_steps(config, TWO(), 10, steady_adam))
    fresh = runs.build(config)
    fresh.start_from(*data.load(config.data, "train").some())
    assert largest_difference(fresh.get_weights(), one[0]) > 1e-5
    assert largest_difference(runs.build(config).get_weights(), one[0]) > 0.1, "they start from the data"


def test_replicas_with_the_runs_own_optimizer_equal_one_device():
    """For one step: Adam moves a weight by the rate whatever its gradient, and rounding may decide its sign."""
    config = mirrored_config(learning_rate_warmup_steps=3, clip_norm=1e6)
    one, two = (run_steps(config, strategy(), 1) for strategy in (ONE, TWO))
    _check_equal(one, two)
    assert 0 == float(one[2].clipped) < float(one[2].gradient_norm) < config.train.clip_norm


def test_compiled_replicas_equal_one_device_that_is_not(one_device):
    """XLA adds in an order of its own."""
    config, one = one_device
    config = copy.deepcopy(config)
    config.train.jit_compile = config.train.rematerialize = True
    _check_equal(one, run_steps(config, TWO(), 10, steady_adam))


def test_a_data_dependent_start_is_the_same_on_all_replicas():
    """Of PixelCNN++, whose norms and biases it moves while the network runs."""
    config, starts = small_config("digits/pixel_cnn_pp_class_conditional"), []
    images, labels = data.load(config.data, "train").some()
    for strategy in (ONE(), TWO()):
        with strategy.scope():
            model = runs.build(config)
        fresh = model.get_weights()
        model.start_from(images, labels)
        copies = [strategy.experimental_local_results(variable.value) for variable in model.variables]
        starts.append([[copy[replica].numpy() for copy in copies] for replica in range(len(copies[0]))])
    (one,), two = starts
    assert largest_difference(fresh, one) > 0.1 and len(two) == 2
    for replica in two:
        assert largest_difference(one, replica) == 0


def test_free_bits_are_of_the_global_batch():
    """The allowance lies between the mean KL of one replica and that of the whole batch, and above each one's part."""
    config = mirrored_config(kl_warmup_steps=0)
    train = data.load(config.data, "train")
    batch, model = next(iter(data.training_batches(train, 16, 0))), runs.build(config)
    model.start_from(*train.some())
    kl = bounds.elbo(model, batch["images"], batch["seeds"], labels=batch["labels"]).kl_nats.numpy()[:, 0]
    replicas = kl[:8].mean(), kl[8:].mean()
    config.train.free_nats = (float(kl.mean() + min(replicas)) / 2,)
    assert max(min(replicas), max(replicas) / 2) < config.train.free_nats[0] < kl.mean() < max(replicas)

    def one_step(strategy):
        return run_steps(config, strategy(), 1, lambda: steady_adam(1e-2))[0]

    one = one_step(ONE)
    assert largest_difference(one, one_step(TWO)) < 1e-6
    config.train.free_nats = (float(max(replicas)),)  # and it makes a difference
    assert largest_difference(one, one_step(ONE)) > 1e-5


def test_replicas_drop_out_different_units():
    seen = []
    strategy = tf.distribute.MirroredStrategy(CPUS)
    config = small_config()

    def spy(model, images, seeds, **options):
        seen.append(options["dropout_seed"])
        raise StopIteration

    original, steps.bounds.elbo = steps.bounds.elbo, spy
    try:
        with strategy.scope():
            state = steps.TrainState(config)
        batch = {"images": tf.zeros((8, 8, 8, 1), tf.uint8), "seeds": tf.range(8, dtype=tf.int64)}

        def step():
            try:
                steps._train_step(state, config, batch)
            except StopIteration:
                return seen[-1]

        dropout_seeds = strategy.experimental_local_results(strategy.run(step))
    finally:
        steps.bounds.elbo = original
    assert len(dropout_seeds) == 2
    assert (dropout_seeds[0].numpy() != dropout_seeds[1].numpy()).any()


def test_all_trainings_of_a_process_have_one_mirrored_strategy():
    """TensorFlow numbers the collectives of each anew: a second model's would meet those of the first."""
    assert make_strategy("mirrored") is make_strategy("mirrored")
