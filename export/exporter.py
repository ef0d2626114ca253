"""Writes a versioned SavedModel and proves it in a process that has TensorFlow alone."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf

from pixelvae_tf import runs
from pixelvae_tf.export.card import CARD
from pixelvae_tf.export.signatures import signatures
from pixelvae_tf.models import PixelVAE

Endpoints = dict[str, tf.types.experimental.PolymorphicFunction]
# Batch sizes of the check: what was traced must not remember a size.
CHECKED_BATCHES = (2, 5)


def export(model: PixelVAE, card: dict, export_dir: str | pathlib.Path) -> pathlib.Path:
    """Writes `export_dir/<next free integer>/`, checked.

    It is written under another name and renamed at the end, so that a server that watches the directory sees
    all of it or nothing.

    Args:
      model: a model with weights.
      card: plain data about it, stored as JSON inside.
      export_dir: the model's directory for TensorFlow Serving.

    Returns:
      The version's directory.

    Raises:
      ValueError: if `export_dir` cannot be written.
      RuntimeError: if the SavedModel does not agree with the model; nothing is left then.
    """
    base = pathlib.Path(export_dir)
    try:
        base.mkdir(parents=True, exist_ok=True)
        unfinished = pathlib.Path(tempfile.mkdtemp(prefix=".unfinished_", dir=base))
    except OSError as error:
        raise ValueError(
            f"export_dir must be a directory that can be written. Received: {str(base)!r}: {error}"
        ) from error
    try:
        endpoints = {
            name: tf.function(signature.function, input_signature=[signature.inputs])
            for name, signature in signatures(model).items()
        }
        _save(model, endpoints, unfinished)
        (unfinished / CARD).parent.mkdir(exist_ok=True)
        (unfinished / CARD).write_text(json.dumps(card, indent=2) + "\n")
        check(endpoints, unfinished)
        unfinished.chmod(0o755)  # mkdtemp's own would keep a server of another user out.
        return _rename_to_next_version(unfinished, base)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _save(model: PixelVAE, endpoints: Endpoints, path: pathlib.Path) -> None:
    """Saves the endpoints, as signatures and as attributes, with the weights that they use."""
    served = tf.Module()
    served.weights = runs.weights_of(model)
    for name, function in endpoints.items():
        setattr(served, name, function)
    tf.saved_model.save(served, str(path), signatures=endpoints)


def _rename_to_next_version(unfinished: pathlib.Path, base: pathlib.Path) -> pathlib.Path:
    while True:
        versions = [int(child.name) for child in base.iterdir() if child.name.isdigit()]
        target = base / str(max(versions, default=0) + 1)
        try:
            os.rename(unfinished, target)
            return target
        except OSError:
            if not target.exists():
                raise
            # Another export was faster: take the next number.


def check(endpoints: Endpoints, path: pathlib.Path) -> None:
    """Compares every signature of a SavedModel, in a fresh process without pixelvae_tf, with the model's.

    Raises:
      RuntimeError: where they differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        cases = pathlib.Path(folder) / "cases.npz"
        # On the CPU in both processes: this one may hold all of a GPU's memory, and a GPU rounds in its own way.
        with tf.device("CPU:0"):
            np.savez(cases, **_cases(endpoints))
        # By path, not by module name: importing the package is what must not be needed.
        script = pathlib.Path(__file__).with_name("check.py")
        command = [sys.executable, "-P", str(script), str(path), str(cases)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        outcome = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if outcome.returncode:
        raise RuntimeError(f"the SavedModel does not agree with the model:\n{outcome.stdout}{outcome.stderr}")


def _cases(endpoints: Endpoints) -> dict[str, np.ndarray]:
    """Inputs and the model's own outputs: {"signature|batch|in or out|tensor": array}."""
    cases = {}
    for name, function in endpoints.items():
        for batch in CHECKED_BATCHES:
            inputs = {key: _example(spec, batch) for key, spec in function.input_signature[0].items()}
            outputs = function({key: tf.constant(value) for key, value in inputs.items()})
            for side, arrays in (("in", inputs), ("out", outputs)):
                cases |= {f"{name}|{batch}|{side}|{key}": _plain(value) for key, value in arrays.items()}
    return cases


def _plain(value) -> np.ndarray:
    """An array that .npz holds without pickling: strings as bytes."""
    array = np.asarray(value)
    return array.astype(bytes) if array.dtype == object else array


def _example(spec: tf.TensorSpec, batch: int) -> np.ndarray:
    """Some valid input, but for the last row, which is not where that is possible."""
    generator = np.random.default_rng(batch)
    shape = (batch, *spec.shape[1:])
    if spec.dtype == tf.uint8:
        values = generator.integers(0, 2, shape).astype(np.uint8)
        values[-1] = 255  # out of range for binary images
        return values
    if spec.name == "label":
        return np.where(np.arange(batch) == batch - 1, -1, generator.integers(0, 2, shape))
    if spec.dtype == tf.int64:
        return generator.integers(0, 2**40, shape)
    if spec.name == "temperature":
        return np.where(np.arange(batch) == batch - 1, np.nan, 0.9).astype(np.float32)
    return generator.normal(size=shape).astype(np.float32)
