"""The equations of layers: what a whole image, a row and a step could have wrong together, and agree."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from family import GATED, MAP, MODELS, STREAMS, VECTOR

import pixelvae_tf
from pixelvae_tf import bounds, layers
from pixelvae_tf.config import Config, LevelConfig, ModelConfig
from pixelvae_tf.layers import gated, recurrent, residual_streams


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_an_lstm_is_the_papers_with_an_open_forget_gate():
    generator = np.random.default_rng(0)
    i, f, o, g, cell = generator.normal(size=(5, 4, 3))
    hidden, new_cell = recurrent.lstm(tf.constant(np.concatenate([i, f, o, g], axis=-1)), tf.constant(cell))
    expected = _sigmoid(f + 1) * cell + _sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(new_cell, expected, rtol=1e-12)
    np.testing.assert_allclose(hidden, _sigmoid(o) * np.tanh(expected), rtol=1e-12)


def test_both_signs_of_a_unit_go_through_the_elu():
    x = np.array([[-2.0, 0.5]])
    np.testing.assert_allclose(residual_streams.concat_elu(x), [[np.expm1(-2), 0.5, 2.0, np.expm1(-0.5)]], rtol=1e-12)


@pytest.mark.parametrize(
    "block",
    [
        lambda: layers.ResidualBlock(4),
        lambda: residual_streams.ResidualStream(4, "horizontal", 0, 0.0),
        lambda: residual_streams.ResidualStream(4, "vertical", 0, 0.0),
    ],
    ids=["block", "horizontal stream", "vertical stream"],
)
def test_a_residual_block_whose_last_kernel_is_zero_is_the_identity(block):
    block = block()
    x = tf.random.stateless_normal((2, 3, 3, 4), (1, 2))
    block.build(x.shape)
    assert np.abs(block(x) - x).max() > 1e-3
    block.second.g.assign(tf.zeros_like(block.second.g))
    np.testing.assert_array_equal(block(x), x)


GATED_DROPOUT = dataclasses.replace(GATED, dropout=0.5)
PRIORS = [LevelConfig(2, (6,), True, grid, prior=GATED_DROPOUT) for grid in ((4, 4), (2, 2))]


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig((8, 8, 3), 4, [*PRIORS, VECTOR], GATED_DROPOUT),
        dataclasses.replace(MODELS["pixel_vae_pp"], levels=[MAP], pixels=STREAMS),
    ],
    ids=["gated", "streams"],
)
def test_no_two_layers_drop_units_by_the_same_numbers(config, monkeypatch):
    seeds = []

    def record(x, rate, training, seed):
        seeds.append(tuple(seed.numpy()))
        return x

    for module in (gated, residual_streams):
        monkeypatch.setattr(module, "dropout", record)
    images = tf.zeros((1, *config.image_shape), tf.int32)
    model = pixelvae_tf.build(Config(model=config))
    bounds.elbo(model, images, tf.constant([3], tf.int64), dropout_seed=tf.constant([1, 2]))
    assert len(set(seeds)) == len(seeds) >= 6


def test_a_chain_has_what_its_layers_have():
    plain, masked = (
        layers.HorizontalConv2D(6, 1, groups=3),
        layers.MaskedConv2D(6, 3, "A", groups=3),
    )
    chain = layers.Chain([masked, plain])
    assert chain.reads_values and chain.channel_groups == 3 and not chain.scans_rows
    scanning = layers.Chain([masked, layers.DiagonalBiLSTM(6, groups=3)])
    assert scanning.scans_rows
    from_context = layers.Chain([layers.FromContext(), plain])
    assert not from_context.reads_values and from_context.channel_groups == 3
