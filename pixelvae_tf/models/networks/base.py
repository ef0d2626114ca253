"""What every network has: a config, which builds its layers; and the table of all networks, by name.

A network is a subclass of `NetworkConfig` in a file of its own, and a line that registers it:

    @register
    @config_dataclass
    class LeftConfig(NetworkConfig):
        network: Literal["left"] = "left"
        filters: int = count(16, 1, MAX_WIDTH)

        def make_layers(self, raster):
            from pixelvae_tf import layers

            return [raster.input(), layers.MaskedConv2D(self.filters, 3, "A"), raster.params()]

A config needs no TensorFlow, which takes seconds to import: `make_layers` imports the layers that it makes.
"""

import dataclasses
import typing
from typing import Any, ClassVar, TypeVar

from pydantic import TypeAdapter
from pydantic_core import PydanticKnownError

from pixelvae_tf.fields import Part, config_dataclass, count
from pixelvae_tf.limits import MAX_LAYERS, MAX_WIDTH

if typing.TYPE_CHECKING:
    from pixelvae_tf import layers

# The largest kernel of a masked convolution.
MAX_KERNEL = 2**10 - 1
# A ReLU halves the second moment of a standard normal variable.
GAIN_AFTER_RELU = 2.0**0.5


@dataclasses.dataclass(frozen=True)
class Raster:
    """What a network works on.

    Attributes:
      num_values: how many values a channel can take; 0 for real numbers.
      groups: number of channel groups.
      units: how many parameters a location has.
    """

    num_values: int
    groups: int
    units: int

    def input(self, embedding_dim: int = 0) -> "layers.PointwiseLayer":
        """The first layer of a network: pixel values as vectors, or on [-1, 1]; real numbers as they are."""
        from pixelvae_tf import layers

        if not self.num_values:
            return layers.Activation("linear", name="input")
        if embedding_dim:
            return layers.EmbedPixels(self.num_values, embedding_dim, name="input")
        return layers.ScalePixels(self.num_values, name="input")

    def params(self, gain: float = 1.0) -> "layers.HorizontalConv2D":
        """The last layer: features, 1x1, to the parameters of the site; `gain` is the norm of its kernel at the start.

        Networks whose last features are large start with a small one, so that all sites start near the marginal
        distribution of the data.
        """
        from pixelvae_tf import layers

        return layers.HorizontalConv2D(self.units, 1, groups=self.groups, gain=gain, name="params")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a network stands in a model.

    Attributes:
      where: its name in messages, as "model.pixels".
      size: (H, W) of its raster.
      groups: channel groups.
      below_map: whether a level above it conditions it by a feature map.
      above: that level, or None; for messages.
    """

    where: str
    size: tuple[int, int]
    groups: int
    below_map: bool
    above: Any


@config_dataclass
class NetworkConfig(Part):
    """A causal network: its sizes, and how its layers are made.

    Attributes:
      network: which network; a preset's choice.
    """

    network: str = ""

    # Whether it looks at the values of the raster at all.
    reads_values: ClassVar[bool] = True
    # Whether it makes the channels of a pixel one after the other, instead of the pixel as a whole.
    orders_channels: ClassVar[bool] = True
    # Whether the norms of its layers start from data; see `PixelVAE.start_from`.
    starts_from_data: ClassVar[bool] = False
    # Whether XLA can compile its gradient.
    compiles: ClassVar[bool] = True

    def make_layers(self, raster: Raster) -> "list[layers.CausalLayer]":
        """The layers from values [B, H, W, C] to the parameters of sites [B, H, W, units], fresh ones."""
        raise NotImplementedError(f"{type(self).__name__} must have make_layers")

    def check_place(self, place: Place) -> None:
        """Raises a ValueError that names the first field that does not fit the place."""
        where, groups = place.where, place.groups
        for name in ("kernel_size", "first_kernel_size"):
            if getattr(self, name, 1) % 2 == 0:
                raise ValueError(f"{where}.{name} must be odd. Received: {getattr(self, name)}")
        for name in ("filters", "output_filters"):
            units = getattr(self, name, groups)
            if units % groups:
                raise ValueError(
                    f"{where}.{name} must be a multiple of the image's channels, so that R, G and B "
                    f"get as many units each. Received: {name}={units}, {groups} channel groups"
                )


# All networks, by name.
NETWORKS: dict[str, type[NetworkConfig]] = {}
_Kind = TypeVar("_Kind", bound=type[NetworkConfig])


def register(kind: _Kind) -> _Kind:
    """Makes a network one that configs can ask for, by the default of its field `network`."""
    name = kind().network
    if NETWORKS.get(name, kind).__qualname__ != kind.__qualname__ or not name:
        raise ValueError(f"network must be a name that no other network has. Received: {name!r} of {kind.__name__}")
    NETWORKS[name] = kind
    return kind


def check_network(value: Any) -> NetworkConfig:
    """For pydantic: a network of the table, from a config or a dictionary, told apart by the field `network`."""
    tag = value.get("network") if isinstance(value, dict) else getattr(value, "network", None)
    if not isinstance(value, dict | NetworkConfig):
        raise PydanticKnownError("model_attributes_type")
    if tag is None:
        raise PydanticKnownError("union_tag_not_found", {"discriminator": "'network'"})
    if not isinstance(tag, str) or tag not in NETWORKS:
        names = ", ".join(f"'{name}'" for name in NETWORKS)
        raise PydanticKnownError(
            "union_tag_invalid", {"discriminator": "'network'", "tag": str(tag), "expected_tags": names}
        )
    return TypeAdapter(NETWORKS[tag]).validate_python(value)


@config_dataclass
class RasterConfig(NetworkConfig):
    """What the networks over a raster of full resolution share.

    Attributes:
      num_layers: blocks after the first layer.
      filters: h, the unit of width; what is that wide is said by the network.
      first_kernel_size: k of the first layer's k x k kernel, which leaves the pixel itself out.
      num_output_layers: 1x1 layers before the last 1x1.
      embedding_dim: length of the vector that stands for an input value; 0 scales the value to
        [-1, 1] instead.
    """

    num_layers: int = count(12, most=MAX_LAYERS)
    filters: int = count(16, 1, MAX_WIDTH)
    first_kernel_size: int = count(7, 3, MAX_KERNEL)
    num_output_layers: int = count(2, most=MAX_LAYERS)
    embedding_dim: int = count(0, most=MAX_WIDTH)


@config_dataclass
class OneStreamConfig(RasterConfig):
    """What the networks of 2016a share: type A, residual blocks, ReLU and 1x1 twice, 1x1 (table 1).

    Attributes:
      output_filters: channels of the 1x1 layers before the last.
    """

    output_filters: int = count(32, 1, MAX_WIDTH)

    def make_block(self, name: str, groups: int) -> "list[layers.CausalLayer]":
        """The layers of a residual block, from 2 h channels to 2 h, given the prefix of their names."""
        raise NotImplementedError(f"{type(self).__name__} must have make_block")

    def make_layers(self, raster: Raster) -> "list[layers.CausalLayer]":
        """See the class."""
        from pixelvae_tf import layers

        groups, gain = raster.groups, GAIN_AFTER_RELU
        blocks = [f"block_{index}" for index in range(self.num_layers)]
        network = [
            raster.input(self.embedding_dim),
            layers.MaskedConv2D(2 * self.filters, self.first_kernel_size, "A", groups, name="first"),
            *(layers.Residual(self.make_block(name, groups), name=name) for name in blocks),
        ]
        for index in range(self.num_output_layers):
            name = f"output_{index}"
            output = layers.HorizontalConv2D(self.output_filters, 1, groups=groups, gain=gain, name=name)
            network += [layers.Activation("relu"), output]
        if self.num_output_layers:
            network.append(layers.Activation("relu"))
        return [*network, raster.params()]
