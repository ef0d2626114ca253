"""Sampling: every method draws what the network says, pixel for pixel.

A sample is a fixed point: given the sample, one forward pass says the distribution of every location, and the noise
draws from it the value that is there. No other image is one, since a location depends on those before it alone (which
the layers' own tests hold): what is a fixed point is what "oracle" draws.
"""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from family import MIXTURE, MODELS, labels_for, make_model

import pixelvae_tf
from pixelvae_tf import checks, noise, sampling
from pixelvae_tf.config import Config, TrainConfig
from pixelvae_tf.distributions import (
    AutoregressiveGrid,
    BernoulliSite,
    CategoricalSite,
    GaussianSite,
    LogisticMixtureSite,
    orders,
)
from pixelvae_tf.layers import (
    Activation,
    CausalLayer,
    Chain,
    GatedBlock,
    HorizontalConv2D,
    MaskedConv2D,
    Residual,
    ScalePixels,
    SplitStreams,
    Stepper,
)

FAST_METHODS = ["cached", "rows"]


def _samples(model, method, seeds, temperature=1.0, **options):
    labels = labels_for(model, len(seeds))
    return tf.function(lambda: model.sample(seeds, temperature, method, labels), autograph=False, **options)().numpy()


def _drawn_again(model, latents, images, seeds, temperature=1.0):
    """What the noise of a batch draws at every location, given the locations before it in `images`."""
    labels = labels_for(model, len(seeds))
    numbers = model.likelihood(latents, labels=labels).noise(seeds, noise.stream(noise.Kind.PIXELS))
    grid_orders = orders.over(model.config.orders, model.config.image_shape)
    which = grid_orders.drawn(numbers[:, 0, 0, -1]) if grid_orders.number > 1 else tf.zeros(len(seeds), tf.int32)
    context = model.network_context(model.context(latents, labels), which)
    params = model.network(grid_orders.turn(images, which), context=context)
    drawn = model.site.transform(params, numbers[..., : model.site.noise_size], temperature)
    return grid_orders.turn_back(drawn, which).numpy()


# A model for each kind of layer, each way of conditioning, channel groups and none, and the smallest image.
EVERY_METHOD = [
    "gated_pixel_cnn_embedded",
    "gated_pixel_cnn_one_pixel",
    "gated_pixel_cnn_mixture",
    "gated_pixel_vae",
    "gated_pixel_vae_orders",
    "vae",
    "pixel_cnn",
    "row_lstm",
    "diagonal_bilstm",
    "pixel_cnn_pp_binary",
    "hierarchy",
]


@pytest.mark.parametrize("name", MODELS)
def test_samples_are_what_one_pass_draws_given_them(name):
    model = make_model(name, "float64")
    seeds, labels = tf.range(20, dtype=tf.int64), labels_for(model, 20)
    methods = ["auto", *FAST_METHODS[1:]] if name in EVERY_METHOD else ["auto"]
    # The oracle asks any network in the same way, and takes a pass a location.
    for method in [*methods, "oracle"] if name == "pixel_cnn" else methods:
        latents = model.sample_prior(seeds, method=method)
        images = model.decode(latents, seeds, method=method, labels=labels)
        np.testing.assert_array_equal(_drawn_again(model, latents, images, seeds), images, err_msg=method)
        assert images.numpy().std() > 0
        for level, z in enumerate(latents[:-1]):
            locations = model.prior(level, latents[level + 1]).conditionals(z)
            normals = noise.normal(seeds, noise.stream(noise.Kind.PRIOR, level), z.shape[1:])
            # Float64 rounds at 1e-16; a latent has passed through a few hundred sums.
            drawn = locations.mean() + locations.stddev() * tf.cast(normals, z.dtype)
            np.testing.assert_allclose(z, drawn, rtol=0, atol=1e-12, err_msg=method)


def _nearest(probabilities, uniforms):
    """Distance of uniforms [...] from the boundaries of the CDF that probabilities [..., V] add up to."""
    boundaries = np.cumsum(probabilities, axis=-1)[..., :-1]
    return np.abs(boundaries - uniforms[..., None]).min(axis=-1)


