"""Images: from a name to arrays of pixel values, and from arrays to batches."""

from pixelvae_tf.data.batches import check_batch_size, evaluation_batches, even_batch_size, training_batches
from pixelvae_tf.data.sources import DATA_SETS, ImageSet, check_fits, describe, load

__all__ = [
    "DATA_SETS",
    "ImageSet",
    "check_batch_size",
    "check_fits",
    "describe",
    "evaluation_batches",
    "even_batch_size",
    "load",
    "training_batches",
]
