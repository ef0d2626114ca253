"""What a model is made of, as data. The only place for the defaults of models."""

from typing import Literal

from pydantic import Field

from pixelvae_tf.fields import Part, Side, Width, check, config_dataclass, count, one_of, share, switch
from pixelvae_tf.limits import MAX_LAYERS, MAX_SIDE, MAX_WIDTH

# The largest kernel of a masked convolution.
MAX_KERNEL = 2**10 - 1
# Encode and fill: rounds of `PixelVAE.complete`.
COMPLETION_ROUNDS = 8


@config_dataclass
class IndependentConfig(Part):
    """Locations independent of each other given the level above: a VAE, or a plain diagonal Gaussian p(z_l | z_{l+1}).

    No network but the feature decoder of the level above.
    """

    network: Literal["independent"] = "independent"


@config_dataclass
class _RasterConfig(Part):
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
    num_layers: int = count(12, most=MAX_LAYERS)
    filters: int = count(16, 1, MAX_WIDTH)
    first_kernel_size: int = count(7, 3, MAX_KERNEL)
    num_output_layers: int = count(2, most=MAX_LAYERS)
    embedding_dim: int = count(0, most=MAX_WIDTH)


@config_dataclass
class _OneStreamConfig(_RasterConfig):
    """What the networks of 2016a share.

    Attributes:
      output_filters: channels of the 1x1 layers before the last.
    """

    output_filters: int = count(32, 1, MAX_WIDTH)


@config_dataclass
class PixelCNNConfig(_OneStreamConfig):
    """PixelCNN (2016a): residual blocks of masked convolutions, h channels inside and 2 h between them.

    Attributes:
      kernel_size: k of the blocks' masked kernels.
    """

    network: Literal["pixel_cnn"] = "pixel_cnn"
    kernel_size: int = count(3, 1, MAX_KERNEL)


@config_dataclass
class MaskedResidualConfig(_RasterConfig):
    """The masked decoders of the hierarchical PixelVAE's program: gated residual blocks in one stream.

    Attributes:
      kernel_size: k of the blocks' masked kernels.
    """

    network: Literal["masked_residual"] = "masked_residual"
    num_layers: int = count(2, most=MAX_LAYERS)
    filters: int = count(128, 1, MAX_WIDTH)
    first_kernel_size: int = count(5, 3, MAX_KERNEL)
    num_output_layers: int = count(0, most=MAX_LAYERS)
    kernel_size: int = count(3, 1, MAX_KERNEL)


@config_dataclass
class GatedPixelCNNConfig(_RasterConfig):
    """Gated PixelCNN (2016b): gated blocks of two streams with h channels each.

    Attributes:
      kernel_size: k of the blocks' kernels.
      dropout: share of the gated units dropped in training.
    """

    network: Literal["gated_pixel_cnn"] = "gated_pixel_cnn"
    kernel_size: int = count(5, 1, MAX_KERNEL)
    dropout: float = share(0.0)


@config_dataclass
class RowLSTMConfig(_OneStreamConfig):
    """PixelRNN with Row LSTM layers (2016a): h units, 2 h channels between the layers.

    Attributes:
      kernel_size: k of the 1 x k kernels, input to state and state to state.
    """

    network: Literal["row_lstm"] = "row_lstm"
    num_layers: int = count(7, most=MAX_LAYERS)
    kernel_size: int = count(3, 1, MAX_KERNEL)


@config_dataclass
class DiagonalBiLSTMConfig(_OneStreamConfig):
    """PixelRNN with Diagonal BiLSTM layers (2016a): h units, 2 h channels between the layers."""

    network: Literal["diagonal_bilstm"] = "diagonal_bilstm"
    num_layers: int = count(7, most=MAX_LAYERS)


@config_dataclass
class PixelCNNPPConfig(Part):
    """PixelCNN++ (2017): two streams at several resolutions.

    Attributes:
      network: which network; a preset's choice.
      num_blocks: residual blocks of a resolution on the way down; one more on the way up, but at the lowest.
      num_scales: resolutions, each half the one before; the image's sides must be divisible accordingly.
      filters: channels of both streams.
      dropout: share of the units dropped in training.
    """

    network: Literal["pixel_cnn_pp"] = "pixel_cnn_pp"
    num_blocks: int = count(5, 1, MAX_LAYERS)
    num_scales: int = count(3, 1, 16)
    filters: int = count(160, 1, MAX_WIDTH)
    dropout: float = share(0.5)


