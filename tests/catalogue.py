"""Every causal layer, once, with what it may see. A new layer is a new entry here.

What a layer sees is a relation `testing.Sees`; streams are numbered vertical first.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from pixelvae_tf import layers
from pixelvae_tf.config import (
    DiagonalBiLSTMConfig,
    GatedPixelCNNConfig,
    IndependentConfig,
    MaskedResidualConfig,
    ModelConfig,
    PixelCNNConfig,
    PixelCNNPPConfig,
    RowLSTMConfig,
)
from pixelvae_tf.models import networks
from pixelvae_tf.testing import Sees, Streams, before, relation


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer of the catalogue.

    Attributes:
      name: of the test.
      make: builds it.
      sees: what depends on what.
      streams: see `testing.Streams`.
      channels: of its input (of both streams).
      context: None, "vector" or "map".
      num_values: if the input is pixel values, how many there are.
      sizes: (H, W) that the contract is checked on.
    """

    name: str
    make: Callable
    sees: Sees
    streams: Streams = "raster"
    channels: int = 3
    context: str | None = None
    num_values: int = 0
    sizes: tuple[tuple[int, int], ...] = ((4, 5), (2, 1), (1, 3))


def center(mask_type: str, groups: int, unit: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Whether a unit sees another at the same location."""
    return source % groups <= unit % groups if mask_type == "B" else source % groups < unit % groups


def left(reach: int, mask_type: str, groups: int = 1):
    """The row of the pixel, to the left."""

    def sees(output, source, at, place):
        (r, c, k), (i, j, unit) = at, place
        return (i == r) & ((c - reach <= j) & (j < c) | (j == c) & center(mask_type, groups, k, unit))

    return sees


def above(rows: int, reach: int, first: int = 1):
    """Rows r - first down to r - first - rows + 1, `reach` to both sides."""

    def sees(output, source, at, place):
        (r, c, _), (i, j, _) = at, place
        return (first <= r - i) & (r - i < first + rows) & (abs(c - j) <= reach)

    return sees


def either(first, second):
    """The union of two relations."""
    return lambda *args: first(*args) | second(*args)


def masked(kernel_size: int, mask_type: str, groups: int = 1):
    """One masked convolution: all of its kernel above, and to the left."""
    half = kernel_size // 2
    return either(above(half, half), left(half, mask_type, groups))


def after(second, first, size=(4, 5), units=3):
    """What a layer sees through another: the blind spot of stacked masked convolutions comes out of this."""

    def sees(output, source, at, place):
        between = (*size, units)
        to = relation(second, (0, 0), tuple(axis.size for axis in at), between)
        start = relation(first, (0, 0), between, tuple(axis.size for axis in place))
        return np.tensordot(to.astype(int), start.astype(int), 3) > 0

    return sees


def gated(kernel_size: int, mask_type: str, groups: int = 1):
    """A gated block on (vertical, horizontal)."""
    half = kernel_size // 2
    vertical = above(half + 1, half, first=0)
    shifted, beside = above(half + 1, half, first=1), left(half, mask_type, groups)

    def sees(output, source, at, place):
        if output == 0:
            return vertical(output, source, at, place) if source == 0 else np.False_
        return (shifted if source == 0 else beside)(output, source, at, place)

    return sees


def gated_end(kernel_size: int, mask_type: str):
    """The last gated block: its one output is the horizontal stream."""
    pair = gated(kernel_size, mask_type)
    return lambda output, source, at, place: pair(1, source, at, place)


def triangle(output, source, at, place, reach=1):
    """A Row LSTM: `reach` columns more to either side with every row up, and `reach` to the left."""
    (r, c, _), (i, j, _) = at, place
    return (i <= r) & (c - reach * (r - i + 1) <= j) & (j <= c + reach * (r - i))


def wide_triangle(*args):
    """The same with kernels of 5."""
    return triangle(*args, reach=2)


def triangle_rgb(output, source, at, place):
    """The same, where the units of a location are ordered in three groups."""
    return triangle(output, source, at, place) & (~_same_location(at, place) | center("B", 3, at[2], place[2]))


def down_right(output, source, at, place):
    """A 2x2 kernel."""
    (r, c, _), (i, j, _) = at, place
    return (r - 1 <= i) & (i <= r) & (c - 1 <= j) & (j <= c)


def _same_location(at, place):
    return (at[0] == place[0]) & (at[1] == place[1])


def same_unit(output, source, at, place):
    """Nothing but itself."""
    return _same_location(at, place) & (at[2] == place[2])


def embedded(output, source, at, place):
    """A channel's own vector: unit k belongs to channel k mod 3."""
    return _same_location(at, place) & (at[2] % 3 == place[2])


def halves(output, source, at, place):
    """A gate of four units: unit k belongs to units k and k + 2."""
    return _same_location(at, place) & (at[2] == place[2] % 2)


def nothing(output, source, at, place):
    """Independent of the input."""
    return np.False_


def gated_network(reach: int, groups: int):
    """All of them together: no blind spot within `reach`, the sum of the kernels' halves."""
    return either(above(reach + 1, reach), left(reach, "A", groups))


def _network(channels, num_values, units, pixels, **options):
    groups = ModelConfig((4, 4, channels), num_values, [], pixels, **options).channel_groups
    return layers.Chain(pixels.make_layers(networks.Raster(num_values, groups, units)), name="network")


GATED = GatedPixelCNNConfig(num_layers=1, filters=6, kernel_size=3, first_kernel_size=3)
# Wide enough that no path is dead behind its ReLUs.
RASTER = {"filters": 12, "output_filters": 24, "first_kernel_size": 3, "num_output_layers": 1}
MASKED = MaskedResidualConfig(num_layers=1, filters=12, first_kernel_size=3)
STREAMS = PixelCNNPPConfig(num_blocks=1, num_scales=2, filters=3)

CAUSAL_LAYERS = [
    Case("vertical", lambda: layers.VerticalConv2D(4, (2, 5)), above(2, 2, first=0), "vertical"),
    Case("horizontal_a", lambda: layers.HorizontalConv2D(4, 5, "A"), left(2, "A"), "horizontal"),
    Case("horizontal_b", lambda: layers.HorizontalConv2D(4, 3, "B", use_bias=False), left(1, "B"), "horizontal"),
    Case("horizontal_a_rgb", lambda: layers.HorizontalConv2D(6, 3, "A", 3), left(1, "A", 3), "horizontal"),
    Case("horizontal_b_rgb", lambda: layers.HorizontalConv2D(6, 3, "B", 3), left(1, "B", 3), "horizontal"),
    Case("pointwise_a_rgb", lambda: layers.HorizontalConv2D(6, 1, "A", 3), left(0, "A", 3), "horizontal"),
    Case("masked_a", lambda: layers.MaskedConv2D(4, 5, "A"), masked(5, "A")),
    Case("masked_b", lambda: layers.MaskedConv2D(4, 3, "B", gain=0.5), masked(3, "B")),
    Case("masked_1x1", lambda: layers.MaskedConv2D(6, 1, "B", 3), masked(1, "B", 3)),
    Case("masked_a_rgb", lambda: layers.MaskedConv2D(6, 3, "A", 3), masked(3, "A", 3)),
    Case(
        "masked_stack_with_blind_spot",
        lambda: layers.Chain([layers.MaskedConv2D(3, 3, "A"), layers.MaskedConv2D(3, 3, "B")]),
        after(masked(3, "B"), masked(3, "A")),
    ),
    Case("masked_context", lambda: layers.MaskedConv2D(4, 3), masked(3, "B"), context="map"),
    Case(
        "residual",
        lambda: layers.Residual([layers.Activation("tanh"), layers.MaskedConv2D(3, 3, "B", 3)]),
        masked(3, "B", 3),
        context="vector",
    ),
    Case("row_lstm", lambda: layers.RowLSTM(2), triangle, context="map"),
    Case("row_lstm_wide", lambda: layers.RowLSTM(2, 5), wide_triangle, context="vector"),
    Case("row_lstm_rgb", lambda: layers.RowLSTM(3, 3, 3), triangle_rgb),
    Case("diagonal_bilstm", lambda: layers.DiagonalBiLSTM(2), before("B"), context="map"),
    Case("diagonal_bilstm_rgb", lambda: layers.DiagonalBiLSTM(3, 3), before("B", 3)),
    Case("down_right", lambda: layers.DownRightConv2D(4, gain=0.5), down_right),
    Case(
        "pixel_cnn_pp_streams",
        lambda: layers.PixelCNNPP(3, 1, 3, dropout=0.5),
        before("A"),
        context="map",
        sizes=((4, 4), (4, 8), (8, 4)),
    ),
    Case("gated_a", lambda: layers.GatedBlock(4, 5, "A"), gated(5, "A"), "pair"),
    Case("gated_vector", lambda: layers.GatedBlock(3, 3), gated(3, "B"), "pair", context="vector"),
    Case("gated_map_rgb", lambda: layers.GatedBlock(3, 3, groups=3), gated(3, "B", 3), "pair", context="map"),
    Case(
        "gated_end",
        lambda: layers.GatedBlock(3, 3, dropout=0.5, keep_vertical=False),
        gated_end(3, "B"),
        "end",
        context="map",
    ),
    Case("gated_residual", lambda: layers.Residual([layers.GatedBlock(3, 3)]), gated(3, "B"), "pair", context="map"),
    Case("gated_pointwise", lambda: layers.GatedPointwise(6, 3), left(0, "B", 3), context="map"),
    Case("gated_pointwise_vector", lambda: layers.GatedPointwise(6), left(0, "B"), context="vector"),
    Case("scale", lambda: layers.ScalePixels(7), same_unit, num_values=7),
    Case("embed", lambda: layers.EmbedPixels(7, 2), embedded, num_values=7),
    Case(
        "gated_pixel_cnn_embedded",
        lambda: _network(3, 4, 12, dataclasses.replace(GATED, embedding_dim=2)),
        gated_network(2, 3),
        num_values=4,
    ),
    Case(
        "gated_pixel_cnn",
        lambda: _network(1, 2, 1, GATED),
        gated_network(2, 1),
        channels=1,
        context="vector",
        num_values=2,
    ),
    Case(
        "gated_pixel_cnn_rgb",
        lambda: _network(3, 4, 12, GATED),
        gated_network(2, 3),
        context="map",
        num_values=4,
    ),
    Case(
        "gated_pixel_cnn_whole_pixels",
        lambda: _network(3, 4, 5, GATED, likelihood="logistic_mixture", num_mixtures=1),
        gated_network(2, 1),
        num_values=4,
    ),
    Case(
        "pixel_cnn",
        lambda: _network(3, 4, 12, PixelCNNConfig(num_layers=1, **RASTER)),
        after(masked(3, "B", 3), masked(3, "A", 3)),
        context="map",
        num_values=4,
    ),
    Case(
        "pixel_rnn_row_lstm",
        lambda: _network(3, 4, 12, RowLSTMConfig(num_layers=1, **RASTER)),
        after(triangle_rgb, masked(3, "A", 3)),
        context="vector",
        num_values=4,
    ),
    Case(
        "pixel_rnn_diagonal_bilstm",
        lambda: _network(3, 4, 12, DiagonalBiLSTMConfig(num_layers=1, **RASTER)),
        # All but what the first, strict layer keeps from it: the pixel at the right end of the row above.
        after(before("B", 3), masked(3, "A", 3)),
        context="map",
        num_values=4,
    ),
    Case(
        "pixel_cnn_pp",
        lambda: _network(3, 4, 8, STREAMS, likelihood="logistic_mixture", num_mixtures=1),
        before("A"),
        context="map",
        num_values=4,
        sizes=((4, 4), (2, 6), (2, 2)),
    ),
    Case(
        "pixel_cnn_pp_grey",
        lambda: _network(1, 4, 4, dataclasses.replace(STREAMS, num_scales=1)),
        before("A"),
        channels=1,
        context="vector",
        num_values=4,
    ),
    Case("gate", lambda: layers.Gate(), halves, channels=4),
    Case(
        "masked_residual",
        lambda: _network(3, 4, 12, MASKED),
        after(masked(3, "B", 3), after(masked(3, "B", 3), masked(3, "A", 3))),
        context="map",
        num_values=4,
    ),
    Case(
        "masked_residual_of_latents",
        lambda: layers.Chain(MASKED.make_layers(networks.Raster(0, 1, 4)), name="prior"),
        after(masked(3, "B"), after(masked(3, "B"), masked(3, "A"))),
        channels=2,
        context="map",
    ),
    Case(
        "independent",
        lambda: _network(3, 4, 12, IndependentConfig()),
        nothing,
        context="map",
        num_values=4,
    ),
]
