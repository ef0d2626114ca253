"""Schedules, the optimizer's step, and what is not finite."""

import itertools
import types

import numpy as np
import pytest
import tensorflow as tf
from small_run import largest_difference, small_config, steady_adam

from pixelvae_tf import data
from pixelvae_tf.train import schedules, steps, strategies


def test_schedules():
    config = small_config(steps=100, learning_rate=1.0, learning_rate_warmup_steps=10, kl_warmup_steps=20).train
    rate = schedules.LearningRate(config)
    assert config.learning_rate_decay == "cosine"
    assert float(rate(0)) == pytest.approx(0.1) and float(rate(9)) == pytest.approx(0.98, abs=0.01)
    assert float(rate(50)) == pytest.approx(0.5) and float(rate(100)) == pytest.approx(0.0, abs=1e-6)
    config.learning_rate_decay = "drop"
    assert (float(rate(89)), float(rate(90))) == (1.0, pytest.approx(0.1))
    config.learning_rate_drop_at, config.learning_rate_drop_factor = 0.45, 0.5
    assert (float(rate(44)), float(rate(45))) == (1.0, 0.5)
    config.learning_rate_decay = "none"
    assert float(rate(99)) == 1.0
    decays = [float(schedules.average_decay(config, tf.constant(step))) for step in (0, 10, 10_000)]
    assert decays == pytest.approx([0.1, 11 / 20, 0.9])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_optimizer_takes_the_steps_of_keras_own(dtype):
    """The same gradients to both: through a network, five steps would make much of a last bit."""
    config = small_config("digits/vae", learning_rate_warmup_steps=3, learning_rate_decay="cosine", dtype=dtype)
    strategy = strategies.make_strategy("one_device")
    ours, keras_own = states = [steps.TrainState(config) for _ in range(2)]
    start = ours.model.get_weights()
    keras_own.model.set_weights(start)
    rng = np.random.default_rng(0)
    for _ in range(5):
        gradients = [tf.constant(rng.normal(size=v.shape), v.dtype) for v in ours.model.trainable_variables]
        steps._update_weights(strategy, ours, gradients)
        keras_own.optimizer.apply(gradients, keras_own.model.trainable_variables)
    assert [int(state.optimizer.iterations) for state in states] == [5, 5]
    for first, second in zip(ours.optimizer.variables, keras_own.optimizer.variables, strict=True):
        # Some roundings of float32, at values of about 1.
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6 if dtype == "float32" else 0, err_msg=first.path)
    # Keras rounds its betas to float32 whatever the dtype, which is 1e-5 of 1 - 0.999.
    assert largest_difference(start, ours.model.get_weights()) > 1e-3
    assert largest_difference(ours.model.get_weights(), keras_own.model.get_weights()) < 1e-6


def test_the_first_step_that_is_not_finite_is_reported_and_its_parts():
    """And gradients are clipped: with the steps of `steady_adam`, which are as long as they are."""
    config, rate = small_config("digits/vae", clip_norm=1e-3), 1e-3
    strategy, state = strategies.make_strategy("one_device"), steps.TrainState(config)
    state.optimizer = steady_adam(rate)
    state.optimizer.build(state.model.trainable_variables)
    loop, start = steps.make_training_loop(strategy, state, config), state.model.get_weights()
    iterator = iter(data.training_batches(data.load(config.data, "train"), config.train.batch_size, 0))
    totals = loop(iterator, tf.constant(2))
    assert int(totals.bad_step) == -1 and not totals.bad_parts.numpy().any() and state.is_finite()
    assert int(state.step) == 2 and float(totals.clipped) == 2 and float(totals.gradient_norm) > 1
    # In each of both steps the whole is the root of the parts' sum of squares; so of their sums, by Minkowski.
    of_parts = [float(norm) for norm in totals.gradient_norms.values()]
    assert np.linalg.norm(of_parts) < float(totals.gradient_norm) * (1 + 1e-5) and min(of_parts) > 0
    assert sum(of_parts) > float(totals.gradient_norm)
    # Two steps of at most twice the rate times the norm, and rounding of weights of about 1.
    assert largest_difference(start, state.model.get_weights()) < 4 * rate * 1e-3 + 1e-6

    state.model.levels[0].posterior_head.bias.assign(float("nan") * tf.ones(8))
    assert not state.is_finite()
    totals = loop(iterator, tf.constant(3))
    assert int(totals.bad_step) == 2 and int(state.step) == 5
    assert [part for part, bad in zip(steps.PARTS, totals.bad_parts.numpy(), strict=True) if bad] == list(steps.PARTS)
    state.model.set_weights([np.zeros(weights.shape) for weights in state.model.get_weights()])
    assert state.is_finite()
    state.model.weights[0].assign(tf.fill(state.model.weights[0].shape, float("inf")))
    assert not state.is_finite()


