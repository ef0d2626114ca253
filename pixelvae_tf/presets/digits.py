"""The digits that scikit-learn carries, 8x8: every model of the family, in a minute or two on two cores each."""

from pixelvae_tf.config import (
    Config,
    DataConfig,
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
from pixelvae_tf.presets.registry import preset


@preset("digits/gated_pixel_vae")
def gated_pixel_vae() -> Config:
    """Gated PixelVAE with upsampling: the quick start.

    pixelvae-train --config=digits/gated_pixel_vae --workdir=DIR

    Expected: 81.72 nats, 1.842 bits/dim (bound, test; ours).

    Without free bits the bound is nearly two nats lower, but the 16 latents know less: with 18 nats for them, their
    reconstructions are still the digits they were.
    """
    return Config(
        data=DataConfig(name="digits"),
        model=ModelConfig(
            image_shape=(8, 8, 1),
            num_values=256,
            levels=[LevelConfig(dim=16, filters=(32, 64), upsampling=True)],
            pixels=GatedPixelCNNConfig(
                num_layers=1, filters=32, kernel_size=3, first_kernel_size=3, embedding_dim=8, dropout=0.3
            ),
        ),
        train=TrainConfig(
            steps=1000,
            batch_size=64,
            learning_rate=2e-3,
            learning_rate_decay="cosine",
            learning_rate_warmup_steps=100,
            clip_norm=100.0,
            kl_warmup_steps=(500,),
            free_nats=(18.0,),
            average_decay=0.998,
            log_every=100,
            evaluate_every=250,
            checkpoint_every=250,
        ),
    )


def _train_for(config: Config, steps: int) -> None:
    """A shorter run, for models with little against overfitting: 1,197 images are soon known by heart."""
    config.train.steps, config.train.evaluate_every, config.train.checkpoint_every = steps, 100, 100
    config.train.learning_rate_warmup_steps, config.train.kl_warmup_steps = 50, (steps // 2,)


@preset("digits/gated_pixel_vae_no_upsampling")
def gated_pixel_vae_no_upsampling() -> Config:
    """Gated PixelVAE without upsampling: the latents enter every gate.

    pixelvae-train --config=digits/gated_pixel_vae_no_upsampling --workdir=DIR

    Expected: 81.20 nats, 1.830 bits/dim (bound, test; ours).
    """
    config = gated_pixel_vae()
    config.model.levels[0].upsampling = False
    # A vector cannot say what stands where: more of that is left to the network, and the latents may carry less.
    config.model.pixels.num_layers, config.train.free_nats = 3, (0.0,)
    return config


@preset("digits/gated_pixel_cnn")
def gated_pixel_cnn() -> Config:
    """Gated PixelCNN, no latents: exact likelihood.

    pixelvae-train --config=digits/gated_pixel_cnn --workdir=DIR

    Expected: 83.28 nats, 1.877 bits/dim (exact, test; ours).
    """
    config = gated_pixel_vae()
    config.model.levels = []
    return config


@preset("digits/gated_pixel_cnn_class_conditional")
def gated_pixel_cnn_class_conditional() -> Config:
    """Gated PixelCNN given the digit's class: log p(x | label).

    pixelvae-train --config=digits/gated_pixel_cnn_class_conditional --workdir=DIR

    Expected: 78.79 nats, 1.776 bits/dim (exact, given the class, test; ours).
    """
    config = gated_pixel_cnn()
    config.model.num_classes = 10
    return config


@preset("digits/vae")
def vae() -> Config:
    """VAE: pixels independent given the latents, a softmax over 256 values each.

    pixelvae-train --config=digits/vae --workdir=DIR

    Expected: 89.01 nats, 2.006 bits/dim (bound, test; ours).
    """
    config = gated_pixel_vae()
    config.model.pixels = IndependentConfig()
    config.train.free_nats = (0.0,)
    _train_for(config, 400)
    return config


@preset("digits/vae_quantized_normal")
def vae_quantized_normal() -> Config:
    """VAE with the usual Gaussian pixels, rounded to the values so that its bound compares with the others'.

    pixelvae-train --config=digits/vae_quantized_normal --workdir=DIR

    Expected: 164.89 nats, 3.717 bits/dim (bound, test; ours).
    """
    config = vae()
    config.model.likelihood = "quantized_normal"
    return config


@preset("digits/pixel_cnn")
def pixel_cnn() -> Config:
    """PixelCNN (2016a): masked convolutions, with their blind spot.

    pixelvae-train --config=digits/pixel_cnn --workdir=DIR

    Expected: 84.51 nats, 1.905 bits/dim (exact, test; ours).
    """
    config = gated_pixel_cnn()
    config.model.pixels = PixelCNNConfig(
        num_layers=3, filters=32, output_filters=64, first_kernel_size=3, embedding_dim=8
    )
    _train_for(config, 300)
    return config


@preset("digits/pixel_vae")
def pixel_vae() -> Config:
    """PixelVAE: a PixelCNN of masked convolutions given upsampled latents.

    pixelvae-train --config=digits/pixel_vae --workdir=DIR

    Expected: 83.75 nats, 1.888 bits/dim (bound, test; ours).
    """
    config = pixel_cnn()
    config.model.pixels.num_layers = 1
    config.model.levels = gated_pixel_vae().model.levels
    _train_for(config, 400)
    return config


@preset("digits/pixel_vae_class_conditional")
def pixel_vae_class_conditional() -> Config:
    """PixelVAE given the digit's class: the latents keep the style.

    pixelvae-train --config=digits/pixel_vae_class_conditional --workdir=DIR

    Expected: 83.02 nats, 1.871 bits/dim (bound, given the class, test; ours).
    """
    config = pixel_vae()
    config.model.num_classes = 10
    return config


@preset("digits/row_lstm")
def row_lstm() -> Config:
    """PixelRNN with Row LSTMs (2016a): the context is a triangle.

    pixelvae-train --config=digits/row_lstm --workdir=DIR

    Expected: 84.17 nats, 1.897 bits/dim (exact, test; ours).
    """
    config = pixel_cnn()
    config.model.pixels = RowLSTMConfig(
        num_layers=2, filters=32, output_filters=64, first_kernel_size=3, embedding_dim=8
    )
    return config


@preset("digits/diagonal_bilstm")
def diagonal_bilstm() -> Config:
    """PixelRNN with Diagonal BiLSTMs (2016a): the context is all that came before, but for a pixel (docs/models.md).

    pixelvae-train --config=digits/diagonal_bilstm --workdir=DIR

    Expected: 83.31 nats, 1.878 bits/dim (exact, test; ours).
    """
    config = pixel_cnn()
    config.model.pixels = DiagonalBiLSTMConfig(
        num_layers=2, filters=32, output_filters=64, first_kernel_size=3, embedding_dim=8
    )
    return config


@preset("digits/pixel_cnn_pp")
def pixel_cnn_pp() -> Config:
    """PixelCNN++ (2017): two streams at three resolutions, a mixture of quantised logistics.

    pixelvae-train --config=digits/pixel_cnn_pp --workdir=DIR

    Expected: 154.59 nats, 3.485 bits/dim (exact, test; ours).
    """
    config = gated_pixel_cnn()
    config.model.pixels = PixelCNNPPConfig(num_blocks=1, num_scales=3, filters=32, dropout=0.3)
    config.model.likelihood, config.model.num_mixtures = "logistic_mixture", 10
    _train_for(config, 500)
    return config


@preset("digits/pixel_cnn_pp_class_conditional")
def pixel_cnn_pp_class_conditional() -> Config:
    """PixelCNN++ given the digit's class: log p(x | label).

    pixelvae-train --config=digits/pixel_cnn_pp_class_conditional --workdir=DIR

    Expected: 150.58 nats, 3.394 bits/dim (exact, given the class, test; ours).
    """
    config = pixel_cnn_pp()
    config.model.num_classes = 10
    return config


@preset("digits/pixel_vae_pp")
def pixel_vae_pp() -> Config:
    """PixelVAE with a PixelCNN++ decoder: a mixture of quantised logistics given upsampled latents.

    pixelvae-train --config=digits/pixel_vae_pp --workdir=DIR

    Expected: 159.02 nats, 3.585 bits/dim (bound, test; ours).
    """
    config = pixel_cnn_pp()
    config.model.levels = gated_pixel_vae().model.levels
    return config


@preset("digits/hierarchical")
def hierarchical() -> Config:
    """Hierarchical PixelVAE: latents on a 4x4 grid under a vector, both with a network of their own.

    pixelvae-train --config=digits/hierarchical --workdir=DIR

    Expected: 82.14 nats, 1.852 bits/dim (bound, test; ours).
    """
    config = gated_pixel_vae()
    config.model.levels = [
        LevelConfig(
            dim=4,
            grid=(4, 4),
            filters=(32,),
            upsampling=True,
            batch_norm=True,
            prior=MaskedResidualConfig(num_layers=1, filters=32),
        ),
        LevelConfig(dim=8, filters=(64,), upsampling=True, batch_norm=True),
    ]
    config.model.pixels = MaskedResidualConfig(num_layers=1, filters=32, first_kernel_size=3, embedding_dim=8)
    config.train.free_nats = (0.0,)
    config.train.prior_floor_steps = 200
    return config
