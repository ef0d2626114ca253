"""Your own images, a folder of them: grey at 28x28 and in colour at 32x32, at sizes that two cores train in an hour.

`--config.model.image_shape=48,48,1` makes them larger; time grows with the number of pixels.
"""

from pixelvae_tf.config import Config, DataConfig, GatedPixelCNNConfig, LevelConfig, ModelConfig, TrainConfig
from pixelvae_tf.presets import cifar10
from pixelvae_tf.presets.registry import preset


@preset("folder/grey_28")
def grey_28() -> Config:
    """Gated PixelVAE with upsampling, 28x28 grey.

    pixelvae-train --config=folder/grey_28 --config.data.folder=IMAGES --workdir=DIR

    Expected: no published number; it depends on the images.
    """
    return Config(
        data=DataConfig(name="folder"),
        model=ModelConfig(
            image_shape=(28, 28, 1),
            num_values=256,
            levels=[LevelConfig(dim=32, filters=(32, 64, 64), upsampling=True)],
            pixels=GatedPixelCNNConfig(
                num_layers=2, filters=32, kernel_size=3, first_kernel_size=5, embedding_dim=8, dropout=0.1
            ),
        ),
        train=TrainConfig(
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
    )


@preset("folder/colour_32")
def colour_32() -> Config:
    """One-level PixelVAE, 32x32 in colour, R then G then B.

    pixelvae-train --config=folder/colour_32 --config.data.folder=IMAGES --workdir=DIR

    Expected: no published number; it depends on the images.
    """
    config = cifar10.one_level_tiny()
    config.data.name = "folder"
    config.train.steps, config.train.evaluate_every, config.train.checkpoint_every = 4_000, 500, 250
    return config
