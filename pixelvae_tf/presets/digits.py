"""The digits that scikit-learn carries, 8x8: every model of the family, in a minute or two on two cores each."""

from typing import Any

from pixelvae_tf import config as cfg
from pixelvae_tf.presets.registry import preset
from pixelvae_tf.presets.variants import NO_FREE_NATS

LEVEL = cfg.LevelConfig(dim=16, filters=(32, 64), upsampling=True)
CLASSES = {"model.num_classes": 10}


def _steps(steps: int) -> dict[str, Any]:
    """A shorter run, for models with little against overfitting: 1,197 images are soon known by heart."""
    return {
        "train.steps": steps,
        "train.evaluate_every": 100,
        "train.checkpoint_every": 100,
        "train.learning_rate_warmup_steps": 50,
        "train.kl_warmup_steps": (steps // 2,),
    }


# With 18 free nats for the 16 latents, their reconstructions are still the digits they were; the bound pays for it.
gated_pixel_vae = preset(
    "digits/gated_pixel_vae",
    "Gated PixelVAE with upsampling: the quick start",
    "81.72 nats, 1.842 bits/dim (bound, test; ours)",
    cfg.Config(
        data=cfg.DataConfig(name="digits"),
        model=cfg.ModelConfig(
            image_shape=(8, 8, 1),
            num_values=256,
            levels=[LEVEL],
            pixels=cfg.GatedPixelCNNConfig(
                num_layers=1, filters=32, kernel_size=3, first_kernel_size=3, embedding_dim=8, dropout=0.3
            ),
        ),
        train=cfg.TrainConfig(
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
    ),
)
# A vector cannot say what stands where: more of that is left to the network, and the latents may carry less.
preset(
    "digits/gated_pixel_vae_no_upsampling",
    "Gated PixelVAE without upsampling: the latents enter every gate",
    "81.20 nats, 1.830 bits/dim (bound, test; ours)",
    gated_pixel_vae,
    {"model.levels[0].upsampling": False, "model.pixels.num_layers": 3} | NO_FREE_NATS,
)
gated_pixel_cnn = preset(
    "digits/gated_pixel_cnn",
    "Gated PixelCNN, no latents: exact likelihood",
    "83.28 nats, 1.877 bits/dim (exact, test; ours)",
    gated_pixel_vae,
    {"model.levels": []},
)
preset(
    "digits/gated_pixel_cnn_class_conditional",
    "Gated PixelCNN given the digit's class: log p(x | label)",
    "78.79 nats, 1.776 bits/dim (exact, given the class, test; ours)",
    gated_pixel_cnn,
    CLASSES,
)
vae = preset(
    "digits/vae",
    "VAE: pixels independent given the latents, a softmax over 256 values each",
    "89.01 nats, 2.006 bits/dim (bound, test; ours)",
    gated_pixel_vae,
    {"model.pixels": cfg.IndependentConfig()} | NO_FREE_NATS | _steps(400),
)
preset(
    "digits/vae_quantized_normal",
    "VAE with the usual Gaussian pixels, rounded to the values so that its bound compares with the others'",
    "164.89 nats, 3.717 bits/dim (bound, test; ours)",
    vae,
    {"model.likelihood": "quantized_normal"},
)
NETWORK_2016A: dict[str, Any] = {"filters": 32, "output_filters": 64, "first_kernel_size": 3, "embedding_dim": 8}
pixel_cnn = preset(
    "digits/pixel_cnn",
    "PixelCNN (2016a): masked convolutions, with their blind spot",
    "84.51 nats, 1.905 bits/dim (exact, test; ours)",
    gated_pixel_cnn,
    {"model.pixels": cfg.PixelCNNConfig(num_layers=3, **NETWORK_2016A)} | _steps(300),
)
pixel_vae = preset(
    "digits/pixel_vae",
    "PixelVAE: a PixelCNN of masked convolutions given upsampled latents",
    "83.75 nats, 1.888 bits/dim (bound, test; ours)",
    pixel_cnn,
    {"model.pixels.num_layers": 1, "model.levels": [LEVEL]} | _steps(400),
)
preset(
    "digits/pixel_vae_class_conditional",
    "PixelVAE given the digit's class: the latents keep the style",
    "83.02 nats, 1.871 bits/dim (bound, given the class, test; ours)",
    pixel_vae,
    CLASSES,
)
preset(
    "digits/row_lstm",
    "PixelRNN with Row LSTMs (2016a): the context is a triangle",
    "84.17 nats, 1.897 bits/dim (exact, test; ours)",
    pixel_cnn,
    {"model.pixels": cfg.RowLSTMConfig(num_layers=2, **NETWORK_2016A)},
)
preset(
    "digits/diagonal_bilstm",
    "PixelRNN with Diagonal BiLSTMs (2016a): the context is all that came before, but for a pixel (docs/models.md)",
    "83.31 nats, 1.878 bits/dim (exact, test; ours)",
    pixel_cnn,
    {"model.pixels": cfg.DiagonalBiLSTMConfig(num_layers=2, **NETWORK_2016A)},
)
pixel_cnn_pp = preset(
    "digits/pixel_cnn_pp",
    "PixelCNN++ (2017): two streams at three resolutions, a mixture of quantised logistics",
    "154.59 nats, 3.485 bits/dim (exact, test; ours)",
    gated_pixel_cnn,
    {
        "model.pixels": cfg.PixelCNNPPConfig(num_blocks=1, num_scales=3, filters=32, dropout=0.3),
        "model.likelihood": "logistic_mixture",
        "model.num_mixtures": 10,
    }
    | _steps(500),
)
preset(
    "digits/pixel_cnn_pp_class_conditional",
    "PixelCNN++ given the digit's class: log p(x | label)",
    "150.58 nats, 3.394 bits/dim (exact, given the class, test; ours)",
    pixel_cnn_pp,
    CLASSES,
)
preset(
    "digits/pixel_vae_pp",
    "PixelVAE with a PixelCNN++ decoder: a mixture of quantised logistics given upsampled latents",
    "159.02 nats, 3.585 bits/dim (bound, test; ours)",
    pixel_cnn_pp,
    {"model.levels": [LEVEL]},
)
preset(
    "digits/hierarchical",
    "Hierarchical PixelVAE: latents on a 4x4 grid under a vector, both with a network of their own",
    "82.14 nats, 1.852 bits/dim (bound, test; ours)",
    gated_pixel_vae,
    {
        "model.levels": [
            cfg.LevelConfig(
                dim=4,
                grid=(4, 4),
                filters=(32,),
                upsampling=True,
                batch_norm=True,
                prior=cfg.MaskedResidualConfig(num_layers=1, filters=32),
            ),
            cfg.LevelConfig(dim=8, filters=(64,), upsampling=True, batch_norm=True),
        ],
        "model.pixels": cfg.MaskedResidualConfig(num_layers=1, filters=32, first_kernel_size=3, embedding_dim=8),
        "train.prior_floor_steps": 200,
    }
    | NO_FREE_NATS,
)
