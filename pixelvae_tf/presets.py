"""Every run of the papers as data: `get("binarized_mnist/gated_pixel_vae")` is a `Config`.

A preset is a function; it states its difference from another. Its docstring is what it is, its
command, its cost, and the number that it should give, with who says so.
"""

import inspect
from collections.abc import Callable

from pixelvae_tf.config import Config, DataConfig, LevelConfig, ModelConfig, PixelsConfig, TrainConfig

_PRESETS: dict[str, Callable[[], Config]] = {}


def _preset(name: str):
    def register(function: Callable[[], Config]) -> Callable[[], Config]:
        _PRESETS[name] = function
        return function

    return register


def names() -> list[str]:
    """All presets, sorted."""
    return sorted(_PRESETS)


def get(name: str) -> Config:
    """A fresh copy of a preset.

    Raises:
      ValueError: for an unknown name.
    """
    if name not in _PRESETS:
        raise ValueError(f"config must be one of the presets {', '.join(names())}. Received: {name!r}")
    return _PRESETS[name]()


def summary(name: str) -> str:
    """The first line of a preset's docstring."""
    return inspect.getdoc(_PRESETS[name]).splitlines()[0]


@_preset("digits/gated_pixel_cnn")
def digits_gated_pixel_cnn() -> Config:
    """Gated PixelCNN on 8x8 digits, no latents: exact likelihood.

    pixelvae-train --config=digits/gated_pixel_cnn --workdir=runs/digits_gated_pixel_cnn
    """
    config = digits_gated_pixel_vae()
    config.model.levels = []
    return config


@_preset("digits/gated_pixel_vae")
def digits_gated_pixel_vae() -> Config:
    """Gated PixelVAE with upsampling on 8x8 digits: the quick start, about a minute on two cores.

    Without free bits the bound is a nat and a half lower, but the 16 latents know less: with 18 nats for them, their
    reconstructions are still the digits they were.

    pixelvae-train --config=digits/gated_pixel_vae --workdir=runs/quickstart
    """
    return Config(
        data=DataConfig(name="digits"),
        model=ModelConfig(
            image_shape=(8, 8, 1),
            num_values=256,
            levels=[LevelConfig(dim=16, filters=(32, 64), upsampling=True)],
            pixels=PixelsConfig(
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
            kl_warmup_steps=500,
            free_nats=18.0,
            average_decay=0.998,
            log_every=100,
            evaluate_every=250,
            checkpoint_every=250,
        ),
    )


@_preset("binarized_mnist/gated_pixel_vae_no_upsampling")
def binarized_mnist_gated_pixel_vae_no_upsampling() -> Config:
    """Gated PixelVAE without upsampling: the best row of Table 1, <= 79.77 nats, about 79.17 with 50 samples.

    12 layers, filter 5, 16 channels, 16 latent dimensions; Adam 1e-3, batch 100, 200,000 steps, KL weight
    rising over 10,000 steps (section 4.1 and the released program).

    pixelvae-train --config=binarized_mnist/gated_pixel_vae_no_upsampling --workdir=DIR
    """
    return Config(
        data=DataConfig(name="binarized_mnist"),
        model=ModelConfig(image_shape=(28, 28, 1), num_values=2, levels=[LevelConfig()]),
        train=TrainConfig(learning_rate_decay="drop"),
    )


@_preset("binarized_mnist/gated_pixel_vae")
def binarized_mnist_gated_pixel_vae() -> Config:
    """Gated PixelVAE with upsampling, Table 1: <= 80.08 nats.

    pixelvae-train --config=binarized_mnist/gated_pixel_vae --workdir=DIR
    """
    config = binarized_mnist_gated_pixel_vae_no_upsampling()
    config.model.levels = [LevelConfig(upsampling=True)]
    return config


@_preset("binarized_mnist/gated_pixel_cnn")
def binarized_mnist_gated_pixel_cnn() -> Config:
    """Gated PixelCNN without latents, Table 1: 80.1 nats.

    pixelvae-train --config=binarized_mnist/gated_pixel_cnn --workdir=DIR
    """
    config = binarized_mnist_gated_pixel_vae_no_upsampling()
    config.model.levels = []
    return config


@_preset("mnist/gated_pixel_vae")
def mnist_gated_pixel_vae() -> Config:
    """Gated PixelVAE with upsampling on MNIST with all 256 values.

    pixelvae-train --config=mnist/gated_pixel_vae --workdir=DIR
    """
    config = binarized_mnist_gated_pixel_vae()
    config.data.name = "mnist"
    config.model.num_values = 256
    config.model.pixels.embedding_dim = 16
    return config


@_preset("cifar10/gated_pixel_cnn_tiny")
def cifar10_gated_pixel_cnn_tiny() -> Config:
    """A small Gated PixelCNN on CIFAR-10, R then G then B: to see colour work, not for the paper's 3.03 bits/dim.

    pixelvae-train --config=cifar10/gated_pixel_cnn_tiny --workdir=DIR
    """
    return Config(
        data=DataConfig(name="cifar10"),
        model=ModelConfig(
            image_shape=(32, 32, 3),
            num_values=256,
            pixels=PixelsConfig(num_layers=4, filters=48, kernel_size=3, embedding_dim=16),
        ),
        train=TrainConfig(steps=20_000, batch_size=32, learning_rate_decay="cosine"),
    )
