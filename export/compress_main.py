"""pixelvae-compress: images in a file as large as the bound of a SavedModel says; needs the SavedModel alone.

pixelvae-compress --saved_model=models/digits --images=digits/test --output=digits.pvc
pixelvae-compress --saved_model=models/digits --images=photos --output=photos.pvc
pixelvae-decompress --saved_model=models/digits --input=digits.pvc --output=decoded

The images are the model's: a .npy file of uint8 [N, H, W, C], a folder of files, or a data set's split. Nothing is
cropped, scaled or converted. docs/codec.md has the format of the file.
"""

import os
import pathlib

from absl import flags
from absl import logging as absl_logging

from pixelvae_tf import console, limits

_SAVED_MODEL = console.define_path(
    "saved_model", None, "An export, or a directory of them (the newest).", required=True
)
_IMAGES = console.define_path(
    "images", None, "A .npy file, a folder, or a data set's split as digits/test.", required=True
)
_OUTPUT = console.define_path("output", None, "The file to write.", required=True)
_DATA_DIR = console.define_path("data_dir", "", "Directory of TensorFlow Datasets, for a data set.")
_LABELS = console.define_path("labels", "", "A .npy file of the images' classes, for a model with classes.")
_IMAGES_PER_CHUNK = flags.DEFINE_integer("images_per_chunk", 5000, "Images that are decoded together.", 1, 2**17)
_LANES = flags.DEFINE_integer("lanes", 128, "Images that the networks compute at once.", 1, 2**16)
_TOLERANCE = flags.DEFINE_float(
    "tolerance", 4e-6, "By how much the decoder's numbers may differ, where they are about 1.", 0.0, 0.1
)
_CHECKSUMS = flags.DEFINE_bool(
    "checksums", None, "32 bits more for each image, that single ones can be had without all; default: if it has 2 KB."
)
_VERIFY = flags.DEFINE_bool("verify", True, "Decode each chunk at once, and store it as it is where that fails.")
_JOBS = flags.DEFINE_integer("jobs", 1, "Chunks at a time, each in a process of its own.", 1, limits.MAX_PARALLEL)


def main(argv: list[str]) -> None:
    """Parses the flags and compresses."""
    console.refuse_arguments(argv)
    absl_logging.set_verbosity(absl_logging.WARNING)
    console.start_tensorflow()
    from pixelvae_tf import codec, progress
    from pixelvae_tf.codec import images as images_lib
    from pixelvae_tf.export import local
    from pixelvae_tf.files import require_outside, write_atomically

    try:
        # Coding takes its time: what cannot be written is said before.
        console.check_file(_OUTPUT.value, (_IMAGES.value, _LABELS.value))
        if os.path.isdir(_IMAGES.value):
            require_outside(pathlib.Path(_OUTPUT.value), pathlib.Path(_IMAGES.value), "output", "images")
        model = local.SavedModel(_SAVED_MODEL.value)
        images, labels = images_lib.read(_IMAGES.value, model.config.model, _DATA_DIR.value, _LABELS.value)
        options = codec.Options(
            images_per_chunk=_IMAGES_PER_CHUNK.value,
            lanes=_LANES.value,
            tolerance=_TOLERANCE.value,
            checksums=_CHECKSUMS.value,
            verify=_VERIFY.value,
            jobs=_JOBS.value,
        )
        with progress.shown("image") as show:
            compressed = codec.compress(model.networks, images, labels, options, show)
        write_atomically(_OUTPUT.value, compressed.content)
    except (OSError, ValueError) as error:
        raise SystemExit(f"pixelvae-compress: {error}") from error
    size, number = len(compressed.content), max(images.size, 1)
    raw = f", {compressed.statistics.raw} of them stored as they are" if compressed.statistics.raw else ""
    print(f"compressed: {len(images)} images{raw}, {size} bytes, {8 * size / number:.4f} bits/dim: {_OUTPUT.value}")


def run() -> None:
    """The console script."""
    console.run(main)


if __name__ == "__main__":
    run()