def _cdf_distance(model, latents, seeds, labels, images):
    """For every sub-pixel, how far its random number lies from the nearest boundary of its site's CDF."""
    grid = model.likelihood(latents, labels=labels)
    numbers = grid.noise(seeds, noise.stream(noise.Kind.PIXELS)).numpy()
    params = model.network(images, context=model.context(latents, labels))
    values = tf.range(model.config.num_values)[:, None, None, None, None]
    if not isinstance(model.site, LogisticMixtureSite):
        if model.site.noise == "normal":
            numbers = tfp.distributions.Normal(0.0, 1.0).cdf(numbers).numpy()
        return _nearest(np.moveaxis(model.site.channel_distribution(params).prob(values).numpy(), 0, -1), numbers)
    # The component, then each channel of the component that was chosen.
    mixture = model.site.distribution(params)
    weights = tf.nn.softmax(mixture.logits).numpy()
    component = (np.cumsum(weights, axis=-1)[..., :-1] < numbers[..., -1:]).sum(axis=-1)
    distances = []
    for channel in range(images.shape[-1]):
        logistic = mixture.channel(channel, images[..., None, :channel])
        probabilities = np.moveaxis(logistic.prob(values).numpy(), 0, -1)
        chosen = np.take_along_axis(probabilities, component[..., None, None], axis=-2)[..., 0, :]
        distances.append(_nearest(chosen, numbers[..., channel]))
    of_component = _nearest(weights, numbers[..., -1])
    return np.minimum(np.stack(distances, axis=-1), of_component[..., None])


# A model for every kind of site and of network; the others differ in what float64 decides as well.
FLOAT32 = [
    "gated_pixel_cnn",
    "gated_pixel_cnn_mixture",
    "gated_pixel_vae_no_upsampling",
    "vae_quantized_normal",
    "pixel_cnn",
    "row_lstm",
    "diagonal_bilstm",
    "pixel_cnn_pp_binary",
    "hierarchy",
]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FLOAT32 else pytest.mark.slow) for name in MODELS]
)
def test_float32_draws_another_value_at_boundaries_alone(name, record_property):
    model = make_model(name)
    seeds, labels = tf.range(64, dtype=tf.int64), labels_for(model, 64)
    # What a method does in its loop depends on the dtype, not on the model.
    for method in ["auto", *FAST_METHODS[1:]] if name == "gated_pixel_cnn" else ["auto"]:
        latents = model.sample_prior(seeds)
        images = model.decode(latents, seeds, method=method, labels=labels)
        differs = _drawn_again(model, latents, images, seeds) != images.numpy()
        # A channel's own draw depends on the channels before it: the first that differs counts.
        differs &= np.cumsum(differs, axis=-1) == 1
        record_property(f"locations_that_differ_{method}", int(differs.sum()))
        if differs.any():
            assert (_cdf_distance(model, latents, seeds, labels, images)[differs] < 1e-5).all(), method


@pytest.mark.parametrize("name", ["gated_pixel_cnn_mixture", "vae_quantized_normal", "pixel_cnn"])
def test_the_distance_to_a_boundary_is_small_where_a_draw_is_about_to_change(name):
    """The measure itself: moving every random number by 1e-3 changes draws, and only those it calls near."""
    model = make_model(name, "float64")
    seeds = tf.range(64, dtype=tf.int64)
    latents, labels = model.sample_prior(seeds), labels_for(model, 64)
    images = np.random.default_rng(0).integers(0, model.config.num_values, (64, *model.config.image_shape))
    images = tf.constant(images, tf.int32)
    params = model.network(images, context=model.context(latents, labels))
    numbers = model.likelihood(latents, labels=labels).noise(seeds, noise.stream(noise.Kind.PIXELS))
    draws, moved = (model.site.transform(params, tf.cast(numbers, tf.float64) + shift) for shift in (0.0, 1e-3))
    distance = _cdf_distance(model, latents, seeds, labels, images)
    # A channel's own draw depends on the channels before it, which the moved numbers change too: the first is free.
    changed = (moved != draws).numpy()[..., 0]
    assert changed.any() and (distance[..., 0][changed] < 1.1e-3).all()


