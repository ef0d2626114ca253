"""Images: from a name to arrays of pixel values, and from arrays to batches."""

import importlib

from pixelvae_tf.data.sources import DATA_SETS, ImageSet, Source, check_fits, describe, load

# Where TensorFlow is, which images alone do not need.
_HOMES = {
    **dict.fromkeys(("check_batch_size", "evaluation_batches", "even_batch_size", "training_batches"), "batches"),
    **dict.fromkeys(("given_images", "given_splits"), "given"),
}
__all__ = ["DATA_SETS", "ImageSet", "Source", *_HOMES, "check_fits", "describe", "load"]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
