"""Gated PixelCNN (van den Oord et al. 2016b) as PixelVAE uses it (section 4.1)."""

from typing import Literal

from pixelvae_tf.fields import config_dataclass, count, share
from pixelvae_tf.models.networks.base import MAX_KERNEL, Raster, RasterConfig, register


@register
@config_dataclass
class GatedPixelCNNConfig(RasterConfig):
    """Gated PixelCNN (2016b): gated blocks of two streams with h channels each.

    Attributes:
      kernel_size: k of the blocks' kernels.
      dropout: share of the gated units dropped in training.
    """

    network: Literal["gated_pixel_cnn"] = "gated_pixel_cnn"
    kernel_size: int = count(5, 1, MAX_KERNEL)
    dropout: float = share(0.0)

    def make_layers(self, raster: Raster) -> list:
        """A block of type A, `num_layers` of type B, 1x1."""
        from pixelvae_tf import layers
        from pixelvae_tf.layers.gated import GAIN_AFTER_GATE

        def block(kernel_size: int, mask_type: Literal["A", "B"], index: int) -> layers.GatedBlock:
            return layers.GatedBlock(
                self.filters,
                kernel_size,
                mask_type,
                groups=raster.groups,
                dropout=self.dropout,
                keep_vertical=index < self.num_layers,
                name=f"block_{index}",
            )

        def output(index: int) -> layers.GatedPointwise:
            gain = GAIN_AFTER_GATE if index else 1.0
            return layers.GatedPointwise(self.filters, raster.groups, gain=gain, name=f"output_{index}")

        return [
            raster.input(self.embedding_dim),
            layers.SplitStreams(),
            block(self.first_kernel_size, "A", 0),
            *(block(self.kernel_size, "B", index + 1) for index in range(self.num_layers)),
            *(output(index) for index in range(self.num_output_layers)),
            raster.params(),
        ]
