"""The steps of gpu_day.sh, each in a process of its own.

    python benchmarks/gpu_day/steps.py --step=training --out=OUT --seconds=170 [--rehearse]

- devices: what TensorFlow sees; fails without a GPU, but in a rehearsal.
- numerics: log p(x | z) of the trained 12-layer model with TensorFloat-32 on and off, and in bfloat16, against float64
  on the CPU; samples of every method against those of "cached".
- tests: the quick tests of layers' contracts, distributions and sampling on the card, if pytest is installed.
- training: images/s of three presets in float32, TF32 and bfloat16, with XLA and without, as a share of a large matrix
  product of the same precision and of the time that their bytes take (roofline.py).
- sampling: seconds of every method, with XLA and without, for batches of 1 to 256; and up to which batch "auto" should
  choose "rows".
- train: trains the 12-layer model for the rest of the time; OUT/train has the checkpoint, and the same call goes on.

Writes OUT/STEP.json as it ends. Training and sampling leave a line in OUT/STEP.jsonl for each case, go on behind those
that are there, and write the other file when none is missing.
"""

import itertools
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from absl import app, flags, logging

STEPS = ["devices", "numerics", "tests", "training", "sampling", "train"]
_STEP = flags.DEFINE_enum("step", None, STEPS, "Which.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder of the outcomes.", required=True)
_SECONDS = flags.DEFINE_integer("seconds", 60, "Nothing new is begun after so many.", 1)
_REHEARSE = flags.DEFINE_bool("rehearse", False, "Tiny models, on whatever there is.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "TFDS' data directory with binarized_mnist, for train.")
MODEL = "binarized_mnist/gated_pixel_vae_no_upsampling"
TINY = "digits/gated_pixel_vae"
ROOT = pathlib.Path(__file__).parents[2]
START = time.monotonic()
# Preset, images of a step.
PRESETS = {MODEL: 100, "cifar10/pixel_cnn_pp": 16, "lsun_64/hierarchical": 32}
PRECISIONS = ["TF32", "bfloat16", "float32"]
BATCHES, METHODS = [1, 16, 64, 256], ["cached", "rows"]
TESTS = ["tests/test_layers.py", "tests/test_distributions.py", "tests/test_sampling.py"]


def left() -> float:
    """Seconds until the time is up."""
    return _SECONDS.value - (time.monotonic() - START)


def gpus() -> list:
    """The GPUs that TensorFlow sees."""
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def set_precision(precision: str) -> str:
    """Switches TensorFloat-32; returns the dtype policy."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(precision == "TF32")
    return "mixed_bfloat16" if precision == "bfloat16" else "float32"


def devices() -> dict:
    """What there is."""
    import machine
    import tensorflow as tf

    if not gpus() and not _REHEARSE.value:
        raise SystemExit("devices: TensorFlow must see a GPU; LD_LIBRARY_PATH must name the CUDA libraries")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus()]
    product = tf.linalg.trace(tf.matmul(tf.eye(64), tf.eye(64)))
    return {"machine": machine.describe(), "gpus": details, "trace of a product": float(product), "on": product.device}


def numerics() -> dict:
    """How far the precisions are from float64, and the methods from each other."""
    import keras
    import tensorflow as tf

    from pixelvae_tf import pretrained, runs

    name = TINY if _REHEARSE.value else MODEL
    model, config, _ = pretrained.load(name)
    weights, batch = model.get_weights(), 4 if _REHEARSE.value else 64
    shape = (batch, *config.model.image_shape)
    images = np.random.default_rng(0).integers(0, config.model.num_values, shape, np.uint8)
    z = np.random.default_rng(1).normal(size=(batch, *config.model.levels[0].shape))

    def log_prob(dtype: str, device: str) -> np.ndarray:
        config.train.dtype = dtype
        with tf.device(device):
            model = runs.build(config)
            model.set_weights(weights)
            latents = [tf.constant(z, model.latent_dtype)]
            return model.likelihood(latents).log_prob(images).numpy().astype(np.float64)

    exact, device = log_prob("float64", "CPU:0"), "GPU:0" if gpus() else "CPU:0"
    errors = {}
    for precision in PRECISIONS:
        difference = np.abs(log_prob(set_precision(precision), device) - exact)
        errors[precision] = {"mean": difference.mean(), "max": difference.max()}
    set_precision("float32")
    keras.backend.clear_session()
    model = pretrained.load(name)[0]
    seeds = tf.range(batch, dtype=tf.int64)
    samples = {method: model.sample(seeds, method=method).numpy() for method in METHODS}
    same = {method: float((x == samples["cached"]).mean()) for method, x in samples.items()}
    return {"log_prob": exact.mean(), "nats from float64": errors, "values as cached draws them": same}


def tests() -> dict:
    """The outcome of pytest."""
    select = ["-k", "gated_end", TESTS[0]] if _REHEARSE.value else ["-m", "not slow", *TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *select]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=left() - 2, check=False)
    except subprocess.TimeoutExpired as error:
        return {"ended": False, "missing": True, "tail": (error.stdout or b"").decode()[-500:]}
    if "No module named pytest" in ended.stderr:
        return {"ended": False, "tail": "pytest is not installed"}
    if ended.returncode:
        raise SystemExit(f"tests: they must pass. Received: {ended.stdout[-1000:]}")
    return {"ended": True, "tail": ended.stdout[-500:]}


class Cases:
    """The cases of a step and what was measured of them, which OUT/STEP.jsonl keeps.

    Args:
      *values: of each of a case's variables; the first one varies slowest.
      margin: seconds that a case may take.
    """

    def __init__(self, *values: list, margin: float):
        self.all, self._margin = list(itertools.product(*values)), margin
        self._path = pathlib.Path(_OUT.value, f"{_STEP.value}.jsonl")
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self.rows = {tuple(key): row for key, row in map(json.loads, lines)}

    def __iter__(self) -> Iterator[tuple]:
        """Those that are missing, while there is time."""
        for case in self.all:
            if case not in self.rows and left() > self._margin:
                yield case

    def add(self, case: tuple, row: dict) -> None:
        """Keeps what was measured of one."""
        self.rows[case] = row
        with self._path.open("a") as file:
            print(json.dumps([case, row], default=float), file=file)

    @property
    def missing(self) -> int:
        """How many are still to be measured."""
        return len(self.all) - len(self.rows)


def training() -> dict:
    """Every preset, precision and compiler that there is time for."""
    import roofline
    import scale
    import tensorflow as tf

    size = 512 if _REHEARSE.value else 8192
    rates = {}
    for precision in PRECISIONS:
        dtype = "bfloat16" if set_precision(precision) == "mixed_bfloat16" else "float32"
        rates[precision] = roofline.matrix_product_rate(dtype, size)
    bandwidth = roofline.bandwidth(2**24 if _REHEARSE.value else 2**29)
    batches = {TINY: 4} if _REHEARSE.value else PRESETS
    # What compiles longest comes last.
    cases = Cases([False, True], PRECISIONS, list(batches), margin=1 if _REHEARSE.value else 25)
    for case in cases:
        jit_compile, precision, name = case
        batch = batches[name]
        step = scale.Step(name, batch, dtype=set_precision(precision), jit_compile=jit_compile)
        start = time.perf_counter()
        step.run()
        row = {"batch": batch, "first step s": time.perf_counter() - start}
        seconds = roofline.best_seconds(step.run, time.perf_counter, 3 if _REHEARSE.value else 10)
        flops = 6 * step.multiply_adds * batch
        row |= {"seconds": seconds, "images/s": batch / seconds, "share of product": flops / seconds / rates[precision]}
        if not jit_compile:  # what XLA reads and writes is not in the graph
            row["share of bytes"] = step.work().bytes / bandwidth / seconds
        if gpus():
            row["peak GiB"] = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**30
            tf.config.experimental.reset_memory_stats("GPU:0")
        cases.add(case, row)
    return {"matrix products, FLOP/s": rates, "bytes/s": bandwidth, "missing": cases.missing, **_named(cases)}


def _named(cases: Cases) -> dict:
    """The rows by the names of their cases."""
    return {"rows": {", ".join(map(str, case)): row for case, row in cases.rows.items()}}


def sampling() -> dict:
    """Seconds of every method, and the rule."""
    import tensorflow as tf

    from pixelvae_tf import pretrained, xla

    model = pretrained.load(TINY if _REHEARSE.value else MODEL)[0]
    batches = [1, 2] if _REHEARSE.value else BATCHES
    cases = Cases([False, True], batches, METHODS, margin=8)
    for case in cases:
        jit_compile, batch, method = case
        seeds = tf.range(batch, dtype=tf.int64)

        def draw(seeds, method=method):
            return model.sample(seeds, method=method)

        function, taken = xla.compiled(draw) if jit_compile else tf.function(draw, autograph=False), []
        function(seeds).numpy()
        while len(taken) < 5 and sum(taken) < 3:
            start = time.perf_counter()
            function(seeds).numpy()
            taken.append(time.perf_counter() - start)
        cases.add(case, {"seconds": statistics.median(taken)})
    rule = {}
    for jit_compile in (False, True):
        both = [[cases.rows.get((jit_compile, batch, method)) for method in ("rows", "cached")] for batch in batches]
        faster = [
            batch
            for batch, (rows, cached) in zip(batches, both, strict=True)
            if rows and cached and rows["seconds"] < cached["seconds"]
        ]
        rule["rows up to, " + ("XLA" if jit_compile else "without XLA")] = max(faster, default=0)
    return {"rule": rule, "missing": cases.missing, **_named(cases)}


def train() -> dict:
    """Trains until the time is up; SIGTERM lets the trainer save."""
    config, workdir = TINY if _REHEARSE.value else MODEL, pathlib.Path(_OUT.value, "train")
    command = [sys.executable, "-m", "pixelvae_tf.train.main", f"--config={config}", f"--workdir={workdir}"]
    command += [f"--config.data.data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []
    command += ["--config.train.steps=20", "--config.train.evaluate_every=10"] if _REHEARSE.value else []
    grace = 15  # for the checkpoint
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = process.communicate(timeout=max(1.0, left() - grace))
    except subprocess.TimeoutExpired:
        process.terminate()
        output, _ = process.communicate()
    checkpoints = sorted(path.name for path in workdir.glob("checkpoints/*.index"))
    if not checkpoints:
        raise SystemExit(f"train: there must be a checkpoint. Received: {output[-1000:]}")
    stopped = process.returncode != 0  # before its last step
    return {"status": process.returncode, "missing": stopped, "checkpoints": checkpoints, "tail": output[-500:]}


def main(argv: list[str]) -> None:
    """Runs a step and writes its outcome."""
    del argv
    logging.set_verbosity(logging.ERROR)
    outcome = globals()[_STEP.value]()
    outcome["seconds"] = round(time.monotonic() - START, 1)
    path = pathlib.Path(_OUT.value, f"{_STEP.value}.json")
    if not outcome.get("missing"):
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(outcome, indent=1, default=str))
        shutil.move(temporary, path)
    shown = json.dumps({key: value for key, value in outcome.items() if key not in ("rows", "tail")}, default=str)
    print(f"{_STEP.value}: {shown[:300]}", flush=True)


if __name__ == "__main__":
    app.run(main)
