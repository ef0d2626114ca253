"""The model: its parts, its weights, its config; pixels and pictures."""

import json
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from family import MODELS, labels_for, leave_the_start, make_model

import pixelvae_tf
from pixelvae_tf import bounds, layers, pictures, pixels, sampling
from pixelvae_tf.config import Config, GatedPixelCNNConfig, LevelConfig, ModelConfig, TrainConfig
from pixelvae_tf.distributions import orders

SMALL = GatedPixelCNNConfig(num_layers=1, filters=6, kernel_size=3, first_kernel_size=3, embedding_dim=2)
CONFIG = ModelConfig((7, 6, 3), 8, [LevelConfig(4, (6, 8), upsampling=True)], SMALL)


def _images(number=3):
    return tf.constant(np.random.default_rng(0).integers(0, 8, (number, 7, 6, 3)), tf.uint8)


def test_posterior_and_prior_are_distributions_of_a_level():
    model = pixelvae_tf.build(Config(model=CONFIG))
    (posterior,) = model.posterior(_images())
    assert posterior.batch_shape == (3,) and posterior.event_shape == model.prior(0).event_shape == (4,)
    assert model.likelihood([posterior.mean()]).batch_shape == (3,)


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_gets_a_gradient(name):
    model = make_model(name)
    generator, number = np.random.default_rng(0), 9
    images = generator.integers(0, model.config.num_values, (number, *model.config.image_shape))
    with tf.GradientTape() as tape:
        seeds, labels = tf.range(number, dtype=tf.int64), labels_for(model, number)
        loss = -tf.reduce_sum(bounds.elbo(model, tf.constant(images), seeds, labels=labels).log_prob)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    # On an image of one pixel there is no pixel before.
    unused = "one_pixel" in name
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None and np.isfinite(gradient).all(), variable.path
        assert unused or np.any(gradient), variable.path


# Gated chains, encoders and decoders with moving statistics; two streams with dropout; a loop inside.
@pytest.mark.parametrize("name", ["latents_on_a_grid", "pixel_cnn_pp_binary", "diagonal_bilstm"])
def test_rematerialised_activations_change_no_gradient(name):
    model = make_model(name, "float64")
    images = np.random.default_rng(0).integers(0, model.config.num_values, (4, *model.config.image_shape))
    variables = [variable.value for variable in model.trainable_variables]

    start = model.get_weights()

    def step(enabled):
        with tf.GradientTape() as tape, layers.rematerialization(enabled):
            seeds, dropout_seed = tf.range(4, dtype=tf.int64), tf.constant([1, 2])
            nats = bounds.elbo(model, tf.constant(images), seeds, labels_for(model, 4), dropout_seed).log_prob
        return nats, tape.gradient(nats, variables)

    graphs = [tf.function(lambda enabled=enabled: step(enabled)).get_concrete_function() for enabled in (False, True)]
    kept, kept_gradients = graphs[0]()
    moved = model.get_weights()  # the moving statistics of batch normalisation
    model.set_weights(start)
    again, gradients = graphs[1]()
    for a, b in zip(moved, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(kept, again)
    for a, b in zip(kept_gradients, gradients, strict=True):
        # The same numbers, added in another order: float64 leaves 1e-14 of terms that cancel.
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(a).max())
    # And what is inside the networks' layers is computed twice: the gates' sigmoids, where no loop hides them.
    if name == "diagonal_bilstm":
        return
    once, twice = (sum(op.type == "Sigmoid" for op in graph.graph.get_operations()) for graph in graphs)
    gates = {"latents_on_a_grid": 7, "pixel_cnn_pp_binary": 10}
    assert twice == once + gates[name]


