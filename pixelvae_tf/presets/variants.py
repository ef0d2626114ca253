"""The paper's comparisons with a hierarchy of two levels (section 4.2), made of its config."""

from pixelvae_tf.config import Config, IndependentConfig


def gaussian_prior(config: Config) -> Config:
    """p(z1 | z2) without its network: a plain diagonal Gaussian at each location."""
    config.model.levels[0].prior = IndependentConfig()
    return config


def two_level_vae(config: Config) -> Config:
    """Pixels independent of each other given the latents."""
    config.model.pixels = IndependentConfig()
    return config


def one_level(config: Config) -> Config:
    """The vector alone, by one encoder and one decoder of the same widths; no latents on the grid."""
    lower, upper = config.model.levels
    upper.decoder_filters = tuple(
        filters for level in (upper, lower) for filters in level.decoder_filters or reversed(level.filters)
    )
    upper.stem_filters, upper.filters = lower.stem_filters, (*lower.filters, *upper.filters)
    config.model.levels = [upper]
    config.train.kl_warmup_steps, config.train.prior_floor_steps = config.train.kl_warmup_steps[:1], 0
    return config
