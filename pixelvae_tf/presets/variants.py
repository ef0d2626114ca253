"""The paper's comparisons with a hierarchy of two levels (section 4.2), as changes of its config."""

import dataclasses
from typing import Any

from pixelvae_tf.config import Config, IndependentConfig

# p(z1 | z2) without its network: a plain diagonal Gaussian at each location.
GAUSSIAN_PRIOR = {"model.levels[0].prior": IndependentConfig()}
# Pixels independent of each other given the latents.
TWO_LEVEL_VAE = {"model.pixels": IndependentConfig()}
# Every nat of the KL counts from the start.
NO_FREE_NATS = {"train.free_nats": (0.0,), "train.free_nats_steps": 0}


def one_level(hierarchy: Config) -> dict[str, Any]:
    """The vector alone, by one encoder and one decoder of the same widths; no latents on the grid."""
    lower, upper = hierarchy.model.levels
    level = dataclasses.replace(
        upper,
        stem_filters=lower.stem_filters,
        filters=(*lower.filters, *upper.filters),
        decoder_filters=tuple(
            filters for level in (upper, lower) for filters in level.decoder_filters or reversed(level.filters)
        ),
    )
    return {
        "model.levels": [level],
        "train.kl_warmup_steps": hierarchy.train.kl_warmup_steps[:1],
        "train.free_nats": hierarchy.train.free_nats[:1],
        "train.prior_floor_steps": 0,
    }