# XLA compiles for seconds: one model with all methods, one with a scan; the others are slow.
XLA_AND_UNKNOWN_BATCH = {
    "gated_pixel_cnn": FAST_METHODS,
    "diagonal_bilstm": ["cached"],
    "gated_pixel_vae_no_upsampling": FAST_METHODS,
    "row_lstm": FAST_METHODS,
    "vae_quantized_normal": ["cached"],
    "pixel_cnn_pp_classes": FAST_METHODS,
    "pixel_vae_pp": FAST_METHODS,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if i > 1 else []) for i, name in enumerate(XLA_AND_UNKNOWN_BATCH)],
)
def test_xla_and_unknown_batch_agree(name):
    model = make_model(name, "float64")
    seeds, labels = tf.range(9, dtype=tf.int64), tf.range(9) % 3
    expected = model.sample(seeds, labels=labels if model.config.num_classes else None)
    for method in XLA_AND_UNKNOWN_BATCH[name]:
        np.testing.assert_array_equal(_samples(model, method, seeds, jit_compile=True), expected, err_msg=method)
    dynamic = tf.function(
        lambda seeds, labels: model.sample(seeds, labels=labels if model.config.num_classes else None),
        input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.int32)],
    )
    np.testing.assert_array_equal(dynamic(seeds, labels), expected)
    np.testing.assert_array_equal(dynamic(seeds[2:3], labels[2:3]), expected[2:3])


def test_auto_picks_by_model_and_batch():
    """Binary and wide: rows for few images, at run time too; everything else is cached."""
    wide = dataclasses.replace(MODELS["gated_pixel_cnn"], image_shape=(3, sampling.ROWS_MIN_WIDTH, 1))
    models = {
        "rows": wide,
        "narrow": MODELS["gated_pixel_cnn"],
        "more values": dataclasses.replace(wide, num_values=4),
        "mixture": dataclasses.replace(wide, num_values=4, **MIXTURE),
        "scans": dataclasses.replace(wide, pixels=MODELS["diagonal_bilstm"].pixels),
    }
    few = sampling.ROWS_MAX_BATCH
    for name, config in models.items():
        model = pixelvae_tf.build(Config(model=config))
        noises = [tf.zeros((batch, *config.image_shape[:2], 2)) for batch in (1, few, few + 1)]
        picked = [sampling.rows_are_faster(model.network, model.site, numbers) for numbers in noises]
        assert picked == ([True, True, False] if name == "rows" else [False] * 3), name
    model = pixelvae_tf.build(Config(model=wide, train=TrainConfig(dtype="float64")))
    dynamic = tf.function(model.sample, input_signature=[tf.TensorSpec([None], tf.int64)])
    for batch in (few, few + 1):
        seeds = tf.range(batch, dtype=tf.int64)
        np.testing.assert_array_equal(dynamic(seeds), model.sample(seeds, method="oracle"))
    assert not sampling.rows_are_faster(model.network, GaussianSite(1), tf.zeros((1, 32, 32, 1)))


def test_temperature_is_each_images_own():
    model = make_model("gated_pixel_vae_no_upsampling", "float64")
    seeds = tf.range(6, dtype=tf.int64)
    mixed, cold, warm = (model.sample(seeds, tf.constant(values * 3)) for values in ([1.0, 0.5], [0.5] * 2, [1.0] * 2))
    np.testing.assert_array_equal(mixed[1::2], cold[1::2])
    np.testing.assert_array_equal(mixed[::2], warm[::2])
    assert (cold.numpy() != warm.numpy()).any()
    # A number is every image's; one pass draws the same at it.
    np.testing.assert_array_equal(model.sample(seeds, 0.5), cold)
    np.testing.assert_array_equal(_drawn_again(model, model.sample_prior(seeds, 0.5), cold, seeds, 0.5), cold)


