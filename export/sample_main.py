"""pixelvae-sample: draws a grid of samples from a SavedModel; needs nothing else.

pixelvae-sample --saved_model=models/digits/1 --output=grid.png --num_images=64 --seed=0
"""

import json
import pathlib

import numpy as np
from absl import app, flags

_SAVED_MODEL = flags.DEFINE_string("saved_model", None, "Directory of a version.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The PNG to write.", required=True)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 64, "How many samples.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first image; the next ones count on.")
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Below 1: likelier images, above: stranger ones.")
_LABEL = flags.DEFINE_integer("label", None, "The class of all samples; by default each in turn, a column each.")
_SCALE = flags.DEFINE_integer("scale", 4, "How many picture pixels a pixel is wide.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images at once; does not change them.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Parses the flags and samples."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    import tensorflow as tf

    from pixelvae_tf import config as config_lib
    from pixelvae_tf import pictures
    from pixelvae_tf.export.card import CARD

    directory = pathlib.Path(_SAVED_MODEL.value)
    if not (directory / CARD).is_file() or not (directory / "saved_model.pb").is_file():
        raise SystemExit(
            "pixelvae-sample: saved_model must be a version directory written by pixelvae-export, with saved_model.pb "
            f"and {CARD} in it. Received: {str(directory)!r}"
        )
    parent = pathlib.Path(_OUTPUT.value).absolute().parent
    if not parent.is_dir():
        raise SystemExit(f"pixelvae-sample: output must be in a directory that exists. Received: {_OUTPUT.value!r}")
    model = config_lib.from_json(json.dumps(json.loads((directory / CARD).read_text())["config"])).model
    if _LABEL.value is not None and not 0 <= _LABEL.value < model.num_classes:
        classes = f"in 0..{model.num_classes - 1}" if model.num_classes else "left out: this model has no classes"
        raise SystemExit(f"pixelvae-sample: label must be {classes}. Received: {_LABEL.value}")
    loaded = tf.saved_model.load(str(directory))
    seeds = np.arange(_SEED.value, _SEED.value + _NUM_IMAGES.value, dtype=np.int64)
    images = []
    for start in range(0, len(seeds), _BATCH_SIZE.value):
        seed = tf.constant(seeds[start : start + _BATCH_SIZE.value])
        temperature = tf.fill(seed.shape, tf.constant(_TEMPERATURE.value, tf.float32))
        inputs = {"seed": seed, "temperature": temperature}
        if model.num_classes:
            in_turn = tf.range(start, start + seed.shape[0], dtype=tf.int64) % model.num_classes
            inputs["label"] = in_turn if _LABEL.value is None else tf.fill(seed.shape, tf.cast(_LABEL.value, tf.int64))
        outputs = loaded.signatures["sample"](**inputs)
        if outputs["error"][0] != b"":
            raise SystemExit(f"pixelvae-sample: {outputs['error'][0].numpy().decode()}. Received: {_TEMPERATURE.value}")
        images.append(outputs["images"].numpy())
    columns = model.num_classes if model.num_classes and _LABEL.value is None else None
    grid = pictures.tile(np.concatenate(images), model.num_values, columns=columns, scale=_SCALE.value)
    pictures.write_png(_OUTPUT.value, grid)
    print(f"{len(seeds)} samples: {_OUTPUT.value}")


def run() -> None:
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
