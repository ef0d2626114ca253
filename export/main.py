"""pixelvae-export: writes a trained run as a SavedModel for TensorFlow Serving, and checks it.

pixelvae-export --workdir=runs/digits --export_dir=models/digits
"""

from absl import app, flags, logging

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a run.", required=True)
_EXPORT_DIR = flags.DEFINE_string("export_dir", None, "The model's directory; gets a new version.", required=True)
_WEIGHTS = flags.DEFINE_enum("weights", "best", ["best", "latest"], "Which averaged weights.")


def main(argv: list[str]) -> None:
    """Parses the flags and exports."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.ERROR)  # TensorFlow warns of retracing where every endpoint is traced once
    from pixelvae_tf import runs
    from pixelvae_tf.export import card, exporter

    try:
        model, config, step = runs.load(_WORKDIR.value, _WEIGHTS.value)
        path = exporter.export(model, card.make_card(config, _WEIGHTS.value, step), _EXPORT_DIR.value)
    except (ValueError, RuntimeError) as error:
        raise SystemExit(f"pixelvae-export: {error}") from error
    print(f"exported and checked: {path}")


def run() -> None:
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
