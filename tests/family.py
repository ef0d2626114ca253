"""Every model of the family, small: what holds for one must hold for all."""

import dataclasses

import numpy as np
import tensorflow as tf

import pixelvae_tf
from pixelvae_tf.config import (
    Config,
    DiagonalBiLSTMConfig,
    GatedPixelCNNConfig,
    IndependentConfig,
    LevelConfig,
    MaskedResidualConfig,
    ModelConfig,
    PixelCNNConfig,
    PixelCNNPPConfig,
    RowLSTMConfig,
    TrainConfig,
)
from pixelvae_tf.layers.context import ContextProjection
from pixelvae_tf.layers.inputs import EmbedPixels

GATED = GatedPixelCNNConfig(num_layers=2, filters=6, kernel_size=3, first_kernel_size=5)
SIZES = {"num_layers": 1, "filters": 6, "first_kernel_size": 3, "output_filters": 6}
STREAMS = PixelCNNPPConfig(num_blocks=1, num_scales=2, filters=4, dropout=0.5)
MIXTURE = {"likelihood": "logistic_mixture", "num_mixtures": 3}
MASKED = MaskedResidualConfig(num_layers=1, filters=6, first_kernel_size=3)
INDEPENDENT = IndependentConfig()
VECTOR, MAP = LevelConfig(3, (4,)), LevelConfig(3, (4, 6), upsampling=True)


def _grid(grid, prior):
    """A level of two dimensions a location, on half the resolution."""
    return LevelConfig(
        2, (6,), True, grid, stem_filters=4, decoder_filters=(5,), num_blocks=1, batch_norm=True, prior=prior
    )


MODELS = {
    "gated_pixel_cnn": ModelConfig((6, 5, 1), 2, [], GATED),
    "gated_pixel_cnn_embedded": ModelConfig((4, 4, 3), 256, [], dataclasses.replace(GATED, embedding_dim=2)),
    "gated_pixel_cnn_one_pixel": ModelConfig((1, 1, 3), 4, [], GATED),
    "gated_pixel_cnn_classes": ModelConfig((4, 5, 3), 4, [], GATED, num_classes=3),
    "gated_pixel_cnn_mixture": ModelConfig((4, 5, 3), 8, [], GATED, **MIXTURE),
    "gated_pixel_vae": ModelConfig((7, 7, 1), 4, [MAP], GATED),
    # Wide and binary: "auto" draws few images by rows, many by the cache.
    "gated_pixel_vae_wide": ModelConfig((3, 16, 1), 2, [VECTOR], GATED),
    "gated_pixel_vae_no_upsampling": ModelConfig((4, 5, 3), 4, [VECTOR], GATED),
    "gated_pixel_vae_orders": ModelConfig((4, 4, 3), 4, [MAP], GATED, orders=("raster", "transpose", "rotate_180")),
    "vae": ModelConfig((6, 5, 1), 2, [MAP], IndependentConfig()),
    "vae_categorical": ModelConfig((4, 4, 3), 4, [MAP], IndependentConfig()),
    "vae_quantized_normal": ModelConfig((4, 4, 3), 8, [MAP], IndependentConfig(), "quantized_normal"),
    "pixel_cnn": ModelConfig((4, 5, 3), 4, [], PixelCNNConfig(**SIZES)),
    "pixel_vae": ModelConfig((6, 5, 1), 2, [MAP], PixelCNNConfig(**SIZES)),
    "pixel_vae_classes": ModelConfig((5, 4, 1), 4, [MAP], PixelCNNConfig(**SIZES), num_classes=3),
    "row_lstm": ModelConfig((5, 4, 3), 4, [VECTOR], RowLSTMConfig(**SIZES)),
    "diagonal_bilstm": ModelConfig((4, 5, 3), 4, [MAP], DiagonalBiLSTMConfig(**SIZES)),
    "pixel_cnn_pp": ModelConfig((8, 4, 3), 16, [], dataclasses.replace(STREAMS, num_scales=3), **MIXTURE),
    "pixel_cnn_pp_binary": ModelConfig((4, 6, 1), 2, [], STREAMS),
    "pixel_cnn_pp_classes": ModelConfig(
        (4, 4, 3), 8, [], STREAMS, num_classes=3, orders=("flip_left_right", "transverse"), **MIXTURE
    ),
    "pixel_vae_pp": ModelConfig((4, 8, 3), 8, [MAP], STREAMS, **MIXTURE),
    "latents_on_a_grid": ModelConfig((6, 5, 1), 2, [_grid((3, 3), None)], GATED),
    "hierarchy": ModelConfig((6, 6, 3), 4, [_grid((3, 3), MASKED), MAP], MASKED),
    "hierarchy_gaussian_prior": ModelConfig((6, 5, 1), 2, [_grid((3, 3), INDEPENDENT), MAP], MASKED),
    "hierarchy_independent_pixels": ModelConfig((4, 4, 3), 4, [_grid((2, 2), MASKED), VECTOR], INDEPENDENT),
    "hierarchy_classes": ModelConfig((4, 4, 3), 4, [_grid((2, 2), GATED), VECTOR], GATED, num_classes=3),
    "hierarchy_three_levels": ModelConfig(
        (8, 8, 3), 8, [_grid((4, 4), MASKED), _grid((2, 2), GATED), VECTOR], MASKED, **MIXTURE
    ),
}


def make_model(model: str | ModelConfig, dtype: str = "float32"):
    """A model, by name or config, with fresh weights whose sites are far from uniform."""
    config = MODELS[model] if isinstance(model, str) else model
    model = pixelvae_tf.build(Config(model=config, train=TrainConfig(dtype=dtype)))
    # Larger weights at the output make every part of the network matter to a sample.
    params = model.network.layers[-1]
    params.g.assign(2.0 * params.g / params.gain)
    leave_the_start(model)
    return model


def leave_the_start(layer) -> None:
    """Lets contexts, which start without effect, matter, and tables of values, which start equal, differ by channel."""
    for part in layer._flatten_layers():
        if isinstance(part, ContextProjection):
            part.g.assign(tf.ones_like(part.g))
        if isinstance(part, EmbedPixels):
            part.table.assign(np.random.default_rng(0).standard_normal(part.table.shape))


def labels_for(model, number: int) -> tf.Tensor | None:
    """Labels of a batch, or None for a model that takes none."""
    classes = model.config.num_classes
    return tf.range(number) % classes if classes else None
