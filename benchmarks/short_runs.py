"""Short trainings side by side: bounds after equal steps, kept in a file of JSON lines so that what is there is not
done again, and compared in Markdown tables."""

import collections
import json
import pathlib
import statistics
from collections.abc import Iterable

from pixelvae_tf import config as config_lib
from pixelvae_tf import data


def train(
    name: str, config: config_lib.Config, images: data.ImageSet, validation: data.ImageSet, steps: int, every: int
) -> dict[int, dict]:
    """Trains a new model; prints and returns the reports of its weights (not their average) on `validation` by step."""
    import tensorflow as tf

    from pixelvae_tf.train import evaluation
    from pixelvae_tf.train import steps as steps_lib

    config.validate()
    state = steps_lib.TrainState(config)
    state.start_from(images)
    loop = steps_lib.make_training_loop(tf.distribute.get_strategy(), state, config)
    batches = iter(data.training_batches(images, config.train.batch_size, config.train.seed))
    evaluator = evaluation.Evaluator(state.model, batch_size=64)
    reports = {}
    for step in range(every, steps + 1, every):
        loop(batches, tf.constant(every))
        reports[step] = evaluator(validation) | {"weights": int(state.model.count_params())}
        kl, usage = (", ".join(f"{x:.1f}" for x in reports[step][key]) for key in ("kl_nats", "usage_latents_nats"))
        bound = reports[step]["bound_nats"]
        print(f"{name}, seed {config.train.seed}, step {step}: {bound:.1f} nats, KL {kl}, usage {usage}", flush=True)
    return reports


class Outcomes:
    """What runs gave, a line of JSON each.

    Args:
      path: the file; lines are appended.
      seeds: how many seeds count, from 0; the file may have further ones of an interrupted run.
      **options: of all runs here; those of other options in the file are passed over.
    """

    def __init__(self, path: str, seeds: int, **options):
        self.path, self.options = pathlib.Path(path), options
        lines = [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []
        self.lines = [line for line in lines if options.items() <= line.items() and line["seed"] < seeds]

    def has(self, seed: int, **key) -> bool:
        """Whether a run is there."""
        return any({"seed": seed, **key}.items() <= line.items() for line in self.lines)

    def add(self, seed: int, reports: dict[int, dict], **key) -> None:
        """Appends a run: its bounds and KLs by step."""
        line = {"seed": seed, **key, **self.options}
        for field in ("bound_nats", "kl_nats", "usage_latents_nats"):
            line[field] = {str(step): report[field] for step, report in reports.items()}
        line["weights"] = next(iter(reports.values()))["weights"]
        self.lines.append(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def bounds(self, key: Iterable[str]) -> dict[tuple, list[float]]:
        """Bounds by the values of `key` and the step, in the order of the seeds."""
        bounds = collections.defaultdict(list)
        for line in sorted(self.lines, key=lambda line: line["seed"]):
            for step, value in line["bound_nats"].items():
                bounds[*(line[name] for name in key), int(step)].append(value)
        return bounds


def mean_and_error(values: list[float], digits: int = 0) -> str:
    """The mean with its standard error, or nothing without values."""
    error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{error}" if values else ""


def markdown(rows: Iterable[Iterable[str]]) -> str:
    """A table whose first row is its head."""
    head, *rows = [list(row) for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
