"""Trains the rows of PixelVAE's Table 1 but the best on binarized MNIST, one after the other.

    nice python benchmarks/table1.py --data_dir=DIR --output=runs/table1
    python benchmarks/table1.py --output=runs/table1 --report

Killed or interrupted it goes on from the last checkpoint when it is started again. A row ends when its bound on the
validation images is at the paper's number less `MARGIN`, when it no longer moves (`PATIENCE` evaluations without a gain
of `LEAST_GAIN`), or with its budget; then its best weights are evaluated on the test images. Rows come cheapest first.
--report prints the table of what is there, in Markdown, at any time.
"""

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from absl import app, flags

_DATA_DIR = flags.DEFINE_string("data_dir", "", "TFDS' data directory.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the runs; made if need be.", required=True)
_ROWS = flags.DEFINE_list("rows", [], "These rows alone, in this order; all, cheapest first, if it is empty.")
_STEPS = flags.DEFINE_integer(
    "steps", 0, "Steps of every row, in place of its own; to try the queue, in an --output of its own.", lower_bound=0
)
_REPORT = flags.DEFINE_bool("report", False, "Print the table and train nothing.")

MARGIN = 0.1  # nats below the paper's number on validation: what test may differ
PATIENCE, LEAST_GAIN = 4, 0.02
IMPORTANCE_SAMPLES = (50, 1000)
POLL = 20  # seconds between two looks at a run

