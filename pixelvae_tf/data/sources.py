"""Where images come from: digits that scikit-learn carries, TFDS' data sets by name, and folders of images.

The sets of a table, and folders of images, are read into memory; what has been prepared, by us (`prepare`) or by TFDS
(`records`), stays on disk.
"""

import dataclasses
import importlib
import json
import types
import zlib
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from pixelvae_tf.config import FOLDERS, GIVEN, DataConfig, ModelConfig
from pixelvae_tf.data import decoding, prepared, records, shards
from pixelvae_tf.data import folder as folder_lib
from pixelvae_tf.errors import first_line
from pixelvae_tf.files import local_path

SPLITS = folder_lib.SPLITS
# The size of a sample of a set that is not in memory.
NUM_SOME = 2**12


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """One split of a data set.

    Attributes:
      images: uint8 pixel values [N, H, W, C] in 0 .. num_values - 1, in memory or (`shards.ShardedImages`) on disk.
      labels: int64 [N], or None where the set has none, or is one of TFDS' on disk.
      name: the data set and split.
      num_values: how many values a channel can take.
      binarization: how the values came about; results on different ones do not compare.
      classes: the names that labels are numbers of, where they are those of folders.
      grey: of a dynamically binarized set, uint8 [N, H, W, C]: 255 times the probability that a value is 1. `images`
        is one draw of it; training draws its own each time.

    Examples:
      >>> test = pixelvae_tf.data.load(pixelvae_tf.config.DataConfig("digits"), "test")
      >>> test.name, test.images.shape, test.num_values
      ('digits/test', (400, 8, 8, 1), 256)
    """

    images: np.ndarray | shards.ShardedImages
    labels: np.ndarray | None
    name: str
    num_values: int
    binarization: str
    classes: tuple[str, ...] = ()
    grey: np.ndarray | None = None

    def take(self, places: np.ndarray | slice) -> "ImageSet":
        """Some of the images, by their numbers."""
        if isinstance(self.images, np.ndarray) or isinstance(places, slice):
            images = self.images[places]
        else:
            images = self.images.take(places)
        labels, grey = (None if array is None else array[places] for array in (self.labels, self.grey))
        return dataclasses.replace(self, images=images, labels=labels, grey=grey)

    def some(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Images and labels in memory: all of them, or of a set on disk an even sample."""
        if isinstance(self.images, np.ndarray):
            return self.images, self.labels
        places = self._spread(NUM_SOME)
        return self.images[places], None if self.labels is None else self.labels[places]

    def spread(self, number: int) -> "ImageSet":
        """So many images from all parts of the set, which may be sorted, in its order; itself if it has no more."""
        if number >= len(self.images):
            return self
        some = self.take(self._spread(number))
        return dataclasses.replace(some, name=f"{self.name}, {number} images of {len(self.images)}")

    def _spread(self, number: int) -> np.ndarray:
        return np.linspace(0, len(self.images) - 1, min(len(self.images), number)).astype(np.int64)

    def first(self, number: int) -> "ImageSet":
        """The first images alone."""
        return self.take(slice(number))

    def require_unchanged(self) -> None:
        """Raises an OSError if images on disk have been changed there; see `shards.Shard` and `records.Records`."""
        if not isinstance(self.images, np.ndarray):
            self.images.require_unchanged()

    def fingerprint(self) -> int:
        """A number that other images would not have, nor images of other labels where those can be other ones: in
        classes' folders, and given by a program.
        """
        images, labels = self.images, self.labels
        code = zlib.crc32(np.ascontiguousarray(images).data) if isinstance(images, np.ndarray) else images.fingerprint
        if labels is None or not (self.classes or self.name.startswith(f"{GIVEN}/")):
            return code
        return zlib.crc32(np.ascontiguousarray(labels).data, zlib.crc32(json.dumps(self.classes).encode(), code))


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set of `DATA_SETS`; docs/extending.md shows one.

    Attributes:
      read: (name, split, data_dir) -> uint8 images [N, H, W, C], and labels [N] or None.
      num_values: how many values a channel can take.
      binarization: how the values came about, as in `ImageSet`.
      splits: what `read` is given for the splits "train", "validation" and "test"; by default these.
      tfds_name: what TFDS calls it, where that is another name.
      grey: whether what is read are probabilities of 1, of which binary values are drawn.
    """

    read: Callable[[str, str, str], tuple[np.ndarray, np.ndarray | None]]
    num_values: int
    binarization: str
    splits: dict[str, str] = dataclasses.field(default_factory=lambda: dict(zip(SPLITS, SPLITS, strict=True)))
    tfds_name: str = ""
    grey: bool = False


def _read_digits(name: str, split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn import datasets  # Takes a second to import, and only this set needs it.

    digits = datasets.load_digits()
    # 17 grey levels, 0 .. 16, stretched over 256 values.
    images = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    # The set comes sorted by writer: an order of our own mixes them over the splits.
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(images))
    bounds = {"train": (0, 1197), "validation": (1197, 1397), "test": (1397, 1797)}
    chosen = order[slice(*bounds[split])]
    return images[chosen], digits.target[chosen].astype(np.int64)


def _read_tfds(name: str, split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray | None]:
    tfds = _import_tfds("tensorflow_datasets", name)
    try:
        # A given directory is only read: a misspelt one must not be filled by a download.
        read = tfds.load(name, split=split, data_dir=data_dir or None, batch_size=-1, download=not data_dir)
        arrays = tfds.as_numpy(read)
    except Exception as error:  # TFDS raises whatever reading or downloading does.
        where = f"data.data_dir={data_dir!r}" if data_dir else "no data.data_dir, so TFDS was to download it"
        raise ValueError(
            f"data.data_dir must be a directory that holds {name!r} as TFDS prepares it (`tfds build {name} "
            f"--data_dir=DIR`). Received: {where}; {_tfds_says(error)}"
        ) from error
    images, labels = arrays["image"], arrays.get("label")
    return images, None if labels is None else np.asarray(labels, np.int64)


def _import_tfds(module: str, name: str) -> types.ModuleType:
    """A module of TensorFlow Datasets, which takes seconds to import and is an extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"data.name must be digits, or there must be a data.folder, where TensorFlow Datasets is not installed: "
            f"pip install 'pixelvae_tf[tfds]'. Received: {name!r}; {error}"
        ) from error


def _tfds_says(error: Exception) -> str:
    return f"TFDS says {type(error).__name__}: {first_line(error)}"


def _read_nothing(name: str, split: str, data_dir: str) -> NoReturn:
    raise ValueError(
        f"data.folder must be given for {name!r}, which nothing downloads: a folder of its images, or better what "
        "pixelvae-prepare makes of one. Received: none"
    )


NONE = "none: 256 values"
_MNIST_SPLITS = {"train": "train[:50000]", "validation": "train[50000:]", "test": "test"}
DATA_SETS: dict[str, Source] = {
    "digits": Source(_read_digits, 256, "none: 17 grey levels stretched to 0..255"),
    "binarized_mnist": Source(_read_tfds, 2, "static: Larochelle's files"),
    # Salakhutdinov and Murray 2008; as most of the field has it since Burda et al. 2016.
    "dynamically_binarized_mnist": Source(
        _read_tfds, 2, "dynamic: drawn from the grey values; fixed draws to evaluate", _MNIST_SPLITS, "mnist", grey=True
    ),
    "mnist": Source(_read_tfds, 256, NONE, _MNIST_SPLITS),
    "cifar10": Source(_read_tfds, 256, NONE, {"train": "train[:45000]", "validation": "train[45000:]", "test": "test"}),
    "folder": Source(_read_nothing, 256, NONE),
    "imagenet_64": Source(_read_nothing, 256, NONE),
    "lsun_32": Source(_read_nothing, 256, NONE),
    "lsun_64": Source(_read_nothing, 256, NONE),
}


def _load_folder(config: DataConfig, split: str, image_shape: tuple[int, int, int] | None) -> ImageSet:
    """Images of a folder, raw or prepared, at the size of the model."""
    side, channels = decoding.readable(image_shape, "data.folder")
    folder = local_path(config.folder, "data.folder")
    read = prepared.load if prepared.is_prepared(folder) else folder_lib.load
    images, labels, classes = read(folder, split, side, channels, config.labels == FOLDERS)
    if split == "train" and (lost := folder_lib.lost_classes(labels, classes)):
        raise ValueError(
            "data.folder must have images for training of every class. "
            f"Received: none of {', '.join(map(ascii, lost))} that can be read and is no near-duplicate of another"
        )
    name, binarization = describe(config)
    return ImageSet(images, labels, f"{name}/{split}", 256, binarization, classes)


def _load_records(config: DataConfig, split: str) -> ImageSet:
    """Images of a set that is not in the table, and that TFDS has prepared."""
    read_only_builder = _import_tfds("tensorflow_datasets.core.read_only_builder", config.name)
    try:
        builder = read_only_builder.builder_from_files(config.name, data_dir=config.data_dir or None)
    except Exception as error:  # TFDS raises whatever reading does.
        raise ValueError(
            f"data.name must be one of {', '.join(DATA_SETS)}, or an image set that TFDS has prepared in data.data_dir "
            f"(`tfds build NAME --data_dir=DIR --file_format={records.FORMAT}`). Received: {config.name!r} with "
            f"data.data_dir={config.data_dir!r}; {_tfds_says(error)}"
        ) from error
    name, binarization = describe(config)
    images = records.load(builder, split, f"{name}/{split}")
    return ImageSet(images, None, f"{name}/{split}", 256, binarization)


def describe(config: DataConfig) -> tuple[str, str]:
    """What a data set is called in reports, without reading it.

    Args:
      config: which data set, and where it is.

    Returns:
      Its name, and its binarization as in `ImageSet`.
    """
    name = local_path(config.folder, "data.folder").resolve().name if config.folder else config.name
    if config.exclude_labels:
        name += f" without the classes {', '.join(map(str, sorted(config.exclude_labels)))}"
    if config.name == GIVEN and not config.folder:
        return name, "as given"
    in_table = not config.folder and config.name in DATA_SETS
    return name, DATA_SETS[config.name].binarization if in_table else NONE


def load(config: DataConfig, split: str, image_shape: tuple[int, int, int] | None = None) -> ImageSet:
    """Reads a split of a data set.

    Args:
      config: which data set, and where it is.
      split: "train", "validation" or "test".
      image_shape: (H, W, C) of the model, to which the images of a folder are brought; needed for a folder alone.

    Returns:
      Its images.

    Raises:
      ValueError: for an unknown data set or split, or if the images cannot be had.
      MachineError: if an image of a folder cannot be read for a reason that is not its own.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")
    images = _load(config, split, image_shape)
    return without_classes(images, config.exclude_labels, split)


def without_classes(images: ImageSet, excluded: tuple[int, ...], split: str) -> ImageSet:
    """A split without the images of some classes; `DataConfig.exclude_labels`."""
    if not excluded:
        return images
    if images.labels is None:
        raise ValueError(
            f"data.exclude_labels must be left out for {images.name}, which has no labels (those of a folder are read "
            f"with data.labels={FOLDERS!r}). Received: {excluded}"
        )
    unknown = split == "train" and set(excluded) - set(images.labels.tolist())  # others may be small
    places = np.flatnonzero(~np.isin(images.labels, excluded))
    if unknown or not len(places):
        raise ValueError(
            f"data.exclude_labels must be some of the labels of {images.name}, not all: "
            f"{', '.join(map(str, np.unique(images.labels)))}. Received: {excluded}"
        )
    return images.take(places)


def _load(config: DataConfig, split: str, image_shape: tuple[int, int, int] | None) -> ImageSet:
    if config.folder:
        return _load_folder(config, split, image_shape)
    if config.name == GIVEN:
        raise ValueError(
            f"data.folder must be given for {GIVEN!r}, images that a Python program gave to the trainer, and can give "
            "to `evaluation.Evaluator` too. Received: none"
        )
    if config.labels:
        raise ValueError(f"data.labels must be '' without a data.folder. Received: {config.labels!r}")
    if config.data_dir:
        config = dataclasses.replace(config, data_dir=str(local_path(config.data_dir, "data.data_dir")))
    if config.name not in DATA_SETS:
        return _load_records(config, split)
    name, binarization = describe(config)
    source = DATA_SETS[config.name]
    images, labels = source.read(source.tfds_name or config.name, source.splits[split], config.data_dir)
    largest = 255 if source.grey else source.num_values - 1
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size or images.max() > largest:
        raise ValueError(
            f"{config.name}/{split} must be uint8 images [N, H, W, C] of values 0..{largest}. "
            f"Received: {images.dtype} of shape {images.shape}, up to {images.max(initial=0)}"
        )
    grey = images if source.grey else None
    if grey is not None:
        images = _binarize(grey, split)
    return ImageSet(images, labels, f"{name}/{split}", source.num_values, binarization, grey=grey)


def _binarize(grey: np.ndarray, split: str) -> np.ndarray:
    """One draw of a split, the same in every program: each value is 1 with the probability grey / 255."""
    uniform = np.random.Generator(np.random.PCG64([1, SPLITS.index(split)]))
    # A part at a time: the numbers drawn have eight times the size of the images.
    parts = np.array_split(grey, -(-len(grey) // NUM_SOME))
    return np.concatenate([255 * uniform.random(part.shape) < part for part in parts]).astype(np.uint8)


def check_fits(image_set: ImageSet, model: ModelConfig) -> None:
    """Checks that a model can be trained on a split, or evaluated on it.

    Raises:
      ValueError: if it is empty, its images have another shape or number of values, or its labels are not those that
        a class-conditional model takes.
    """
    if not len(image_set.images):
        raise ValueError(f"{image_set.name} must have images. Received: none")
    if image_set.images.shape[1:] != tuple(model.image_shape) or image_set.num_values != model.num_values:
        raise ValueError(
            f"model.image_shape and model.num_values must fit the images of {image_set.name}, "
            f"{image_set.images.shape[1:]} and {image_set.num_values}. "
            f"Received: {tuple(model.image_shape)} and {model.num_values}"
        )
    labels = image_set.labels
    if model.num_classes and image_set.classes and model.num_classes != len(image_set.classes):
        raise ValueError(
            f"model.num_classes must be 0, or the number of classes of {image_set.name}, {len(image_set.classes)}: "
            f"{', '.join(map(ascii, image_set.classes))}. Received: {model.num_classes}"
        )
    if model.num_classes and (labels is None or labels.min() < 0 or labels.max() >= model.num_classes):
        values = "none" if labels is None else f"{labels.min()}..{labels.max()}"
        raise ValueError(
            f"model.num_classes must be 0, or fit the labels of {image_set.name}, which are: {values}. "
            f"Received: {model.num_classes}"
        )
