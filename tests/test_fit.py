"""PixelVAE as an ordinary Keras model: compile, fit, evaluate, predict and .keras files."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from family import labels_for, make_model
from small_run import small_config, steady_adam

import pixelvae_tf
from pixelvae_tf import bounds, data, runs
from pixelvae_tf.config import Config, GatedPixelCNNConfig, IndependentConfig, LevelConfig, ModelConfig, TrainConfig
from pixelvae_tf.models import PixelVAE
from pixelvae_tf.train import steps

# Nothing in it is a default but the site.
PIXELS = GatedPixelCNNConfig(
    num_layers=1, filters=6, kernel_size=3, first_kernel_size=5, num_output_layers=1, embedding_dim=2, dropout=0.2
)
CONFIG = ModelConfig((7, 6, 3), 8, [LevelConfig(4, (6, 8), upsampling=True)], PIXELS)


def _images(number=12):
    return np.random.default_rng(0).integers(0, 8, (number, 7, 6, 3)).astype(np.uint8)


def test_fit_has_the_trainers_loss_and_weights():
    """The same batches, noise, dropout and warm-up: the same numbers, step by step."""
    config = small_config(kl_warmup_steps=3, free_nats=0.5, clip_norm=0.0)
    config.model.pixels.dropout = 0.3
    images, number = data.load(config.data, "train"), 5

    def batches():
        return data.training_batches(images, config.train.batch_size, config.train.seed).take(number)

    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        state = steps.TrainState(config)
        # The gradient is of the order of 1,000: at a larger rate five steps would blow rounding up.
        state.optimizer = steady_adam(1e-4)
        state.optimizer.build(state.model.trainable_variables)
    loop, iterator = steps.make_training_loop(strategy, state, config), iter(batches())
    expected = [loop(iterator, tf.constant(1)) for _ in range(number)]

    model = pixelvae_tf.build(config)
    model.compile(steady_adam(1e-4), seed=config.train.seed, kl_warmup_steps=3, free_nats=0.5)
    options = {"batch_size": config.train.batch_size, "shuffle": False, "verbose": 0}
    fitted = [model.fit(batch["images"].numpy(), **options).history for batch in batches()]
    for found, totals in zip(fitted, expected, strict=True):
        # The same sums by another graph: float32 rounds at 6e-8, and five steps carry it on.
        assert found["loss"][0] == pytest.approx(float(totals.loss_nats), rel=1e-4)
        assert found["reconstruction_nats"][0] == pytest.approx(float(totals.reconstruction_nats), rel=1e-4)
        assert found["kl_nats_level_1"][0] == pytest.approx(float(totals.kl_nats[0]), rel=1e-4)
    for a, b in zip(model.get_weights(), state.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def _elbo(model, number=3):
    """What a loaded model has to compute again, bit for bit."""
    config = model.config
    images = np.random.default_rng(1).integers(0, config.num_values, (number, *config.image_shape))
    seeds, labels = tf.range(number, dtype=tf.int64), labels_for(model, number)
    return bounds.elbo(model, tf.constant(images, tf.uint8), seeds, labels=labels).log_prob


@pytest.mark.parametrize("name", ["diagonal_bilstm", "pixel_cnn_pp_classes", "vae_quantized_normal"])
def test_a_keras_file_holds_every_kind_of_model(name, tmp_path):
    model = make_model(name)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.config == model.config and runs.fingerprint(again) == runs.fingerprint(model)
    np.testing.assert_array_equal(_elbo(again), _elbo(model))


def test_fit_lowers_the_loss_and_evaluate_reports_the_bound():
    config = small_config("digits/vae")
    model, images = pixelvae_tf.build(config), data.load(config.data, "train").images[:320]
    model.compile(keras.optimizers.Adam(3e-3), kl_warmup_steps=1000)  # the loss has little of the KL, the bound all
    history = model.fit(images, validation_data=(images[:100], None), batch_size=32, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] - 5
    for batch_size in (100, 33):  # an image's noise is its own, and the last batch of 33 is one image
        report = model.evaluate(images[:100], batch_size=batch_size, verbose=0, return_dict=True)
        parts = model.predict(images[:100], batch_size=batch_size, verbose=0)
        assert parts["kl_nats"].shape == (100, 1)
        total = (parts["reconstruction_nats"] + parts["kl_nats"].sum(axis=1)).mean()
        # Means of 100 float32 numbers, in another order.
        assert report["loss"] == pytest.approx(total, rel=1e-5)
        assert report["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)
        assert report["loss"] == pytest.approx(report["reconstruction_nats"] + report["kl_nats_level_1"], rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"steps_per_execution": 2},
        pytest.param({"run_eagerly": True}, marks=pytest.mark.slow),
        pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_way_of_running_fit_gives_the_same_loss(options):
    """On pairs of images and labels, which are not used; with a last batch that is smaller."""
    losses = []
    config = dataclasses.replace(CONFIG, pixels=IndependentConfig())
    for given in ({}, options):
        model = pixelvae_tf.build(Config(model=config))
        model.compile(keras.optimizers.SGD(1e-4), **given)
        pairs = tf.data.Dataset.from_tensor_slices((_images(), np.arange(12))).batch(5)
        losses.append(model.fit(pairs, epochs=2, verbose=0).history["loss"])
    # The same operations, compiled another way.
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_noise_in_training_is_of_the_step_and_outside_of_the_image():
    model = pixelvae_tf.build(Config(model=CONFIG))
    # `iterations` stays 0 while gradients are accumulated; each batch is a step with noise of its own all the same.
    model.compile(keras.optimizers.SGD(0.0, gradient_accumulation_steps=4))
    images = tf.constant(_images(1).repeat(2, axis=0))  # twice the same
    outside, training = model(images), model(images, training=True)
    assert outside["reconstruction_nats"][0] == outside["reconstruction_nats"][1]
    assert training["reconstruction_nats"][0] != training["reconstruction_nats"][1]
    model.optimizer.apply([tf.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
    assert int(model.optimizer.iterations) == 0
    assert model(images)["reconstruction_nats"][0] == outside["reconstruction_nats"][0]
    assert model(images, training=True)["reconstruction_nats"][0] != training["reconstruction_nats"][0]


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "mixed_bfloat16"])
def test_a_keras_file_goes_on_where_it_was_saved(tmp_path, dtype):
    """Architecture, weights, optimizer and the options of compile are in the file."""
    model = pixelvae_tf.build(Config(model=CONFIG, train=TrainConfig(dtype=dtype)))
    model.compile(keras.optimizers.Adam(2e-3, beta_1=0.8), seed=5, kl_warmup_steps=7, free_nats=0.1)
    model.fit(_images(), batch_size=4, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    twin = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(twin, PixelVAE) and twin.config == CONFIG and twin.dtype_policy == model.dtype_policy
    assert twin.get_compile_config() == model.get_compile_config()
    np.testing.assert_array_equal(_elbo(twin), _elbo(model))
    for a, b in zip(twin.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    after = [m.fit(_images(), batch_size=4, shuffle=False, verbose=0).history for m in (model, twin)]
    # The same operations; in bfloat16 a kernel that splits its sums another way rounds at 0.4%.
    assert after[0]["loss"] == pytest.approx(after[1]["loss"], rel=1e-5 if dtype == "float32" else 5e-3)


def test_a_model_that_was_not_fitted_or_compiled_saves_and_fits(tmp_path):
    model = PixelVAE(ModelConfig((7, 6, 3), 8, [], PIXELS))
    model.compile()
    model.save(tmp_path / "not_fitted.keras")
    model = keras.models.load_model(tmp_path / "not_fitted.keras")
    model.fit(_images(), batch_size=5, verbose=0)
    bare = PixelVAE.from_config(model.get_config())
    bare.set_weights(model.get_weights())
    bare.save(tmp_path / "uncompiled.keras")
    twin = keras.models.load_model(tmp_path / "uncompiled.keras")
    np.testing.assert_array_equal(_elbo(twin), _elbo(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "mse"}, r"the loss and its metrics are the model's\. Received: loss"),
        ({"seed": -1}, "seed must be in .* Received: seed=-1"),
        ({"optimizer": None}, "optimizer must be one of Keras' or a name, .* Received: None"),
        (
            {"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())},
            r"optimizer must .* not scale the loss, .* Received: .*LossScaleOptimizer",
        ),
        ({"kl_warmup_steps": -5}, r"kl_warmup_steps\[0\] must be at least 0\. Received: -5"),
        ({"free_nats": float("nan")}, r"free_nats\[0\] must be a finite number\. Received: nan"),
    ],
)
def test_what_compile_does_not_take_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        pixelvae_tf.build(Config(model=CONFIG)).compile(**{"optimizer": "adam", **options})


def test_fit_is_compiled_by_xla_only_where_that_is_asked_for():
    """Keras' "auto" would be XLA wherever there is a GPU, and XLA drops the checks of the images' values."""
    model = pixelvae_tf.build(Config(model=CONFIG))
    model.compile("adam")
    assert model.jit_compile is False and model.get_compile_config()["jit_compile"] is False
    model.compile("adam", jit_compile=True)
    assert model.jit_compile is True


def test_what_fit_cannot_do_is_said():
    model = pixelvae_tf.build(Config(model=CONFIG))
    with pytest.raises(ValueError, match="compile must come before a call with training=True"):
        model(_images(2), training=True)
    model.compile("adam")
    with pytest.raises(ValueError, match="sample_weight must be None"):
        model.fit(_images(4), np.zeros(4), sample_weight=np.ones(4), verbose=0)
    for door in (model.fit, model.evaluate):  # without y Keras would drop them
        with pytest.raises(ValueError, match="sample_weight must be None"):
            door(_images(4), sample_weight=np.ones(4), verbose=0)
    with pytest.raises(ValueError, match="sample_weight must be None"):
        model.fit(tf.data.Dataset.from_tensors((_images(4), np.zeros(4), np.ones(4))), verbose=0)
    with (
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope(),
        pytest.raises(ValueError, match=r"fit works on one device.*Received: 2"),
    ):
        pixelvae_tf.build(Config(model=CONFIG)).compile("adam")
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        of_two = pixelvae_tf.build(Config(model=CONFIG))
        for door in (model.fit, model.train_on_batch):
            with pytest.raises(ValueError, match=r"fit works on one device.*Received: 2"):
                door(_images(4))
    with pytest.raises(ValueError, match=r"fit works on one device.*Received: 2"):
        of_two.compile("adam")  # Keras trains where a model was made
    with pytest.raises(ValueError, match="sample_weight must be None"):
        model.fit(_images(4), validation_data=(_images(4), None, np.ones(4)), verbose=0)


def test_labels_of_unknown_rank_are_not_used_either():
    model = pixelvae_tf.build(Config(model=CONFIG))
    model.compile("adam")
    images = tf.data.Dataset.from_tensor_slices(_images(4)).batch(2)
    model.fit(images.map(lambda x: (x, tf.numpy_function(lambda: np.zeros(2), [], tf.float64))), verbose=0)