# What an hour on MNIST taught: small batches, a high rate that decays, clipped gradients, a long rise of the KL.
BUDGET = {
    "batch_size": 32,
    "learning_rate": 2e-3,
    "learning_rate_warmup_steps": 1000,
    "learning_rate_decay": "cosine",
    "clip_norm": 250,
    "evaluate_every": 5000,
    "checkpoint_every": 1000,
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A preset of binarized MNIST, the paper's number, and how long to train.

    Attributes:
      preset: behind `binarized_mnist/`.
      paper: nats, or None where there is none.
      steps: the budget.
      train: what differs from `BUDGET`, by fields of `config.TrainConfig`.
    """

    preset: str
    paper: float | None
    steps: int
    train: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def command(self, workdir: pathlib.Path) -> list[str]:
        """Trains it, or goes on."""
        train = {**BUDGET, "steps": _STEPS.value or self.steps}
        if "pixel_cnn" not in self.preset and "lstm" not in self.preset:
            train["kl_warmup_steps"] = train["steps"] // 4
        train |= self.train
        if _STEPS.value:
            few = _STEPS.value // 10
            train |= {"evaluate_every": _STEPS.value, "learning_rate_warmup_steps": few}
            train |= {"kl_warmup_steps": few} if "kl_warmup_steps" in train else {}
        return [
            *(sys.executable, "-m", "pixelvae_tf.train.main", f"--config=binarized_mnist/{self.preset}"),
            *(f"--workdir={workdir}", f"--config.data.data_dir={_DATA_DIR.value}"),
            *(f"--config.train.{name}={value}" for name, value in train.items()),
        ]


# The gated rows have the layers of the best one, and start with its weights. A processor without matrix units for
# bfloat16 is faster with dtype="float32".
SHARED = {
    "initial_weights": "binarized_mnist/gated_pixel_vae_no_upsampling",
    "partial_initial_weights": True,
    "batch_size": 64,
    "learning_rate_warmup_steps": 200,
    "checkpoint_every": 500,
    "dtype": "mixed_bfloat16",
}
# Given the trained PixelCNN's pixels, the latents are ignored unless some of what they say is free at first.
FREE = {
    "initial_weights": "binarized_mnist/pixel_cnn",
    "partial_initial_weights": True,
    "learning_rate_warmup_steps": 200,
    "kl_warmup_steps": 2000,
    "free_nats": 10,
    "free_nats_steps": 4000,
    "evaluate_every": 3000,
    "checkpoint_every": 500,
    "dtype": "mixed_bfloat16",
}
ROWS = (
    Row("gated_pixel_cnn", 80.1, 6_000, SHARED | {"evaluate_every": 2000}),
    Row("gated_pixel_vae", 80.08, 4_500, SHARED | {"evaluate_every": 1500, "kl_warmup_steps": 800}),
    Row("vae", 87.4, 200_000),
    Row("pixel_cnn", 81.3, 80_000, {"learning_rate": 2.5e-3, "dtype": "mixed_bfloat16"}),
    Row("pixel_vae", 80.64, 15_000, FREE),
    Row("row_lstm", None, 60_000),
    Row("diagonal_bilstm", 79.20, 60_000),
)


def validation_bounds(workdir: pathlib.Path) -> list[float]:
    """The bound in nats after each evaluation so far, as TensorBoard has it."""
    # The one of TensorBoard's two that drops what is done again after an interruption.
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    folder = workdir / "tensorboard" / "validation"
    if not folder.is_dir():
        return []
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    if "bound_nats" not in events.Tags()["tensors"]:
        return []
    return [float(tensor_util.make_ndarray(event.tensor_proto)) for event in events.Tensors("bound_nats")]


def is_finished(bounds: list[float], paper: float | None) -> bool:
    """Whether a row has reached its number, or no longer moves."""
    if bounds and paper is not None and min(bounds) <= paper - MARGIN:
        return True
    return len(bounds) > PATIENCE and min(bounds[-PATIENCE:]) > min(bounds[:-PATIENCE]) - LEAST_GAIN


def train(row: Row, workdir: pathlib.Path) -> None:
    """Trains until the row is finished or its budget is spent.

    Raises:
      subprocess.CalledProcessError: if training failed.
    """
    process = subprocess.Popen(row.command(workdir))
    try:
        stopped = False
        while process.poll() is None:
            time.sleep(POLL if not _STEPS.value else 1)
            if not stopped and is_finished(validation_bounds(workdir), row.paper):
                stopped = True
                process.send_signal(signal.SIGTERM)
        if process.returncode and not stopped:
            raise subprocess.CalledProcessError(process.returncode, process.args)
    finally:
        # Interrupted itself: what it began saves and ends.
        process.terminate()
        process.wait()


def evaluate(row: Row, workdir: pathlib.Path) -> None:
    """Writes test_K.json for each number K of importance samples; a model without latents needs one alone."""
    for samples in IMPORTANCE_SAMPLES:
        path = workdir / f"test_{samples}.json"
        if path.exists():
            continue
        command = [sys.executable, "-m", "pixelvae_tf.train.evaluate_main", f"--workdir={workdir}"]
        command += ["--split=test", "--dtype=float32"]
        exact = not json.loads((workdir / "config.json").read_text())["model"]["levels"]
        if not exact:
            command.append(f"--importance_samples={samples}")
        result = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        path.write_text(result.splitlines()[-1] + "\n")
        if exact:
            return


def table(output: pathlib.Path) -> str:
    """What is there, as Markdown; a row that is still in training shows its validation bound."""
    head = ("preset", "paper", "bound, test", "50 samples", "1,000 samples", "validation", "steps", "fingerprint")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]

    def value(report: dict, key: str) -> str:
        error = report.get(key.replace("nats", "standard_error"))
        return "-" if key not in report else f"{report[key]:.2f} ± {error:.2f}"

    for row in ROWS:
        workdir = output / row.preset
        reports = {
            samples: json.loads(path.read_text()) if (path := workdir / f"test_{samples}.json").exists() else {}
            for samples in IMPORTANCE_SAMPLES
        }
        first, bounds = reports[IMPORTANCE_SAMPLES[0]], validation_bounds(workdir)
        cells = [
            f"`{row.preset}`",
            "none" if row.paper is None else f"{row.paper}",
            value(first, "bound_nats") + (" (exact)" if first.get("exact") else ""),
            *(value(report, "importance_weighted_nats") for report in reports.values()),
            f"{min(bounds):.2f}" if bounds else "-",
            f"{first['step']:,}" if first else "-",
            first.get("fingerprint", "-"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(_) -> None:
    """Goes through the rows."""
    output = pathlib.Path(_OUTPUT.value)
    names = [row.preset for row in ROWS]
    if unknown := set(_ROWS.value) - set(names):
        raise app.UsageError(f"--rows must be of {', '.join(names)}. Received: {', '.join(sorted(unknown))}")
    if not _REPORT.value:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl-C: what runs saves and ends
        for name in _ROWS.value or names:
            row, workdir = ROWS[names.index(name)], output / name
            try:
                if not (workdir / "test_50.json").exists():
                    train(row, workdir)
                evaluate(row, workdir)
            except subprocess.CalledProcessError as error:  # which has said why
                print(f"table1: {name} is left out: {error}", file=sys.stderr, flush=True)
                continue
            print(table(output), flush=True)
    print(table(output))


if __name__ == "__main__":
    app.run(main)
