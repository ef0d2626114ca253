"""What the quick start has reached: the bound, and whether a classifier reads the reconstructions.

    python benchmarks/quickstart.py runs/quickstart

A logistic regression is fitted on the training digits; it then reads the test digits and what the SavedModel
makes of them: encoded to the posterior's mean, decoded to an image.
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from pixelvae_tf import data
from pixelvae_tf.config import DataConfig
from pixelvae_tf.train import evaluation

# Points of accuracy that the way through 16 latents may cost.
LARGEST_GAP = 5.0
# Within what an export takes.
BATCH_SIZE = 100


def reconstruct(saved_model: str, images: np.ndarray) -> np.ndarray:
    """Encodes and decodes images [N, H, W, C] with the SavedModel's signatures."""
    loaded, decoded = tf.saved_model.load(saved_model), []
    for start in range(0, len(images), BATCH_SIZE):
        latents = loaded.signatures["encode"](images=tf.constant(images[start : start + BATCH_SIZE]))["z1_mean"]
        number = len(latents)
        seeds = tf.range(start, start + number, dtype=tf.int64)
        decoded.append(loaded.signatures["decode"](z1=latents, seed=seeds, temperature=tf.ones(number))["images"])
    return np.concatenate(decoded)


def main(run: str) -> None:
    """Prints the report of a run in a directory."""
    directory = pathlib.Path(run)
    report = json.loads((directory / "test.json").read_text())
    versions = [int(child.name) for child in (directory / "saved_model").iterdir() if child.name.isdecimal()]
    saved_model = str(directory / "saved_model" / str(max(versions)))
    train, test = (data.load(DataConfig("digits"), split) for split in ("train", "test"))
    classifier = LogisticRegression(max_iter=5000).fit(
        train.images.reshape(len(train.images), -1) / 255.0, train.labels
    )

    def accuracy(images: np.ndarray) -> float:
        return 100 * classifier.score(images.reshape(len(images), -1) / 255.0, test.labels)

    digits, reconstructions = accuracy(test.images), accuracy(reconstruct(saved_model, test.images))
    print(f"test digits read by a logistic regression: {digits:.1f}%")
    print(f"their reconstructions:                     {reconstructions:.1f}%")
    if reconstructions < digits - LARGEST_GAP:
        raise SystemExit(f"the reconstructions must be read within {LARGEST_GAP} points of the digits themselves")
    for name in ("checkpoints", "tensorboard", "config.json", "samples.png", "reconstructions.png"):
        print(f"{name + ':':21} {directory / name}")
    print(f"{'SavedModel:':21} {saved_model}")
    print(evaluation.in_words(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
