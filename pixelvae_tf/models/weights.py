"""The weights of a model by name, and what tells them from others."""

import hashlib
import importlib.metadata
import os
import platform

import h5py
import keras
import numpy as np
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


def round_to_float16(model: keras.Model) -> None:
    """Rounds all weights to numbers that float16 holds.

    Raises:
      ValueError: if one is beyond float16's range.
    """
    for name, weight in weights_of(model).items():
        with np.errstate(over="ignore"):
            rounded = weight.numpy().astype(np.float16)
        if not np.isfinite(rounded).all():
            raise ValueError(f"weights must be within float16's range. Received: {np.abs(weight).max()} in {name}")
        weight.assign(rounded.astype(weight.dtype.as_numpy_dtype))


def halve_exact(path: str | os.PathLike) -> None:
    """Stores the arrays of a .weights.h5 as float16 where that holds every number exactly; Keras reads them alike."""
    with h5py.File(path) as file, h5py.File(f"{os.fspath(path)}.part", "w") as smaller:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                kept = smaller.create_dataset(name, data=_as_small_as_exact(item[()]))
            else:
                kept = smaller.require_group(name)
            kept.attrs.update(item.attrs)

        file.visititems(copy)
        smaller.attrs.update(file.attrs)
    os.replace(f"{os.fspath(path)}.part", path)


def _as_small_as_exact(array: np.ndarray) -> np.ndarray:
    """The array as float16 if that holds it; whole numbers stay what they are."""
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half, array) else array


def describe(model: keras.Model) -> dict:
    """Describes a model's weights, as plain data."""
    packages = ("pixelvae_tf", "tensorflow", "keras")
    return {
        "num_weights": model.count_params(),
        "fingerprint": fingerprint(model),
        "dtype": model.dtype_policy.name,
        "versions": {
            **{package: importlib.metadata.version(package) for package in packages},
            "python": platform.python_version(),
        },
    }
