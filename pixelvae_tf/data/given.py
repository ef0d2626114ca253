"""Images that a program passes: arrays, or a `tf.data.Dataset`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from pixelvae_tf import pixels
from pixelvae_tf.config import GIVEN, ModelConfig
from pixelvae_tf.data.sources import ImageSet, without_classes

# One image of this many is held out if no validation images are given, as for a folder.
HELD_OUT = 20


def given_splits(images: Any, model: ModelConfig, exclude_labels: tuple[int, ...] = ()) -> dict[str, ImageSet]:
    """The splits of a run from images that a program passes.

    Args:
      images: integer pixel values [N, H, W, C], or (images, labels [N]), or a finite `tf.data.Dataset` of images or
        such pairs, one by one or in batches, which is read into memory here; or an `ImageSet`. Every twentieth image is
        held out for validation, unless they are {"train": ..., "validation": ...}, both of these kinds; what stands
        beside them, such as "test", is not used.
      model: what they must fit.
      exclude_labels: images of these classes are left out.

    Returns:
      "train" and "validation".

    Raises:
      ValueError: for other images, or too few.
    """
    if isinstance(images, Mapping) and not {"images", "image"} & set(images):
        if not {"train", "validation"} <= set(images):
            raise ValueError(
                'images must be arrays, pairs, a tf.data.Dataset, or {"train": ..., "validation": ...}. '
                f"Received: a dict of {', '.join(map(repr, images))}"
            )
        splits = {
            split: without_classes(given_images(images[split], model, split), exclude_labels, split)
            for split in ("train", "validation")
        }
        # As all given ones are called, by which their labels count in their fingerprint.
        return {split: dataclasses.replace(some, name=f"{GIVEN}/{split}") for split, some in splits.items()}
    whole = without_classes(given_images(images, model, "train"), exclude_labels, "train")
    held_out = np.arange(len(whole.images)) % HELD_OUT == HELD_OUT - 1
    if not held_out.any():
        raise ValueError(
            f'images must be at least {HELD_OUT}, of which one is held out, or {{"train": ..., "validation": ...}}. '
            f"Received: {len(whole.images)}"
        )
    return {"train": _some(whole, ~held_out, "train"), "validation": _some(whole, held_out, "validation")}


def _some(whole: ImageSet, chosen: np.ndarray, split: str) -> ImageSet:
    return dataclasses.replace(whole.take(np.flatnonzero(chosen)), name=f"{GIVEN}/{split}")


def given_images(images: Any, model: ModelConfig, split: str = "test") -> ImageSet:
    """One split from images that a program passes.

    Args:
      images: any of the kinds that `given_splits` takes, except a dict of splits.
      model: what they must fit.
      split: what reports call it.

    Raises:
      ValueError: for other images.
    """
    if isinstance(images, ImageSet):
        return images
    values: Any
    values, labels = _read(images) if isinstance(images, tf.data.Dataset) else _pair(images)
    values = None if values is None else _of_one_size(np.asarray, values)
    pixels.check_images(values, model.image_shape, model.num_values)
    if labels is not None:
        labels = np.asarray(labels)
        if labels.dtype.kind not in "iu" or labels.shape != (len(values),):
            raise ValueError(
                f"labels must be integers [N], one for each of the {len(values)} images. "
                f"Received: {labels.dtype.name} of shape {labels.shape}"
            )
        labels = labels.astype(np.int64)
    return ImageSet(values.astype(np.uint8), labels, f"{GIVEN}/{split}", model.num_values, "as given")


def _pair(element: Any) -> tuple[Any, Any]:
    """(images, labels or None) of an array, a tuple or a dict of them."""
    if isinstance(element, Mapping):
        return element.get("images", element.get("image")), element.get("labels", element.get("label"))
    if not isinstance(element, tuple):
        return element, None
    if len(element) not in (1, 2):
        raise ValueError(
            "images must be an array, or a tuple (images,) or (images, labels). "
            f"Received: a tuple of {len(element)} elements"
        )
    return element[0], element[1] if len(element) > 1 else None


def _of_one_size(make: Callable[[Any], np.ndarray], images: Any) -> np.ndarray:
    try:
        return make(images)
    except ValueError as error:  # NumPy's speaks of inhomogeneous shapes.
        raise ValueError(f"images must be of one size, [N, H, W, C] all together. Received: {error}") from error


def _read(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """All of a data set, in memory."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "images must be a finite tf.data.Dataset: the trainer repeats and shuffles it. Received: infinite"
        )
    rank = getattr(_pair(dataset.element_spec)[0], "shape", tf.TensorShape(None)).rank
    if rank not in (3, 4):
        raise ValueError(
            "images must be a tf.data.Dataset of images [H, W, C] or [B, H, W, C], alone or first of a pair with their "
            f"labels. Received: {dataset.element_spec}"
        )
    elements = [_pair(element) for element in dataset.as_numpy_iterator()]
    if not elements:
        raise ValueError("images must be a tf.data.Dataset of at least one image. Received: none")
    join = np.stack if rank == 3 else np.concatenate
    images, labels = zip(*elements, strict=True)
    return _of_one_size(join, images), None if labels[0] is None else join(labels)