@pytest.mark.parametrize("name", ["gated_pixel_vae", "vae", "hierarchy_gaussian_prior", "gated_pixel_cnn_mixture"])
def test_the_lowest_temperature_is_greedy_and_the_highest_noise(name):
    model = make_model(name)
    for weight in model.weights:  # a fresh model's first pixel is a tie: biases are zero, and it sees nothing
        weight.assign_add(0.1 * tf.random.stateless_normal(weight.shape, (1, 2)))
    seeds = tf.concat([tf.range(3, dtype=tf.int64)] * 2, axis=0)
    ends = tf.repeat([checks.MIN_TEMPERATURE, checks.MAX_TEMPERATURE], 3)
    cold, hot = np.split(model.sample(seeds, ends).numpy(), 2)
    # Logits differ by more than 1e-4, or 1e-6 would not decide between them: seeds do not matter.
    np.testing.assert_array_equal(cold, cold[[0, 0, 0]])
    assert (hot[0] != hot[1]).any()
    assert max(cold.max(), hot.max()) < model.config.num_values and min(cold.min(), hot.min()) >= 0


@pytest.mark.parametrize(
    "name", ["gated_pixel_cnn", "pixel_cnn", "pixel_cnn_pp", "row_lstm", "diagonal_bilstm", "gated_pixel_cnn_embedded"]
)
def test_memory_of_the_loop_does_not_grow_with_the_image(name):
    """What the loops carry is a few rows: its size grows with the width, not the height."""
    network = pixelvae_tf.build(Config(model=dataclasses.replace(MODELS[name], levels=[]))).network

    def carried(height):
        state = network.stepper(None, 2, (height, 8)).start()
        return sum(int(tf.size(tensor)) for tensor in tf.nest.flatten(state))

    assert carried(64) == carried(8)


