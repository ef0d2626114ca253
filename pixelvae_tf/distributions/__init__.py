"""TFP distributions: of one site, of a grid of sites, and of latent vectors."""

from pixelvae_tf.distributions.autoregressive_grid import AutoregressiveGrid
from pixelvae_tf.distributions.gaussian import clip_latents, posterior_gaussian, standard_gaussian
from pixelvae_tf.distributions.logistic_mixture import LogisticMixture, LogisticMixtureSite
from pixelvae_tf.distributions.quantized import QuantizedLogistic, QuantizedNormal, QuantizedNormalSite
from pixelvae_tf.distributions.sites import (
    BernoulliSite,
    CategoricalSite,
    ChannelwiseSite,
    GaussianSite,
    Site,
    inverse_cdf,
    per_batch,
)

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
    "inverse_cdf",
    "per_batch",
    "posterior_gaussian",
    "standard_gaussian",
]
