"""What a model is made of, as data. The only place for the defaults of models."""

from typing import Any

from pydantic import Field, field_validator

from pixelvae_tf.fields import Part, Side, Width, check, config_dataclass, count, switch
from pixelvae_tf.likelihoods import LIKELIHOODS
from pixelvae_tf.limits import MAX_LAYERS, MAX_SIDE, MAX_WIDTH
from pixelvae_tf.models.networks import GatedPixelCNNConfig, NetworkConfig, Place
from pixelvae_tf.models.networks.base import check_network
from pixelvae_tf.turns import RASTER, check_orders

# Encode and fill: rounds of `PixelVAE.complete`.
COMPLETION_ROUNDS = 8


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
      prior: the network over z_l given z_{l+1}, whose outputs are the parameters of a diagonal Gaussian at each
        location; None for the top level, whose prior is N(0, I).

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
    prior: NetworkConfig | None = None

    @field_validator("prior", mode="plain")
    @classmethod
    def _check_prior(cls, value: Any) -> NetworkConfig | None:
        return None if value is None else check_network(value)

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
      orders: how images are turned before they are gone through in raster order, by `turns.TURNS`;
        of several p(x | z) is the mixture with equal weights, of one network that is told the order.

    Examples:
      >>> pixels = pixelvae_tf.config.GatedPixelCNNConfig(num_layers=2, filters=16)
      >>> config = pixelvae_tf.ModelConfig((28, 28, 1), 2, [pixelvae_tf.config.LevelConfig(16, (32, 64))], pixels)
      >>> config.resolved_likelihood
      'bernoulli'
    """

    image_shape: tuple[Side, Side, Side] = (28, 28, 1)
    num_values: int = count(2, 2, 256)
    levels: list[LevelConfig] = Field(default_factory=list)
    pixels: NetworkConfig = Field(default_factory=GatedPixelCNNConfig)
    likelihood: str = "auto"
    num_mixtures: int = count(0, most=MAX_LAYERS)
    num_classes: int = count(0, most=MAX_SIDE)
    orders: tuple[str, ...] = (RASTER,)

    @field_validator("pixels", mode="plain")
    @classmethod
    def _check_pixels(cls, value: Any) -> NetworkConfig:
        return check_network(value)

    @field_validator("likelihood")
    @classmethod
    def _check_likelihood(cls, value: str) -> str:
        if value not in ("auto", *LIKELIHOODS):
            raise ValueError(f"must be one of auto, {', '.join(LIKELIHOODS)}")
        return value

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
        ordered = self.pixels.orders_channels and LIKELIHOODS[self.resolved_likelihood].orders_channels
        return self.image_shape[-1] if ordered else 1

    def validate(self) -> "ModelConfig":
        """A checked copy, in which everything is of the declared type.

        Raises:
          ValueError: that names the first field with a wrong type or value.
        """
        config = check(ModelConfig, self, "model")
        if config.num_classes == 1:
            raise ValueError(f"model.num_classes must be 0, or at least 2. Received: {config.num_classes}")
        config._validate_likelihood()
        config._validate_orders()
        config._validate_levels()
        first = config.levels[0] if config.levels else None
        below_map = first is not None and first.upsampling
        place = Place("model.pixels", config.image_shape[:2], config.channel_groups, below_map, first)
        config.pixels.check_place(place)
        return config

    def _validate_likelihood(self) -> None:
        if self.likelihood == "bernoulli" and self.num_values != 2:
            raise ValueError(
                "model.likelihood must be categorical, quantized_normal or logistic_mixture for more than two values. "
                f"Received: bernoulli with model.num_values={self.num_values}"
            )
        if (self.num_mixtures > 0) != LIKELIHOODS[self.resolved_likelihood].takes_mixtures:
            mixtures = ", ".join(name for name, likelihood in LIKELIHOODS.items() if likelihood.takes_mixtures)
            raise ValueError(
                f"model.num_mixtures must be at least 1 for the likelihood {mixtures}, and 0 for every other. "
                f"Received: num_mixtures={self.num_mixtures}, likelihood={self.likelihood!r}"
            )
        channels = self.image_shape[-1]
        whole = self.pixels.reads_values and not self.pixels.orders_channels
        if whole and channels > 1 and LIKELIHOODS[self.resolved_likelihood].orders_channels:
            raise ValueError(
                f"model.likelihood must be logistic_mixture for {self.pixels.network} on images of several channels: "
                "it makes pixels as a whole, and any other likelihood would leave their channels independent. "
                f"Received: {self.likelihood!r}, {channels} channels"
            )

    def _validate_orders(self) -> None:
        check_orders(self.orders, self.image_shape[:2], "model.orders")
        if self.orders != (RASTER,) and not self.pixels.reads_values:
            raise ValueError(
                f"model.orders must be {RASTER} alone for {self.pixels.network} pixels, which have no order. "
                f"Received: {self.orders}"
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
            if level.grid not in ((1, 1), size):
                raise ValueError(
                    f"{where}.grid must be {size}, which the {len(level.filters)} halvings of its filters leave of the "
                    f"level below, or (1, 1) for one vector. Received: {level.grid}"
                )
            if size == (1, 1) and above is not None:
                raise ValueError(
                    f"{where}.filters must leave a grid larger than (1, 1) for every level but the top one. "
                    f"Received: {len(level.filters)} halvings, which leave (1, 1)"
                )
            if level.is_vector and above is not None:
                raise ValueError(
                    f"{where}.grid must be {size}: only the top level may be a vector, there are {len(self.levels)} "
                    f"levels. Received: {level.grid}"
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
            if level.prior is not None and above is not None:
                level.prior.check_place(Place(f"{where}.prior", size, 1, above.upsampling, above))
                if embedding_dim := getattr(level.prior, "embedding_dim", 0):
                    raise ValueError(
                        f"{where}.prior.embedding_dim must be 0: latents are real numbers. Received: {embedding_dim}"
                    )
