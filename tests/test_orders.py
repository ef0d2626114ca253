"""Several orders in one network: a mixture as exact as one of them, that can look at what stands after a pixel."""

import dataclasses
import itertools
import shlex

import keras
import numpy as np
import pytest
import tensorflow as tf
from chi_square import RIGHT, p_value
from commands import run_command
from family import GATED, INDEPENDENT, MAP, SIZES, VECTOR, labels_for, make_model
from PIL import Image

import pixelvae_tf
from pixelvae_tf import bounds, layers, noise, presets, runs, sampling, turns
from pixelvae_tf.config import Config, DiagonalBiLSTMConfig, ModelConfig, TrainConfig, to_json
from pixelvae_tf.distributions import AutoregressiveGrid, BernoulliSite
from pixelvae_tf.distributions.orders import over
from pixelvae_tf.train import initial_weights

SQUARE, WIDE = tuple(turns.TURNS), tuple(name for name in turns.TURNS if name not in turns.OF_SQUARES)
# All images of 3 x 3 pixels of two values.
EVERY = np.array(list(itertools.product((0, 1), repeat=9)), np.uint8).reshape(-1, 3, 3, 1)


def _model(orders, levels=(), size=(3, 3), pixels=GATED, **options):
    return make_model(ModelConfig((*size, 1), 2, list(levels), pixels, orders=orders, **options), "float64")


def _turned(array, name):
    """Images or maps [B, H, W, ...], turned one by one."""
    height, width = array.shape[1:3]
    places = turns.TURNS[name](np.arange(height * width).reshape(height, width))
    return array.reshape(len(array), height * width, -1)[:, places]


def _in_order(model, images, index, latents=(), labels=None, preceding=None):
    """log p of images in one order, computed with the network itself on what is turned here."""
    orders, number = model.config.orders, len(images)
    context = model.context(list(latents), labels)
    parts = [] if context is None else [context.numpy()]
    if parts and parts[0].ndim == 4:
        parts = [_turned(parts[0], orders[index])]
    if len(orders) > 1:
        shape = parts[0].shape[:-1] if parts else (number,)
        parts.append(np.broadcast_to(np.eye(len(orders))[index], (*shape, len(orders))))
    turned = _turned(np.asarray(images, np.int32), orders[index])
    before = turned if preceding is None else _turned(np.asarray(preceding, np.int32), orders[index])
    params = model.network(tf.constant(before), context=np.concatenate(parts, axis=-1) if parts else None)
    return tf.reduce_sum(model.site.distribution(params).log_prob(turned), axis=(1, 2)).numpy()


@pytest.mark.parametrize(("names", "size"), [(SQUARE, (4, 4)), (WIDE, (3, 5))])
def test_what_is_turned_is_turned_back(names, size):
    orders, number = over(names, size), len(names)
    images = np.random.default_rng(0).normal(size=(number, *size, 2))
    turned = orders.turn(tf.constant(images), tf.range(number))
    np.testing.assert_array_equal(orders.turn_back(turned, tf.range(number)), images)
    for index, name in enumerate(names):
        np.testing.assert_array_equal(turned[index], _turned(images[index : index + 1], name)[0], err_msg=name)


@pytest.mark.parametrize("orders", [SQUARE, ("flip_top_bottom",)], ids=["all", "another"])
def test_probabilities_sum_to_one_and_are_the_mean_over_orders(orders):
    model = _model(orders)
    nats = model.likelihood([]).log_prob(EVERY).numpy()
    assert np.exp(nats).sum() == pytest.approx(1.0, abs=1e-12)
    separate = np.stack([np.exp(_in_order(model, EVERY, index)) for index in range(len(orders))])
    np.testing.assert_allclose(np.exp(nats), separate.mean(axis=0), rtol=1e-10)
    # Each order is a distribution by itself, and no two are equal.
    np.testing.assert_allclose(separate.sum(axis=1), 1.0, rtol=1e-12)
    assert len({round(float(order[1]), 12) for order in separate}) == len(orders)


def test_samples_have_the_probabilities_of_the_mixture():
    model = _model(("raster", "rotate_180", "transpose"))
    codes = model.sample(20_000).numpy().reshape(20_000, 9) @ (1 << np.arange(9)[::-1])
    assert p_value(codes, model.likelihood([]).log_prob(EVERY)) > RIGHT


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("level", [VECTOR, MAP], ids=["vector", "map"])
def test_latents_and_labels_condition_every_order(level, classes):
    model = _model(("raster", "rotate_180"), [level], (6, 5), num_classes=classes)
    images = np.random.default_rng(0).integers(0, 2, (4, 6, 5, 1))
    latents, labels = model.sample_prior(4), labels_for(model, 4)
    separate = [_in_order(model, images, index, latents, labels) for index in range(2)]
    expected = np.logaddexp(*separate) - np.log(2.0)
    grid = model.likelihood(latents, labels=labels)
    np.testing.assert_allclose(grid.log_prob(images), expected, rtol=1e-10)
    np.testing.assert_allclose(tf.reduce_sum(grid.log_prob_map(images), axis=(1, 2)), expected, rtol=1e-10)
    # Draws [2, B] of as many images as latents.
    np.testing.assert_allclose(grid.log_prob(np.stack([images, images])), [expected, expected], rtol=1e-10)


