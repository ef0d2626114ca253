"""The causality check that users get: it names leaks and blind spots of layers of any kind, and finds wrong steps."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from pixelvae_tf import layers
from pixelvae_tf.testing import Inputs, check_causal_layer, check_dependence

SIZE = (4, 5, 1)


class Masked(keras.layers.Conv2D):
    """As users write it: a mask multiplied onto the kernel."""

    def __init__(self, filters, kernel_size, mask_type, **kwargs):
        super().__init__(filters, kernel_size, padding="same", dtype="float64", **kwargs)
        self.mask_type = mask_type

    def call(self, x):
        mask = layers.raster_mask(self.mask_type, self.kernel_size[0], x.shape[-1], self.filters)
        return tf.nn.conv2d(x, self.kernel * mask, 1, "SAME") + self.bias


class WithoutMask(Masked):
    """A leak: the mask is forgotten."""

    def call(self, x):
        return keras.layers.Conv2D.call(self, x)


class Wrapped(keras.layers.Layer):
    """A leak as they are made: the last row's padding comes from below, the first column sees the end of its row."""

    def call(self, x):
        return tf.roll(x, 1, axis=2)


class Gated(keras.layers.Layer):
    """A leak behind a gate that starts closed."""

    def build(self, shape):
        self.gate = self.add_weight(shape=(), initializer="zeros", name="gate")

    def call(self, x):
        return (
            self.gate * tf.reduce_mean(x, axis=(1, 2), keepdims=True)
            + tf.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]
        )


def test_a_network_of_masked_layers_has_its_blind_spot_by_name():
    """Two 3x3 kernels never see above and far to the right, nor beyond their reach."""
    network = keras.Sequential([Masked(4, 3, "A"), keras.layers.ReLU(dtype="float64"), Masked(2, 3, "B")])
    before = check_causal_layer(network, SIZE)
    assert "1 row above, 2 columns to the right" in before and "3 rows above" in before
    assert "1 row above, 1 column to the right" not in before and "1 column to the left" not in before
    assert "the location itself" not in before, "a strict network must not see it"
    # One layer more sees further.
    wider = keras.Sequential([*network.layers, Masked(2, 5, "B")])
    after = check_causal_layer(wider, SIZE)
    assert set(after) < set(before)
    assert check_causal_layer(layers.Chain([layers.PixelCNNPP(4, 2, 1), layers.MaskedConv2D(2, 1)]), SIZE) == []


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            WithoutMask(2, 3, "A"),
            "'no_mask' leaks, at 20 of 20 locations: .* row 0, column 0, unit 0 sees the input at row 0",
        ),
        (Masked(2, 3, "B"), "leaks, .* row 0, column 0, unit 0 sees the input at row 0, column 0, unit 0"),
        (
            Wrapped(),
            "leaks, at 4 of 20 locations: .* row 0, column 0, unit 0 sees the input at row 0, column 4, unit 0",
        ),
        (Gated(), "leaks, at 20 of 20 locations"),
        (keras.layers.Conv2D(2, 1), "leaks"),
    ],
)
def test_a_leak_is_named(layer, message):
    layer.name = "no_mask" if isinstance(layer, WithoutMask) else layer.name
    with pytest.raises(AssertionError, match=message):
        check_causal_layer(layer, SIZE)
    if isinstance(layer, Gated):
        assert layer.gate.numpy() == 0, "weights are as they were"


def test_a_layer_behind_the_first_may_see_its_own_location():
    assert "1 column to the right" not in check_causal_layer(Masked(2, 3, "B"), SIZE, mask_type="B")
    assert "the location itself" in check_causal_layer(Masked(2, 3, "A"), SIZE, mask_type="B")


def test_channels_are_ordered_in_groups():
    def network(groups):
        return layers.Chain([layers.MaskedConv2D(6, 3, "A", groups), layers.MaskedConv2D(6, 1, "B", groups)])

    check_causal_layer(network(3), (3, 3, 3), groups=3)
    with pytest.raises(AssertionError, match=r"leaks, .* unit 1 sees the input at row 0, column 0, unit 0"):
        check_causal_layer(network(3), (3, 3, 3))


def test_pixel_values_are_changed_where_there_is_no_derivative():
    def network(mask_type):
        return layers.Chain([layers.EmbedPixels(5, 3), layers.MaskedConv2D(4, 3, mask_type)])

    assert "1 row above" not in check_causal_layer(network("A"), SIZE, num_values=5)
    with pytest.raises(AssertionError, match="leaks"):
        check_causal_layer(network("B"), SIZE, num_values=5)


def test_what_a_layer_sees_exactly_may_be_said():
    def left(output, source, at, place):
        (r, c, _), (i, j, _) = at, place
        return (i == r) & (j == c - 1)

    layer = Gated()  # whose gate is closed, but for the check
    with pytest.raises(AssertionError, match="leaks"):
        check_dependence(layer, Inputs(SIZE), left)
    shifted = layers.HorizontalConv2D(2, 3, "A")
    row = Inputs(SIZE, streams="horizontal")
    check_dependence(shifted, row, left)

    def two_to_the_left(output, source, at, place):
        (r, c, _), (i, j, _) = at, place
        return (i == r) & (c - 2 <= j) & (j < c)

    with pytest.raises(
        AssertionError, match=r"has a blind spot, at 12 of 20 .* column 2, unit 0 does not see the input"
    ):
        check_dependence(shifted, row, two_to_the_left)


def test_steps_that_differ_from_the_whole_are_found():
    class Late(layers.MaskedConv2D):
        """Forgets the rows above."""

        def stepper(self, context, batch, size):
            return dataclasses.replace(super().stepper(context, batch, size), above=None)

    with pytest.raises(AssertionError, match="differs from its locations"):
        check_causal_layer(Late(4, 3), SIZE, mask_type="B")


def test_the_context_is_seen_and_not_checked():
    layer = layers.MaskedConv2D(4, 3, "A")
    check_causal_layer(layer, SIZE, (4, 5, 2))
    assert np.all(layer.context_projection.g.numpy() == 0), "a gain that starts at 0 stays"