NetworkConfig = (
    GatedPixelCNNConfig
    | PixelCNNConfig
    | RowLSTMConfig
    | DiagonalBiLSTMConfig
    | PixelCNNPPConfig
    | MaskedResidualConfig
    | IndependentConfig
)


@config_dataclass
class LevelConfig(Part):
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

    Examples:
      >>> pixelvae_tf.config.LevelConfig(dim=16, filters=(32, 64)).shape
      (16,)
    """

    dim: int = count(16, 1, MAX_WIDTH)
    filters: tuple[Width, ...] = Field((32, 64, 64), min_length=1)
    upsampling: bool = switch(False)
    grid: tuple[Side, Side] = (1, 1)
    stem_filters: int = count(0, most=MAX_WIDTH)
    decoder_filters: tuple[Width, ...] = ()
    num_blocks: int = count(0, most=MAX_LAYERS)
    batch_norm: bool = switch(False)
    prior: NetworkConfig | None = Field(None, discriminator="network")

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


@config_dataclass
class ModelConfig(Part):
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

    Examples:
      >>> pixels = pixelvae_tf.config.GatedPixelCNNConfig(num_layers=2, filters=16)
      >>> config = pixelvae_tf.ModelConfig((28, 28, 1), 2, [pixelvae_tf.config.LevelConfig(16, (32, 64))], pixels)
      >>> config.resolved_likelihood
      'bernoulli'
    """

    image_shape: tuple[Side, Side, Side] = (28, 28, 1)
    num_values: int = count(2, 2, 256)
    levels: list[LevelConfig] = Field(default_factory=list)
    pixels: NetworkConfig = Field(default_factory=GatedPixelCNNConfig, discriminator="network")
    likelihood: str = one_of("auto", "bernoulli", "categorical", "quantized_normal", "logistic_mixture")
    num_mixtures: int = count(0, most=MAX_LAYERS)
    num_classes: int = count(0, most=MAX_SIDE)

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
        """Raises a ValueError that names the first field with a wrong type or value."""
        check(ModelConfig, self, "model")
        if self.num_classes == 1:
            raise ValueError(f"model.num_classes must be 0, or at least 2. Received: {self.num_classes}")
        self._validate_likelihood()
        self._validate_levels()
        first = self.levels[0] if self.levels else None
        _validate_network(self.pixels, "model.pixels", self.image_shape[:2], self.channel_groups, first)

    def _validate_likelihood(self) -> None:
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
        size = self.image_shape[:2]
        for index, level in enumerate(self.levels):
            where, above = f"model.levels[{index}]", self.levels[index + 1] if index + 1 < len(self.levels) else None
            fits = level.upsampling and len(level.decoder_filters) == len(level.filters)
            if level.decoder_filters and not fits:
                raise ValueError(
                    f"{where}.decoder_filters must be empty, or as many as filters, with upsampling=True. "
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
            if level.prior is not None:
                _validate_network(level.prior, f"{where}.prior", size, 1, above)
                if embedding_dim := getattr(level.prior, "embedding_dim", 0):
                    raise ValueError(
                        f"{where}.prior.embedding_dim must be 0: latents are real numbers. Received: {embedding_dim}"
                    )


def _validate_network(
    network: NetworkConfig, where: str, size: tuple[int, int], groups: int, above: LevelConfig | None
) -> None:
    """Raises a ValueError that names the first field of a network with a wrong value.

    Args:
      network: the config.
      where: its name.
      size: (H, W) of its raster.
      groups: its channel groups.
      above: the level that conditions it, or None.
    """
    if isinstance(network, IndependentConfig):
        if above is None or not above.upsampling:
            raise ValueError(
                f"{where} may be independent only below a level with upsampling=True: without a feature map nothing "
                f"would tell one location from another. Received: the level above it is {above}"
            )
        return
    for name in ("kernel_size", "first_kernel_size"):
        if getattr(network, name, 1) % 2 == 0:
            raise ValueError(f"{where}.{name} must be odd. Received: {getattr(network, name)}")
    for name in ("filters", "output_filters"):
        units = getattr(network, name, groups)
        if units % groups:
            raise ValueError(
                f"{where}.{name} must be a multiple of the image's channels, so that R, G and B "
                f"get as many units each. Received: {name}={units}, {groups} channel groups"
            )
    if isinstance(network, PixelCNNPPConfig):
        stride = 2 ** (network.num_scales - 1)
        if size[0] % stride or size[1] % stride:
            raise ValueError(
                f"the raster of {where} must have sides that are multiples of {stride} for "
                f"{where}.num_scales={network.num_scales}. Received: {tuple(size)}"
            )
