"""The weights of a model by name, and what tells them from others."""

import hashlib
import importlib.metadata
import platform

import keras
import tensorflow as tf


def weights_of(model: keras.Model) -> dict[str, tf.Variable]:
    """The weights by name, for a `tf.train.Checkpoint`.

    Names are relative to the model: they depend neither on its name nor on the name scopes around it.

    Keras 3 hides layers in lists from TensorFlow's checkpoints: given the model itself, a
    checkpoint would silently leave their weights out.
    """
    named = {variable.path.removeprefix(f"{model.path}/"): variable.value for variable in model.variables}
    assert len(named) == len(model.variables), "two weights have the same name"
    return named


def fingerprint(model: keras.Model) -> str:
    """16 hexadecimal digits that other weights would not have."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights_of(model).items()):
        digest.update(name.encode())
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()[:16]


def describe(model: keras.Model) -> dict:
    """Describes a model's weights, as plain data."""
    packages = ("pixelvae_tf", "tensorflow", "keras")
    return {
        "num_weights": model.count_params(),
        "fingerprint": fingerprint(model),
        "versions": {
            **{package: importlib.metadata.version(package) for package in packages},
            "python": platform.python_version(),
        },
    }
