"""SavedModels of the family for the tests that serve them, and what they must answer."""

import contextlib
import functools
import pathlib
import shutil
from unittest import mock

import numpy as np
import tensorflow as tf
from family import MODELS, make_model
from shared import make_once

from pixelvae_tf.config import (
    Config,
    GatedPixelCNNConfig,
    IndependentConfig,
    LevelConfig,
    MaskedResidualConfig,
    ModelConfig,
)
from pixelvae_tf.export import card, exporter
from pixelvae_tf.export.options import ServingOptions
from pixelvae_tf.models import PixelVAE

# The image of this seed is drawn alone, and as one of sixteen.
SEED, PLACE, BATCH = 7, 5, 16
# XLA compiles every batch size anew.
MAX_BATCH = 2
_MASKED = MaskedResidualConfig(num_layers=1, filters=2, first_kernel_size=3)


# Three levels of latents and three classes, as small as they can be.
THREE_LEVELS = ModelConfig(
    (5, 3, 1),
    4,
    [
        LevelConfig(2, (3,), True, (3, 2), stem_filters=2, num_blocks=1, batch_norm=True, prior=_MASKED),
        LevelConfig(2, (3,), True, (2, 1), prior=IndependentConfig()),
        LevelConfig(2, (3,), upsampling=True),
    ],
    _MASKED,
    num_classes=3,
)
ONE_LAYER = ModelConfig(
    (4, 5, 1), 2, [], GatedPixelCNNConfig(num_layers=1, filters=2, kernel_size=3, first_kernel_size=3)
)
# Exports beside those of the family's models with default options: {name: (model, options)}.
_SPECIAL = {
    "three_levels_and_classes": (THREE_LEVELS, ServingOptions()),
    "at_most_2": (ONE_LAYER, ServingOptions(MAX_BATCH, warmup=(1, 2), completion_rounds=3)),
    "at_most_2_by_xla": (ONE_LAYER, ServingOptions(MAX_BATCH, warmup=(1, 2), xla=True)),
}
# A model with latents, one of several channels without, options, XLA. (All of the family are checked as slow tests.)
CHECKED = ("gated_pixel_vae", "gated_pixel_cnn_embedded", "at_most_2", "at_most_2_by_xla")


class Export:
    """A model and its SavedModel.

    Attributes:
      model: with fresh weights.
      path: of the version.
    """

    def __init__(self, model: PixelVAE, folder: pathlib.Path):
        self.model, self.path = model, folder / "base" / "1"
        self._cases = folder / "cases.npz"

    @functools.cached_property
    def loaded(self):
        """The SavedModel, loaded in this process."""
        return tf.saved_model.load(str(self.path))

    @property
    def cases(self) -> dict[str, np.ndarray]:
        """For those of CHECKED, what `exporter.check` compares: inputs of all signatures, the model's own outputs."""
        with np.load(self._cases) as cases:
            return dict(cases)

    def inputs(self, batch: int) -> dict[str, np.ndarray]:
        """Inputs of `sample`: SEED alone, or at its place among others."""
        seed = np.arange(100, 100 + batch)
        place = PLACE % batch
        seed[place] = SEED
        inputs = {"seed": seed, "temperature": np.full(batch, 0.9, np.float32)}
        if self.model.config.num_classes:
            # The class of that image must not depend on its place.
            inputs["label"] = (np.arange(batch) - place) % self.model.config.num_classes
        return inputs

    @functools.cache  # noqa: B019 - as many as there are exports
    def images(self, batch: int) -> np.ndarray:
        """What the model itself draws from them."""
        inputs = self.inputs(batch)
        images = self.model.sample(inputs["seed"], inputs["temperature"], labels=inputs.get("label"))
        return images.numpy().astype(np.uint8)


def export(folder: pathlib.Path, name: str) -> Export:
    """Exports a model, unless a process of this run of pytest has.

    What the check would compare in a fresh process is kept for a test that compares it in its own.

    Args:
      folder: of the run of pytest.
      name: of a model of family.py, or one of _SPECIAL.

    Returns:
      The model and its SavedModel.
    """
    config, options = _SPECIAL[name] if name in _SPECIAL else (MODELS[name], ServingOptions())
    model = make_model(config)

    def make(unfinished: pathlib.Path) -> None:
        with checks_in_place(unfinished if name in CHECKED else None):
            about = card.make_card(Config(model=config), "best", 3)
            exporter.export(model, about, unfinished / "base", options)

    return Export(model, make_once(folder, f"export_{name}", make))


@contextlib.contextmanager
def checks_in_place(cases_folder: pathlib.Path | None = None):
    """Leaves out the fresh process of the check, of which test_export_commands.py has one.

    Args:
      cases_folder: where what would be compared is kept; it is not computed if this is None.
    """

    class Kept:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def load(self, saved_model):
            pass

        def outcome(self, cases, count):
            shutil.copy(cases, cases_folder)
            return 0, ""

    with mock.patch.object(exporter, "CheckProcess", Kept), contextlib.ExitStack() as stack:
        if cases_folder is None:
            stack.enter_context(mock.patch.object(exporter, "check"))
        yield


def same_images(run, exported: Export) -> None:
    """Holds what `run` draws against the model, alone and in a batch of 16 with others.

    Args:
      run: from NumPy inputs of `sample` to images.
      exported: the model it runs.
    """
    alone, together = (np.asarray(run(exported.inputs(batch))) for batch in (1, BATCH))
    np.testing.assert_array_equal(alone[0], together[PLACE])
    assert (together != together[PLACE]).any(), "another seed is another image"
    for images, batch in ((alone, 1), (together, BATCH)):
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, exported.images(batch))


def constants(inputs: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    """The same as tensors."""
    return {name: tf.constant(value) for name, value in inputs.items()}
