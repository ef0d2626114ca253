"""TFP distributions: of one site, of a grid of sites, and of latent vectors."""

from pixelvae_tf.distributions.autoregressive_grid import AutoregressiveGrid
from pixelvae_tf.distributions.gaussian import clip_latents, posterior_gaussian, standard_gaussian
from pixelvae_tf.distributions.logistic_mixture import LogisticMixture, LogisticMixtureSite
from pixelvae_tf.distributions.quantized import QuantizedLogistic, QuantizedNormal, QuantizedNormalSite
from pixelvae_tf.distributions.sites import BernoulliSite, CategoricalSite, ChannelwiseSite, GaussianSite, Site

__all__ = [
    "AutoregressiveGrid",
    "BernoulliSite",
    "CategoricalSite",
    "ChannelwiseSite",
    "GaussianSite",
    "LogisticMixture",
    "LogisticMixtureSite",
    "QuantizedLogistic",
    "QuantizedNormal",
    "QuantizedNormalSite",
    "Site",
    "clip_latents",
    "pixel_site",
    "posterior_gaussian",
    "standard_gaussian",
]


def pixel_site(likelihood: str, num_values: int, channels: int = 1, num_mixtures: int = 0) -> Site:
    """The site of pixels.

    Args:
      likelihood: "bernoulli", "categorical", "quantized_normal" or "logistic_mixture".
      num_values: how many values a channel can take.
      channels: C.
      num_mixtures: components of a logistic mixture.

    Returns:
      The site.

    Raises:
      KeyError: for another likelihood; `ModelConfig.validate` names it.
    """
    return {
        "bernoulli": lambda: BernoulliSite(channels),
        "categorical": lambda: CategoricalSite(num_values, channels),
        "quantized_normal": lambda: QuantizedNormalSite(num_values, channels),
        "logistic_mixture": lambda: LogisticMixtureSite(num_values, channels, num_mixtures),
    }[likelihood]()
