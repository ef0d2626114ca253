"""PixelCNN++ (Salimans et al. 2017)."""

from typing import ClassVar, Literal

from pixelvae_tf.fields import config_dataclass, count, share
from pixelvae_tf.limits import MAX_LAYERS, MAX_WIDTH
from pixelvae_tf.models.networks.base import NetworkConfig, Place, Raster, register

# Norm of the last kernel at the start: mixtures start at the quantiles of the data.
GAIN_OF_MIXTURES = 0.1


@register
@config_dataclass
class PixelCNNPPConfig(NetworkConfig):
    """PixelCNN++ (2017): two streams at several resolutions.

    Attributes:
      num_blocks: residual blocks of a resolution on the way down; one more on the way up, but at the lowest.
      num_scales: resolutions, each half the one before; the image's sides must be divisible accordingly.
      filters: channels of both streams.
      dropout: share of the units dropped in training.
    """

    orders_channels: ClassVar[bool] = False
    starts_from_data: ClassVar[bool] = True
    network: Literal["pixel_cnn_pp"] = "pixel_cnn_pp"
    num_blocks: int = count(5, 1, MAX_LAYERS)
    num_scales: int = count(3, 1, 16)
    filters: int = count(160, 1, MAX_WIDTH)
    dropout: float = share(0.5)

    def make_layers(self, raster: Raster) -> list:
        """The two streams, 1x1."""
        from pixelvae_tf import layers

        streams = layers.PixelCNNPP(self.filters, self.num_blocks, self.num_scales, self.dropout, name="streams")
        return [raster.input(), streams, raster.params(GAIN_OF_MIXTURES)]

    def check_place(self, place: Place) -> None:
        """The halvings must divide the sides."""
        NetworkConfig.check_place(self, place)
        stride = 2 ** (self.num_scales - 1)
        if place.size[0] % stride or place.size[1] % stride:
            raise ValueError(
                f"the raster of {place.where} must have sides that are multiples of {stride} for "
                f"{place.where}.num_scales={self.num_scales}. Received: {tuple(place.size)}"
            )