def test_gradients_compiled_by_xla_are_those_of_the_graph():
    """Through gated layers that share their graph, with classes; XLA refuses operations that graphs take."""
    model = make_model("gated_pixel_cnn_classes", "float64")
    images = tf.constant(np.random.default_rng(0).integers(0, 4, (4, *model.config.image_shape)))
    variables = [variable.value for variable in model.trainable_variables]

    def gradients():
        with tf.GradientTape() as tape:
            seeds, labels = tf.range(4, dtype=tf.int64), labels_for(model, 4)
            nats = bounds.elbo(model, images, seeds, labels, tf.constant([1, 2])).log_prob
        return tape.gradient(nats, variables)

    graph, compiled = (tf.function(gradients, autograph=False, jit_compile=jit)() for jit in (False, True))
    for a, b in zip(graph, compiled, strict=True):
        # As above: another order of float64's sums.
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(a).max())


@pytest.mark.parametrize("name", ["pixel_cnn_pp", "pixel_vae_pp", "pixel_cnn_pp_classes"])
def test_data_dependent_start_standardises_what_units_make(name):
    model = make_model(name)
    generator = np.random.default_rng(0)
    # Images with structure: noise around a level of their own.
    levels = generator.integers(0, model.config.num_values, (40, 1, 1, 1))
    images = levels + generator.integers(-1, 2, (40, *model.config.image_shape))
    images = np.clip(images, 0, model.config.num_values - 1).astype(np.uint8)
    labels = labels_for(model, 40)
    model.start_from(images, None if labels is None else labels.numpy())
    first = model.network.layers[1].first_vertical
    # In every order.
    grid_orders = orders.over(model.config.orders, model.config.image_shape)
    which = np.repeat(np.arange(grid_orders.number, dtype=np.int32), 40)
    turned = grid_orders.turn(tf.constant(np.tile(images, (grid_orders.number, 1, 1, 1))), tf.constant(which))
    features = model.network.layers[0](turned)
    made = first(features).numpy().reshape(-1, first.filters)
    np.testing.assert_allclose(made.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(made.std(axis=0), first.gain, rtol=1e-3)
    again = make_model(name)
    again.start_from(images, None if labels is None else labels.numpy())
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_data_dependent_start_takes_images_from_the_whole_of_a_sorted_set():
    images = np.random.default_rng(0).integers(0, 16, (130, 8, 4, 3)).astype(np.uint8)
    images[:65] = 3
    of_all, of_the_first = make_model("pixel_cnn_pp"), make_model("pixel_cnn_pp")
    of_all.start_from(images)
    of_the_first.start_from(images[:65])
    # Equal images vary at their borders alone: it takes larger norms to give the units their variance.
    norms = [model.network.layers[1].first_vertical.g.numpy().mean() for model in (of_all, of_the_first)]
    assert norms[0] < 0.5 * norms[1]


@pytest.mark.parametrize("value", [0, 7, 15])
def test_data_dependent_start_survives_constant_images(value):
    model = make_model("pixel_cnn_pp")
    images = np.full((8, *model.config.image_shape), value, np.uint8)
    model.start_from(images)
    assert all(np.isfinite(weights).all() for weights in model.get_weights())
    other = np.random.default_rng(0).integers(0, 16, images.shape).astype(np.uint8)
    for some in (images, other):
        with tf.GradientTape() as tape:
            bound = tf.reduce_mean(bounds.elbo(model, tf.constant(some), tf.range(8, dtype=tf.int64)).log_prob)
        gradients = tape.gradient(bound, [variable.value for variable in model.trainable_variables])
        assert np.isfinite(bound) and all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].num_classes])
def test_the_class_matters(name):
    model = make_model(name)
    latents = [tf.zeros((3, *level.shape)) for level in model.config.levels]
    image = np.random.default_rng(0).integers(0, model.config.num_values, (1, *model.config.image_shape))
    image = image.repeat(3, axis=0)
    log_prob = model.likelihood(latents, labels=tf.range(3)).log_prob(image).numpy()
    assert len(set(log_prob)) == 3
    # Labels are the images' own: in another order, the same numbers in that order.
    swapped = model.likelihood(latents, labels=tf.constant([2, 0, 1])).log_prob(image).numpy()
    np.testing.assert_allclose(swapped, log_prob[[2, 0, 1]], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_config_round_trip(dtype):
    model = pixelvae_tf.build(Config(model=CONFIG, train=TrainConfig(dtype=dtype)))
    twin = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(model))))
    assert twin.config == model.config
    assert twin.dtype_policy == model.dtype_policy == twin.network.layers[2].vertical.dtype_policy
    twin.set_weights(model.get_weights())
    seeds = tf.range(3, dtype=tf.int64)
    for a, b in zip(bounds.elbo(twin, _images(), seeds), bounds.elbo(model, _images(), seeds), strict=True):
        np.testing.assert_array_equal(a, b)