def test_a_location_of_a_map_depends_on_those_before_it_in_its_order_alone():
    """Turned, these are the ones below and to the right."""
    model = _model(("rotate_180",), size=(4, 4))
    images = np.zeros((2, 4, 4, 1), np.uint8)
    images[1, 1, 2] = 1
    maps = model.nll_map(images).pixel_nats.numpy().reshape(2, 16)
    changed = np.flatnonzero(maps[0] != maps[1])
    assert changed.max() == 1 * 4 + 2 and changed.min() < 6


def test_what_stands_before_may_be_another_image():
    model = _model(("raster", "rotate_180"), [VECTOR], (4, 5))
    images, others = np.random.default_rng(0).integers(0, 2, (2, 3, 4, 5, 1))
    latents = model.sample_prior(3)
    grid = model.likelihood(latents)
    np.testing.assert_array_equal(grid.log_prob_map(images, images), grid.log_prob_map(images))
    separate = [_in_order(model, images, index, latents, preceding=others) for index in range(2)]
    maps = grid.log_prob_map(images, others)
    np.testing.assert_allclose(tf.reduce_sum(maps, axis=(1, 2)), np.logaddexp(*separate) - np.log(2.0), rtol=1e-10)


@pytest.mark.parametrize(
    ("pixels", "jit_compile"),
    [(GATED, False), (GATED, True), (DiagonalBiLSTMConfig(**SIZES), False)],
    ids=["gated", "gated compiled by XLA", "LSTM"],
)
def test_training_goes_through_each_image_in_one_order(pixels, jit_compile):
    model = _model(("raster", "rotate_180"), [VECTOR], (4, 5), pixels)
    images = np.random.default_rng(0).integers(0, 2, (6, 4, 5, 1))
    posteriors = model.posterior(images)
    latents = model.sample_posterior(posteriors, 6)
    separate = np.stack([_in_order(model, images, index, latents) for index in range(2)])
    firsts = set()

    @tf.function(jit_compile=jit_compile)
    def training_nats(step):
        return model.likelihood(latents, dropout_seed=layers.dropout_seed(0, step)).log_prob(images)

    for step in tf.range(8, dtype=tf.int64):
        nats = training_nats(step).numpy()
        chosen = np.abs(separate - nats).argmin(axis=0)
        np.testing.assert_allclose(nats, np.take_along_axis(separate, chosen[None], axis=0)[0], rtol=1e-10)
        assert chosen.sum() == 3  # of six images half are turned
        firsts.add(int(chosen[0]))
    assert firsts == {0, 1}


class _Copy(keras.layers.Layer):
    """Sure that a pixel is the one above it."""

    orders = ("raster", "flip_top_bottom")

    def call(self, inputs):
        above = tf.pad(inputs[0], ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]
        return 200.0 * above - 100.0


def test_completion_looks_at_what_is_known_below():
    """In the order that has the known half first, a pixel follows what stands under it."""
    grid = AutoregressiveGrid(_Copy(), BernoulliSite(), (4, 3, 1))
    seeds = tf.range(6, dtype=tf.int64)
    given = tf.constant(np.random.default_rng(0).integers(0, 2, (6, 4, 3, 1)), tf.int32)
    for known, row in ((np.arange(4) < 1, 0), (np.arange(4) > 2, 3)):
        mask = tf.constant(np.broadcast_to(known[:, None, None], (6, 4, 3, 1)))
        filled = grid.transform(grid.noise(seeds, tf.constant(0, tf.uint32)), sampling.Known(given, mask))
        np.testing.assert_array_equal(filled, np.repeat(given[:, row : row + 1], 4, axis=1))


def test_orders_that_see_as_much_are_drawn_alike():
    orders = over(SQUARE, (4, 4))
    lower = np.zeros((7, 4, 4, 1), bool)
    lower[:, 2:] = True
    chosen = orders.informed(tf.constant(lower), tf.constant([0.01, 0.2, 0.49, 0.51, 0.7, 0.8, 0.99]))
    # Both begin with the lower half.
    names = ["rotate_180"] * 3 + ["flip_top_bottom"] * 4
    assert [SQUARE[index] for index in chosen.numpy()] == names
    everything = tf.ones((9, 4, 4, 1), tf.bool)
    numbers = tf.constant((np.arange(9) + 0.5) / 9, tf.float32)
    np.testing.assert_array_equal(orders.informed(everything, numbers), orders.drawn(numbers))


def test_noise_without_an_order_is_refused():
    model, one = (_model(orders) for orders in (("raster", "rotate_180"), ("raster",)))
    seeds, stream = tf.range(3, dtype=tf.int64), noise.stream(noise.Kind.PIXELS)
    for grid, other in ((model.likelihood([]), one.likelihood([])), (one.likelihood([]), model.likelihood([]))):
        with pytest.raises(ValueError, match="noise must be what `noise` gives for this grid"):
            grid.transform(other.noise(seeds, stream))


