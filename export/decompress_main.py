"""pixelvae-decompress: the images of a file of pixelvae-compress, each exactly as it was; needs the SavedModel alone.

pixelvae-decompress --saved_model=models/digits --input=digits.pvc --output=decoded
pixelvae-decompress --saved_model=models/digits --input=digits.pvc --output=some --only=3,17 --format=png

OUTPUT/images.npy holds them, uint8 [N, H, W, C], and OUTPUT/labels.npy their classes if the model has any. A file that
does not decode to the images that were coded gives none: the message names the chunks, and why.
"""

import pathlib

from absl import flags
from absl import logging as absl_logging

from pixelvae_tf import console, limits

_SAVED_MODEL = console.define_path(
    "saved_model", None, "The export that made the file, or a directory of them (the newest).", required=True
)
_INPUT = console.define_path("input", None, "The file of pixelvae-compress.", required=True)
_OUTPUT = console.define_path("output", None, "Directory to write, new or empty.", required=True)
_ONLY = flags.DEFINE_list("only", None, "Places of the images that are wanted, from 0, as 3,17; all by default.")
_FORMAT = flags.DEFINE_enum("format", "npy", ["npy", "png"], "One images.npy, or a PNG file for each image.")
_JOBS = flags.DEFINE_integer("jobs", 1, "Chunks at a time, each in a process of its own.", 1, limits.MAX_PARALLEL)


def main(argv: list[str]) -> None:
    """Parses the flags and decompresses."""
    console.refuse_arguments(argv)
    absl_logging.set_verbosity(absl_logging.WARNING)
    console.start_tensorflow()
    from pixelvae_tf import codec, pictures, progress
    from pixelvae_tf.codec import images as images_lib
    from pixelvae_tf.data.decoding import MODES
    from pixelvae_tf.export import local

    try:
        if _ONLY.value is not None and not (_ONLY.value and all(text.isdecimal() for text in _ONLY.value)):
            raise ValueError(
                f"only must be places with commas between them, as 3,17. Received: {','.join(_ONLY.value)}"
            )
        only = None if _ONLY.value is None else [int(text) for text in _ONLY.value]
        if only is not None and _FORMAT.value == "png":
            only = sorted(set(only))  # the order of the files' names, which the labels follow
        if not pathlib.Path(_INPUT.value).is_file():  # /dev/zero has no end
            raise ValueError(f"input must be a file. Received: {_INPUT.value!r}")
        output = pathlib.Path(_OUTPUT.value)
        # Decoding takes its time: what cannot be written is said before.
        console.check_folder(_OUTPUT.value)
        content = pathlib.Path(_INPUT.value).read_bytes()
        model = local.SavedModel(_SAVED_MODEL.value)
        channels = model.config.model.image_shape[-1]
        if _FORMAT.value == "png" and channels not in MODES:
            raise ValueError(f"format must be npy for images of {channels} channels. Received: png")
        with progress.shown("image") as show:
            images, labels = codec.decompress(model.networks, content, only, show, _JOBS.value)
        if _FORMAT.value == "png":
            num_values = model.config.model.num_values
            shown = (pictures.to_uint8_picture(image, num_values) for image in images)  # each as it is written
            places = range(len(images)) if only is None else only
            images_lib.write(output, shown, labels, places)
        else:
            images_lib.write(output, images, labels, None)
    except (OSError, ValueError) as error:
        raise SystemExit(f"pixelvae-decompress: {error}") from error
    print(f"decompressed: {len(images)} images, {_OUTPUT.value}")


def run() -> None:
    """The console script."""
    console.run(main)


if __name__ == "__main__":
    run()
