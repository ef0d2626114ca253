"""The masked decoders of the hierarchical PixelVAE's program: type A, then gated residual blocks in one stream.

Departure: the program concatenates the level above's feature map, halved, with what the first layer makes; here
it enters every masked convolution as an addend, as a context does everywhere (`layers.context`).
"""

from typing import Literal

from pixelvae_tf.fields import config_dataclass, count
from pixelvae_tf.limits import MAX_LAYERS, MAX_WIDTH
from pixelvae_tf.models.networks.base import MAX_KERNEL, Raster, RasterConfig, register

# Norm of the last kernel at the start: latents have a standard deviation of about 1/2. The network learns faster than
# from a smaller one, as Adam moves a norm by one learning rate per step.
GAIN_OF_PARAMS = 0.5


@register
@config_dataclass
class MaskedResidualConfig(RasterConfig):
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

    def make_layers(self, raster: Raster) -> list:
        """Type A, residual blocks of ELU, gated convolution, convolution."""
        from pixelvae_tf import layers
        from pixelvae_tf.layers.gated import GAIN_AFTER_GATE

        groups, filters, kernel_size = raster.groups, self.filters, self.kernel_size

        def block(name: str) -> layers.Residual:
            out = f"{name}_out"
            parts: list[layers.CausalLayer] = [
                layers.Activation("elu"),
                layers.MaskedConv2D(2 * filters, kernel_size, "B", groups, name=f"{name}_gated"),
                layers.Gate(),
                layers.MaskedConv2D(filters, kernel_size, "B", groups, gain=GAIN_AFTER_GATE, name=out),
            ]
            return layers.Residual(parts, name=name)

        network = [
            raster.input(self.embedding_dim),
            layers.MaskedConv2D(filters, self.first_kernel_size, "A", groups, name="first"),
            *(block(f"block_{index}") for index in range(self.num_layers)),
        ]
        for index in range(self.num_output_layers):
            output = layers.HorizontalConv2D(filters, 1, groups=groups, name=f"output_{index}")
            network += [layers.Activation("elu"), output]
        return [*network, layers.Activation("elu"), raster.params(GAIN_OF_PARAMS)]