def test_orders_have_the_names_of_pillow():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for name, turn in turns.TURNS.items():
        if name != turns.RASTER:
            expected = Image.fromarray(image).transpose(Image.Transpose[name.upper()])
            np.testing.assert_array_equal(turn(image), expected, err_msg=name)


def test_orders_are_a_flag():
    config = presets.get("digits/gated_pixel_cnn")
    config.model.orders = ("raster", "rotate_180")
    command = shlex.split(presets.command_for(config, "runs/x"))
    assert "--config.model.orders=raster,rotate_180" in command
    status, out, errors = run_command("train.main", *command[1:], "--print_config")
    assert status == 0 and out == to_json(config), errors


def test_nothing_known_is_a_sample():
    model = _model(("raster", "rotate_180"), [MAP], (5, 4))
    images = tf.zeros((5, 5, 4, 1), tf.uint8)
    completed = model.complete(images, np.zeros((5, 4)), tf.range(5, dtype=tf.int64), num_rounds=0)
    np.testing.assert_array_equal(completed, model.sample(5))


def test_importance_weights_are_of_the_mixture():
    model = _model(("raster", "rotate_180"), [VECTOR], (4, 5))
    images = np.random.default_rng(0).integers(0, 2, (3, 4, 5, 1)).astype(np.uint8)
    one = bounds.importance_weighted_nats(model, images, 3, num_samples=1)
    (posterior,) = model.posterior(images)
    latents = model.sample_posterior([posterior], 3)
    separate = [_in_order(model, images, index, latents) for index in range(2)]
    likelihood = np.logaddexp(*separate) - np.log(2.0)
    expected = likelihood + model.prior(0).log_prob(latents[0]) - posterior.log_prob(latents[0])
    np.testing.assert_allclose(-one, expected, rtol=1e-5)  # float32 at the end


@pytest.mark.parametrize("level", [VECTOR, MAP], ids=["vector", "map"])
def test_a_trained_model_goes_on_with_more_orders(level):
    """The order that it knows is as it was; what tells it the others starts at 0, so that all are alike."""
    config = Config(model=ModelConfig((4, 5, 1), 2, [level], GATED), train=TrainConfig(dtype="float64"))
    one = make_model(config.model, "float64")
    config.model = dataclasses.replace(config.model, orders=("raster", "rotate_180"))
    config.train.initial_weights = "runs/one"
    with pytest.MonkeyPatch.context() as patch:
        before = dataclasses.replace(config, model=one.config)
        patch.setattr(initial_weights.runs, "load", lambda source: (one, before, 10))
        patch.setattr(initial_weights.runs, "read_lineage", lambda source: [])
        wider = pixelvae_tf.build(config)
        weights, lineage = initial_weights.load(config, wider)
    for name, weight in runs.weights_of(wider).items():
        weight.assign(weights[name])
    assert lineage[-1]["fingerprint"] == runs.fingerprint(one)
    images, latents = np.random.default_rng(0).integers(0, 2, (4, 4, 5, 1)), one.sample_prior(4)
    of_one = one.likelihood(latents).log_prob(images)
    np.testing.assert_allclose(_in_order(wider, images, 0, latents), of_one, rtol=1e-12)
    if level is VECTOR:
        turned = one.likelihood(latents).log_prob(images[:, ::-1, ::-1])
        np.testing.assert_allclose(_in_order(wider, images, 1, latents), turned, rtol=1e-12)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("raster",), ("rotate_180",)),
        (("raster",), ("rotate_180", "raster")),
        (("raster", "rotate_180"), ("raster", "flip_top_bottom")),
        (("raster",), ("raster", "transpose")),  # which images of 4 x 5 cannot have
    ],
)
def test_weights_of_other_orders_are_of_another_architecture(before, after):
    one = make_model(ModelConfig((4, 5, 1), 2, [VECTOR], GATED, orders=before))
    config = Config(model=dataclasses.replace(one.config, orders=after))
    config.train.initial_weights = "runs/one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(initial_weights.runs, "load", lambda source: (one, Config(model=one.config), 10))
        patch.setattr(initial_weights.runs, "read_lineage", lambda source: [])
        with pytest.raises(ValueError, match=r"weights of this architecture. Received: 'runs/one', .*model\.orders"):
            initial_weights.load(config, one)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"orders": ()}, "model.orders must be of raster, rotate_180, .*each once at most. Received: ()"),
        ({"orders": ("raster", "raster")}, "each once at most"),
        ({"orders": ("spiral",)}, "Received: \\('spiral',\\)"),
        ({"orders": ("transpose",), "image_shape": (4, 5, 1)}, "square images alone. Received: transpose for 4x5"),
        (
            {"orders": ("raster", "rotate_180"), "levels": [MAP], "pixels": INDEPENDENT},
            "model.orders must be raster alone for independent pixels",
        ),
    ],
)
def test_orders_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{"image_shape": (4, 4, 1), "pixels": GATED, **options}).validate()


def test_a_mixture_has_no_conditionals():
    with pytest.raises(NotImplementedError, match="conditionals are of raster order alone"):
        _model(("raster", "rotate_180")).likelihood([]).conditionals(EVERY)
