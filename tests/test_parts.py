"""Layers and distributions used alone: any causal Keras layer, networks that were never called, joint distributions."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf import layers
from pixelvae_tf.distributions import AutoregressiveGrid, BernoulliSite, CategoricalSite
from pixelvae_tf.layers import Chain, MaskedConv2D, ScalePixels
from pixelvae_tf.noise import Kind, stream

tfd = tfp.distributions


class Left(keras.layers.Layer):
    """A causal layer as anybody writes it: sees one pixel to the left, and a context if there is one."""

    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, inputs):
        x, *context = inputs if isinstance(inputs, list) else [inputs]
        y = self.dense(tf.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1])
        return y + sum(tf.reduce_sum(c, axis=1)[:, None, None, None] for c in context)


@pytest.mark.parametrize("context", [None, np.zeros((2, 3), np.float32), np.ones(3, np.float32)], ids=str)
def test_any_causal_keras_layer_makes_a_distribution(context):
    grid = AutoregressiveGrid(Left(4), CategoricalSite(4), (2, 3, 1), context)
    batch = () if context is None or context.ndim == 1 else (2,)
    assert grid.batch_shape == batch
    sample = grid.sample(5, seed=(1, 2))
    assert sample.shape == (5, *batch, 2, 3, 1) and grid.log_prob(sample).shape == (5, *batch)
    # A context for each image, or the same for all.
    noise = grid.noise(2, stream(Kind.PIXELS))
    assert grid.transform(noise).shape == grid.conditionals(grid.transform(noise)).sample(seed=(1, 2)).shape
    with pytest.raises(ValueError, match="method must be auto or oracle for a network that is no"):
        grid.transform(noise, method="rows")


def test_a_network_of_ones_own_is_traced_once_for_all_grids_of_its_size_and_goes_when_nobody_has_it():
    traced = []

    class Counting(Left):
        def call(self, inputs):
            traced.append(tf.executing_eagerly())
            return super().call(inputs)

    network, site = Counting(4), CategoricalSite(4)
    grids = [AutoregressiveGrid(network, site, (2, 3, 1)) for _ in range(2)]
    noise = grids[0].noise(2, stream(Kind.PIXELS))
    first = grids[0].transform(noise)
    before = len(traced)
    np.testing.assert_array_equal(grids[1].transform(noise), first)
    assert len(traced) == before and not traced[-1]
    grid, gone = AutoregressiveGrid(Left(4), site, (2, 3, 1)), weakref.ref(network)
    del network, grids
    gc.collect()
    assert gone() is None
    assert grid.log_prob(first).shape == (2,), "a grid keeps its network"


class Ordered(keras.layers.Layer):
    """The logits of four values of a channel, given the channels before it at the same location."""

    channel_groups = 3

    def call(self, x):
        before = tf.cumsum(x, axis=-1, exclusive=True)
        return tf.concat([3.0 * tf.sin(before + value) for value in range(4)], axis=-1)


def test_channels_that_a_network_orders_are_drawn_one_after_the_other():
    network, site = Ordered(), CategoricalSite(4, 3)
    grid = AutoregressiveGrid(network, site, (2, 3, 3))
    noise = grid.noise(20, stream(Kind.PIXELS))
    images = grid.transform(noise)
    # A sample is what its noise draws given the sample.
    np.testing.assert_array_equal(site.transform(network(tf.cast(images, tf.float32)), noise), images)


def test_a_network_that_was_never_called_samples():
    network = Chain([ScalePixels(4), MaskedConv2D(8, 3, "A"), MaskedConv2D(4, 1)])
    grid = AutoregressiveGrid(network, CategoricalSite(4), (2, 3, 1))
    assert grid.log_prob(grid.sample(2, seed=(1, 2))).shape == (2,)


@pytest.mark.parametrize(
    ("network", "site", "message"),
    [
        (
            lambda: Chain([ScalePixels(4), MaskedConv2D(4, 3, "A")]),
            CategoricalSite(5),
            r"must give \[None, 2, 3, 5\].*, 4\]",
        ),
        (lambda: Left(4), CategoricalSite(5), r"network must give \[None, 2, 3, 5\], the parameters .*, 4\]"),
        (lambda: Left(4), CategoricalSite(4, 3), r"event_shape must be \(H, W, 3\), .*Received: \(2, 3, 1\)"),
        (lambda: np.sin, CategoricalSite(4), "network must be a Keras layer or model. Received: <ufunc"),
    ],
)
def test_networks_and_sites_that_do_not_fit_are_named(network, site, message):
    with pytest.raises(ValueError, match=message):
        AutoregressiveGrid(network(), site, (2, 3, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be in 1e-06..1e[+]06. Received: 0.0"),
        ({"temperature": [1.0, 1.0]}, r"must have one entry for each image, .* Received: context 3, temperature 2"),
        ({"context": np.ones((3, 4), int)}, r"context must be floating point, .* Received: int64 of shape \(3, 4\)"),
    ],
)
def test_what_a_grid_is_given_is_checked(options, message):
    options = {"context": np.ones((3, 4), np.float32), **options}
    with pytest.raises(ValueError, match=message):
        AutoregressiveGrid(Chain([ScalePixels(4), MaskedConv2D(4, 3, "A")]), CategoricalSite(4), (2, 3, 1), **options)


def test_values_are_as_many_as_contexts():
    network = Chain([ScalePixels(4), MaskedConv2D(4, 3, "A")])
    grid = AutoregressiveGrid(network, CategoricalSite(4), (2, 3, 1), np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"must have one entry for each image, .* Received: context 3, value 2"):
        grid.log_prob(np.zeros((2, 2, 3, 1), int))
    assert grid.log_prob(np.zeros((2, 3, 2, 3, 1), int)).shape == (2, 3)


def test_a_trained_layer_is_taken_into_another_network():
    """With its weights: a chain builds what is not built."""
    trunk = Chain([ScalePixels(4), MaskedConv2D(4, 3, "A")])
    trunk.build((None, 2, 3, 1))
    before = [weight.numpy() for weight in trunk.weights]
    network = Chain([trunk, layers.Activation(), MaskedConv2D(4, 1)])
    AutoregressiveGrid(network, CategoricalSite(4), (2, 3, 1))
    for weight, value in zip(trunk.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_what_a_residual_adds_is_read():
    """Though its layers forget it: else the sampler would ask the network once, for all locations."""
    forgets = layers.Residual([layers.FromContext()])
    network = Chain([ScalePixels(2), MaskedConv2D(4, 3, "A"), forgets, layers.HorizontalConv2D(1, 1)])
    assert network.reads_values
    context = np.random.default_rng(0).normal(size=(4, 6, 6, 4)).astype(np.float32)
    grid = AutoregressiveGrid(network, BernoulliSite(), (6, 6, 1), context)
    cached, oracle = (grid.sample(seed=(1, 2), method=method) for method in ("cached", "oracle"))
    np.testing.assert_array_equal(cached, oracle)


def test_pixel_values_must_be_made_features():
    grid = AutoregressiveGrid(MaskedConv2D(4, 3, "A"), CategoricalSite(4), (2, 3, 1))
    for call in (lambda: grid.log_prob(np.zeros((2, 3, 1), int)), lambda: grid.sample(2)):
        with pytest.raises(ValueError, match=r"must be floating point; a layer ScalePixels\(num_values\)"):
            call()


@pytest.mark.parametrize("number", [(), (3,)])
def test_a_grid_is_a_part_of_a_joint_distribution(number):
    network = Chain([ScalePixels(4), MaskedConv2D(4, 3, "A")])
    joint = tfd.JointDistributionSequential(
        [
            tfd.MultivariateNormalDiag(tf.zeros(2)),
            lambda z: AutoregressiveGrid(network, CategoricalSite(4), (2, 3, 1), context=z),
        ]
    )
    z, x = joint.sample(*number, seed=(1, 2))
    assert z.shape == (*number, 2) and x.shape == (*number, 2, 3, 1)
    grid = AutoregressiveGrid(network, CategoricalSite(4), (2, 3, 1), context=z)
    expected = tfd.MultivariateNormalDiag(tf.zeros(2)).log_prob(z) + grid.log_prob(x)
    np.testing.assert_allclose(joint.log_prob(z, x), expected, rtol=1e-6)


@pytest.mark.parametrize("kernel_size", [3, (3, 3), [3, 3], np.int64(3)])
def test_a_square_kernel_is_given_as_in_keras(kernel_size):
    x = tf.zeros((1, 2, 3, 4))
    for layer in (MaskedConv2D(4, kernel_size), layers.HorizontalConv2D(4, kernel_size)):
        assert layer(x).shape == (1, 2, 3, 4) and layer.get_config()["kernel_size"] == 3
    assert layers.GatedBlock(4, kernel_size)((x, x))[0].shape == (1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"kernel_size must be k or \(k, k\), odd and positive. Received: .*\(3, 5\)"):
        MaskedConv2D(4, (3, 5))


def test_a_gated_block_names_the_streams_that_it_takes():
    with pytest.raises(
        ValueError, match=r"must be a pair of streams .* SplitStreams\(\) .*Received: one tensor of shape"
    ):
        layers.GatedBlock(4, 3)(tf.zeros((1, 2, 3, 4)))


def test_causal_layers_stand_in_a_functional_model(tmp_path):
    images, condition = keras.Input((2, 3, 1), dtype="uint8"), keras.Input((5,))
    features = layers.Chain([ScalePixels(4), layers.SplitStreams(), layers.GatedBlock(4, 3, "A")])(images)
    _, horizontal = layers.GatedBlock(4, 3)(features, context=condition)
    model = keras.Model([images, condition], keras.layers.Conv2D(4, 1)(horizontal))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    inputs = [np.ones((2, 2, 3, 1), np.uint8), np.ones((2, 5), np.float32)]
    np.testing.assert_array_equal(again(inputs), model(inputs))
    # The model is causal: what it gives are parameters of a distribution.
    grid = AutoregressiveGrid(model, CategoricalSite(4), (2, 3, 1), context=inputs[1])
    assert grid.log_prob(grid.sample(seed=(1, 2))).shape == (2,)
