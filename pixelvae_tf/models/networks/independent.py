"""No network at all: the pixels of a VAE, or latents that are independent given the level above."""

from typing import Literal

from pixelvae_tf.fields import config_dataclass
from pixelvae_tf.models.networks.base import NetworkConfig, Place, Raster, register


@register
@config_dataclass
class IndependentConfig(NetworkConfig):
    """Locations independent of each other given the level above: a VAE, or a plain diagonal Gaussian p(z_l | z_{l+1}).

    No network but the feature decoder of the level above.
    """

    reads_values = False
    orders_channels = False
    network: Literal["independent"] = "independent"

    def make_layers(self, raster: Raster) -> list:
        """The level above's feature map, 1x1."""
        from pixelvae_tf import layers

        return [layers.FromContext(name="input"), raster.params()]

    def check_place(self, place: Place) -> None:
        """It stands below a feature map."""
        if not place.below_map:
            raise ValueError(
                f"{place.where} may be independent only below a level with upsampling=True: without a feature map "
                f"nothing would tell one location from another. Received: the level above it is {place.above}"
            )
