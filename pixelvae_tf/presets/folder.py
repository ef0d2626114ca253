"""Your own images, a folder of them: grey at 28x28 and in colour at 32x32, at sizes that two cores train in an hour.

`--config.model.image_shape=48,48,1` makes them larger; time grows with the number of pixels.
"""

from pixelvae_tf import config as cfg
from pixelvae_tf.presets import cifar10
from pixelvae_tf.presets.registry import NO_NUMBER, preset

EXPECTED = f"{NO_NUMBER}; it depends on the images"

preset(
    "folder/grey_28",
    "Gated PixelVAE with upsampling, 28x28 grey",
    EXPECTED,
    cfg.Config(
        data=cfg.DataConfig(name="folder"),
        model=cfg.ModelConfig(
            image_shape=(28, 28, 1),
            num_values=256,
            levels=[cfg.LevelConfig(dim=32, filters=(32, 64, 64), upsampling=True)],
            pixels=cfg.GatedPixelCNNConfig(
                num_layers=2, filters=32, kernel_size=3, first_kernel_size=5, embedding_dim=8, dropout=0.1
            ),
        ),
        train=cfg.TrainConfig(
            steps=4_000,
            batch_size=64,
            learning_rate=2e-3,
            learning_rate_decay="cosine",
            learning_rate_warmup_steps=100,
            clip_norm=500.0,
            kl_warmup_steps=(1_000,),
            average_decay=0.998,
            evaluate_every=500,
            checkpoint_every=250,
        ),
    ),
)
preset(
    "folder/colour_32",
    "One-level PixelVAE, 32x32 in colour, R then G then B",
    EXPECTED,
    cifar10.one_level_tiny,
    {
        "data.name": "folder",
        "train.steps": 4_000,
        "train.free_nats_steps": 2_000,
        "train.evaluate_every": 500,
        "train.checkpoint_every": 250,
    },
)
