"""What a model is made of, as data. The only place for the defaults of models."""

import dataclasses
import typing
from typing import Any


@dataclasses.dataclass
class LevelConfig:
    """One level of latents: an encoder q(z | x), and the way from z down to what it explains.

    Attributes:
      dim: dimensions of z.
      filters: channels of the encoder after each halving of the resolution; mirrored by the decoder.
      upsampling: whether z reaches the level below through a feature decoder, as a map of the image's
        size ("with upsampling"); otherwise a linear map of z enters every gate.
    """

    dim: int = 16
    filters: tuple[int, ...] = (32, 64, 64)
    upsampling: bool = False


@dataclasses.dataclass
class PixelsConfig:
    """The Gated PixelCNN over the pixels.

    Attributes:
      num_layers: gated blocks behind the first.
      filters: channels of both streams.
      kernel_size: k of these blocks' k x k kernels.
      first_kernel_size: k of the first block, which leaves the pixel itself out.
      num_output_layers: gated 1x1 layers before the last 1x1.
      embedding_dim: length of the vector that stands for an input value; 0 scales the value to
        [-1, 1] instead.
      dropout: share of the gated units dropped in training.
    """

    num_layers: int = 12
    filters: int = 16
    kernel_size: int = 5
    first_kernel_size: int = 7
    num_output_layers: int = 2
    embedding_dim: int = 0
    dropout: float = 0.0


@dataclasses.dataclass
class ModelConfig:
    """A PixelVAE: its levels are a list; with none it is the PixelCNN over the pixels alone.

    Attributes:
      image_shape: (H, W, C).
      num_values: how many values a channel can take; 2 makes the pixels Bernoulli.
      levels: levels of latents, the one that the pixels see first.
      pixels: the distribution of the pixels.
    """

    image_shape: tuple[int, int, int] = (28, 28, 1)
    num_values: int = 2
    levels: list[LevelConfig] = dataclasses.field(default_factory=list)
    pixels: PixelsConfig = dataclasses.field(default_factory=PixelsConfig)

    def validate(self) -> None:
        """Raises a ValueError that names the first field that makes no sense."""
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"model.image_shape must be (H, W, C), all positive. Received: {self.image_shape}")
        if self.num_values < 2 or self.num_values > 256:
            raise ValueError(f"model.num_values must be in 2..256. Received: {self.num_values}")
        channels = self.image_shape[-1]
        if len(self.levels) > 1:
            raise ValueError(f"model.levels must have at most one entry. Received: {len(self.levels)} levels")
        if self.pixels.filters < 1 or self.pixels.filters % channels:
            raise ValueError(
                "model.pixels.filters must be a multiple of the image's channels, so that R, G and B get as "
                f"many units each. Received: filters={self.pixels.filters}, channels={channels}"
            )
        for name in ("num_layers", "num_output_layers", "embedding_dim"):
            if getattr(self.pixels, name) < 0:
                raise ValueError(f"model.pixels.{name} must not be negative. Received: {getattr(self.pixels, name)}")
        for name, least in (("kernel_size", 1), ("first_kernel_size", 3)):
            size = getattr(self.pixels, name)
            if size < least or size % 2 == 0:
                raise ValueError(f"model.pixels.{name} must be odd and at least {least}. Received: {size}")
        if not 0 <= self.pixels.dropout < 1:
            raise ValueError(f"model.pixels.dropout must be in [0, 1). Received: {self.pixels.dropout}")
        for level in self.levels:
            if level.dim < 1 or not level.filters or min(level.filters) < 1:
                raise ValueError(f"a level needs dim >= 1 and filters, all at least 1. Received: {level}")


def decode(kind: Any, value: Any, where: str) -> Any:
    """A JSON value as the type of a field.

    Args:
      kind: the type; a dataclass, a list or tuple of one type, or a plain type.
      value: what JSON gave.
      where: its name, for messages.

    Raises:
      ValueError: for a field that is unknown, or a value of another type.
    """
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object. Received: {value!r}")
        kinds = typing.get_type_hints(kind)
        unknown = sorted(set(value) - set(kinds))
        if unknown:
            raise ValueError(f"{where} has no field {unknown[0]!r}; its fields are {', '.join(kinds)}")
        return kind(**{name: decode(kinds[name], item, f"{where}.{name}") for name, item in value.items()})
    origin = typing.get_origin(kind)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list. Received: {value!r}")
        return origin(decode(typing.get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} must be of type {kind.__name__}. Received: {value!r}")
    return value
