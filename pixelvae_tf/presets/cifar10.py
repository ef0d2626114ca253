"""CIFAR-10, 32x32 RGB: the autoregressive models at the sizes of their papers. For GPUs."""

from pixelvae_tf.config import (
    Config,
    DataConfig,
    DiagonalBiLSTMConfig,
    GatedPixelCNNConfig,
    ModelConfig,
    PixelCNNConfig,
    PixelCNNPPConfig,
    RowLSTMConfig,
    TrainConfig,
)
from pixelvae_tf.presets.registry import preset

# The papers' 128 and 1024 features, rounded to what three channel groups divide.
FILTERS, OUTPUT_FILTERS = 129, 1023


@preset("cifar10/pixel_cnn")
def pixel_cnn() -> Config:
    """PixelCNN (2016a): 15 residual blocks of masked convolutions, R then G then B.

    pixelvae-train --config=cifar10/pixel_cnn --workdir=DIR

    Cost: 4,385,829 weights, 3.3 G multiply-adds.

    Expected: 3.14 bits/dim (2016a).
    """
    return Config(
        data=DataConfig(name="cifar10"),
        model=ModelConfig(
            image_shape=(32, 32, 3),
            num_values=256,
            pixels=PixelCNNConfig(num_layers=15, filters=FILTERS, output_filters=OUTPUT_FILTERS),
        ),
        train=TrainConfig(batch_size=16, steps=500_000, learning_rate_decay="cosine"),
    )


@preset("cifar10/gated_pixel_cnn")
def gated_pixel_cnn() -> Config:
    """Gated PixelCNN (2016b), R then G then B.

    pixelvae-train --config=cifar10/gated_pixel_cnn --workdir=DIR

    Cost: 10,535,160 weights, 10.4 G multiply-adds.

    Expected: 3.03 bits/dim (2016b).

    The paper gives no size for CIFAR-10; this one is that of PixelCNN (2016a).
    """
    config = pixel_cnn()
    config.model.pixels = GatedPixelCNNConfig(num_layers=15, filters=FILTERS)
    return config


@preset("cifar10/row_lstm")
def row_lstm() -> Config:
    """PixelRNN with Row LSTMs (2016a): 12 layers of 128 units (here 129).

    pixelvae-train --config=cifar10/row_lstm --workdir=DIR

    Cost: 8,137,407 weights, 6.9 G multiply-adds.

    Expected: 3.07 bits/dim (2016a).
    """
    config = pixel_cnn()
    config.model.pixels = RowLSTMConfig(num_layers=12, filters=FILTERS, output_filters=OUTPUT_FILTERS)
    return config


@preset("cifar10/diagonal_bilstm")
def diagonal_bilstm() -> Config:
    """PixelRNN with Diagonal BiLSTMs (2016a): 12 layers of 128 units (here 129).

    pixelvae-train --config=cifar10/diagonal_bilstm --workdir=DIR

    Cost: 8,954,751 weights, 7.7 G multiply-adds.

    Expected: 3.00 bits/dim (2016a).
    """
    config = pixel_cnn()
    config.model.pixels = DiagonalBiLSTMConfig(num_layers=12, filters=FILTERS, output_filters=OUTPUT_FILTERS)
    return config


@preset("cifar10/pixel_cnn_pp")
def pixel_cnn_pp() -> Config:
    """PixelCNN++ (2017): 5 blocks a resolution, 160 filters, a mixture of 10 quantised logistics.

    pixelvae-train --config=cifar10/pixel_cnn_pp --workdir=DIR

    Cost: 53,553,000 weights, 24.4 G multiply-adds.

    Expected: 2.92 bits/dim (2017).
    """
    return Config(
        data=DataConfig(name="cifar10"),
        model=ModelConfig(
            image_shape=(32, 32, 3),
            num_values=256,
            pixels=PixelCNNPPConfig(),
            likelihood="logistic_mixture",
            num_mixtures=10,
        ),
        train=TrainConfig(steps=500_000, batch_size=128, learning_rate_decay="exponential", average_decay=0.9995),
    )


@preset("cifar10/pixel_cnn_pp_class_conditional")
def pixel_cnn_pp_class_conditional() -> Config:
    """PixelCNN++ (2017) given the image's class: log p(x | label).

    pixelvae-train --config=cifar10/pixel_cnn_pp_class_conditional --workdir=DIR

    Cost: 53,665,640 weights, 24.4 G multiply-adds.

    Expected: no published number in the sources we have; without classes it is 2.92 bits/dim.
    """
    config = pixel_cnn_pp()
    config.model.num_classes = 10
    return config
