"""Several replicas: the same numbers as one device."""

import numpy as np
import pytest
import tensorflow as tf
from commands import run_command
from small_run import CPUS, largest_difference, run_steps, small_config, steady_adam

from pixelvae_tf import bounds, data, runs
from pixelvae_tf.train import steps


@pytest.mark.parametrize(
    ("optimizer", "number"),
    [(steady_adam, 10), (None, 1)],
    ids=["steady", "adam"],
)
def test_replicas_equal_one_device(optimizer, number):
    config = small_config(clip_norm=1.0, kl_warmup_steps=5)
    config.model.pixels.dropout = 0.0  # its numbers are each replica's own
    one = run_steps(config, tf.distribute.OneDeviceStrategy("CPU:0"), number, optimizer)
    two = run_steps(config, tf.distribute.MirroredStrategy(CPUS), number, optimizer)
    # Sums over 16 images taken in another order: float32 rounds at 6e-8 of weights of order one.
    assert largest_difference(one[0], two[0]) < 1e-6
    assert largest_difference(one[1], two[1]) < 1e-6
    for a, b in zip(tf.nest.flatten(one[2]), tf.nest.flatten(two[2]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)  # metrics are the global batch's


def test_compiled_replicas_equal_one_device_that_is_not():
    config = small_config(clip_norm=1.0, free_nats=0.1)
    config.model.pixels.dropout = 0.0  # XLA draws other numbers
    plain = run_steps(config, tf.distribute.OneDeviceStrategy("CPU:0"), 3, steady_adam)
    config.train.jit_compile = config.train.rematerialize = True
    compiled = run_steps(config, tf.distribute.MirroredStrategy(CPUS), 3, steady_adam)
    # As above; and XLA adds in an order of its own.
    assert largest_difference(plain[0], compiled[0]) < 1e-6
    np.testing.assert_allclose(plain[2].loss_nats, compiled[2].loss_nats, rtol=1e-5)


def test_replicas_equal_one_device_with_labels_and_a_start_from_the_data(tmp_path):
    """In processes of their own: TensorFlow keeps the shapes of a process's first collectives."""
    options = ["--config=digits/pixel_cnn_pp_class_conditional", "--config.model.pixels.dropout=0.0"]
    options += [
        "--config.model.pixels.filters=8",
        "--config.model.pixels.num_scales=1",
        "--config.train.steps=1",
        "--config.train.batch_size=16",
    ]
    found = []
    for name, strategy in (("one", ["one_device"]), ("two", ["mirrored", "--virtual_cpus=2"])):
        workdir = tmp_path / name
        status, _, errors = run_command("train.main", *options, f"--workdir={workdir}", "--strategy", *strategy)
        assert status == 0, errors
        found.append(runs.load(workdir, "latest")[0].get_weights())
    fresh = runs.build(runs.read_config(tmp_path / "one")).get_weights()
    assert largest_difference(fresh, found[0]) > 0.1
    # Adam's first step is the sign of a gradient: where that is next to zero, rounding decides. The rate is 4e-5 then.
    assert largest_difference(*found) < 1e-4


def test_free_bits_are_of_the_global_batch():
    """The allowance lies between the mean KL of the whole batch and that of one replica."""
    config = small_config(kl_warmup_steps=0)
    config.model.pixels.dropout = 0.0
    batch = next(iter(data.training_batches(data.load(config.data, "train"), 16, 0)))
    kl = bounds.elbo(runs.build(config), batch["images"], batch["seeds"]).kl_nats.numpy()[:, 0]
    replicas = kl[:8].mean(), kl[8:].mean()
    config.train.free_nats = (float(kl.mean() + max(replicas)) / 2,)
    assert min(replicas) < kl.mean() < config.train.free_nats[0] < max(replicas)

    def one_step(strategy):
        return run_steps(config, strategy, 1, lambda: steady_adam(1e-2))[0]

    one = one_step(tf.distribute.OneDeviceStrategy("CPU:0"))
    assert largest_difference(one, one_step(tf.distribute.MirroredStrategy(CPUS))) < 1e-6
    config.train.free_nats = (0.0,)  # and it makes a difference
    assert largest_difference(one, one_step(tf.distribute.OneDeviceStrategy("CPU:0"))) > 1e-5


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
