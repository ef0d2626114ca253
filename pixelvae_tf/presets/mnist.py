"""MNIST, 28x28: binarized (Larochelle's static files, as in Table 1 of PixelVAE) and with all 256 values.

All but `mnist/one_level` (the released program's mnist_256) are trained as the paper trained its own (section 4.1 and
the released program): Adam 1e-3, batch 100, 200,000 steps, KL weight rising over 10,000 steps. Ours: the rate is a
tenth for the last tenth of the steps, as in the released programs for natural images.
"""

from pixelvae_tf.config import (
    Config,
    DataConfig,
    DiagonalBiLSTMConfig,
    IndependentConfig,
    LevelConfig,
    MaskedResidualConfig,
    ModelConfig,
    PixelCNNConfig,
    PixelCNNPPConfig,
    RowLSTMConfig,
    TrainConfig,
)
from pixelvae_tf.presets.registry import preset


@preset("binarized_mnist/gated_pixel_vae_no_upsampling")
def binarized_gated_pixel_vae_no_upsampling() -> Config:
    """Gated PixelVAE without upsampling, the best row of Table 1: 12 layers, filter 5, 16 channels, 16 latents.

    pixelvae-train --config=binarized_mnist/gated_pixel_vae_no_upsampling --workdir=DIR

    Expected: <= 79.77 nats, about 79.17 with 50 importance samples (PixelVAE, Table 1).
    """
    return Config(
        data=DataConfig(name="binarized_mnist"),
        model=ModelConfig(image_shape=(28, 28, 1), num_values=2, levels=[LevelConfig()]),
        train=TrainConfig(learning_rate_decay="drop"),
    )


@preset("binarized_mnist/gated_pixel_vae")
def binarized_gated_pixel_vae() -> Config:
    """Gated PixelVAE with upsampling.

    pixelvae-train --config=binarized_mnist/gated_pixel_vae --workdir=DIR

    Expected: <= 80.08 nats (PixelVAE, Table 1).
    """
    config = binarized_gated_pixel_vae_no_upsampling()
    config.model.levels = [LevelConfig(upsampling=True)]
    return config


@preset("binarized_mnist/gated_pixel_cnn")
def binarized_gated_pixel_cnn() -> Config:
    """Gated PixelCNN, no latents: exact likelihood.

    pixelvae-train --config=binarized_mnist/gated_pixel_cnn --workdir=DIR

    Expected: 80.1 nats (PixelVAE, Table 1).
    """
    config = binarized_gated_pixel_vae_no_upsampling()
    config.model.levels = []
    return config


@preset("binarized_mnist/vae")
def binarized_vae() -> Config:
    """VAE: Bernoulli pixels, independent given the latents.

    pixelvae-train --config=binarized_mnist/vae --workdir=DIR

    Expected: <= 87.4 nats (PixelVAE, Table 1).
    """
    config = binarized_gated_pixel_vae()
    config.model.pixels = IndependentConfig()
    return config


@preset("binarized_mnist/pixel_cnn")
def binarized_pixel_cnn() -> Config:
    """PixelCNN (2016a): 7 residual blocks of masked convolutions, 16 channels inside, with their blind spot.

    pixelvae-train --config=binarized_mnist/pixel_cnn --workdir=DIR

    Expected: 81.3 nats (2016a, as Table 1 of PixelVAE reports it).

    The size is that of PixelRNN on MNIST; the paper gives none for this row.
    """
    config = binarized_gated_pixel_cnn()
    config.model.pixels = PixelCNNConfig(num_layers=7)
    return config


@preset("binarized_mnist/pixel_vae")
def binarized_pixel_vae() -> Config:
    """PixelVAE: a PixelCNN of masked convolutions given upsampled latents.

    pixelvae-train --config=binarized_mnist/pixel_vae --workdir=DIR

    Expected: <= 80.64 nats (PixelVAE, Table 1).
    """
    config = binarized_pixel_cnn()
    config.model.levels = [LevelConfig(upsampling=True)]
    return config


@preset("binarized_mnist/row_lstm")
def binarized_row_lstm() -> Config:
    """PixelRNN with Row LSTMs (2016a): 7 layers of 16 units.

    pixelvae-train --config=binarized_mnist/row_lstm --workdir=DIR

    Expected: between 79.20 and 81.3 nats, the Diagonal BiLSTM and the PixelCNN of 2016a, which reports none.
    """
    config = binarized_pixel_cnn()
    config.model.pixels = RowLSTMConfig()
    return config


@preset("binarized_mnist/diagonal_bilstm")
def binarized_diagonal_bilstm() -> Config:
    """PixelRNN with Diagonal BiLSTMs (2016a): 7 layers of 16 units.

    pixelvae-train --config=binarized_mnist/diagonal_bilstm --workdir=DIR

    Expected: 79.20 nats (2016a).

    The paper trained with RMSProp; here it is Adam, as for all.
    """
    config = binarized_pixel_cnn()
    config.model.pixels = DiagonalBiLSTMConfig()
    return config


