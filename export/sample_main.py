"""pixelvae-sample: draws a grid of samples from a SavedModel; needs nothing else.

pixelvae-sample --saved_model=models/digits/1 --output=grid.png --num_images=64 --seed=0
pixelvae-sample --saved_model=models/lsun/1 --output=grid.png --vary=top

With --vary, every row holds the noise of all levels but one (PixelVAE, figure 6): the first image of a row is a
sample, the others have new noise for the top level of latents, for all levels between it and the pixels ("middle"), or
for the pixels.
"""

import json
import math
import pathlib

import numpy as np
from absl import app, flags

from pixelvae_tf import console, limits

_SAVED_MODEL = console.define_path("saved_model", None, "Directory of a version.", required=True)
_OUTPUT = console.define_path("output", None, "The PNG to write.", required=True)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 64, "How many samples.", 1, limits.MAX_BATCH)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first image; the next ones count on.", -(2**62), 2**62)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", 1.0, "Below 1: likelier images, above: stranger ones; 1e-6 (greedy) to 1e6."
)
_LABEL = flags.DEFINE_integer("label", None, "The class of all samples; by default each in turn, a column each.")
_VARY = flags.DEFINE_enum("vary", None, ["top", "middle", "pixels"], "What varies along a row; by default everything.")
_SCALE = flags.DEFINE_integer("scale", 4, "How many picture pixels a pixel is wide.", 1, 64)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 64, "Images at once, up to max_batch; does not change them.", 1, limits.MAX_BATCH
)


def main(argv: list[str]) -> None:
    """Parses the flags and samples."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    try:
        _sample(pathlib.Path(_SAVED_MODEL.value))
    except (OSError, ValueError) as error:
        raise SystemExit(f"pixelvae-sample: {error}") from error
    print(f"{_NUM_IMAGES.value} samples: {_OUTPUT.value}")


def _sample(directory: pathlib.Path) -> None:
    from pixelvae_tf import config as config_lib
    from pixelvae_tf import pictures
    from pixelvae_tf.export.card import CARD

    if not (directory / CARD).is_file() or not (directory / "saved_model.pb").is_file():
        raise ValueError(
            "saved_model must be a version directory written by pixelvae-export, with saved_model.pb "
            f"and {CARD} in it. Received: {str(directory)!r}"
        )
    try:
        card = json.loads((directory / CARD).read_text())
        config = config_lib.from_json(json.dumps(card["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{CARD} must have a config that this version knows. Received: {str(directory)!r}: {error}"
        ) from error
    console.check_output(_OUTPUT.value, config.data.folder)
    model = config.model
    _check_flags(len(model.levels), model.num_classes)
    inputs, columns = _inputs(len(model.levels), model.num_classes)
    batch_size = min(_BATCH_SIZE.value, card.get("max_batch", _BATCH_SIZE.value))  # earlier exports had no limit
    loaded = _load(directory)  # must outlive its signatures
    images = _draw(_signature(loaded), inputs, batch_size)
    console.write_picture(_OUTPUT.value, pictures.tile(images, model.num_values, columns=columns, scale=_SCALE.value))


def _check_flags(num_levels: int, num_classes: int) -> None:
    """Refuses what this model has not."""
    if _LABEL.value is not None and not 0 <= _LABEL.value < num_classes:
        classes = f"in 0..{num_classes - 1}" if num_classes else "left out: this model has no classes"
        raise ValueError(f"label must be {classes}. Received: {_LABEL.value}")
    if _VARY.value is not None and num_levels < {"top": 1, "middle": 2, "pixels": 1}[_VARY.value]:
        raise ValueError(
            "vary must be left out for a model without latents, and be top or pixels for one of a "
            f"single level. Received: {_VARY.value} for {num_levels} levels"
        )


def _load(directory: pathlib.Path):
    import tensorflow as tf

    try:
        return tf.saved_model.load(str(directory))
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"saved_model must be whole. Received: {str(directory)!r}: {reason}") from error


def _signature(loaded):
    """The one that the flags ask for."""
    name = "sample_by_level" if _VARY.value else "sample"
    if name not in loaded.signatures:
        raise ValueError(
            f"saved_model must have the signature {name}; export the run again. "
            f"Received: {', '.join(loaded.signatures)}"
        )
    return loaded.signatures[name]


def _draw(signature, inputs: dict[str, np.ndarray], batch_size: int) -> np.ndarray:
    """All images, a batch a call."""
    import tensorflow as tf

    images = []
    for start in range(0, _NUM_IMAGES.value, batch_size):
        outputs = signature(**{name: tf.constant(x[start : start + batch_size]) for name, x in inputs.items()})
        if outputs["error"][0] != b"":
            raise ValueError(f"{outputs['error'][0].numpy().decode()}. Received: {_TEMPERATURE.value}")
        images.append(outputs["images"].numpy())
    return np.concatenate(images)


def _inputs(num_levels: int, num_classes: int) -> tuple[dict[str, np.ndarray], int | None]:
    """What the flags ask of the signature, [num_images] each, and the columns of the grid (None: about square)."""
    number, columns = _NUM_IMAGES.value, None
    index = np.arange(number, dtype=np.int64)
    with np.errstate(over="ignore"):  # the signature refuses the infinite
        inputs = {"temperature": np.full(number, _TEMPERATURE.value).astype(np.float32)}
    group = index
    if _VARY.value is None:
        inputs["seed"] = _SEED.value + index
    else:
        columns = math.ceil(math.sqrt(number))
        group = index // columns
        held = _SEED.value + group
        # Behind all that are held; a row's first image has the row's own.
        varied = np.where(index % columns == 0, held, _SEED.value + number + index)
        levels = {"top": [num_levels], "middle": range(1, num_levels), "pixels": []}[_VARY.value]
        inputs["seed_pixels"] = varied if _VARY.value == "pixels" else held
        inputs |= {f"seed_z{level}": varied if level in levels else held for level in range(1, num_levels + 1)}
    if num_classes:
        in_turn = _LABEL.value is None
        inputs["label"] = group % num_classes if in_turn else np.full(number, _LABEL.value, np.int64)
        # Without anything held, a column a class.
        columns = num_classes if in_turn and _VARY.value is None else columns
    return inputs, columns


def run() -> None:
    """The console script."""
    console.run(main)


if __name__ == "__main__":
    run()
