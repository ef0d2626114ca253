"""What the benchmarks compare with: `tfp.distributions.PixelCNN` at the size of a model of ours."""

import tensorflow_probability as tfp

from pixelvae_tf.config import ModelConfig, PixelCNNPPConfig

# 2 blocks a resolution, 3 resolutions, 32 filters; a mixture of 5.
PP = PixelCNNPPConfig(num_blocks=2, num_scales=3, filters=32, dropout=0.5)
PP_MIXTURES = 5


def pixel_cnn_pp(image_shape: tuple[int, int, int]) -> ModelConfig:
    """Our PixelCNN++ for images (H, W, C) of 256 values."""
    return ModelConfig(image_shape, 256, [], PP, likelihood="logistic_mixture", num_mixtures=PP_MIXTURES)


def tfp_pixel_cnn(image_shape: tuple[int, int, int]) -> tfp.distributions.PixelCNN:
    """Theirs, of the same blocks, filters, resolutions, mixtures and dropout."""
    return tfp.distributions.PixelCNN(
        image_shape=image_shape,
        num_resnet=PP.num_blocks,
        num_hierarchies=PP.num_scales,
        num_filters=PP.filters,
        num_logistic_mix=PP_MIXTURES,
        dropout_p=PP.dropout,
        use_data_init=False,
    )
