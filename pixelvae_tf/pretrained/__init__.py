"""Trained weights by name: those that come with the package, in a folder, or on a hub.

<data set>/<model>/ of this package holds the weights that come with it, in the files that `PixelVAE.save_to_preset`
writes. `python -m pixelvae_tf.export.store_pretrained` puts them there from a run.
"""

import dataclasses
import json
import os
import typing
from collections.abc import Callable

from pixelvae_tf import config as config_lib
from pixelvae_tf import data, hub
from pixelvae_tf.hub import names
from pixelvae_tf.models import preset as preset_lib

__all__ = ["load_pretrained", "names"]

if typing.TYPE_CHECKING:
    from pixelvae_tf.models import PixelVAE


class Pretrained(typing.NamedTuple):
    """What trained weights say of themselves.

    Attributes:
      config: of the run that made them; of weights that were saved without a run it has the model alone.
      card: that of `export.card.make_card` with "name", "lineage", "num_weights", "fingerprint" and "versions". The
        package's also have "slice", the report on the first images of the test split.
      load: reads the weights; errors of `PixelVAE.from_preset`.
    """

    config: config_lib.Config
    card: dict
    load: Callable[[], "PixelVAE"]


def find(preset: str | os.PathLike) -> Pretrained:
    """Trained weights by name, which are not read yet; arguments and errors of `PixelVAE.from_preset`."""
    stored = preset_lib.read(preset)
    without_run = {"data": {"name": config_lib.GIVEN}, "train": {"dtype": stored.dtype}}
    parts = {**stored.card.get("config", without_run), "model": dataclasses.asdict(stored.config)}
    with preset_lib.as_saved(stored.name, stored.folder):
        config = config_lib.from_json(json.dumps(parts))
    name, binarization = data.describe(config.data)
    unknown = {
        "weights": "best",
        "step": 0,
        "data": {"name": name, "binarization": binarization},
        "evaluations": [],
        "lineage": [],
    }
    commands = {"train": None, "evaluate": f"pixelvae-evaluate --pretrained={hub.portable(stored.name)}"}
    known = {"commands": commands | stored.card.get("commands", {}), "config": json.loads(config_lib.to_json(config))}
    return Pretrained(config, {**unknown, **stored.card, **known}, stored.load)


def load(preset: str | os.PathLike) -> tuple["PixelVAE", config_lib.Config, dict]:
    """The model, its config and its card; arguments and errors of `PixelVAE.from_preset`."""
    trained = find(preset)
    return trained.load(), trained.config, trained.card


def load_pretrained(preset: str | os.PathLike) -> tuple["PixelVAE", config_lib.Config, int]:
    """A trained model with the config of its run; `PixelVAE.from_preset` gives the model alone.

    Args:
      preset: a name of `names()`, as "digits/gated_pixel_vae"; a folder that `PixelVAE.save_to_preset` wrote;
        "hf://user/name"; or "kaggle://user/model/keras/variation[/version]".

    Returns:
      The model, the config of the run that made it, and the step the weights are from.

    Raises:
      ValueError: if it names nothing (the message says what there is), or its files are not as they were saved.
      OSError: if the hub does not give it.

    Examples:
      >>> model, config, step = pixelvae_tf.load_pretrained("digits/gated_pixel_vae")
      >>> config.data.name, step
      ('digits', 750)
    """
    model, config, card = load(preset)
    return model, config, card["step"]
