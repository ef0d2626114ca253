"""PixelCNN (van den Oord et al. 2016a)."""

from typing import Any, Literal

from pixelvae_tf.fields import config_dataclass, count
from pixelvae_tf.models.networks.base import GAIN_AFTER_RELU, MAX_KERNEL, OneStreamConfig, register


@register
@config_dataclass
class PixelCNNConfig(OneStreamConfig):
    """PixelCNN (2016a): residual blocks of masked convolutions, h channels inside and 2 h between them.

    Attributes:
      kernel_size: k of the blocks' masked kernels.
    """

    network: Literal["pixel_cnn"] = "pixel_cnn"
    kernel_size: int = count(3, 1, MAX_KERNEL)

    def make_block(self, name: str, groups: int) -> list:
        """Figure 5: ReLU, 1x1 to h, ReLU, k x k, ReLU, 1x1 to 2 h."""
        from pixelvae_tf import layers

        relu, pointwise = layers.Activation, layers.HorizontalConv2D
        options: dict[str, Any] = {"groups": groups, "gain": GAIN_AFTER_RELU}
        return [
            relu(),
            pointwise(self.filters, 1, name=f"{name}_in", **options),
            relu(),
            layers.MaskedConv2D(self.filters, self.kernel_size, "B", name=f"{name}_masked", **options),
            relu(),
            pointwise(2 * self.filters, 1, name=f"{name}_out", **options),
        ]
