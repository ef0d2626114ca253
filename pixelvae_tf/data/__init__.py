"""Images: from a name to arrays of pixel values, and from arrays to batches."""

import importlib

from pixelvae_tf.data.sources import DATA_SETS, ImageSet, check_fits, describe, load

# TensorFlow, which images alone do not need.
_BATCHES = ("check_batch_size", "evaluation_batches", "even_batch_size", "training_batches")
__all__ = ["DATA_SETS", "ImageSet", *_BATCHES, "check_fits", "describe", "load"]


def __getattr__(name: str):
    if name in _BATCHES:
        return getattr(importlib.import_module(f"{__name__}.batches"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