def test_same_seed_same_weights_other_seed_others():
    first, again, other = (
        pixelvae_tf.build(Config(model=CONFIG, train=TrainConfig(seed=seed))).get_weights() for seed in (1, 1, 2)
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    before = random.getstate()
    pixelvae_tf.build(Config(model=CONFIG))
    assert random.getstate() == before, "building must not seed the user's generators"


def test_start_from_gives_the_pixels_their_marginal():
    model = pixelvae_tf.build(Config(model=ModelConfig((5, 5, 3), 4, [], SMALL)))
    images = np.random.default_rng(0).choice(4, (200, 5, 5, 3), p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    images[..., 1] = 3 - images[..., 1]
    params = model.network.layers[-1]
    params.g.assign(0.0 * params.g)  # what the network adds at its start
    model.start_from(images)
    site = model.site.channel_distribution(model.network(images[:20]))
    probabilities = tf.reduce_mean(site.prob(tf.reshape(tf.range(4), (4, 1, 1, 1, 1))), axis=(1, 2, 3)).numpy()
    # Frequencies in 5,000 draws have a standard deviation of 0.006; five of them.
    np.testing.assert_allclose(
        probabilities.T, [[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7], [0.7, 0.1, 0.1, 0.1]], atol=0.03
    )


def test_fig_6_one_level_of_noise_can_be_held():
    """The same latents with other pixel noise, and the same pixel noise with other latents."""
    model = pixelvae_tf.build(Config(model=CONFIG))
    params = model.network.layers[-1]
    params.g.assign(2.0 * params.g)
    leave_the_start(model)
    one, two = tf.constant([1], tf.int64), tf.constant([2], tf.int64)
    latents = model.sample_prior(one)
    np.testing.assert_array_equal(model.decode(latents, one), model.sample(one))
    assert (model.decode(latents, two).numpy() != model.sample(one).numpy()).any()
    assert (model.decode(model.sample_prior(two), one).numpy() != model.sample(one).numpy()).any()


@pytest.mark.parametrize("name", ["pixel_vae_classes", "pixel_cnn"])
def test_completion_encodes_and_fills_in_rounds(name):
    model = make_model(name, "float64")
    number, shape = 3, model.config.image_shape
    seeds, labels = tf.range(number, dtype=tf.int64), labels_for(model, number)
    images = model.sample(seeds + 50, labels=labels)
    mask = np.zeros((number, *shape[:2], 1), np.uint8)
    mask[:, : shape[0] // 2] = 1

    # By number of rounds; drawing op by op takes seconds.
    made = {rounds: model.complete(images, mask, seeds, 0.9, rounds, labels=labels).numpy() for rounds in (0, 1, 3)}
    kept = np.broadcast_to(mask, images.shape) > 0
    for completed in made.values():
        np.testing.assert_array_equal(completed[kept], images.numpy()[kept])
    assert (made[3][~kept] != images.numpy()[~kept]).any()
    # Without latents rounds have nothing to say; with them each draws the latents anew from what was filled in.
    assert (made[3] == made[1]).all() == (not model.num_levels)
    for image in range(number):
        label = None if labels is None else labels[image : image + 1]
        one = slice(image, image + 1)
        alone = model.complete(images[one], mask[one], seeds[one], 0.9, 3, labels=label)
        np.testing.assert_array_equal(alone[0], made[3][image])
    # Nothing kept: the first draw is a sample of the model. Everything kept: nothing to do.
    np.testing.assert_array_equal(
        model.complete(images, np.zeros_like(mask), seeds, 0.9, 0, labels=labels),
        model.sample(seeds, 0.9, labels=labels),
    )
    np.testing.assert_array_equal(model.complete(images, np.ones_like(mask), seeds, labels=labels), images)


def test_each_round_of_a_completion_has_noise_of_its_own():
    """Of a fresh model, whose pixels do not see the latents: nothing else could change what a round draws."""
    model = pixelvae_tf.build(Config(model=CONFIG))
    images, seeds = _images(), tf.range(3, dtype=tf.int64)
    mask = np.zeros((3, 7, 6, 1), np.uint8)
    rounds = [model.complete(images, mask, seeds, num_rounds=number).numpy() for number in range(3)]
    np.testing.assert_array_equal(rounds[0], model.sample(seeds))
    assert (rounds[1] != rounds[0]).any() and (rounds[2] != rounds[1]).any()
    each = model.complete(images, mask, seeds, num_rounds=[2, 0, 1]).numpy()
    np.testing.assert_array_equal(each, [rounds[number][image] for image, number in enumerate([2, 0, 1])])


def test_pixels():
    np.testing.assert_allclose(pixels.to_unit_interval(tf.range(5), 5), [-1, -0.5, 0, 0.5, 1])
    assert len(np.unique(pixels.to_unit_interval(tf.range(256), 256, "bfloat16"))) == 256
    np.testing.assert_array_equal(pictures.to_uint8_picture(np.array([0, 1]), 2), [0, 255])
    np.testing.assert_array_equal(pictures.to_uint8_picture(np.arange(256), 256), np.arange(256))
    assert pixels.bits_per_dim(np.log(256) * 12, (2, 2, 3)) == pytest.approx(8.0)


def test_pictures(tmp_path):
    images = np.stack([np.full((2, 3, 1), value) for value in (0, 1, 0)])
    grid = pictures.tile(images, 2, columns=2, scale=2)
    assert grid.shape == (12, 16, 1)
    assert (grid[0, 0, 0], grid[0, 8, 0], grid[0, 6, 0], grid[-1, -1, 0]) == (0, 255, 128, 128)
    pairs = pictures.beside(images[:2], images[1:])
    np.testing.assert_array_equal(pairs[:, 0, 0, 0], [0, 1, 1, 0])
    for channels in (1, 3):
        pictures.write_png(tmp_path / "grid.png", grid.repeat(channels, axis=-1))
        assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_known_pixels_are_one_for_each_image_and_in_range():
    model = pixelvae_tf.build(Config(model=CONFIG))
    with pytest.raises(ValueError, match="method must be one of auto, cached, rows, oracle"):
        model.sample_prior(3, method="nonsense")
    latents = model.sample_prior(3)
    images, mask = _images(), np.arange(42).reshape(7, 6) < 20
    decoded = model.decode(latents, known=sampling.Known(images, mask))
    np.testing.assert_array_equal(decoded.numpy()[:, mask], images.numpy()[:, mask])
    for known, message in (
        (sampling.Known(images[:1], mask), "latents, known, seeds must have one entry for each image"),
        (sampling.Known(images + 8, mask), r"values 0\.\.7 of shape"),
        (sampling.Known(images, mask[:3]), "mask must be"),
    ):
        with pytest.raises(ValueError, match=message):
            model.decode(latents, known=known)


def test_orders_belong_to_the_outermost_chain():
    inner = layers.Chain([layers.MaskedConv2D(1, 3, "A")], orders=("rotate_180",), name="inner")
    with pytest.raises(
        ValueError, match=r"orders must be given to the outermost Chain alone\. Received: some of \['inner'\]"
    ):
        layers.Chain([inner])


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (5, 3)])
def test_a_grid_shows_what_a_picture_can_hold(channels, shown):
    images = np.random.default_rng(0).integers(0, 256, (1, 4, 4, channels))
    grid = pictures.tile(images, 256)
    np.testing.assert_array_equal(grid[:4, :4], images[0, ..., :shown])
