"""LSUN bedrooms and ImageNet at 32 and 64 pixels: the hierarchical PixelVAE (section 4.2, 4.3) at its program's sizes.

For GPUs. These sets can no longer be downloaded by a library: give a folder of their images,
`--config.data.folder=DIR`, or better what `pixelvae-prepare` makes of one.

Widths of networks over R, G and B are rounded up to what three channel groups divide (128 to 129, 256 to 258). Where
the program's blocks of encoder and decoder are not known in number, one keeps each resolution here.
"""

from typing import Any

from pixelvae_tf import config as cfg
from pixelvae_tf.presets import variants
from pixelvae_tf.presets.registry import NO_NUMBER, preset

# The samples that an evaluation draws are made sub-pixel by sub-pixel, 12,288 of them at 64x64.
EVALUATE_EVERY = 5_000


def _hierarchy(
    name: str,
    grid: int,
    widths: tuple[int, ...],
    dims: tuple[int, int],
    latent_filters: int,
    pixels: cfg.MaskedResidualConfig,
) -> cfg.Config:
    """Latents on a grid under a vector.

    Args:
      name: the data set's, ending in the side of its images.
      grid: side of the grid of z1.
      widths: channels at the images' own resolution and after each halving, down to 4x4.
      dims: of z1 and z2.
      latent_filters: filters of the network over z1.
      pixels: the network over the pixels.
    """
    side = int(name.partition("_")[2])
    halvings = (side // grid).bit_length() - 1
    shared: dict[str, Any] = {"upsampling": True, "num_blocks": 1, "batch_norm": True}
    lower = cfg.LevelConfig(
        dim=dims[0],
        grid=(grid, grid),
        stem_filters=widths[0],
        filters=widths[1 : halvings + 1],
        decoder_filters=tuple(reversed(widths[:halvings])),
        prior=cfg.MaskedResidualConfig(num_layers=3, filters=latent_filters),
        **shared,
    )
    upper = cfg.LevelConfig(
        dim=dims[1],
        filters=widths[halvings + 1 :],
        decoder_filters=tuple(reversed(widths[halvings:-1])),
        **shared,
    )
    return cfg.Config(
        data=cfg.DataConfig(name=name),
        model=cfg.ModelConfig(image_shape=(side, side, 3), num_values=256, levels=[lower, upper], pixels=pixels),
        train=cfg.TrainConfig(
            steps=200_000,
            batch_size=64,
            learning_rate_decay="drop",
            kl_warmup_steps=(2_000, 5_000),
            prior_floor_steps=1_000,
            evaluate_every=EVALUATE_EVERY,
        ),
    )


lsun_32 = preset(
    "lsun_32/hierarchical_small",
    "Hierarchical PixelVAE, latents on 8x8 under a vector: the program's 32px_small",
    NO_NUMBER,
    _hierarchy(
        "lsun_32",
        8,
        (64, 128, 256, 512),
        (64, 512),
        512,
        cfg.MaskedResidualConfig(num_layers=2, filters=129, embedding_dim=16),
    ),
)
preset(
    "lsun_32/hierarchical_big",
    "Hierarchical PixelVAE, wider, its input scaled instead of embedded: the program's 32px_big",
    NO_NUMBER,
    _hierarchy(
        "lsun_32", 8, (128, 256, 512, 512), (128, 512), 512, cfg.MaskedResidualConfig(num_layers=2, filters=258)
    ),
    {"train.steps": 300_000, "train.learning_rate_decay": "none"},
)
preset(
    "lsun_32/gaussian_prior",
    "The small hierarchy with plain diagonal Gaussians for p(z1 | z2): the paper's ablation",
    NO_NUMBER,
    lsun_32,
    variants.GAUSSIAN_PRIOR,
)
# The paper's two-level VAE has a diagonal Gaussian for output, whose density compares with no probability.
preset(
    "lsun_32/two_level_vae",
    "The small hierarchy with pixels that are independent given the latents, a softmax each: a two-level VAE",
    NO_NUMBER,
    lsun_32,
    variants.TWO_LEVEL_VAE,
)
preset(
    "lsun_32/one_level",
    "The small hierarchy without its grid of latents: a one-level PixelVAE",
    NO_NUMBER,
    lsun_32,
    variants.one_level(lsun_32),
)

WIDTHS_64, PIXELS_64 = (64, 64, 128, 256, 512), cfg.MaskedResidualConfig(num_layers=3, filters=129, embedding_dim=16)
# The paper gives no widths; these are those of the program's 64px_small.
preset(
    "lsun_64/hierarchical",
    "Hierarchical PixelVAE as in the paper's section 4.2: 64x64 images, latents on 8x8 under a vector",
    NO_NUMBER,
    _hierarchy("lsun_64", 8, WIDTHS_64, (64, 512), 256, PIXELS_64),
    {"train.kl_warmup_steps": (2_000, 10_000)},
)
preset(
    "lsun_64/hierarchical_small",
    "Hierarchical PixelVAE, latents on 16x16 under a vector: the program's 64px_small",
    NO_NUMBER,
    _hierarchy("lsun_64", 16, WIDTHS_64, (64, 512), 256, PIXELS_64),
    {"train.kl_warmup_steps": (2_000, 10_000)},
)
lsun_64_big = preset(
    "lsun_64/hierarchical_big",
    "Hierarchical PixelVAE, latents on 16x16 under a vector: the program's 64px_big",
    NO_NUMBER,
    _hierarchy(
        "lsun_64",
        16,
        (192, 256, 512, 512, 512),
        (64, 512),
        512,
        cfg.MaskedResidualConfig(num_layers=3, filters=384, embedding_dim=16),
    ),
    {
        "train.steps": 400_000,
        "train.batch_size": 48,
        "train.learning_rate_drop_at": 0.45,  # halved at 180,000
        "train.learning_rate_drop_factor": 0.5,
        "train.kl_warmup_steps": (1_000, 10_000),
        "train.prior_floor_steps": 500,
    },
)
imagenet_64_big = preset(
    "imagenet_64/hierarchical_big",
    "Hierarchical PixelVAE, latents on 16x16 under a vector: the program's 64px_big",
    "3.66 bits/dim (bound, validation; the paper, on its own downsampling of ImageNet)",
    lsun_64_big,
    {"data.name": "imagenet_64"},
)
preset(
    "imagenet_64/one_level_big",
    "The big hierarchy without its grid of latents: a one-level PixelVAE",
    NO_NUMBER,
    imagenet_64_big,
    variants.one_level(imagenet_64_big),
)
gated_pixel_cnn = preset(
    "imagenet_64/gated_pixel_cnn",
    "Gated PixelCNN (2016b), R then G then B: 20 layers of 384 units, kernels of 5",
    "3.57 bits/dim (exact, validation; 2016b)",
    cfg.Config(
        data=cfg.DataConfig(name="imagenet_64"),
        model=cfg.ModelConfig(
            image_shape=(64, 64, 3),
            num_values=256,
            pixels=cfg.GatedPixelCNNConfig(num_layers=20, filters=384),
        ),
        train=cfg.TrainConfig(batch_size=128, steps=200_000, evaluate_every=EVALUATE_EVERY),
    ),
)
preset(
    "imagenet_64/diagonal_bilstm",
    "PixelRNN with Diagonal BiLSTMs (2016a): 12 layers of 128 units (here 129)",
    "3.63 bits/dim (exact, validation; 2016a, which names a PixelRNN without its size)",
    gated_pixel_cnn,
    {
        "model.pixels": cfg.DiagonalBiLSTMConfig(num_layers=12, filters=129, output_filters=1023),
        "train.batch_size": 16,
    },
)
