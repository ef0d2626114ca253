"""What a model is made of, as data. The only place for the defaults of models."""

import dataclasses
import types
import typing
from typing import Any

import numpy as np

from pixelvae_tf import limits

# Encode and fill: rounds of `PixelVAE.complete`.
COMPLETION_ROUNDS = 8


@dataclasses.dataclass
class IndependentConfig:
    """Locations independent of each other given the level above: a VAE, or a plain diagonal Gaussian p(z_l | z_{l+1}).

    No network but the feature decoder of the level above.
    """

    network: str = "independent"


@dataclasses.dataclass
class _RasterConfig:
    """What the networks over a raster of full resolution share.

    Attributes:
      network: which network; a preset's choice.
      num_layers: blocks behind the first layer.
      filters: h, the unit of width; what is that wide is said by the network.
      first_kernel_size: k of the first layer's k x k kernel, which leaves the pixel itself out.
      num_output_layers: 1x1 layers before the last 1x1.
      embedding_dim: length of the vector that stands for an input value; 0 scales the value to
        [-1, 1] instead.
    """

    network: str = ""
    num_layers: int = 12
    filters: int = 16
    first_kernel_size: int = 7
    num_output_layers: int = 2
    embedding_dim: int = 0


@dataclasses.dataclass
class _OneStreamConfig(_RasterConfig):
    """What the networks of 2016a share.

    Attributes:
      output_filters: channels of the 1x1 layers before the last.
    """

    output_filters: int = 32


@dataclasses.dataclass
class PixelCNNConfig(_OneStreamConfig):
    """PixelCNN (2016a): residual blocks of masked convolutions, h channels inside and 2 h between them.

    Attributes:
      kernel_size: k of the blocks' masked kernels.
    """

    network: str = "pixel_cnn"
    kernel_size: int = 3


@dataclasses.dataclass
class MaskedResidualConfig(_RasterConfig):
    """The masked decoders of the hierarchical PixelVAE's program: gated residual blocks in one stream.

    Attributes:
      kernel_size: k of the blocks' masked kernels.
    """

    network: str = "masked_residual"
    num_layers: int = 2
    filters: int = 128
    first_kernel_size: int = 5
    num_output_layers: int = 0
    kernel_size: int = 3


@dataclasses.dataclass
class GatedPixelCNNConfig(_RasterConfig):
    """Gated PixelCNN (2016b): gated blocks of two streams with h channels each.

    Attributes:
      kernel_size: k of the blocks' kernels.
      dropout: share of the gated units dropped in training.
    """

    network: str = "gated_pixel_cnn"
    kernel_size: int = 5
    dropout: float = 0.0


@dataclasses.dataclass
class RowLSTMConfig(_OneStreamConfig):
    """PixelRNN with Row LSTM layers (2016a): h units, 2 h channels between the layers.

    Attributes:
      kernel_size: k of the 1 x k kernels, input to state and state to state.
    """

    network: str = "row_lstm"
    num_layers: int = 7
    kernel_size: int = 3


@dataclasses.dataclass
class DiagonalBiLSTMConfig(_OneStreamConfig):
    """PixelRNN with Diagonal BiLSTM layers (2016a): h units, 2 h channels between the layers."""

    network: str = "diagonal_bilstm"
    num_layers: int = 7


@dataclasses.dataclass
class PixelCNNPPConfig:
    """PixelCNN++ (2017): two streams at several resolutions.

    Attributes:
      network: which network; a preset's choice.
      num_blocks: residual blocks of a resolution on the way down; one more on the way up, but at the lowest.
      num_scales: resolutions, each half the one before; the image's sides must be divisible accordingly.
      filters: channels of both streams.
      dropout: share of the units dropped in training.
    """

    network: str = "pixel_cnn_pp"
    num_blocks: int = 5
    num_scales: int = 3
    filters: int = 160
    dropout: float = 0.5


NetworkConfig = (
    GatedPixelCNNConfig
    | PixelCNNConfig
    | RowLSTMConfig
    | DiagonalBiLSTMConfig
    | PixelCNNPPConfig
    | MaskedResidualConfig
    | IndependentConfig
)


