"""Writes a versioned SavedModel and proves it in a process that has TensorFlow alone."""

import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pixelvae_tf import progress, runs
from pixelvae_tf.codec import functions as codec_functions
from pixelvae_tf.errors import first_line
from pixelvae_tf.export import card as card_lib
from pixelvae_tf.export import warmup
from pixelvae_tf.export.check import DISAGREES
from pixelvae_tf.export.check_process import CheckProcess
from pixelvae_tf.export.examples import example
from pixelvae_tf.export.options import ServingOptions
from pixelvae_tf.export.serving_config import model_name
from pixelvae_tf.export.signatures import ServedFunction, signatures
from pixelvae_tf.files import plain_path
from pixelvae_tf.models import PixelVAE

__all__ = ["export"]

Endpoints = dict[str, tf.types.experimental.PolymorphicFunction]
# Batch sizes of the check: a traced function must not depend on one size.
CHECKED_BATCHES = (2, 5)
MAX_VERSION = 2**63 - 1


def export(
    model: PixelVAE,
    card: dict,
    export_dir: str | pathlib.Path,
    options: ServingOptions = ServingOptions(),  # noqa: B008
) -> pathlib.Path:
    """Writes `export_dir/<next free integer>/`, checked.

    It is written under another name and renamed at the end, so that a server that watches the directory sees
    all of it or nothing.

    Args:
      model: a model with weights.
      card: plain data about the run, stored inside with what is known of the model; see `card.make_card`.
      export_dir: the model's directory for TensorFlow Serving.
      options: how it is to be served.

    Returns:
      The version's directory.

    Raises:
      ValueError: if `export_dir` cannot be written, or for a warm-up that needs a package or is too long.
      OSError: if there is no room for it.
      RuntimeError: if the SavedModel does not agree with the model; nothing is left then.
    """
    base, name = plain_path(export_dir, "export_dir"), model_name(export_dir)
    served = signatures(model, options)
    records = warmup.requests(name, served, options.warmup) if options.warmup else []
    unfinished = make_folder(base)
    try:
        # One function for a signature with two names, such as serving_default.
        functions = {
            id(signature): tf.function(signature.function, input_signature=[signature.inputs], autograph=False)
            for signature in served.values()
        }
        endpoints = {key: functions[id(signature)] for key, signature in served.items()}
        with CheckProcess() as process:
            _save(model, endpoints, unfinished, options)
            card_lib.write({**card, "name": name, **card_lib.describe(model, endpoints, options)}, unfinished)
            if records:
                warmup.write(records, unfinished)
            check(process, endpoints, unfinished, options, _without_xla(model, options), model.config.num_values)
        _sync(unfinished)
        unfinished.chmod(0o755)  # mkdtemp's own would keep a server of another user out.
        return _rename_to_next_version(unfinished, base)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def make_folder(base: str | pathlib.Path) -> pathlib.Path:
    """Makes a folder for a version that is not finished, and the directory around it.

    Raises:
      ValueError: if that cannot be written, or there is no version left.
    """
    path = plain_path(base, "export_dir")
    try:
        path.mkdir(parents=True, exist_ok=True)
        _next_version(path)
        return pathlib.Path(tempfile.mkdtemp(prefix=".unfinished_", dir=path))
    except OSError as error:
        raise ValueError(
            f"export_dir must be a directory that can be written. Received: {str(base)!r}: {error}"
        ) from error


def _without_xla(model: PixelVAE, options: ServingOptions) -> dict[str, ServedFunction]:
    """The signatures to compare XLA's with; none without XLA, or with bfloat16, of which XLA keeps more digits."""
    if not options.xla or model.compute_dtype == "bfloat16":
        return {}
    return signatures(model, dataclasses.replace(options, xla=False, xla_parts=1))


def _save(model: PixelVAE, endpoints: Endpoints, path: pathlib.Path, options: ServingOptions) -> None:
    """Saves endpoints, as signatures and as attributes, the codec's functions, and the weights that they use."""
    served = tf.Module()
    served.weights = runs.weights_of(model)
    if functions := codec_functions.functions(model, options.xla):
        served.codec = tf.Module()
        for name, function in functions.items():
            setattr(served.codec, name, function)
    graphs = {}
    with progress.announced(f"tracing {', '.join(endpoints)}") as count:
        for name, function in endpoints.items():
            graphs[name] = function.get_concrete_function()
            count(len(graphs), len(endpoints))
    for name, graph in graphs.items():
        setattr(served, name, _call(graph, endpoints[name].input_signature[0]))
    served.serve = served.serving_default  # what Keras' TFSMLayer calls where it is not told
    with progress.announced("saving"):
        try:
            tf.saved_model.save(served, str(path), signatures=graphs)
        except tf.errors.OpError as error:  # what TensorFlow makes of a full disk
            raise OSError(
                f"export_dir must have room for the model. Received: {str(path.parent)!r}: {first_line(error)}"
            ) from error


