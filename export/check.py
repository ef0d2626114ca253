"""Runs a SavedModel's signatures on recorded inputs and compares with recorded outputs; answers its warm-up requests.

Run by path. It reads two lines, a path in JSON each: of the SavedModel, which it loads, and of an .npz of cases. Needs
TensorFlow and NumPy, for a warm-up the messages of TensorFlow Serving, and must not need pixelvae_tf: that is what it
shows.
"""

import json
import pathlib
import sys

import numpy as np

if __name__ == "__main__":
    # TensorFlow imports Keras where it is installed, and that scikit-learn. A SavedModel needs neither.
    sys.modules["keras"] = None  # type: ignore[assignment]
import tensorflow as tf

# Integers must agree. Floats are sums over all pixels, computed by the same graph, which another process may
# split over threads in another way: float32 rounds a sum of about a thousand terms at 1e-5 of it. What XLA computes is
# held against what TensorFlow does, after tens of layers whose sums they order differently.
RELATIVE, ABSOLUTE = 1e-4, 1e-4
# The exit status; other ones are of Python and of the system.
DISAGREES = 10


def main() -> int:
    """Prints every disagreement; returns how many there are."""
    saved_model = json.loads(input())
    loaded = tf.saved_model.load(saved_model)
    assert "pixelvae_tf" not in sys.modules
    with np.load(json.loads(input())) as file:
        cases = dict(file)
    problems = disagreements(loaded, pathlib.Path(saved_model), cases)
    print("\n".join(problems) or f"{len(cases)} tensors agree")
    return len(problems)


def disagreements(loaded, saved_model: pathlib.Path, cases: dict[str, np.ndarray]) -> list[str]:
    """Lists the outputs of a loaded SavedModel that differ, and its warm-up requests that fail.

    Args:
      loaded: what `tf.saved_model.load` returns.
      saved_model: its path.
      cases: inputs and expected outputs, {"signature|batch|in or out|tensor": array}.

    Returns:
      A line each.
    """
    calls: dict[tuple[str, str], dict[str, dict[str, np.ndarray]]] = {}
    for key, array in cases.items():
        name, batch, side, tensor = key.split("|")
        calls.setdefault((name, batch), {"in": {}, "out": {}})[side][tensor] = array
    problems = []
    missing = {name for name, _ in calls} ^ set(loaded.signatures)
    if missing:
        problems.append(f"signatures differ: {sorted(missing)}")
    for done, ((name, batch), call) in enumerate(calls.items(), start=1):
        outputs = loaded.signatures[name](**{key: tf.constant(value) for key, value in call["in"].items()})
        if set(outputs) != set(call["out"]):
            problems.append(f"{name}: outputs {sorted(outputs)}, expected {sorted(call['out'])}")
            continue
        print(f"checked {done} of {len(calls)}", flush=True)
        for key, expected in call["out"].items():
            problems += _compare(f"{name}, batch {batch}, {key}", outputs[key].numpy(), expected)
    requests = saved_model / "assets.extra" / "tf_serving_warmup_requests"
    return problems + _warm_up(loaded, requests) if requests.exists() else problems


def _warm_up(loaded, path: pathlib.Path) -> list[str]:
    """Lists the requests of a file that fail when they are read and run as the server does."""
    from tensorflow_serving.apis import prediction_log_pb2

    problems = []
    for number, record in enumerate(tf.data.TFRecordDataset(str(path))):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        outputs = loaded.signatures[request.model_spec.signature_name](**inputs)
        errors = {error.decode() for error in outputs["error"].numpy()} - {""}
        if errors:
            problems.append(f"warm-up request {number}, {request.model_spec.signature_name}: {sorted(errors)}")
    return problems


def _compare(where: str, actual: np.ndarray, expected: np.ndarray) -> list[str]:
    if actual.dtype == object:
        actual = actual.astype(bytes)
    if actual.shape != expected.shape:
        return [f"{where}: shape {actual.shape}, expected {expected.shape}"]
    if actual.dtype.kind == "f":
        # Nothing may be NaN: rows with an error are zeros.
        same = np.isfinite(actual).all() and np.allclose(actual, expected, RELATIVE, ABSOLUTE)
    else:
        same = np.array_equal(actual, expected)
    return [] if same else [f"{where}: differs in {np.mean(actual != expected):.1%} of its entries"]


if __name__ == "__main__":
    sys.exit(DISAGREES if main() else 0)
