"""Dtype policies: what is computed in bfloat16, what stays float32, and what it costs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from family import leave_the_start
from small_run import run_steps, small_config

import pixelvae_tf
from pixelvae_tf import bounds, data, layers
from pixelvae_tf.export import signatures
from pixelvae_tf.train import evaluation, steps


def _batch(number=8):
    return data.load(small_config().data, "test").images[:number], tf.range(number, dtype=tf.int64)


def test_bfloat16_keeps_likelihoods_and_weights_in_float32():
    model = pixelvae_tf.build(small_config(dtype="mixed_bfloat16"))
    assert keras.config.dtype_policy().name == "float32", "building must not change the user's policy"
    images, seeds = _batch()
    parts = bounds.elbo(model, images, seeds)
    assert parts.reconstruction_nats.dtype == parts.kl_nats.dtype == tf.float32
    (posterior,) = model.posterior(images)
    likelihood = model.likelihood([posterior.mean()])
    raw = model.network(images, context=model.levels[0].condition(posterior.mean()))
    site = likelihood.site.channel_distribution(raw)
    assert raw.dtype == tf.bfloat16 and site.logits.dtype == tf.float32
    assert posterior.mean().dtype == posterior.stddev().dtype == tf.float32
    assert all(variable.dtype == "float32" for variable in model.variables)


def test_weight_norms_are_taken_in_float32():
    """The kernel is the float32 one rounded, not one made of rounded weights."""
    half, full = (layers.WeightNormConv2D(5, (3, 3), dtype=dtype) for dtype in ("mixed_bfloat16", "float32"))
    for layer in (half, full):
        layer.build((None, 8, 8, 7))
    half.set_weights(full.get_weights())
    assert half.folded()[0].dtype == tf.bfloat16 and half.v.dtype == "float32"
    np.testing.assert_array_equal(half.folded()[0], tf.cast(full.folded()[0], tf.bfloat16))


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", pytest.param("float64", marks=pytest.mark.slow)])
def test_other_dtypes_train(dtype):
    _, _, totals = run_steps(small_config(dtype=dtype), tf.distribute.OneDeviceStrategy("CPU:0"), 3)
    _, _, expected = run_steps(small_config(), tf.distribute.OneDeviceStrategy("CPU:0"), 3)
    assert int(totals.bad_step) == -1
    # bfloat16 is off by up to 0.4% a factor; in float64 the random start is another one.
    np.testing.assert_allclose(totals.loss_nats, expected.loss_nats, rtol=0.02)
    if dtype == "mixed_bfloat16":
        for part, norm in totals.gradient_norms.items():
            np.testing.assert_allclose(norm, expected.gradient_norms[part], rtol=0.05, err_msg=part)


def test_what_a_float64_model_serves_is_float32():
    model = pixelvae_tf.build(small_config(dtype="float64"))
    images, seed = _batch(2)
    served = {name: signature.function for name, signature in signatures.signatures(model).items()}
    encoded = served["encode"]({"images": tf.constant(images)})
    assert encoded["z1_mean"].dtype == encoded["z1_stddev"].dtype == tf.float32
    (posterior,) = model.posterior(images)
    np.testing.assert_array_equal(encoded["z1_mean"], tf.cast(posterior.mean(), tf.float32))
    decoded = served["decode"]({"z1": encoded["z1_mean"], "seed": seed, "temperature": tf.ones(2)})
    assert decoded["images"].dtype == tf.uint8 and (decoded["error"] == "").numpy().all()


def test_float64_is_float64_throughout():
    wide, narrow = (pixelvae_tf.build(small_config(dtype=dtype)) for dtype in ("float64", "float32"))
    leave_the_start(narrow)
    wide.set_weights(narrow.get_weights())
    images, seeds = _batch()
    (posterior,) = wide.posterior(images)
    assert posterior.mean().dtype == wide.likelihood([posterior.mean()]).log_prob(images).dtype == tf.float64
    assert all(variable.dtype == "float64" for variable in wide.variables)
    # float32 rounds a factor at 6e-8, and there are 64 of them behind a dozen layers.
    np.testing.assert_allclose(
        bounds.elbo(wide, images, seeds).log_prob, bounds.elbo(narrow, images, seeds).log_prob, rtol=1e-5
    )


@pytest.mark.parametrize("dtype", ["mixed_float16", "bfloat16"])
def test_other_policies_are_refused(dtype):
    """They would be saved, and not load again."""
    config = pixelvae_tf.presets.get("digits/pixel_cnn").model
    with pytest.raises(ValueError, match=rf"dtype must be one of float32, mixed_bfloat16, .*Received: {dtype}"):
        pixelvae_tf.PixelVAE(config, dtype=dtype)


@pytest.mark.parametrize("trained_in", [pytest.param("float32", marks=pytest.mark.slow), "mixed_bfloat16"])
def test_a_trained_model_has_the_same_bound_in_both(trained_in):
    config = small_config(dtype=trained_in, steps=150, learning_rate=5e-3, kl_warmup_steps=0, batch_size=32)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    train, validation = data.load(config.data, "train"), data.load(config.data, "validation")
    state = steps.TrainState(config)
    state.start_from(train)
    loop = steps.make_training_loop(strategy, state, config)
    loop(iter(data.training_batches(train, 32, 0)), tf.constant(150))
    found = {}
    for dtype in ("float32", "mixed_bfloat16"):
        config.train.dtype = dtype
        model = pixelvae_tf.build(config)
        model.set_weights(state.model.get_weights())
        found[dtype] = evaluation.Evaluator(model)(validation)["bound_nats"]
    assert found["float32"] < 115  # trained: it starts at 130
    # A factor's logits are off by up to 2**-9 of their size; over 64 sites and 200 images most of it cancels.
    assert found["mixed_bfloat16"] == pytest.approx(found["float32"], rel=5e-3)
