"""TFP distributions: of one site, of a grid of sites, and of latent vectors."""

from pixelvae_tf.distributions.autoregressive_grid import AutoregressiveGrid
from pixelvae_tf.distributions.gaussian import diagonal_gaussian, standard_gaussian
from pixelvae_tf.distributions.sites import BernoulliSite, CategoricalSite, GaussianSite, pixel_site

__all__ = [
    "AutoregressiveGrid",
    "BernoulliSite",
    "CategoricalSite",
    "GaussianSite",
    "diagonal_gaussian",
    "pixel_site",
    "standard_gaussian",
]
