"""pixelvae-export: writes a trained run as a SavedModel for TensorFlow Serving, and checks it.

pixelvae-export --workdir=runs/digits --export_dir=models/digits
pixelvae-export --workdir=runs/digits --export_dir=models/digits --xla --warmup=1,16

Beside the versions it leaves models.config and batching_parameters.txt to start the server with.
"""

import dataclasses
import shlex
import sys

from absl import app, flags, logging

from pixelvae_tf.export.options import Options

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a run.", required=True)
_EXPORT_DIR = flags.DEFINE_string("export_dir", None, "The model's directory; gets a new version.", required=True)
_WEIGHTS = flags.DEFINE_enum("weights", "best", ["best", "latest"], "Which averaged weights.")
_MAX_BATCH = flags.DEFINE_integer("max_batch", Options.max_batch, "Largest batch of a request, and of merged ones.")
_COMPLETION_ROUNDS = flags.DEFINE_integer(
    "completion_rounds", Options.completion_rounds, "Rounds of encoding and filling in, by the signature complete."
)
_WARMUP = flags.DEFINE_list("warmup", [], "Batch sizes that the server tries before it answers, as 1,16.")
_XLA = flags.DEFINE_bool("xla", False, "Write a second model too, EXPORT_DIR_xla, compiled by XLA.")


def main(argv: list[str]) -> None:
    """Parses the flags and exports."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.ERROR)  # TensorFlow warns of retracing where every endpoint is traced once
    from pixelvae_tf import runs
    from pixelvae_tf.export import exporter, server

    try:
        options = Options(_MAX_BATCH.value, _batch_sizes(_WARMUP.value), completion_rounds=_COMPLETION_ROUNDS.value)
        variants = {_EXPORT_DIR.value: options}
        if _XLA.value:
            variants[str(server.xla_variant(_EXPORT_DIR.value))] = dataclasses.replace(options, xla=True)
        model, config, step = runs.load(_WORKDIR.value, _WEIGHTS.value)
        card = _card(model, config, step)
        for export_dir, its_options in variants.items():
            path = exporter.export(model, card, export_dir, its_options)
            print(f"exported and checked: {path}")
        server.write(list(variants), options)
    except (ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f"pixelvae-export: {error}") from error


def _batch_sizes(texts: list[str]) -> tuple[int, ...]:
    if not all(text.isdecimal() for text in texts):
        raise ValueError(f"warmup must be batch sizes with commas between them, as 1,16. Received: {','.join(texts)}")
    return tuple(map(int, texts))


def _card(model, config, step: int) -> dict:
    """What the run's directory and the command line say."""
    from pixelvae_tf import presets, runs
    from pixelvae_tf.export import card

    weights = [] if _WEIGHTS.value == _WEIGHTS.default else [f"--weights={_WEIGHTS.value}"]
    commands = {
        "train": presets.command_for(config, _WORKDIR.value),
        "evaluate": shlex.join(["pixelvae-evaluate", f"--workdir={_WORKDIR.value}", *weights]),
        "export": shlex.join(["pixelvae-export", *sys.argv[1:]]),
    }
    evaluations = runs.read_evaluations(_WORKDIR.value, runs.fingerprint(model))
    return card.make_card(config, _WEIGHTS.value, step, evaluations, commands)


def run() -> None:
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