# What is known enters each method's loop, whatever the network: channels in groups, without, and nothing read at all.
KNOWN = {
    "pixel_cnn": [*FAST_METHODS, "oracle"],
    "gated_pixel_cnn_mixture": ["cached"],
    "pixel_cnn_pp_binary": ["cached"],
    "row_lstm": ["cached"],
    "diagonal_bilstm": ["cached"],
    "vae": ["auto", "oracle"],
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_pixels_stay_and_the_others_follow_from_them(name):
    model = make_model(name, "float64")
    seeds = tf.range(5, dtype=tf.int64)
    latents, shape = model.sample_prior(seeds), model.config.image_shape
    given = tf.constant(np.random.default_rng(0).integers(0, model.config.num_values, (5, *shape)), tf.int32)
    mask = noise.uniform(seeds, noise.stream(noise.Kind.PIXELS), (*shape[:2], 1)) < 0.5
    # One row that all images know, between others.
    mask |= (tf.range(shape[0]) == 1)[:, None, None]
    for method in KNOWN[name]:
        grid = model.likelihood(latents)
        numbers = grid.noise(seeds, noise.stream(noise.Kind.PIXELS))
        filled = grid.transform(numbers, sampling.Known(given, mask), method)
        expected = np.where(mask, given, _drawn_again(model, latents, filled, seeds))
        np.testing.assert_array_equal(filled, expected, err_msg=method)
        assert (filled.numpy() != given.numpy()).any()
        # Nothing known and everything known are the two ends.
        nothing = grid.transform(numbers, sampling.Known(given, tf.zeros_like(mask)), method)
        np.testing.assert_array_equal(nothing, _drawn_again(model, latents, nothing, seeds))
        everything = grid.transform(numbers, sampling.Known(given, tf.ones_like(mask)), method)
        np.testing.assert_array_equal(everything, given)


@pytest.mark.parametrize("name", ["gated_pixel_cnn", "pixel_cnn"])
def test_rounds_are_bounded_and_counted(name):
    model = make_model(name)
    grid = model.likelihood([])
    numbers = grid.noise(tf.range(3, dtype=tf.int64), noise.stream(noise.Kind.PIXELS))
    height, width, _ = model.config.image_shape
    groups = model.network.channel_groups
    stepper = model.network.stepper(None, 3, (height, width))
    values, counts = sampling.rows(stepper, groups, model.site, numbers)
    # One round at least finds that nothing changes; one a location makes the next one right.
    assert counts.shape == (height,) and (counts >= 1).numpy().all() and (counts <= width * groups + 1).numpy().all()
    np.testing.assert_array_equal(sampling.cached(stepper, groups, model.site, numbers), values)


class _Recall(CausalLayer):
    """A network that answers with what it was told: the value at the location before, plus one."""

    def call(self, x, context=None, training=False, seed=None):
        shape = tf.shape(x)
        flat = tf.reshape(x, (shape[0], -1))
        before = tf.pad(flat[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        return _next_value(tf.reshape(before, shape[:3]))

    def stepper(self, context, batch, size):
        return _RecallStepper(tf.fill((batch,), -1))


def _next_value(value):
    return 1e6 * tf.one_hot((value + 1) % 5, 5)


@dataclasses.dataclass
class _RecallStepper(Stepper):
    """Its state is the last value of the row above."""

    before: tf.Tensor

    def start(self):
        return self.before

    def next_row(self, state, finished, row):
        return finished, finished[:, -1, 0]

    def row(self, state, x):
        return _next_value(tf.concat([state[:, None], x[:, :-1, 0]], axis=1)), state

    def step(self, state, x, column, group):
        return _next_value(tf.where(column > 0, x[:, 0], state)), state


@pytest.mark.parametrize("method", [*FAST_METHODS, "oracle", "auto"])
def test_a_step_is_given_what_was_drawn_last(method):
    recall = sampling.Autoregression(_Recall(), CategoricalSite(5))
    images = sampling.sample(recall, tf.fill((2, 3, 4, 1), 0.5), method)
    np.testing.assert_array_equal(images[0].numpy().ravel(), np.arange(12) % 5)


def test_known_values_come_in_any_dtype_and_in_the_grids_shape():
    network, site = Chain([ScalePixels(2), MaskedConv2D(1, 3, "A")]), BernoulliSite(1)
    grid = AutoregressiveGrid(network, site, (4, 5, 1), temperature=tf.ones(3))
    numbers = grid.noise(tf.range(3, dtype=tf.int64), noise.stream(noise.Kind.PIXELS))
    values, mask = np.ones((3, 4, 5, 1), np.uint8), np.ones((3, 4, 5, 1), np.uint8)
    mask[:, 2:] = 0
    drawn = grid.transform(numbers, sampling.Known(values, mask)).numpy()
    assert (drawn[:, :2] == 1).all() and (drawn[:, 2:] != 1).any()
    for known, name in ((sampling.Known(values[:, 1:], mask), "values"), (sampling.Known(values, mask[:2]), "mask")):
        with pytest.raises(ValueError, match=rf"known\.{name} must be of shape \[3, 4, 5, 1\]"):
            grid.transform(numbers, known)


def test_rows_that_all_images_know_are_not_drawn():
    steps = tf.Variable(0)

    class CountingStepper(_RecallStepper):
        def step(self, *args):
            steps.assign_add(1)
            return super().step(*args)

    class Counting(_Recall):
        def stepper(self, context, batch, size):
            return CountingStepper(tf.fill((batch,), -1))

    network, noise = Counting(), tf.fill((2, 4, 3, 1), 0.5)
    mask = np.ones((2, 4, 3, 1), bool)
    mask[0, 1], mask[1, 3, 2] = False, False  # a row of one image, and the last pixel of the other
    known = sampling.Known(tf.fill((2, 4, 3, 1), 3), tf.constant(mask))
    counting = sampling.Autoregression(network, CategoricalSite(5))
    images = sampling.sample(counting, noise, "cached", known).numpy()
    assert steps.numpy() == 2 * 3
    assert images[0, :, :, 0].tolist() == [[3] * 3, [4, 0, 1], [3] * 3, [3] * 3] and images[1, 3, 2, 0] == 4
    values, rounds = sampling.rows(network.stepper(None, 2, (4, 3)), 1, CategoricalSite(5), noise, known=known)
    np.testing.assert_array_equal(values, images)
    assert rounds[0] == rounds[2] == 0 < min(rounds[1], rounds[3])


def test_gaussian_grids_are_sampled_by_the_same_loop():
    network = Chain([MaskedConv2D(8, 3, "A"), MaskedConv2D(4, 3, "B")])
    site = GaussianSite(2)
    network.build((None, 4, 4, 2))
    normals = noise.normal(tf.range(3, dtype=tf.int64), noise.stream(noise.Kind.PRIOR), (4, 4, 2))
    latents = sampling.Autoregression(network, site)
    oracle = sampling.sample(latents, normals, "oracle")
    for method in (*FAST_METHODS, "auto"):
        # 16 locations, each a sum of 36 products of order one in float32, the errors carried on.
        np.testing.assert_allclose(sampling.sample(latents, normals, method), oracle, atol=1e-4)
    assert np.std(oracle) > 0.5


def test_called_eagerly_the_loops_are_graphs_that_are_kept():
    """One for the first batch size, one for all others; temperatures and new weights need none."""
    model = make_model("hierarchy", "float64")
    seeds = tf.range(5, dtype=tf.int64)
    expected = tf.function(
        model.sample, input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([])], autograph=False
    )
    for size, temperature in ((2, 1.0), (3, 0.5), (4, 0.7), (5, tf.constant(0.9)), (5, 2)):
        np.testing.assert_array_equal(
            model.sample(seeds[:size], temperature), expected(seeds[:size], tf.cast(temperature, tf.float32))
        )
    networks = [model.network, model.levels[0].prior_network]
    sites = [model.site, model.prior(0, model.sample_prior(seeds)[1]).site]
    graphs = [
        graph
        for network, site in zip(networks, sites, strict=True)
        for (_, _, eager), graph in sampling._graphs[network][site].items()
        if eager
    ]
    assert [graph.experimental_get_tracing_count() for graph in graphs] == [2, 2]
    before = model.sample(seeds)
    model.network.layers[-1].bias.assign_add(tf.random.normal(model.network.layers[-1].bias.shape, dtype=tf.float64))
    assert (model.sample(seeds).numpy() != before.numpy()).any()
    assert [graph.experimental_get_tracing_count() for graph in graphs] == [2, 2]


@pytest.mark.parametrize("method", ["cached", "rows", "oracle"])
def test_one_network_samples_images_of_several_sizes(method):
    network, site = Chain([ScalePixels(2), MaskedConv2D(4, 3, "A"), MaskedConv2D(1, 3, "B")]), BernoulliSite(1)
    for size in (3, 5):
        noise = tf.random.stateless_uniform((2, size, size, 1), (0, 1))
        drawn = AutoregressiveGrid(network, site, (size, size, 1)).transform(noise, method=method)
        fresh = Chain.from_config(network.get_config())
        fresh.build((None, size, size, 1))
        fresh.set_weights(network.get_weights())
        expected = sampling.oracle(sampling.Autoregression(fresh, site), noise)
        np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("method", ["cached", "rows"])
def test_a_residual_above_the_last_vertical_stack_is_sampled(method):
    blocks = [ScalePixels(2), SplitStreams(), GatedBlock(4, 3, "A"), GatedBlock(4, 3, keep_vertical=False)]
    network = Chain([*blocks, Residual([Activation("relu"), HorizontalConv2D(4, 1)]), MaskedConv2D(1, 1)])
    grid = AutoregressiveGrid(network, BernoulliSite(1), (4, 5, 1))
    noise = tf.random.stateless_uniform((3, 4, 5, 1), (0, 1))
    np.testing.assert_array_equal(grid.transform(noise, method=method), grid.transform(noise, method="oracle"))


@pytest.mark.parametrize("gone", ["network", "site"])
def test_graphs_go_with_their_network_and_their_site(gone):
    kept = {"network": Chain([MaskedConv2D(4, 3, "A"), MaskedConv2D(2, 3, "B")]), "site": GaussianSite(1)}
    kept["network"].build((None, 2, 2, 1))
    sampling.sample(sampling.Autoregression(**kept), tf.zeros((1, 2, 2, 1)))
    assert kept["site"] in sampling._graphs[kept["network"]]
    parts = [kept[gone], sampling._graph(*kept.values(), "auto", (2, 2, 1))]
    parts += kept["network"].weights if gone == "network" else []
    parts = [weakref.ref(part) for part in parts]
    del kept[gone]
    gc.collect()
    assert not any(part() for part in parts)


def test_unknown_method():
    with pytest.raises(ValueError, match="method must be one of auto, cached, rows"):
        recall = sampling.Autoregression(_Recall(), CategoricalSite(5))
        sampling.sample(recall, tf.zeros((1, 1, 1, 1)), "magic")
