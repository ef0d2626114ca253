"""For maintainers: puts the best weights of a run into the package, with their card.

    pixelvae-evaluate --workdir=runs/digits --importance_samples=50
    python -m pixelvae_tf.export.store_pretrained runs/digits digits/gated_pixel_vae [NOTE]

The second argument is the preset that the run is of, and the name that `pixelvae_tf.load_pretrained` takes; NOTE is a
sentence for the card, such as with what its numbers do not compare. They compute in float32:
evaluate a run in bfloat16 with --dtype=float32. Weights of more than 5 MB are rounded to float16, and evaluated once
more. Run it in a checkout that is installed with `pip install -e`, and commit what it writes.
"""

import json
import pathlib
import shlex
import sys

from pixelvae_tf import data, hub, presets, progress, runs
from pixelvae_tf.export import card as card_lib
from pixelvae_tf.models import weights
from pixelvae_tf.train.evaluation import Evaluator
from pixelvae_tf.train.evaluation_files import to_json

# Every clone and every wheel carries the weights.
MAX_BYTES = 5_000_000
# Images of the test split that the tests evaluate: a second or two.
SLICE = 100
# What they compute in, and are evaluated in.
DTYPE = "float32"


def store(workdir: str | pathlib.Path, name: str, note: str = "") -> pathlib.Path:
    """Writes the files of `pixelvae_tf.hub`.

    Args:
      workdir: the directory of a run that was evaluated on its test split.
      name: the preset that the run was trained with.
      note: what the card says above its numbers.

    Returns:
      The folder of the files.

    Raises:
      ValueError: if there are no weights, no evaluation of them, no flags that turn the preset into the run's config,
        images or initial weights that others have not, or too much to store.
      OSError: if the package cannot be written.
    """
    model, config, step = runs.load(workdir, dtype=DTYPE)
    evaluations = runs.read_evaluations(workdir, runs.fingerprint(model), DTYPE)
    test = f"{data.describe(config.data)[0]}/test"
    if config.data.folder or not any(report["data"] == test for report in evaluations):
        raise ValueError(
            "workdir must hold an evaluation of its best weights on the test split of a data set that others have too: "
            f"run `pixelvae-evaluate --workdir={workdir}`. Received: {[report['data'] for report in evaluations]}"
        )
    start = config.train.initial_weights
    if start and not hub.is_portable(start):
        raise ValueError(
            "train.initial_weights of the run must be none, or a pretrained model that others have too. "
            f"Received: {start!r}"
        )
    images = data.load(config.data, "test", config.model.image_shape)
    config = presets.without_places(config)
    command = presets.command_for(config, f"runs/{name}")
    if f"--config={name}" not in shlex.split(command or ""):
        actual = command or "none: no preset and flags make its config"
        raise ValueError(f"name must be the preset of the run, whose command is {actual}. Received: {name!r}")
    size = sum(weight.numpy().nbytes for weight in model.variables)
    if size > 2 * MAX_BYTES:
        raise ValueError(f"weights must take at most {MAX_BYTES:,} bytes as float16. Received: {size // 2:,}")
    rounded = {}
    if size > MAX_BYTES:
        weights.round_to_float16(model)
        samples = max(report.get("importance_samples", 0) for report in evaluations if report["data"] == images.name)
        with progress.announced("evaluating the weights as float16 holds them") as count:
            report = json.loads(to_json(Evaluator(model, importance_samples=samples)(images, count)))
        best = {"weights": "best (average)", "step": step, "fingerprint": runs.fingerprint(model), "dtype": DTYPE}
        evaluations, rounded = [report | best], {"rounded_to": "float16"}

    commands = {"train": command, "evaluate": f"pixelvae-evaluate --pretrained={name}"}
    card = {
        "name": name,
        **card_lib.make_card(config, "best", step, evaluations, commands),
        **rounded,
        **({"note": note} if note else {}),
        "lineage": runs.read_lineage(workdir),
        "slice": Evaluator(model)(images.first(SLICE)),
    }
    model.save_to_preset(hub.FOLDER / name, card)
    return hub.FOLDER / name


def main(argv: list[str]) -> None:
    """Stores the run that the command line says."""
    if len(argv) not in (3, 4):
        raise SystemExit(
            f"store_pretrained: WORKDIR and NAME, and perhaps a NOTE, are wanted. Received: {shlex.join(argv[1:])}"
        )
    try:
        print(f"stored: {store(*argv[1:])}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"store_pretrained: {error}") from error


if __name__ == "__main__":
    main(sys.argv)