def _call(
    graph: tf.types.experimental.ConcreteFunction, specs: dict[str, tf.TensorSpec]
) -> tf.types.experimental.PolymorphicFunction:
    """Wraps a graph into a function that calls it: `save` traces attributes again, and would trace the whole graph.

    It takes its inputs as one dict, by name, or a single one alone.
    """

    @tf.function(autograph=False)
    def call(inputs=None, **named):
        if inputs is None:
            inputs = named
        return graph(inputs if isinstance(inputs, dict) else dict.fromkeys(specs, inputs))

    call.get_concrete_function(specs)
    call.get_concrete_function(**specs)
    if len(specs) == 1:
        call.get_concrete_function(*specs.values())
    return call


def _sync(folder: pathlib.Path) -> None:
    """Has all files of a folder on the disk: what is renamed before may be empty after a power failure."""
    for path in (*(path for path in folder.rglob("*") if path.is_file()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _next_version(base: pathlib.Path) -> int:
    """The number after the highest version, which has at most 63 bits."""
    version = max((int(child.name) for child in base.iterdir() if child.name.isdecimal()), default=0) + 1
    if version > MAX_VERSION:
        raise ValueError(
            f"export_dir must have versions below {MAX_VERSION}, the highest that TensorFlow Serving knows. "
            f"Received: {str(base)!r}, which has {version - 1}"
        )
    return version


def _rename_to_next_version(unfinished: pathlib.Path, base: pathlib.Path) -> pathlib.Path:
    while True:
        target = base / str(_next_version(base))
        try:
            os.rename(unfinished, target)
            return target
        except OSError:
            if not target.exists():
                raise
            # Another export took this number: try the next.


def checked_batches(options: ServingOptions) -> set[int]:
    """The batch sizes of the check, at least one of which XLA's variant splits into parts."""
    return {min(batch, options.max_batch) for batch in (*CHECKED_BATCHES, max(options.xla_parts, CHECKED_BATCHES[0]))}


def check(
    process: CheckProcess,
    endpoints: Endpoints,
    path: pathlib.Path,
    options: ServingOptions = ServingOptions(),  # noqa: B008
    without_xla: dict[str, ServedFunction] | None = None,
    num_values: int = 2,
) -> None:
    """Compares every signature of a SavedModel, in a fresh process without pixelvae_tf, with the model's.

    Its warm-up requests, if it has any, must be answered there without an error.

    Args:
      process: where the SavedModel is loaded.
      endpoints: the model's own.
      path: the SavedModel's directory.
      options: the export's options.
      without_xla: where XLA computes the endpoints, the signatures as TensorFlow computes them: latents and likelihoods
        must be theirs. (Images need not: a rounding that changes one pixel changes all after it.)
      num_values: of the images that they are given.

    Raises:
      RuntimeError: where they differ.
    """
    process.load(path)
    batches = checked_batches(options)
    with tempfile.TemporaryDirectory() as folder:
        cases = pathlib.Path(folder) / "cases.npz"
        # On the CPU in both processes: this one may hold all GPU memory, and GPUs round differently.
        with tf.device("CPU:0"), progress.announced("computing what it must answer") as count:
            np.savez(cases, **_cases(endpoints, batches, without_xla or {}, num_values, count))
        with progress.announced("checking it in a process that has TensorFlow alone") as count:
            status, output = process.outcome(cases, count)
    if status == DISAGREES:
        raise RuntimeError(f"the SavedModel does not agree with the model:\n{output}")
    if status:
        ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        raise RuntimeError(f"the check must be able to run. Received: its process {ended}:\n{output}")


def _cases(
    endpoints: Endpoints,
    batches: set[int],
    without_xla: dict[str, ServedFunction],
    num_values: int = 2,
    count: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Inputs and the model's own outputs: {"signature|batch|in or out|tensor": array}."""
    cases = {}
    for done, (name, function) in enumerate(endpoints.items()):
        count(done, len(endpoints))
        for batch in batches:
            # A single row, if it is spoilt, would leave nothing to compare.
            inputs = example(function.input_signature[0], batch, batch > 1, num_values)
            tensors = {key: tf.constant(value) for key, value in inputs.items()}
            outputs = dict(function(tensors))
            floats = [key for key, value in outputs.items() if value.dtype.is_floating]
            if floats and name in without_xla:
                others = without_xla[name].function(tensors)
                outputs |= {key: others[key] for key in floats}
            for side, arrays in (("in", inputs), ("out", outputs)):
                cases |= {f"{name}|{batch}|{side}|{key}": _plain(value) for key, value in arrays.items()}
    return cases


def _plain(value) -> np.ndarray:
    """An array that .npz stores without pickling: strings become bytes."""
    array = np.asarray(value)
    return array.astype(bytes) if array.dtype == object else array
