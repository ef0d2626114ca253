"""For maintainers: puts the best weights of a run into the package, with their card.

    pixelvae-evaluate --workdir=runs/digits --importance_samples=50
    python -m pixelvae_tf.export.store_pretrained runs/digits digits/gated_pixel_vae

The second argument is the preset that the run is of, and the name that `pixelvae_tf.load_pretrained` takes. Run it in a
checkout, installed with `pip install -e`, and commit what it writes.
"""

import json
import pathlib
import shlex
import sys
import tempfile

from pixelvae_tf import data, presets, pretrained, runs
from pixelvae_tf.export import card as card_lib
from pixelvae_tf.export.page import page
from pixelvae_tf.files import write_atomically
from pixelvae_tf.train.evaluation import Evaluator

# Every clone and every wheel carries the weights.
MAX_BYTES = 5_000_000
# Images of the test split that the tests evaluate: a second or two.
SLICE = 100


def store(workdir: str | pathlib.Path, name: str) -> pathlib.Path:
    """Writes the files of `pixelvae_tf.pretrained`.

    Args:
      workdir: the directory of a run that was evaluated on its test split.
      name: the preset that the run was trained with.

    Returns:
      The folder of the files.

    Raises:
      ValueError: if there are no weights, no evaluation of them, no flags that turn the preset into the run's config,
        images or initial weights that others have not, or too much to store.
      OSError: if the package cannot be written.
    """
    model, config, step = runs.load(workdir)
    evaluations = runs.read_evaluations(workdir, runs.fingerprint(model))
    if not any(report["data"] == f"{config.data.name}/test" for report in evaluations):
        raise ValueError(
            "workdir must hold an evaluation of its best weights on the test split of a data set that others have too: "
            f"run `pixelvae-evaluate --workdir={workdir}`. Received: {[report['data'] for report in evaluations]}"
        )
    if config.train.initial_weights not in ("", *pretrained.names()):
        raise ValueError(
            "train.initial_weights of the run must be none, or a pretrained model, which others have too. "
            f"Received: {config.train.initial_weights!r}"
        )
    images = data.load(config.data, "test", config.model.image_shape)
    config.data.data_dir = ""  # where this machine keeps it
    command = presets.command_for(config, f"runs/{name}")
    if f"--config={name}" not in shlex.split(command or ""):
        actual = command or "none: no preset and flags make its config"
        raise ValueError(f"name must be the preset of the run, whose command is {actual}. Received: {name!r}")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, pretrained.WEIGHTS)
        model.save_weights(path)
        weights = path.read_bytes()
    if len(weights) > MAX_BYTES:
        raise ValueError(f"weights must take at most {MAX_BYTES:,} bytes. Received: {len(weights):,}")

    commands = {"train": command, "evaluate": f"pixelvae-evaluate --pretrained={name}"}
    card = {
        **card_lib.make_card(config, "best", step, evaluations, commands),
        "lineage": runs.read_lineage(workdir),
        **card_lib.describe_weights(model),
        "slice": Evaluator(model)(images.first(SLICE)),
    }
    target = pathlib.Path(str(pretrained.FOLDER), name)
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(target / pretrained.WEIGHTS, weights)
    write_atomically(target / pretrained.PAGE, page({"name": name, **card}))
    write_atomically(target / pretrained.CARD, json.dumps(card, indent=2) + "\n")
    return target


def main(argv: list[str]) -> None:
    """Stores the run that the command line says."""
    if len(argv) != 3:
        raise SystemExit(f"store_pretrained: WORKDIR and NAME are wanted. Received: {shlex.join(argv[1:])}")
    try:
        print(f"stored: {store(*argv[1:])}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"store_pretrained: {error}") from error


if __name__ == "__main__":
    main(sys.argv)
