"""Layers: the causal contract over the catalogue, masks, weight norm, dropout, residual blocks."""

import catalogue
import contract
import keras
import numpy as np
import pytest
import tensorflow as tf

from pixelvae_tf import layers
from pixelvae_tf.layers.dropout import dropout
from pixelvae_tf.layers.gated import GAIN_AFTER_GATE, gate
from pixelvae_tf.layers.weight_norm import multiply_adds


@pytest.mark.parametrize("case", catalogue.CAUSAL_LAYERS, ids=lambda case: case.name)
def test_causal_contract(case):
    contract.check_causal_layer(case)


def test_every_causal_layer_is_in_the_catalogue():
    def kinds(layer):
        return {type(layer)}.union(*(kinds(part) for part in getattr(layer, "layers", [])))

    listed = set().union(*(kinds(case.make()) for case in catalogue.CAUSAL_LAYERS))
    exported = {getattr(layers, name) for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    causal = {kind for kind in exported if issubclass(kind, layers.CausalLayer)}
    assert causal - listed == {layers.CausalLayer, layers.PointwiseLayer}


def test_the_contract_test_finds_a_leak():
    case = next(case for case in catalogue.CAUSAL_LAYERS if case.name == "masked_a")
    leaky = catalogue.Case("leaky", lambda: layers.MaskedConv2D(4, 5, "B"), case.sees)
    with pytest.raises(
        AssertionError, match="leaks, at 20 of 20 locations: the output at row 0, column 0, unit 0 sees the"
    ):
        contract.check_dependence(leaky, (4, 5))


def test_the_contract_test_finds_an_unlisted_blind_spot():
    case = next(case for case in catalogue.CAUSAL_LAYERS if case.name == "masked_stack_with_blind_spot")
    no_blind_spot = catalogue.Case("claim", case.make, catalogue.gated_network(2, 1))
    with pytest.raises(AssertionError, match=r"has a blind spot, .* does not see the input"):
        contract.check_dependence(no_blind_spot, (4, 5))


@pytest.mark.parametrize("layer", [layers.VerticalConv2D(4, (2, 3), strides=2), layers.DownRightConv2D(4, strides=2)])
def test_strided_layers_see_up_to_their_stride(layer):
    """Output (i, j) is that of the layer without strides at (2 i, 2 j); and the config says so."""
    layer.build((None, 6, 8, 3))
    config = keras.saving.serialize_keras_object(layer)
    twin = keras.saving.deserialize_keras_object(config)
    assert twin.strides == 2 and keras.saving.serialize_keras_object(twin)["config"] == config["config"]
    config["config"]["strides"] = 1
    plain = keras.saving.deserialize_keras_object(config)
    if not plain.built:
        plain.build((None, 6, 8, 3))
    plain.set_weights(layer.get_weights())
    x = tf.random.stateless_normal((2, 6, 8, 3), (1, 2))
    assert layer.compute_output_shape((2, 6, 8, 3)) == (2, 3, 4, 4)
    np.testing.assert_allclose(layer(x), plain(x)[:, ::2, ::2], atol=1e-5)  # sums of 18 products of order one


def test_mask_is_as_drawn():
    np.testing.assert_array_equal(layers.raster_mask("A", 3, 1, 1)[..., 0, 0], [[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(
        layers.raster_mask("B", 5, 1, 1)[..., 0, 0],
        [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
    )
    np.testing.assert_array_equal(layers.raster_mask("A", 1, 3, 3, 3)[0, 0], [[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(layers.raster_mask("B", 1, 3, 3, 3)[0, 0], [[1, 1, 1], [0, 1, 1], [0, 0, 1]])


@pytest.mark.parametrize(("mask_type", "groups"), [("A", 1), ("B", 1), ("A", 3), ("B", 3)])
def test_cropped_kernels_equal_a_masked_convolution(mask_type, groups):
    layer = layers.MaskedConv2D(6, 5, mask_type, groups)
    layer.build((None, 6, 7, 3))
    x = tf.random.stateless_normal((2, 6, 7, 3), (1, 2))
    kernel = np.zeros((5, 5, 3, 6), np.float32)
    kernel[:2] = layer.above.folded()[0]
    beside, bias = layer.beside.folded()
    kernel[2, : beside.shape[1]] = beside[0]
    # The mask changes nothing: the cropped kernels have nothing where it is zero.
    np.testing.assert_array_equal(kernel, kernel * layers.raster_mask(mask_type, 5, 3, 6, groups))
    # Sums of 75 products of order one, rounded at 6e-8.
    np.testing.assert_allclose(layer(x), tf.nn.conv2d(x, kernel, 1, "SAME") + bias, atol=1e-5)


def test_weight_norm_is_the_gain_and_scales_out_of_v():
    layer = layers.WeightNormConv2D(4, (3, 3), gain=2.5)
    layer.build((None, 8, 8, 3))
    norm = tf.sqrt(tf.reduce_sum(layer.folded()[0] ** 2, axis=(0, 1, 2)))
    np.testing.assert_allclose(norm, 2.5 * np.ones(4), rtol=1e-5)
    before = layer.folded()[0]
    layer.v.assign(7.0 * layer.v)
    np.testing.assert_allclose(layer.folded()[0], before, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("filters", [7, 8, 16])  # a product and a sum, or a product alone (`weight_norm.WIDE`)
def test_a_pointwise_convolution_is_a_product_and_a_bias(filters):
    layer = layers.WeightNormConv2D(filters)
    x, upstream = tf.random.normal((3, 4, 5, 2), seed=1), tf.random.normal((3, 4, 5, filters), seed=2)
    layer.build(x.shape)
    layer.bias.assign(tf.random.normal((filters,), seed=3))
    with tf.GradientTape() as tape:
        y = layer(x)
    kernel, bias = layer.folded()
    # Sums of 3 and of 60 products of standard normals, in float32.
    np.testing.assert_allclose(y, np.einsum("...c,cf->...f", x, kernel[0, 0]) + bias, atol=1e-5)
    gradient = tape.gradient(y, layer.bias, upstream)
    np.testing.assert_allclose(gradient, np.sum(upstream, (0, 1, 2)), atol=1e-4)


def test_gates_keep_unit_variance_at_the_start():
    x = gate(tf.random.stateless_normal((100_000, 2), (3, 4)))
    # 100,000 draws give the root mean square to 0.3%; the gain is 1 / 0.34, rounded to 3.
    assert float(tf.sqrt(tf.reduce_mean(x**2))) * GAIN_AFTER_GATE == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("resample", ["none", "down", "up"])
def test_residual_block_shapes_and_config(resample):
    layer = layers.ResidualBlock(8, resample)
    x = tf.random.stateless_normal((2, 7, 5, 4), (1, 2))
    y = layer(x)
    assert tuple(y.shape) == {"none": (2, 7, 5, 8), "down": (2, 4, 3, 8), "up": (2, 14, 10, 8)}[resample]
    assert tuple(layer.compute_output_shape((2, 7, 5, 4))) == tuple(y.shape)
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (twin.filters, twin.resample) == (8, resample)


@pytest.mark.parametrize("size", [(28, 28), (8, 8), (7, 5), (1, 1)])
def test_feature_decoder_undoes_the_encoders_sizes(size):
    decoder, encoder = layers.FeatureDecoder(size, [6, 4], 8, num_blocks=1), layers.Encoder([5, 6], 3, num_blocks=1)
    features = decoder(tf.zeros((2, 3)))
    assert tuple(features.shape) == decoder.compute_output_shape((2, 3)) == (2, *size, 4)
    assert tuple(encoder(features).shape) == encoder.compute_output_shape(features.shape) == (2, *decoder.sizes[0], 6)
    assert encoder.stem.filters == 3 and decoder.first.filters == 8 * np.prod(decoder.sizes[0])
    # Latents on the grid instead of a vector.
    decoder = layers.FeatureDecoder(size, [6, 4], 8)
    assert tuple(decoder(tf.zeros((2, *decoder.sizes[0], 3))).shape) == (2, *size, 4)


def test_weight_normalised_residual_blocks_count_what_they_multiply():
    block = layers.ResidualBlock(5, "down")
    block.build((None, 7, 6, 4))
    # Both 3x3 convolutions and the shortcut make 4x3 locations.
    assert multiply_adds(block) == 4 * 3 * (9 * 4 * 5 + 9 * 5 * 5 + 4 * 5)
    block = layers.ResidualBlock(5, "up")
    block.build((None, 3, 2, 4))
    assert multiply_adds(block) == 3 * 2 * (9 * 4 * 20 + 4 * 20) + 6 * 4 * (9 * 5 * 5)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_evaluation_does_not_mix_the_images_of_a_batch(batch_norm):
    block = layers.ResidualBlock(5, "down", batch_norm=batch_norm)
    x = tf.random.stateless_normal((4, 6, 6, 3), (1, 2))
    together = block(x)
    # The same sums in another order.
    np.testing.assert_allclose(together[:1], block(x[:1]), rtol=1e-5, atol=1e-6)
    mixed = block(x, training=True)
    assert (np.abs(mixed[:1] - block(x[:1], training=True)).max() > 0.1) == batch_norm


def test_batch_normalisation_ends_with_its_moving_statistics():
    """Training on one batch again and again, evaluation comes to what training gives."""
    block = layers.ResidualBlock(5, batch_norm=True)
    x = 3.0 * tf.random.stateless_normal((8, 6, 6, 5), (1, 2)) + 1.0
    assert np.abs(block(x) - block(x, training=True)).max() > 0.1

    @tf.function
    def train():
        for _ in tf.range(2000):
            block(x, training=True)

    train()
    # 0.99**2000 of the start is left.
    np.testing.assert_allclose(block(x), block(x, training=True), rtol=1e-4, atol=1e-4)


def test_embedding_groups_units_by_channel():
    layer = layers.EmbedPixels(5, dim=2)
    layer.build((None, 3, 3, 3))
    x = tf.constant([[[[0, 1, 4]]]])
    table = np.asarray(layer.table)
    np.testing.assert_array_equal(
        layer(x)[0, 0, 0], np.stack([table[0, 0], table[1, 1], table[2, 4]], axis=-1).reshape(-1)
    )


def test_dropout_depends_on_its_seed_alone():
    x = tf.ones((50, 40))
    a, b = dropout(x, 0.25, True, tf.constant([1, 2])), dropout(x, 0.25, True, tf.constant([1, 3]))
    np.testing.assert_array_equal(a, dropout(x, 0.25, True, tf.constant([1, 2])))
    assert (a.numpy() != b.numpy()).any()
    # 2,000 draws: the share dropped has a standard deviation of 0.0097; five of them.
    assert abs(float(tf.reduce_mean(tf.cast(a == 0, tf.float32))) - 0.25) < 0.05
    np.testing.assert_allclose(np.unique(a), [0, 1 / 0.75], rtol=1e-6)
    assert dropout(x, 0.25, False, None) is x
    with pytest.raises(ValueError, match="seed must be"):
        dropout(x, 0.25, True, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.HorizontalConv2D(4, 4), "kernel_size must be k or"),
        (lambda: layers.HorizontalConv2D(4, 3, "C"), "mask_type must be"),
        (lambda: layers.HorizontalConv2D(4, 3, "A", 3), "filters must be a multiple"),
        (lambda: layers.HorizontalConv2D(4, 1, "A"), "kernel_size must be at least 3"),
        (lambda: layers.GatedPointwise(3, 2), "filters must be a multiple"),
        (lambda: layers.WeightNormConv2D(4, 3, padding="SAME"), "padding must be same or valid. Received: 'SAME'"),
        (lambda: layers.Chain([]), r"layers must be causal layers, at least one .* Received: \[\]"),
        (lambda: layers.Chain([keras.layers.Dense(2)]), "layers must be causal layers, .* Received: .*Dense"),
        (lambda: layers.Chain([layers.Activation()] * 2), "layers must be .* each once. Received: .*Activation"),
        (
            lambda: layers.Chain([layers.MaskedConv2D(6, 3, "A", groups=3), layers.MaskedConv2D(6, 3)]),
            r"layers must have the same number of channel groups. Received: \[1, 3\]",
        ),
        (
            lambda: layers.Residual([layers.MaskedConv2D(6, 3)]).build((None, 4, 4, 1)),
            r"must give the shape they are given, \(None, 4, 4, 1\). Received: \(None, 4, 4, 6\)",
        ),
        (lambda: layers.ResidualBlock(4, "sideways"), "resample must be"),
        (lambda: layers.PixelCNNPP(4, 1, 2).build((None, 5, 4, 1)), r"x must have sides .* of 2 for num_scales=2"),
        (lambda: layers.PixelCNNPP(4, 1, 2).build((None, 4, 5, 1)), r"x must have sides .* of 2 for num_scales=2"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_missing_context_is_named():
    layer = layers.GatedBlock(4, 3)
    layer.build(((None, 4, 4, 4), (None, 4, 4, 4)), (None, 3))
    x = tf.zeros((1, 4, 4, 4))
    with pytest.raises(ValueError, match="context of layer"):
        layer((x, x))
