"""What may stand at a pixel: the sites that `model.likelihood` names.

A site of your own is a `distributions.Site`, and a line that puts it into the table; docs/extending.md shows one.
A config needs no TensorFlow, which takes seconds to import: what makes a site imports it.
"""

import dataclasses
import types
import typing
from collections.abc import Callable

if typing.TYPE_CHECKING:
    from pixelvae_tf import distributions

__all__ = ["LIKELIHOODS", "Likelihood"]


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """A kind of site.

    Attributes:
      make: (num_values, channels, num_mixtures) -> the site of pixels.
      orders_channels: whether a network may make the channels of a pixel one after the other, which wants a
        `ChannelwiseSite`; a site that takes a pixel as a whole orders them itself.
      takes_mixtures: whether `model.num_mixtures` must be given; else it must be 0.
    """

    make: "Callable[[int, int, int], distributions.Site]"
    orders_channels: bool = True
    takes_mixtures: bool = False


def _distributions() -> types.ModuleType:
    from pixelvae_tf import distributions

    return distributions


# All likelihoods, by name.
LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Likelihood(lambda values, channels, mixtures: _distributions().BernoulliSite(channels)),
    "categorical": Likelihood(lambda values, channels, mixtures: _distributions().CategoricalSite(values, channels)),
    "quantized_normal": Likelihood(
        lambda values, channels, mixtures: _distributions().QuantizedNormalSite(values, channels)
    ),
    "logistic_mixture": Likelihood(
        lambda values, channels, mixtures: _distributions().LogisticMixtureSite(values, channels, mixtures),
        orders_channels=False,
        takes_mixtures=True,
    ),
}
