"""Serving: several threads that call a signature of a SavedModel in one process.

    python benchmarks/serving.py --saved_model=models/digits/1 [--signature=sample] [--threads=4] [--requests=200]

For every batch size, in one run: requests and images a second, the median and the 99th percentile of the time that a
request takes, the CPU time of all threads for one (what compares where others use the machine too), and the memory of
the process before and after. Each thread waits for its answer before it asks again:
so many patient clients, without a network. What the first calls cost is left out. Seconds and MB are this machine's;
memory that grew with `--requests` would be a leak.
"""

import concurrent.futures
import pathlib
import time

import numpy as np
import psutil
import tensorflow as tf
from absl import app, flags

from pixelvae_tf.export import examples

_SAVED_MODEL = flags.DEFINE_string("saved_model", None, "Directory of a version.", required=True)
_SIGNATURE = flags.DEFINE_string("signature", "sample", "What is called.")
_THREADS = flags.DEFINE_integer("threads", 4, "Clients at a time.", lower_bound=1)
_REQUESTS = flags.DEFINE_integer("requests", 200, "How many, of all threads together.", lower_bound=1)
_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "16"], "Images a request.")


def measure(signature, batch: int) -> None:
    """Prints the line of one batch size."""
    inputs = examples.example(signature.structured_input_signature[1], batch)
    request = {name: tf.constant(values) for name, values in inputs.items()}

    def seconds_of(_: int) -> float:
        start = time.perf_counter()
        outputs = {name: output.numpy() for name, output in signature(**request).items()}
        seconds = time.perf_counter() - start
        if outputs["error"].any():
            raise SystemExit(f"a request was refused: {outputs['error'][0].decode()}")
        return seconds

    with concurrent.futures.ThreadPoolExecutor(_THREADS.value) as threads:
        list(threads.map(seconds_of, range(4 * _THREADS.value)))
        before, start, cpu = memory(), time.perf_counter(), time.process_time()
        seconds = list(threads.map(seconds_of, range(_REQUESTS.value)))
        rate = _REQUESTS.value / (time.perf_counter() - start)
        cpu = 1000 * (time.process_time() - cpu) / _REQUESTS.value
    median, late = 1000 * np.quantile(seconds, [0.5, 0.99])
    print(f"{batch:5}{rate:12.1f}{rate * batch:10.1f}{median:11.1f}{late:9.1f}{cpu:8.1f}{before:11.0f}{memory():10.0f}")


def memory() -> float:
    """Resident memory of this process in MB."""
    return psutil.Process().memory_info().rss / 1e6


def main(argv: list[str]) -> None:
    """Measures every batch size."""
    del argv
    if not (pathlib.Path(_SAVED_MODEL.value) / "saved_model.pb").is_file():
        raise SystemExit(f"saved_model must be the directory of a version. Received: {_SAVED_MODEL.value!r}")
    loaded = tf.saved_model.load(_SAVED_MODEL.value)
    if _SIGNATURE.value not in loaded.signatures:
        known = ", ".join(loaded.signatures)
        raise SystemExit(f"signature must be one of {known}. Received: {_SIGNATURE.value!r}")
    print(f"{_SAVED_MODEL.value}, {_SIGNATURE.value}: {_REQUESTS.value} requests of {_THREADS.value} threads")
    print("batch  requests/s  images/s  median ms   p99 ms  CPU ms  MB before  MB after")
    for batch in map(int, _BATCH_SIZES.value):
        measure(loaded.signatures[_SIGNATURE.value], batch)


if __name__ == "__main__":
    app.run(main)