@preset("binarized_mnist/pixel_cnn_pp")
def binarized_pixel_cnn_pp() -> Config:
    """PixelCNN++ (2017) with Bernoulli pixels: two streams at three resolutions.

    pixelvae-train --config=binarized_mnist/pixel_cnn_pp --workdir=DIR

    Expected: no published number.

    The size is ours: 2 blocks and 32 filters for the 5 and 160 of CIFAR-10.
    """
    config = binarized_gated_pixel_cnn()
    config.model.pixels = PixelCNNPPConfig(num_blocks=2, filters=32)
    return config


def _with_256_values(config: Config) -> Config:
    """The same model on the images before binarization; autoregressive networks embed the values."""
    config.data.name = "mnist"
    config.model.num_values = 256
    if hasattr(config.model.pixels, "embedding_dim"):
        config.model.pixels.embedding_dim = 16
    return config


@preset("mnist/gated_pixel_vae_no_upsampling")
def mnist_gated_pixel_vae_no_upsampling() -> Config:
    """Gated PixelVAE without upsampling on all 256 values.

    pixelvae-train --config=mnist/gated_pixel_vae_no_upsampling --workdir=DIR

    Expected: no published number.
    """
    return _with_256_values(binarized_gated_pixel_vae_no_upsampling())


@preset("mnist/gated_pixel_vae")
def mnist_gated_pixel_vae() -> Config:
    """Gated PixelVAE with upsampling on all 256 values.

    pixelvae-train --config=mnist/gated_pixel_vae --workdir=DIR

    Expected: no published number.
    """
    return _with_256_values(binarized_gated_pixel_vae())


@preset("mnist/gated_pixel_cnn")
def mnist_gated_pixel_cnn() -> Config:
    """Gated PixelCNN on all 256 values: exact likelihood.

    pixelvae-train --config=mnist/gated_pixel_cnn --workdir=DIR

    Expected: no published number.
    """
    return _with_256_values(binarized_gated_pixel_cnn())


@preset("mnist/vae")
def mnist_vae() -> Config:
    """VAE on all 256 values, a softmax each.

    pixelvae-train --config=mnist/vae --workdir=DIR

    Expected: no published number.
    """
    return _with_256_values(binarized_vae())


@preset("mnist/pixel_cnn")
def mnist_pixel_cnn() -> Config:
    """PixelCNN (2016a) on all 256 values.

    pixelvae-train --config=mnist/pixel_cnn --workdir=DIR

    Expected: no published number.
    """
    return _with_256_values(binarized_pixel_cnn())


@preset("mnist/pixel_vae")
def mnist_pixel_vae() -> Config:
    """PixelVAE on all 256 values.

    pixelvae-train --config=mnist/pixel_vae --workdir=DIR

    Expected: no published number.
    """
    return _with_256_values(binarized_pixel_vae())


@preset("mnist/row_lstm")
def mnist_row_lstm() -> Config:
    """PixelRNN with Row LSTMs (2016a) on all 256 values.

    pixelvae-train --config=mnist/row_lstm --workdir=DIR

    Expected: no published number.
    """
    return _with_256_values(binarized_row_lstm())


@preset("mnist/diagonal_bilstm")
def mnist_diagonal_bilstm() -> Config:
    """PixelRNN with Diagonal BiLSTMs (2016a) on all 256 values.

    pixelvae-train --config=mnist/diagonal_bilstm --workdir=DIR

    Expected: no published number.
    """
    return _with_256_values(binarized_diagonal_bilstm())


@preset("mnist/pixel_cnn_pp")
def mnist_pixel_cnn_pp() -> Config:
    """PixelCNN++ (2017) on all 256 values: a mixture of 10 quantised logistics.

    pixelvae-train --config=mnist/pixel_cnn_pp --workdir=DIR

    Expected: no published number.
    """
    config = _with_256_values(binarized_pixel_cnn_pp())
    config.model.likelihood, config.model.num_mixtures = "logistic_mixture", 10
    return config


@preset("mnist/one_level")
def mnist_one_level() -> Config:
    """One-level PixelVAE on all 256 values, in the manner of the hierarchies: the released program's mnist_256.

    pixelvae-train --config=mnist/one_level --workdir=DIR

    Expected: no published number.
    """
    return Config(
        data=DataConfig(name="mnist"),
        model=ModelConfig(
            image_shape=(28, 28, 1),
            num_values=256,
            levels=[
                LevelConfig(
                    dim=128,
                    stem_filters=16,
                    filters=(32, 32, 64),
                    decoder_filters=(32, 32, 16),
                    upsampling=True,
                    num_blocks=1,
                    batch_norm=True,
                )
            ],
            pixels=MaskedResidualConfig(num_layers=2, filters=32, embedding_dim=16),
        ),
        train=TrainConfig(steps=250_000, batch_size=100, kl_warmup_steps=(5_000,)),
    )