@dataclasses.dataclass
class LevelConfig:
    """One level of latents z_l: an encoder q(z_l | x), a prior p(z_l | z_{l+1}), and the way down to what z_l explains.

    Attributes:
      dim: dimensions of z, at each location of its grid.
      filters: channels of the encoder after each halving of the resolution; mirrored by the decoder.
      upsampling: whether z reaches the level below through a feature decoder, as a map of that level's
        size ("with upsampling"); otherwise z itself conditions the network there, in a gated one
        by a linear map of it in every gate. A z on a grid needs it.
      grid: (h, w) of z: what the halvings leave of the level below; (1, 1), of the top level alone, is one
        vector for the whole image.
      stem_filters: channels of the encoder before its first halving; 0 for `filters[0]`.
      decoder_filters: channels of the feature decoder after each doubling; empty for `filters` from last to first.
      num_blocks: residual blocks that keep the resolution: as many at each, in encoder and decoder.
      batch_norm: whether the residual blocks of encoder and decoder normalise by the statistics of the batch.
      prior: the network over z_l given z_{l+1}, behind a diagonal Gaussian at each location; None for the top
        level, whose prior is N(0, I).
    """

    dim: int = 16
    filters: tuple[int, ...] = (32, 64, 64)
    upsampling: bool = False
    grid: tuple[int, int] = (1, 1)
    stem_filters: int = 0
    decoder_filters: tuple[int, ...] = ()
    num_blocks: int = 0
    batch_norm: bool = False
    prior: NetworkConfig | None = None

    @property
    def is_vector(self) -> bool:
        """Whether z is one vector [D] instead of a map [h, w, D]."""
        return tuple(self.grid) == (1, 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of z: (D,) or (h, w, D)."""
        return (self.dim,) if self.is_vector else (*self.grid, self.dim)

    def size_above(self, size: tuple[int, int]) -> tuple[int, int]:
        """What the halvings leave of (H, W); odd sides round up."""
        for _ in self.filters:
            size = (-(-size[0] // 2), -(-size[1] // 2))
        return size


LIKELIHOODS = ("auto", "bernoulli", "categorical", "quantized_normal", "logistic_mixture")


@dataclasses.dataclass
class ModelConfig:
    """A PixelVAE: its levels are a list; with none it is the autoregressive network over the pixels alone.

    Attributes:
      image_shape: (H, W, C).
      num_values: how many values a channel can take.
      levels: levels of latents, the one that the pixels see first.
      pixels: the network over the pixels.
      likelihood: what stands at a pixel: "bernoulli" (two values), "categorical", "quantized_normal",
        "logistic_mixture" (a pixel's channels together); "auto" is bernoulli for two values, else categorical.
      num_mixtures: logistics of a pixel's mixture; 0 for the other likelihoods.
      num_classes: how many classes the model is conditioned on; 0 for none.
    """

    image_shape: tuple[int, int, int] = (28, 28, 1)
    num_values: int = 2
    levels: list[LevelConfig] = dataclasses.field(default_factory=list)
    pixels: NetworkConfig = dataclasses.field(default_factory=GatedPixelCNNConfig)
    likelihood: str = "auto"
    num_mixtures: int = 0
    num_classes: int = 0

    @property
    def resolved_likelihood(self) -> str:
        """The likelihood that "auto" stands for, or the one given."""
        if self.likelihood != "auto":
            return self.likelihood
        return "bernoulli" if self.num_values == 2 else "categorical"

    @property
    def channel_groups(self) -> int:
        """In how many groups the network makes a pixel's channels, one after the other.

        1 if the likelihood or the network takes a pixel as a whole.
        """
        whole = isinstance(self.pixels, PixelCNNPPConfig | IndependentConfig)
        return 1 if whole or self.resolved_likelihood == "logistic_mixture" else self.image_shape[-1]

    def validate(self) -> None:
        """Raises a ValueError that names the first field that is of another type or makes no sense."""
        decode(ModelConfig, self, "model")
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"model.image_shape must be (H, W, C), all positive. Received: {self.image_shape}")
        if self.num_values < 2 or self.num_values > 256:
            raise ValueError(f"model.num_values must be in 2..256. Received: {self.num_values}")
        if self.num_classes < 0 or self.num_classes == 1:
            raise ValueError(f"model.num_classes must be 0, or at least 2. Received: {self.num_classes}")
        self._validate_likelihood()
        self._validate_levels()
        first = self.levels[0] if self.levels else None
        _validate_network(self.pixels, "model.pixels", self.image_shape[:2], self.channel_groups, first)

    def _validate_likelihood(self) -> None:
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(f"model.likelihood must be one of {', '.join(LIKELIHOODS)}. Received: {self.likelihood!r}")
        if self.likelihood == "bernoulli" and self.num_values != 2:
            raise ValueError(
                "model.likelihood must be categorical, quantized_normal or logistic_mixture for more than two values. "
                f"Received: bernoulli with model.num_values={self.num_values}"
            )
        if (self.num_mixtures > 0) != (self.likelihood == "logistic_mixture"):
            raise ValueError(
                "model.num_mixtures must be at least 1 for the likelihood logistic_mixture, and 0 for every other. "
                f"Received: num_mixtures={self.num_mixtures}, likelihood={self.likelihood!r}"
            )
        channels = self.image_shape[-1]
        if isinstance(self.pixels, PixelCNNPPConfig) and channels > 1 and self.likelihood != "logistic_mixture":
            raise ValueError(
                "model.likelihood must be logistic_mixture for pixel_cnn_pp on images of several channels: it makes "
                "pixels as a whole, and any other likelihood would leave their channels independent. "
                f"Received: {self.likelihood!r}, {channels} channels"
            )

    def _validate_levels(self) -> None:
        size = tuple(self.image_shape[:2])
        for index, level in enumerate(self.levels):
            where, above = f"model.levels[{index}]", self.levels[index + 1] if index + 1 < len(self.levels) else None
            if level.dim < 1 or not level.filters or min(level.filters) < 1:
                raise ValueError(f"a level needs dim >= 1 and filters, all at least 1. Received: {where}: {level}")
            if min(level.stem_filters, level.num_blocks, *level.decoder_filters, 0) < 0:
                raise ValueError(
                    f"{where}.stem_filters, num_blocks and decoder_filters must not be negative. Received: {level}"
                )
            fits = level.upsampling and len(level.decoder_filters) == len(level.filters)
            if level.decoder_filters and (not fits or min(level.decoder_filters) < 1):
                raise ValueError(
                    f"{where}.decoder_filters must be empty, or positive and as many as filters, with upsampling=True. "
                    f"Received: {level.decoder_filters} with filters={level.filters}, upsampling={level.upsampling}"
                )
            size = level.size_above(size)
            if tuple(level.grid) not in ((1, 1), size):
                raise ValueError(
                    f"{where}.grid must be {size}, which the {len(level.filters)} halvings of its filters leave of the "
                    f"level below, or (1, 1) for one vector. Received: {tuple(level.grid)}"
                )
            if size == (1, 1) and above is not None:
                raise ValueError(
                    f"{where}.filters must leave a grid larger than (1, 1) for every level but the top one. "
                    f"Received: {len(level.filters)} halvings, which leave (1, 1)"
                )
            if level.is_vector and above is not None:
                raise ValueError(
                    f"{where}.grid must be {size}: only the top level may be a vector, there are {len(self.levels)} "
                    f"levels. Received: {tuple(level.grid)}"
                )
            if not level.is_vector and not level.upsampling:
                raise ValueError(
                    f"{where}.upsampling must be True: latents on a grid reach the level below as a map. "
                    "Received: False"
                )
            if (above is None) != (level.prior is None):
                raise ValueError(
                    f"{where}.prior must be a network for every level but the top one, whose prior is N(0, I) and "
                    f"which has None. Received: {level.prior} at level {index + 1} of {len(self.levels)}"
                )
            if above is not None:
                _validate_network(level.prior, f"{where}.prior", size, 1, above)
                if getattr(level.prior, "embedding_dim", 0):
                    raise ValueError(
                        f"{where}.prior.embedding_dim must be 0: latents are real numbers. "
                        f"Received: {level.prior.embedding_dim}"
                    )


def _validate_network(
    network: NetworkConfig, where: str, size: tuple[int, int], groups: int, above: LevelConfig | None
) -> None:
    """Raises a ValueError that names the first field of a network that makes no sense.

    Args:
      network: the config.
      where: its name.
      size: (H, W) of its raster.
      groups: its channel groups.
      above: the level that conditions it, or None.
    """
    default = type(network)().network
    if network.network != default:
        raise ValueError(
            f"{where}.network says which fields there are and cannot be changed; choose another preset. "
            f"Received: {network.network!r} for a preset of {default!r}"
        )
    if isinstance(network, IndependentConfig):
        if above is None or not above.upsampling:
            raise ValueError(
                f"{where} may be independent only below a level with upsampling=True: without a feature map nothing "
                f"would tell one location from another. Received: the level above it is {above}"
            )
        return
    least = {"num_layers": 0, "num_output_layers": 0, "embedding_dim": 0, "num_blocks": 1, "num_scales": 1}
    for name, value in least.items():
        if getattr(network, name, value) < value:
            raise ValueError(f"{where}.{name} must be at least {value}. Received: {getattr(network, name)}")
    for name, value in (("kernel_size", 1), ("first_kernel_size", 3)):
        kernel = getattr(network, name, 3)
        if kernel < value or kernel % 2 == 0:
            raise ValueError(f"{where}.{name} must be odd and at least {value}. Received: {kernel}")
    if not 0 <= np.float32(getattr(network, "dropout", 0.0)) < 1:
        raise ValueError(f"{where}.dropout must be in [0, 1). Received: {network.dropout}")
    for name in ("filters", "output_filters"):
        units = getattr(network, name, groups)
        if units < 1 or units % groups:
            raise ValueError(
                f"{where}.{name} must be positive and a multiple of the image's channels, so that R, G and B "
                f"get as many units each. Received: {name}={units}, {groups} channel groups"
            )
    if isinstance(network, PixelCNNPPConfig):
        stride = 2 ** (network.num_scales - 1)
        if size[0] % stride or size[1] % stride:
            raise ValueError(
                f"the raster of {where} must have sides that are multiples of {stride} for "
                f"{where}.num_scales={network.num_scales}. Received: {tuple(size)}"
            )


def decode(kind: Any, value: Any, where: str) -> Any:
    """A value as the type that it should be of: JSON's, or a config that was put together in Python.

    A list becomes a tuple where one is declared, and an integer a float.

    Args:
      kind: the type; a dataclass, a union of networks' dataclasses, a list or tuple of one type, or a plain type.
      value: what JSON gave, or such a dataclass.
      where: its name, for messages.

    Raises:
      ValueError: for a field that is unknown, or a value of another type.
    """
    if typing.get_origin(kind) is types.UnionType and type(value) in typing.get_args(kind):
        kind = type(value)
    if kind is types.NoneType:
        return None
    if typing.get_origin(kind) is types.UnionType:
        kinds = {member().network: member for member in typing.get_args(kind) if member is not types.NoneType}
        # Missing, it is the first, as every field that is missing has its default.
        network = value.get("network", next(iter(kinds))) if isinstance(value, dict) else value
        if not isinstance(value, dict) or not isinstance(network, str) or network not in kinds:
            raise ValueError(f"{where}.network must be one of {', '.join(kinds)}. Received: {network!r}")
        kind = kinds[network]
    if dataclasses.is_dataclass(kind):
        if type(value) is kind:
            value = vars(value)
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
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{where} must be of type {kind.__name__}. Received: {value!r}")
    if kind in (int, float):
        limits.check_number(value, where, kind)
    return float(value) if kind is float else value
