"""Trained weights that come with the package.

<data set>/<model>/model.weights.h5    the averaged weights as Keras saves them: arrays, nothing that could be run
<data set>/<model>/card.json           what made them and what they reach
<data set>/<model>/model_card.md       the same to be read

`python -m pixelvae_tf.export.store_pretrained` writes them from a run.
"""

import importlib.resources
import json
import typing

from pixelvae_tf import config as config_lib

if typing.TYPE_CHECKING:
    from pixelvae_tf.models import PixelVAE

FOLDER = importlib.resources.files(__name__)
WEIGHTS, CARD, PAGE = "model.weights.h5", "card.json", "model_card.md"
# What Keras, h5py and the config's reader raise for files that are missing, torn or damaged.
UNREADABLE = (OSError, KeyError, RuntimeError, TypeError, ValueError)


def names() -> list[str]:
    """All of them as <data set>/<model>, sorted."""
    data_sets = [child for child in FOLDER.iterdir() if child.is_dir()]
    return sorted(
        f"{data_set.name}/{model.name}"
        for data_set in data_sets
        for model in data_set.iterdir()
        if (model / CARD).is_file()
    )


def load(name: str) -> tuple["PixelVAE", config_lib.Config, dict]:
    """A trained model with its card.

    Args:
      name: <data set>/<model>.

    Returns:
      The model, the config of the run that made it, and its card: that of `export.card.make_card` with "num_weights",
      "fingerprint" and "versions", and "slice", the report on the first images of the test split.

    Raises:
      ValueError: for an unknown name, or if the files are not as they were stored.
    """
    if name not in names():
        raise ValueError(f"name must be one of the pretrained models {', '.join(names())}. Received: {name!r}")
    from pixelvae_tf import checks, runs  # TensorFlow, which their names do not need

    checks.check_eager()
    folder = FOLDER / name
    try:
        card = json.loads((folder / CARD).read_text())
        config = config_lib.from_json(json.dumps(card["config"]))
        model = runs.build(config)
        with importlib.resources.as_file(folder / WEIGHTS) as path:
            model.load_weights(path)
        # Keras leaves a weight as it is, without an error, where it does not know that a file should hold it.
        if runs.fingerprint(model) != card["fingerprint"]:
            raise ValueError(f"weights of fingerprint {runs.fingerprint(model)}, not {card['fingerprint']}")
    except UNREADABLE as error:
        raise ValueError(
            f"the files of {name!r} must be as they came with the package; install it again. "
            f"Received: {folder}: {error!r}"
        ) from error
    return model, config, card


def load_pretrained(name: str) -> tuple["PixelVAE", config_lib.Config, int]:
    """A trained model that comes with the package.

    Args:
      name: <data set>/<model>, as "digits/gated_pixel_vae".

    Returns:
      The model, the config of the run that made it, and the step the weights are from; as `pixelvae_tf.load`.

    Raises:
      ValueError: for an unknown name (the message lists them), or if the files are not as they were stored.
    """
    model, config, card = load(name)
    return model, config, card["step"]
