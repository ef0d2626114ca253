"""MNIST, 28x28: binarized (Larochelle's static files, as in Table 1 of PixelVAE, or anew) and with all 256 values.

All but `mnist/one_level` (the released program's mnist_256) are trained as the paper trained its own (section 4.1 and
the released program): Adam 1e-3, batch 100, 200,000 steps, KL weight rising over 10,000 steps. Ours: the rate is a
tenth for the last tenth of the steps, as in the released programs for natural images.
"""

from pixelvae_tf import config as cfg
from pixelvae_tf.presets.registry import NO_NUMBER, preset

UPSAMPLING = cfg.LevelConfig(upsampling=True)

best = preset(
    "binarized_mnist/gated_pixel_vae_no_upsampling",
    "Gated PixelVAE without upsampling, the best row of Table 1: 12 layers, filter 5, 16 channels, 16 latents",
    "<= 79.77 nats, about 79.17 with 50 importance samples (PixelVAE, Table 1)",
    cfg.Config(
        data=cfg.DataConfig(name="binarized_mnist"),
        model=cfg.ModelConfig(image_shape=(28, 28, 1), num_values=2, levels=[cfg.LevelConfig()]),
        train=cfg.TrainConfig(learning_rate_decay="drop"),
    ),
)
preset(
    "binarized_mnist/gated_pixel_vae_two_orders",
    "The best row, gone through in two orders by one network: as it is read, and turned by 180 degrees",
    "79.49 nats (bound, test; ours, from the weights of one order)",
    best,
    {"model.orders": ("raster", "rotate_180")},
)
gated_pixel_vae = preset(
    "binarized_mnist/gated_pixel_vae",
    "Gated PixelVAE with upsampling",
    "<= 80.08 nats (PixelVAE, Table 1)",
    best,
    {"model.levels": [UPSAMPLING]},
)
gated_pixel_cnn = preset(
    "binarized_mnist/gated_pixel_cnn",
    "Gated PixelCNN, no latents: exact likelihood",
    "80.1 nats (PixelVAE, Table 1)",
    best,
    {"model.levels": []},
)
vae = preset(
    "binarized_mnist/vae",
    "VAE: Bernoulli pixels, independent given the latents",
    "<= 87.4 nats (PixelVAE, Table 1)",
    gated_pixel_vae,
    {"model.pixels": cfg.IndependentConfig()},
)
# The paper gives no size for MNIST: these are the 15 blocks that it has for CIFAR-10, narrower.
pixel_cnn = preset(
    "binarized_mnist/pixel_cnn",
    "PixelCNN (2016a): 15 residual blocks of masked convolutions, 32 channels inside, with their blind spot",
    "81.3 nats (2016a, as Table 1 of PixelVAE reports it)",
    gated_pixel_cnn,
    {"model.pixels": cfg.PixelCNNConfig(num_layers=15, filters=32, output_filters=64)},
)
pixel_vae = preset(
    "binarized_mnist/pixel_vae",
    "PixelVAE: a PixelCNN of masked convolutions given upsampled latents",
    "<= 80.64 nats (PixelVAE, Table 1)",
    pixel_cnn,
    {"model.levels": [UPSAMPLING]},
)
row_lstm = preset(
    "binarized_mnist/row_lstm",
    "PixelRNN with Row LSTMs (2016a): 7 layers of 16 units",
    "between 79.20 and 81.3 nats, the Diagonal BiLSTM and the PixelCNN of 2016a, which reports none",
    pixel_cnn,
    {"model.pixels": cfg.RowLSTMConfig()},
)
# The paper trained with RMSProp; here it is Adam, as for all.
diagonal_bilstm = preset(
    "binarized_mnist/diagonal_bilstm",
    "PixelRNN with Diagonal BiLSTMs (2016a): 7 layers of 16 units",
    "79.20 nats (2016a)",
    pixel_cnn,
    {"model.pixels": cfg.DiagonalBiLSTMConfig()},
)
preset(
    "binarized_mnist/diagonal_bilstm_turned",
    "The same, through the image turned by 180 degrees",
    "79.58 nats (test, exact; ours, from the weights of the upright one)",
    diagonal_bilstm,
    {"model.orders": ("rotate_180",)},
)
preset(
    "binarized_mnist/pixel_vae_diagonal_bilstm",
    "PixelVAE of Diagonal BiLSTMs: 7 layers of 16 units, given the 16 latents of the best row",
    "79.59 nats (bound, test; ours, from the weights of the Diagonal BiLSTM)",
    diagonal_bilstm,
    {"model.levels": [cfg.LevelConfig()]},
)
# The size is ours: 2 blocks and 32 filters for the 5 and 160 of CIFAR-10.
pixel_cnn_pp = preset(
    "binarized_mnist/pixel_cnn_pp",
    "PixelCNN++ (2017) with Bernoulli pixels: two streams at three resolutions",
    NO_NUMBER,
    gated_pixel_cnn,
    {"model.pixels": cfg.PixelCNNPPConfig(num_blocks=2, filters=32)},
)

