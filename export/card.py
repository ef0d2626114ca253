"""What a SavedModel says about itself, in a file inside it."""

import json
import pathlib

from pixelvae_tf import config as config_lib

# TensorFlow Serving ignores this folder; people and `pixelvae-sample` read it.
CARD = pathlib.Path("assets.extra") / "pixelvae_tf.json"


def make_card(config: config_lib.Config, weights: str, step: int) -> dict:
    """The run's config, and which of its weights these are."""
    return {"config": json.loads(config_lib.to_json(config)), "weights": weights, "step": step}
