"""Image sets that TFDS has prepared as ArrayRecord files, read from disk on demand.

TFDS' other formats are read from one end to the other, or whole: they cannot give the images of any places.
"""

import json
import zlib
from typing import Any

import numpy as np

from pixelvae_tf.data import shards
from pixelvae_tf.data.decoding import ImagesError

FORMAT = "array_record"
# Images that enter a fingerprint, beside the first of each file.
NUM_PROBES = 16


class Records:
    """The images of a split, as a part of `shards.ShardedImages`.

    A file that is removed, or replaced by another, can be read to the end of the process. Of one that is written to,
    records have checksums.

    Args:
      source: TFDS' data source of the split, undecoded.
      features: a FeaturesDict of "image" alone: nothing else is decoded.
      name: the data set and split.

    Attributes:
      shape: [n, H, W, C], of the first image.

    Raises:
      OSError: if the first image cannot be read.
    """

    def __init__(self, source: Any, features, name: str):
        self._source, self._features, self._name = source, features, name
        self._failure: OSError | None = None
        self.shape = (len(source), *self._read([0]).shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        images = self._read(places.tolist())
        if images.shape[1:] != self.shape[1:]:
            raise self._failed(f"images {images.shape[1:]} beside {self.shape[1:]}")
        return images

    def require_unchanged(self) -> None:
        """Raises the OSError of a failed read, which TensorFlow replaces by an error of its own."""
        if self._failure is not None:
            raise self._failure

    def _read(self, places: list[int]) -> np.ndarray:
        try:
            records = self._source.__getitems__(places)
            return np.stack([self._features.deserialize_example_np(record)["image"] for record in records])
        except Exception as error:  # array_record, TFDS and Pillow raise errors of many types.
            raise self._failed(f"{type(error).__name__}: {error}".partition("\n")[0]) from error

    def _failed(self, reason: str) -> ImagesError:
        self._failure = ImagesError(
            f"data.data_dir must hold images of one size for {self._name} (others go through pixelvae-prepare), and "
            f"stay as it is while they are read. Received: {reason}"
        )
        return self._failure


def load(builder, split: str, name: str) -> shards.ShardedImages:
    """A split of a data set.

    Args:
      builder: TFDS' builder of what it has prepared.
      split: "train", "validation" or "test".
      name: the data set and split, for messages.

    Returns:
      Its images.

    Raises:
      ValueError: if there is no such split, it cannot be read at any place, or its images are not uint8 of one size.
    """
    import tensorflow_datasets as tfds  # Takes seconds to import.

    features = dict(builder.info.features)
    feature = features.get("image")
    if not isinstance(feature, tfds.features.Image) or feature.np_dtype != np.uint8:
        raise ValueError(
            f"{builder.info.full_name} must have a feature 'image' of uint8 [H, W, C]. Received: {features}"
        )
    names = [name_of_split for name_of_split, info in builder.info.splits.items() if info.num_examples]
    if split not in names:
        raise ValueError(
            f"{builder.info.full_name} must have the split {split!r}. Received: {', '.join(names)}, as TFDS prepared it"
        )
    formats = [file_format.value for file_format in builder.info.available_file_formats()]
    if FORMAT not in formats:
        raise ValueError(
            f"{builder.info.full_name} must be prepared with --file_format={FORMAT}. Received: {', '.join(formats)}. "
            f"`tfds convert_format --dataset_version_dir={builder.data_dir} --out_file_format={FORMAT}` adds it"
        )
    info = builder.info.splits[split]
    source = builder.as_data_source(
        split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES, file_format=FORMAT
    )
    starts, last = np.cumsum([0, *info.shard_lengths]), len(source) - 1
    probes = np.unique([*np.minimum(starts, last), *np.linspace(0, last, NUM_PROBES).astype(np.int64)])
    try:
        images = Records(source, tfds.features.FeaturesDict({"image": feature}), name)
        pixels = images[probes]
    except OSError as error:
        raise ValueError(str(error)) from error
    description = json.dumps([builder.info.full_name, info.shard_lengths, info.num_bytes])
    return shards.ShardedImages([images], zlib.crc32(pixels.data, zlib.crc32(description.encode())))
