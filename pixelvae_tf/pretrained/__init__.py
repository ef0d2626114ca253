"""Trained weights that come with the package.

<data set>/<model>/model.weights.h5    the averaged weights as Keras saves them: arrays, nothing that could be run
<data set>/<model>/card.json           what made them and what they reach
<data set>/<model>/model_card.md       the same to be read

`python -m pixelvae_tf.export.store_pretrained` writes them from a run.
"""

import contextlib
import importlib.resources
import json
import typing
from collections.abc import Iterator

from pixelvae_tf import config as config_lib

__all__ = ["load_pretrained", "names"]

if typing.TYPE_CHECKING:
    from pixelvae_tf.models import PixelVAE

FOLDER = importlib.resources.files(__name__)
WEIGHTS, CARD, PAGE = "model.weights.h5", "card.json", "model_card.md"
# What Keras, h5py and the config's reader raise for files that are missing, torn or damaged.
UNREADABLE = (OSError, KeyError, RuntimeError, TypeError, ValueError)


def names() -> list[str]:
    """The names of all pretrained models, <data set>/<model>, sorted."""
    data_sets = [child for child in FOLDER.iterdir() if child.is_dir()]
    return sorted(
        f"{data_set.name}/{model.name}"
        for data_set in data_sets
        for model in data_set.iterdir()
        if (model / CARD).is_file()
    )


def read_card(name: str) -> tuple[config_lib.Config, dict]:
    """The config and the card of a pretrained model, without its weights.

    Args:
      name: <data set>/<model>.

    Returns:
      The config of the run that made it, and its card: that of `export.card.make_card` with "num_weights",
      "fingerprint" and "versions", and "slice", the report on the first images of the test split.

    Raises:
      ValueError: as `load`.
    """
    if name not in names():
        raise ValueError(f"name must be one of the pretrained models {', '.join(names())}. Received: {name!r}")
    with _as_stored(name):
        card = json.loads((FOLDER / name / CARD).read_text())
        return config_lib.from_json(json.dumps(card["config"])), card


def load(name: str) -> tuple["PixelVAE", config_lib.Config, dict]:
    """A trained model with its card.

    Args:
      name: <data set>/<model>.

    Returns:
      The model, and what `read_card` returns.

    Raises:
      ValueError: for an unknown name, or if the files are not as they were stored.
    """
    config, card = read_card(name)
    from pixelvae_tf import checks, runs  # imports TensorFlow, which the code above does not need

    checks.check_eager()
    with _as_stored(name):
        model = runs.build(config)
        with importlib.resources.as_file(FOLDER / name / WEIGHTS) as path:
            model.load_weights(path)
        # Keras silently keeps a weight that is missing in the file.
        if runs.fingerprint(model) != card["fingerprint"]:
            raise ValueError(f"weights of fingerprint {runs.fingerprint(model)}, not {card['fingerprint']}")
    return model, config, card


@contextlib.contextmanager
def _as_stored(name: str) -> Iterator[None]:
    """Explains a failed read of a model's files: what to do when they are damaged."""
    try:
        yield
    except UNREADABLE as error:
        raise ValueError(
            f"the files of {name!r} must be as they came with the package; install it again. "
            f"Received: {FOLDER / name}: {error!r}"
        ) from error


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
