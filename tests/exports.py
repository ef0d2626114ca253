"""SavedModels of the family for the tests that serve them, and what they must give."""

import functools
import pathlib
import tempfile
from typing import NamedTuple
from unittest import mock

import numpy as np
import tensorflow as tf
from family import make_model

from pixelvae_tf.export import exporter
from pixelvae_tf.models import PixelVAE

# The image of this seed is drawn alone, and as one of sixteen.
SEED, PLACE, BATCH = 7, 5, 16
_FOLDER = tempfile.TemporaryDirectory(prefix="pixelvae_exports_")


class Export(NamedTuple):
    """A model and its SavedModel.

    Attributes:
      model: with fresh weights.
      path: of the version.
    """

    model: PixelVAE
    path: pathlib.Path

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

    def images(self, batch: int) -> np.ndarray:
        """What the model itself draws from them."""
        inputs = self.inputs(batch)
        images = self.model.sample(inputs["seed"], inputs["temperature"], labels=inputs.get("label"))
        return images.numpy().astype(np.uint8)


@functools.cache
def export(name: str) -> Export:
    """A model of family.py, exported once a process."""
    model = make_model(name)
    # `test_export.py` has the check. Here every test compares, and most in a process of its own.
    with mock.patch.object(exporter, "check"):
        return Export(model, exporter.export(model, {}, pathlib.Path(_FOLDER.name, name)))


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
