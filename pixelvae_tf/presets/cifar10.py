"""CIFAR-10, 32x32 RGB: the autoregressive models at the sizes of their papers, for GPUs; small hierarchies too."""

from pixelvae_tf.config import (
    Config,
    DataConfig,
    DiagonalBiLSTMConfig,
    GatedPixelCNNConfig,
    LevelConfig,
    MaskedResidualConfig,
    ModelConfig,
    PixelCNNConfig,
    PixelCNNPPConfig,
    RowLSTMConfig,
    TrainConfig,
)
from pixelvae_tf.presets import variants
from pixelvae_tf.presets.registry import preset

# The papers' 128 and 1024 features, rounded to what three channel groups divide.
FILTERS, OUTPUT_FILTERS = 129, 1023


@preset("cifar10/pixel_cnn")
def pixel_cnn() -> Config:
    """PixelCNN (2016a): 15 residual blocks of masked convolutions, R then G then B.

    pixelvae-train --config=cifar10/pixel_cnn --workdir=DIR

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

    Expected: 3.07 bits/dim (2016a).
    """
    config = pixel_cnn()
    config.model.pixels = RowLSTMConfig(num_layers=12, filters=FILTERS, output_filters=OUTPUT_FILTERS)
    return config


@preset("cifar10/diagonal_bilstm")
def diagonal_bilstm() -> Config:
    """PixelRNN with Diagonal BiLSTMs (2016a): 12 layers of 128 units (here 129).

    pixelvae-train --config=cifar10/diagonal_bilstm --workdir=DIR

    Expected: 3.00 bits/dim (2016a).
    """
    config = pixel_cnn()
    config.model.pixels = DiagonalBiLSTMConfig(num_layers=12, filters=FILTERS, output_filters=OUTPUT_FILTERS)
    return config


@preset("cifar10/pixel_cnn_pp")
def pixel_cnn_pp() -> Config:
    """PixelCNN++ (2017): 5 blocks a resolution, 160 filters, a mixture of 10 quantised logistics.

    pixelvae-train --config=cifar10/pixel_cnn_pp --workdir=DIR

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

    Expected: no published number in the sources we have; without classes it is 2.92 bits/dim.
    """
    config = pixel_cnn_pp()
    config.model.num_classes = 10
    return config


@preset("cifar10/hierarchical_tiny")
def hierarchical_tiny() -> Config:
    """Hierarchical PixelVAE small enough for two cores: latents on an 8x8 grid under a vector, R then G then B.

    pixelvae-train --config=cifar10/hierarchical_tiny --workdir=DIR

    Expected: 9008 nats on images rebuilt from JPEG copies; no published number.
    """
    return Config(
        data=DataConfig(name="cifar10"),
        model=ModelConfig(
            image_shape=(32, 32, 3),
            num_values=256,
            levels=[
                LevelConfig(
                    dim=8,
                    grid=(8, 8),
                    stem_filters=16,
                    filters=(32, 64),
                    decoder_filters=(32, 24),
                    upsampling=True,
                    num_blocks=1,
                    batch_norm=True,
                    prior=MaskedResidualConfig(num_layers=3, filters=64),
                ),
                LevelConfig(dim=32, filters=(64, 64), upsampling=True, num_blocks=1, batch_norm=True),
            ],
            pixels=MaskedResidualConfig(num_layers=2, filters=36, embedding_dim=8),
        ),
        train=TrainConfig(
            steps=10_000,
            batch_size=32,
            learning_rate_warmup_steps=50,
            learning_rate_decay="cosine",
            # About 5 per sub-pixel, as the paper's program has it.
            clip_norm=15_000.0,
            kl_warmup_steps=(200,),
            prior_floor_steps=200,
            average_decay=0.999,
            evaluate_every=2_000,
            checkpoint_every=500,
        ),
    )


@preset("cifar10/hierarchical_tiny_gaussian_prior")
def hierarchical_tiny_gaussian_prior() -> Config:
    """The same with plain diagonal Gaussians for p(z1 | z2).

    pixelvae-train --config=cifar10/hierarchical_tiny_gaussian_prior --workdir=DIR

    Expected: 9121 nats on images rebuilt from JPEG copies; no published number.
    """
    return variants.gaussian_prior(hierarchical_tiny())


@preset("cifar10/two_level_vae_tiny")
def two_level_vae_tiny() -> Config:
    """The same with pixels that are independent given the latents: the two-level VAE.

    pixelvae-train --config=cifar10/two_level_vae_tiny --workdir=DIR

    Expected: 11155 nats on images rebuilt from JPEG copies; no published number.
    """
    return variants.two_level_vae(hierarchical_tiny())


@preset("cifar10/one_level_tiny")
def one_level_tiny() -> Config:
    """The same with the vector of latents alone: a one-level PixelVAE.

    pixelvae-train --config=cifar10/one_level_tiny --workdir=DIR

    Expected: 8156 nats on images rebuilt from JPEG copies; no published number.
    """
    return variants.one_level(hierarchical_tiny())
