"""What one types first: any integers as seeds, no seeds, masks of any shape, methods named as the signatures."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from family import make_model

import pixelvae_tf
from pixelvae_tf import bounds, layers, noise
from pixelvae_tf.config import Config, GatedPixelCNNConfig, LevelConfig, ModelConfig
from pixelvae_tf.interpolation import interpolate

PIXELS = GatedPixelCNNConfig(num_layers=1, filters=4, kernel_size=3, first_kernel_size=3, num_output_layers=0)
CONFIG = ModelConfig((3, 4, 1), 4, [LevelConfig(2, (4,))], PIXELS)
IMAGES = np.random.default_rng(0).integers(0, 4, (4, 3, 4, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    return make_model(CONFIG)


def test_any_integers_are_seeds_and_a_number_is_how_many():
    expected = tf.range(4, dtype=tf.int64)
    for seeds in (4, np.int32(4), tf.constant(4), range(4), [0, 1, 2, 3], tf.range(4), np.arange(4, dtype=np.uint8)):
        np.testing.assert_array_equal(noise.as_seeds(seeds), expected)
    # All 64 bits count.
    np.testing.assert_array_equal(noise.as_seeds(np.array([2**64 - 1], np.uint64)), [-1])
    number = tf.function(noise.as_seeds, input_signature=[tf.TensorSpec((), tf.int32)], autograph=False)
    np.testing.assert_array_equal(number(tf.constant(4)), expected)


def test_a_number_draws_images_of_the_first_seeds(model):
    images = model.sample(4)
    np.testing.assert_array_equal(images, model.sample(range(4)))
    np.testing.assert_array_equal(images[3:], model.sample([3]))
    np.testing.assert_array_equal(model.sample(), images[:1])
    np.testing.assert_array_equal(model.sample_prior(4)[0], model.sample_prior(np.arange(4))[0])
    np.testing.assert_array_equal(model.sample(4, level_seeds=[[0, 1, 2, 3]]), images)
    np.testing.assert_array_equal(model.decode(model.sample_prior(4)), images)


def test_an_image_has_a_seed_of_its_own_where_none_is_given(model):
    own = noise.image_seeds(IMAGES)
    for default, given in (
        (bounds.elbo(model, IMAGES).bound_nats, bounds.elbo(model, IMAGES, own).bound_nats),
        (bounds.elbo(model, IMAGES).bound_nats, sum(map(_total, model(IMAGES).values()))),
        (bounds.importance_weighted_nats(model, IMAGES), bounds.importance_weighted_nats(model, IMAGES, own, 50)),
        (bounds.usage(model, IMAGES).latents_nats, bounds.usage(model, IMAGES, own).latents_nats),
    ):
        np.testing.assert_array_equal(default, given)
    assert (bounds.elbo(model, IMAGES).bound_nats != bounds.elbo(model, IMAGES, 4).bound_nats).numpy().any()


def _total(parts):
    return parts if parts.shape.rank == 1 else tf.reduce_sum(parts, axis=-1)


def test_a_mask_is_one_for_all_images_or_one_for_each(model):
    mask = np.zeros((3, 4), bool)
    mask[:2, 1:] = True
    expected = model.complete(IMAGES, np.broadcast_to(mask[..., None], IMAGES.shape))
    for given in (mask, mask[..., None], np.broadcast_to(mask, IMAGES.shape[:3]), 2 * mask, 1.0 * mask):
        np.testing.assert_array_equal(model.complete(IMAGES, given), expected)
    np.testing.assert_array_equal(expected.numpy()[:, mask], IMAGES[:, mask])
    # What is not kept counts for nothing, not for the seed either.
    np.testing.assert_array_equal(model.complete(np.where(mask[..., None], IMAGES, 3), mask), expected)
    own = noise.image_seeds(np.where(mask[..., None], IMAGES, 0))
    np.testing.assert_array_equal(model.complete(IMAGES, mask, own), expected)
    assert (model.complete(IMAGES, mask, own + 1).numpy() != expected.numpy()).any()


@pytest.mark.parametrize("name", ["gated_pixel_vae", "three_levels_and_classes"])
def test_the_methods_give_what_is_served(export, name):
    model, served = export(name).model, export(name).loaded.signatures
    config = model.config
    images = np.random.default_rng(1).integers(0, config.num_values, (3, *config.image_shape)).astype(np.uint8)
    inputs, seeds = {"images": tf.constant(images)}, {"seed": tf.range(3, dtype=tf.int64)}
    labels = np.array([0, 2, 1]) if config.num_classes else None
    label = {"label": tf.constant(labels)} if config.num_classes else {}
    codes = served["encode"](**inputs)
    encoded = model.encode(images)
    assert set(codes) == {*encoded, "error"}
    # The same operations, eagerly and as a graph: float32 rounds at 6e-8.
    for key, values in encoded.items():
        np.testing.assert_allclose(values, codes[key], rtol=1e-5, atol=1e-6)
    log_prob = served["log_prob"](**inputs, **seeds, **label)["log_prob"]
    np.testing.assert_allclose(model.log_prob(images, 3, labels), log_prob, rtol=1e-5)
    decoded = served["decode"](z1=codes["z1_mean"], **seeds, **label, temperature=tf.fill([3], 0.8))["images"]
    np.testing.assert_array_equal(model.reconstruct(images, 3, 0.8, labels=labels), decoded)


def test_an_interpolation_leads_from_one_reconstruction_to_the_other(model):
    first, last = IMAGES[:2], IMAGES[2:]
    seeds, temperature = [5, 6], tf.constant([0.5, 0.9])
    images = model.interpolate(first, last, 3, seeds, temperature)
    assert images.shape == (2, 3, 3, 4, 1)
    np.testing.assert_array_equal(images[:, 0], model.reconstruct(first, seeds, temperature))
    np.testing.assert_array_equal(images[:, 2], model.reconstruct(last, seeds, temperature))
    (start,), (end,) = ([posterior.mean() for posterior in model.posterior(some)] for some in (first, last))
    middle = interpolate(start, end, 3, tf.experimental.numpy)[:, 1]
    np.testing.assert_array_equal(images[:, 1], model.decode([middle], seeds, temperature))


def test_without_latents_there_is_nothing_to_encode():
    model = make_model(ModelConfig((3, 4, 1), 4, [], PIXELS))
    assert model.encode(IMAGES) == {}
    for call in (lambda: model.reconstruct(IMAGES), model.encoder_model):
        with pytest.raises(ValueError, match="must have latents"):
            call()
    with pytest.raises(ValueError, match="seeds must be given for a model without latents"):
        model.decode([])
    # Exact, so seeds change nothing.
    np.testing.assert_array_equal(model.log_prob(IMAGES), model.likelihood([]).log_prob(IMAGES))


def test_the_encoder_is_a_part_of_any_keras_model(tmp_path):
    model = pixelvae_tf.build(Config(model=CONFIG))
    encoder = model.encoder_model()
    images = keras.Input((3, 4, 1), dtype="uint8")
    classifier = keras.Model(images, keras.layers.Dense(3)(encoder(images)["z1_mean"]))
    assert len(classifier.trainable_variables) == len(encoder.trainable_variables) + 2
    before = model.encode(IMAGES)["z1_mean"]
    np.testing.assert_array_equal(encoder(IMAGES)["z1_mean"], before)
    classifier.compile(keras.optimizers.SGD(0.1), "mse")
    classifier.fit(IMAGES, np.ones((4, 3)), verbose=0)
    after = model.encode(IMAGES)["z1_mean"]
    assert (after != before).numpy().any(), "the weights are shared"
    classifier.save(tmp_path / "classifier.keras")
    again = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(again.predict(IMAGES, verbose=0), classifier.predict(IMAGES, verbose=0))
    # Keras would take the one for the other in its files.
    assert keras.saving.get_registered_object("pixelvae_tf>Encoder") is layers.Encoder
    encoder.trainable = False
    assert len(classifier.trainable_variables) == 2


def test_fit_names_images_of_another_size_and_targets_that_it_would_ignore():
    model = pixelvae_tf.build(Config(model=ModelConfig((3, 4, 1), 4, [], PIXELS)))
    model.compile("adam")
    for fitted in (False, True):
        if fitted:
            model.fit(IMAGES, np.arange(4), verbose=0)  # labels are no targets
        wrong = np.zeros((4, 5, 4, 1), np.uint8)
        as_dataset = tf.data.Dataset.from_tensor_slices(wrong).batch(2)
        for call in (
            lambda wrong=wrong: model.fit(wrong, verbose=0),
            lambda data=as_dataset: model.fit(data, verbose=0),
            lambda wrong=wrong: model.fit(IMAGES, validation_data=(wrong, None), verbose=0),
            lambda wrong=wrong: model.evaluate(wrong, verbose=0),
            lambda wrong=wrong: model.predict(wrong, verbose=0),
        ):
            with pytest.raises(ValueError, match=r"images must be .*\[B, 3, 4, 1\]\. Received: uint8 of shape \["):
                call()
        pairs = tf.data.Dataset.from_tensors((IMAGES, IMAGES))
        for call in (
            lambda: model.fit(IMAGES, IMAGES, verbose=0),
            lambda pairs=pairs: model.fit(pairs, verbose=0),
            lambda: model.fit(IMAGES, validation_data=(IMAGES, IMAGES), verbose=0),
        ):
            with pytest.raises(ValueError, match=r"y must be None, or labels.*Received: y of shape"):
                call()
    # A generator's are met when they come.
    sizes = iter([IMAGES, np.zeros((4, 5, 4, 1), np.uint8)])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"not compatible with expected shape \[\?,3,4,1\]"):
        model.fit(((images,) for images in sizes), verbose=0)