def test_weights_and_their_average_start_from_the_data_together():
    config = small_config("digits/gated_pixel_cnn_class_conditional")
    state = steps.TrainState(config)
    fresh = state.model.get_weights()
    state.start_from(data.load(config.data, "train"))
    assert largest_difference(fresh, state.model.get_weights()) > 0.1
    assert largest_difference(state.average.get_weights(), state.model.get_weights()) == 0


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (
            "digits/hierarchical",
            "pixels encoder_level_1 decoder_level_1 prior_level_1 encoder_level_2 decoder_level_2",
        ),
        ("digits/gated_pixel_vae_no_upsampling", "pixels encoder_level_1"),
        ("digits/gated_pixel_cnn", "pixels"),
    ],
)
def test_gradient_norms_are_of_parts_that_make_the_whole(preset, expected):
    state = steps.TrainState(small_config(preset))
    assert list(state.parts) == expected.split()
    assert sorted(itertools.chain(*state.parts.values())) == list(range(len(state.model.trainable_variables)))
    for name, places in state.parts.items():
        kind, _, number = name.partition("_level_")
        owner = state.model.levels[int(number) - 1] if number else state.model
        attribute = {"pixels": "network", "prior": "prior_network"}.get(kind, kind)
        own = {id(variable) for variable in getattr(owner, attribute).trainable_variables}
        assert own <= {id(state.model.trainable_variables[place]) for place in places}


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ((1.0, [0.5], 1.0), []),
        ((np.nan, [0.5], 1.0), ["reconstruction"]),
        ((1.0, [np.inf], 1.0), ["kl"]),
        ((1.0, [0.5], np.nan), ["gradient"]),
    ],
)
def test_each_part_is_looked_at(values, bad):
    reconstruction, kl, norm = (tf.constant(value) for value in values)
    assert list(np.array(steps.PARTS)[steps.bad_parts(reconstruction, kl, norm).numpy()]) == bad


def test_strategies():
    assert strategies.make_strategy("auto").num_replicas_in_sync == 1
    assert strategies.make_strategy("mirrored").num_replicas_in_sync == 2
    with pytest.raises(ValueError, match="strategy must be one of"):
        strategies.make_strategy("magic")


@pytest.mark.parametrize(
    ("gpus", "expected"), [([], "one CPU:0"), (["GPU:0"], "one GPU:0"), (["GPU:0", "GPU:1"], "mirrored")]
)
def test_auto_mirrors_over_several_gpus_alone(monkeypatch, gpus, expected):
    devices = {"GPU": gpus, "CPU": ["CPU:0", "CPU:1"]}
    named = {kind: [types.SimpleNamespace(name=name) for name in names] for kind, names in devices.items()}
    monkeypatch.setattr(tf.config, "list_logical_devices", named.get)
    monkeypatch.setattr(tf.distribute, "OneDeviceStrategy", lambda name: f"one {name}")
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda names: "mirrored" if names == gpus else names)
    assert strategies.make_strategy("auto") == expected


def test_a_cpu_is_not_split_for_nothing(monkeypatch):
    """With GPUs, these would be mirrored over."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] if kind == "GPU" else [])
    with pytest.raises(ValueError, match=r"virtual_cpus must be 1 where there are GPUs. Received: 2, with 1 GPUs"):
        strategies.split_cpu(2)
