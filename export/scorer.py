"""A model that scores image files, optionally beside a background model.

Legend: B batch, H height, W width, C channels.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from pixelvae_tf import data, pictures, scores
from pixelvae_tf.config import Config, ModelConfig
from pixelvae_tf.data import decoding
from pixelvae_tf.data import folder as folder_lib
from pixelvae_tf.export.local import SavedModel


class Scorer:
    """A model that scores images, and optionally a background model.

    Args:
      model: the model.
      background: a model of the same images, trained with data.mutation; None for no likelihood ratio.
      label: the class of all images, for a class-conditional model.

    Raises:
      ValueError: if the background model is of other images, the exports are of an earlier version, or the label does
        not fit; or if the images of the models are no squares.
    """

    def __init__(self, model: SavedModel, background: SavedModel | None = None, label: int | None = None):
        self.model, self.background, self.label = model, background, label
        config = model.config.model
        decoding.readable(config.image_shape, "images")
        if (label is not None) != bool(config.num_classes) or not 0 <= (label or 0) < max(config.num_classes, 1):
            expected = f"in 0..{config.num_classes - 1}" if config.num_classes else "left out: the model has no classes"
            raise ValueError(f"label must be {expected}. Received: {label}")
        if background is not None:
            _check_background(model, background)
        for name, each in (("saved_model", model), ("background", background)):
            if each is not None and "pixel_nats" not in each.signature("log_prob").outputs:
                raise ValueError(
                    f"{name} must have pixel_nats in its signature log_prob: export it again. "
                    f"Received: {str(each.path)!r}"
                )
        self.batch_size = min(each.max_batch for each in (model, background) if each is not None)

    @property
    def num_values(self) -> int:
        """How many values a channel can take."""
        return self.model.config.model.num_values

    def measure(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The models' outputs for images; each image has its own noise.

        Args:
          images: uint8 [B, H, W, C], at most `batch_size`.

        Returns:
          The outputs of log_prob; with a background model its own too, as background_log_prob, ...

        Raises:
          ValueError: if they are not finite.
        """
        from pixelvae_tf import noise

        inputs = {"images": images, "seed": noise.image_seeds(images).numpy()}
        if self.label is not None:
            inputs["label"] = np.full(len(images), self.label)
        measured = self.model.predict("log_prob", inputs)
        if self.background is not None:
            of_background = self.background.predict("log_prob", inputs)
            measured |= {f"background_{name}": values for name, values in of_background.items()}
        for name, values in measured.items():
            if not np.isfinite(values).all():
                which = "background" if name.startswith("background_") else "saved_model"
                raise ValueError(
                    f"{which} must give finite numbers: its weights diverged, or are damaged. Received: {name} "
                    f"with {np.sum(~np.isfinite(values))} that are not"
                )
        return measured

    def table(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The scores of images, uint8 [B, H, W, C], that need no reference: `scores.table`."""
        measured = self.measure(images)
        return scores.table(
            measured["log_prob"],
            measured.get("kl_nats"),
            images,
            self.num_values,
            measured.get("background_log_prob"),
        )

    def maps(self, images: np.ndarray) -> list[np.ndarray]:
        """Nats [B, H, W] of each location; with a background model also the difference to its nats."""
        starts = range(0, len(images), self.batch_size)
        parts = [self.measure(images[start : start + self.batch_size]) for start in starts]
        measured = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        maps = [measured["pixel_nats"]]
        if self.background is not None:
            maps.append(measured["pixel_nats"] - measured["background_pixel_nats"])
        return maps

    def read(self, folder: pathlib.Path, path: str) -> folder_lib.Read:
        """An image file as pixel values of the model; see `read`."""
        return read(folder, path, self.model.config.model)


def read(folder: str | pathlib.Path, path: str, config: ModelConfig) -> folder_lib.Read:
    """An image file as pixel values of a model: its largest centred square, averaged over areas to the model's size."""
    side, _, channels = config.image_shape
    result = folder_lib.read(folder, path, side, channels)
    if result.pixels is None:
        return result
    return dataclasses.replace(result, pixels=pictures.to_pixel_values(result.pixels, config.num_values))


def _check_background(model: SavedModel, background: SavedModel) -> None:
    """Raises a ValueError that names the first thing in which the images of two models differ."""

    def images(config: Config) -> dict[str, Any]:
        names = ("image_shape", "num_values", "num_classes")
        of_model = {f"model.{name}": getattr(config.model, name) for name in names}
        # By its last name: the path to a folder is another one from elsewhere.
        return of_model | {"data": data.describe(config.data.elsewhere())[0]}

    mutations = background.config.data.mutation, model.config.data.mutation
    if mutations[0] < mutations[1]:
        raise ValueError(
            "background must be the model that was trained with more data.mutation. "
            f"Received: {mutations[0]} in background and {mutations[1]} in saved_model"
        )
    theirs, ours = images(background.config), images(model.config)
    for name in ours:
        if theirs[name] != ours[name]:
            raise ValueError(
                f"background must be a model of the same images as saved_model, trained with data.mutation. "
                f"Received: {name} {theirs[name]!r} in background and {ours[name]!r} in saved_model"
            )
