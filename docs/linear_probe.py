"""What the latents know: a linear probe on the means that a SavedModel's `encode` gives, beside the same on pixels.

    python docs/linear_probe.py --saved_model=models/digits/1
    python docs/linear_probe.py --saved_model=models/binarized_mnist/1 --dataset=mnist --data_dir=DIR

A logistic regression is fitted on a few training images whose labels are known, as many of each class, and reads all
test images. Its regularisation is chosen by cross-validation among those few; both sides are centred, and divided by
the one number that gives them unit variance. A model of binary images sees 1 where a pixel is 128 or more and 0
elsewhere; then there is a probe on those binary pixels too.
"""

import json
import pathlib

import numpy as np
import tensorflow as tf
from absl import app, flags
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from pixelvae_tf import data
from pixelvae_tf.config import DataConfig
from pixelvae_tf.export.card import CARD

_SAVED_MODEL = flags.DEFINE_string("saved_model", None, "Directory of a version.", required=True)
_DATASET = flags.DEFINE_string("dataset", "digits", "A data set with labels, of the model's size: digits or mnist.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "TFDS' data directory; by default its own, into which it downloads.")
_LABELS = flags.DEFINE_list("labels", ["100", "1000"], "How many images have a label.")
_DRAWS = flags.DEFINE_integer("draws", 5, "How often they are drawn.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.")
BATCH_SIZE = 100
THRESHOLD = 128
STRENGTHS = {"C": np.logspace(-3, 1, 5)}


def encode(served, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Encodes images inside a pipeline.

    Args:
      served: what `tf.saved_model.load` gave; it must be kept while the pipeline runs.
      images: uint8 [N, H, W, C].
      batch_size: images at once.

    Returns:
      The means of all latents, float32 [N, D].
    """

    def to_means(images: tf.Tensor) -> tf.Tensor:
        codes = served.signatures["encode"](images=images)
        means = [codes[name] for name in sorted(codes) if name.endswith("_mean")]
        return tf.concat([tf.reshape(mean, [tf.shape(images)[0], -1]) for mean in means], axis=1)

    pipeline = tf.data.Dataset.from_tensor_slices(images).batch(batch_size).map(to_means).prefetch(2)
    return np.concatenate(list(pipeline.as_numpy_iterator()))


def draw(labels: np.ndarray, number: int, generator: np.random.Generator) -> np.ndarray:
    """Places of so many images, as many of each class.

    Raises:
      SystemExit: if that cannot be.
    """
    classes, counts = np.unique(labels, return_counts=True)
    share, rest = divmod(number, len(classes))
    if rest or not 5 <= share <= counts.min():
        raise SystemExit(
            f"linear_probe: labels must be multiples of {len(classes)}, as many of each class, in "
            f"{5 * len(classes)}..{len(classes) * counts.min()}. Received: {number}"
        )
    return np.concatenate([generator.choice(np.flatnonzero(labels == one), share, replace=False) for one in classes])


def probe(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
    """The percentage of test features [M, D] whose labels [M] are read by a logistic regression on those of `train`."""
    (known, labels), (unknown, truth) = train, test
    centre = known.mean(axis=0)
    scale = (known - centre).std()
    search = GridSearchCV(LogisticRegression(max_iter=5000), STRENGTHS, cv=5)
    search.fit((known - centre) / scale, labels)
    return 100 * search.score((unknown - centre) / scale, truth)


def features(served, images: data.ImageSet, binary: bool, batch_size: int) -> dict[str, np.ndarray]:
    """What the probes see of a split, by kind: [N, D].

    Args:
      served, batch_size: as for `encode`.
      images: the split.
      binary: whether the model's images are.
    """
    seen = (images.images >= THRESHOLD).astype(np.uint8) if binary else images.images
    means = encode(served, seen, batch_size)
    kinds = {"means": means, "pixels": images.images, **({"binary pixels": seen} if binary else {})}
    return {kind: np.reshape(values, (len(values), -1)).astype(np.float32) for kind, values in kinds.items()}


def main(argv: list[str]) -> None:
    """Prints the accuracy of every probe."""
    del argv
    path = pathlib.Path(_SAVED_MODEL.value)
    if not (path / CARD).is_file():
        raise SystemExit(f"linear_probe: saved_model must be a version that pixelvae-export wrote. Received: {path}")
    if not all(text.isdecimal() for text in _LABELS.value):
        raise SystemExit(f"linear_probe: labels must be numbers, as 100,1000. Received: {','.join(_LABELS.value)}")
    known = json.loads((path / CARD).read_text())
    model, batch_size = known["config"]["model"], min(BATCH_SIZE, known["max_batch"])
    try:
        train, test = (data.load(DataConfig(_DATASET.value, _DATA_DIR.value), split) for split in ("train", "test"))
    except ValueError as error:
        raise SystemExit(f"linear_probe: {error}") from error
    binary, shape = model["num_values"] == 2, train.images.shape[1:]
    if train.labels is None or shape != tuple(model["image_shape"]) or model["num_values"] not in (2, train.num_values):
        raise SystemExit(
            f"linear_probe: dataset must have labels and images of {model['image_shape']} with {model['num_values']} "
            f"values or more. Received: {train.name}, {list(shape)}, {train.num_values} values, "
            f"{'no labels' if train.labels is None else 'labels'}"
        )
    if not model["levels"]:
        raise SystemExit(f"linear_probe: saved_model must have latents. Received: {path}, which has none")
    served = tf.saved_model.load(str(path))
    of_train, of_test = (features(served, images, binary, batch_size) for images in (train, test))
    number_of_means = of_test["means"].shape[1]
    print(f"{test.name}: {len(test.labels)} images, {number_of_means} means; % read, {_DRAWS.value} draws, +- 1 sd")
    print("labels  " + "  ".join(f"{kind:>15}" for kind in of_test))
    for number in map(int, _LABELS.value):
        generator = np.random.default_rng((_SEED.value, number))
        draws = [draw(train.labels, number, generator) for _ in range(_DRAWS.value)]
        cells = []
        for kind, seen in of_train.items():
            read = [probe((seen[few], train.labels[few]), (of_test[kind], test.labels)) for few in draws]
            cells.append(f"{np.mean(read):8.1f} +- {np.std(read, ddof=1):3.1f}")
        print(f"{number:6}  " + "  ".join(f"{cell:>15}" for cell in cells), flush=True)


if __name__ == "__main__":
    app.run(main)