# Numbers on draws of the grey values do not compare with those on the static files.
DYNAMIC = {"data.name": "dynamically_binarized_mnist"}
preset(
    "dynamically_binarized_mnist/gated_pixel_vae_no_upsampling",
    "Gated PixelVAE without upsampling, binarized anew each time",
    "79.36 nats (bound, test; ours, from the weights of the static set)",
    best,
    DYNAMIC,
)
preset(
    "dynamically_binarized_mnist/gated_pixel_cnn",
    "Gated PixelCNN, binarized anew each time: exact likelihood",
    NO_NUMBER,
    gated_pixel_cnn,
    DYNAMIC,
)

# The same models on the images before binarization; autoregressive networks embed the values.
VALUES = {"data.name": "mnist", "model.num_values": 256}
EMBEDDED = VALUES | {"model.pixels.embedding_dim": 16}
MIXTURE = VALUES | {"model.likelihood": "logistic_mixture", "model.num_mixtures": 10}

for name, summary, base, changes in (
    ("gated_pixel_vae_no_upsampling", "Gated PixelVAE without upsampling on all 256 values", best, EMBEDDED),
    ("gated_pixel_vae", "Gated PixelVAE with upsampling on all 256 values", gated_pixel_vae, EMBEDDED),
    ("gated_pixel_cnn", "Gated PixelCNN on all 256 values: exact likelihood", gated_pixel_cnn, EMBEDDED),
    ("vae", "VAE on all 256 values, a softmax each", vae, VALUES),
    ("pixel_cnn", "PixelCNN (2016a) on all 256 values", pixel_cnn, EMBEDDED),
    ("pixel_vae", "PixelVAE on all 256 values", pixel_vae, EMBEDDED),
    ("row_lstm", "PixelRNN with Row LSTMs (2016a) on all 256 values", row_lstm, EMBEDDED),
    ("diagonal_bilstm", "PixelRNN with Diagonal BiLSTMs (2016a) on all 256 values", diagonal_bilstm, EMBEDDED),
    ("pixel_cnn_pp", "PixelCNN++ (2017) on all 256 values: a mixture of 10 quantised logistics", pixel_cnn_pp, MIXTURE),
):
    preset(f"mnist/{name}", summary, NO_NUMBER, base, changes)

preset(
    "mnist/one_level",
    "One-level PixelVAE on all 256 values, in the manner of the hierarchies: the released program's mnist_256",
    NO_NUMBER,
    cfg.Config(
        data=cfg.DataConfig(name="mnist"),
        model=cfg.ModelConfig(
            image_shape=(28, 28, 1),
            num_values=256,
            levels=[
                cfg.LevelConfig(
                    dim=128,
                    stem_filters=16,
                    filters=(32, 32, 64),
                    decoder_filters=(32, 32, 16),
                    upsampling=True,
                    num_blocks=1,
                    batch_norm=True,
                )
            ],
            pixels=cfg.MaskedResidualConfig(num_layers=2, filters=32, embedding_dim=16),
        ),
        train=cfg.TrainConfig(steps=250_000, batch_size=100, kl_warmup_steps=(5_000,)),
    ),
)
