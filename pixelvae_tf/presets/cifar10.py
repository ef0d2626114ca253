"""CIFAR-10, 32x32 RGB: the autoregressive models at the sizes of their papers, for GPUs; small hierarchies too."""

from typing import Any

from pixelvae_tf import config as cfg
from pixelvae_tf.presets import variants
from pixelvae_tf.presets.registry import preset

# The papers' 128 and 1024 features, rounded to what three channel groups divide.
FILTERS, OUTPUT_FILTERS = 129, 1023
DATA = cfg.DataConfig(name="cifar10")
IMAGES: dict[str, Any] = {"image_shape": (32, 32, 3), "num_values": 256}

pixel_cnn = preset(
    "cifar10/pixel_cnn",
    "PixelCNN (2016a): 15 residual blocks of masked convolutions, R then G then B",
    "3.14 bits/dim (2016a)",
    cfg.Config(
        data=DATA,
        model=cfg.ModelConfig(
            **IMAGES, pixels=cfg.PixelCNNConfig(num_layers=15, filters=FILTERS, output_filters=OUTPUT_FILTERS)
        ),
        train=cfg.TrainConfig(batch_size=16, steps=500_000, learning_rate_decay="cosine"),
    ),
)
# The paper gives no size for CIFAR-10; this one is that of PixelCNN (2016a).
preset(
    "cifar10/gated_pixel_cnn",
    "Gated PixelCNN (2016b), R then G then B",
    "3.03 bits/dim (2016b)",
    pixel_cnn,
    {"model.pixels": cfg.GatedPixelCNNConfig(num_layers=15, filters=FILTERS)},
)
preset(
    "cifar10/row_lstm",
    "PixelRNN with Row LSTMs (2016a): 12 layers of 128 units (here 129)",
    "3.07 bits/dim (2016a)",
    pixel_cnn,
    {"model.pixels": cfg.RowLSTMConfig(num_layers=12, filters=FILTERS, output_filters=OUTPUT_FILTERS)},
)
preset(
    "cifar10/diagonal_bilstm",
    "PixelRNN with Diagonal BiLSTMs (2016a): 12 layers of 128 units (here 129)",
    "3.00 bits/dim (2016a)",
    pixel_cnn,
    {"model.pixels": cfg.DiagonalBiLSTMConfig(num_layers=12, filters=FILTERS, output_filters=OUTPUT_FILTERS)},
)
pixel_cnn_pp = preset(
    "cifar10/pixel_cnn_pp",
    "PixelCNN++ (2017): 5 blocks a resolution, 160 filters, a mixture of 10 quantised logistics",
    "2.92 bits/dim (2017)",
    cfg.Config(
        data=DATA,
        model=cfg.ModelConfig(**IMAGES, pixels=cfg.PixelCNNPPConfig(), likelihood="logistic_mixture", num_mixtures=10),
        train=cfg.TrainConfig(steps=500_000, batch_size=128, learning_rate_decay="exponential", average_decay=0.9995),
    ),
)
preset(
    "cifar10/pixel_cnn_pp_class_conditional",
    "PixelCNN++ (2017) given the image's class: log p(x | label)",
    "no published number in the sources we have; without classes it is 2.92 bits/dim",
    pixel_cnn_pp,
    {"model.num_classes": 10},
)
hierarchical_tiny = preset(
    "cifar10/hierarchical_tiny",
    "Hierarchical PixelVAE small enough for two cores: latents on an 8x8 grid under a vector, R then G then B",
    "6777 nats, 3.183 bits/dim (bound, test, trained in bfloat16; ours), on images rebuilt from JPEG copies",
    cfg.Config(
        data=DATA,
        model=cfg.ModelConfig(
            **IMAGES,
            levels=[
                cfg.LevelConfig(
                    dim=8,
                    grid=(8, 8),
                    stem_filters=16,
                    filters=(32, 64),
                    decoder_filters=(32, 24),
                    upsampling=True,
                    num_blocks=1,
                    batch_norm=True,
                    prior=cfg.MaskedResidualConfig(num_layers=3, filters=64),
                ),
                cfg.LevelConfig(dim=32, filters=(64, 64), upsampling=True, num_blocks=1, batch_norm=True),
            ],
            pixels=cfg.MaskedResidualConfig(num_layers=2, filters=36, embedding_dim=8),
        ),
        train=cfg.TrainConfig(
            steps=10_000,
            batch_size=32,
            # Sixteen times the papers': so few features, weight-normalised, bear it (docs/results.md has others).
            learning_rate=1.6e-2,
            learning_rate_warmup_steps=50,
            learning_rate_decay="cosine",
            # About 5 per sub-pixel, as the paper's program has it.
            clip_norm=15_000.0,
            kl_warmup_steps=(200,),
            # Without them latents go unused before the pixels have learnt what to do with them.
            free_nats=(30.0, 0.0),
            free_nats_steps=5_000,
            prior_floor_steps=200,
            average_decay=0.999,
            evaluate_every=2_000,
            checkpoint_every=500,
        ),
    ),
)
preset(
    "cifar10/hierarchical_tiny_gaussian_prior",
    "The same with plain diagonal Gaussians for p(z1 | z2)",
    "6702 nats, 3.148 bits/dim (bound, test, trained in bfloat16; ours), on images rebuilt from JPEG copies",
    hierarchical_tiny,
    variants.GAUSSIAN_PRIOR,
)
preset(
    "cifar10/two_level_vae_tiny",
    "The same with pixels that are independent given the latents: the two-level VAE",
    "10,891 nats, 5.115 bits/dim (bound, test, trained in bfloat16; ours), on images rebuilt from JPEG copies",
    hierarchical_tiny,
    # Its latents are all it has, and it does not bear that rate.
    {**variants.TWO_LEVEL_VAE, "train.learning_rate": 4e-3, **variants.NO_FREE_NATS},
)
one_level_tiny = preset(
    "cifar10/one_level_tiny",
    "The same with the vector of latents alone: a one-level PixelVAE",
    "6816 nats, 3.201 bits/dim (bound, test, trained in bfloat16; ours), on images rebuilt from JPEG copies",
    hierarchical_tiny,
    variants.one_level(hierarchical_tiny),
)
