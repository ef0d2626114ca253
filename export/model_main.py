"""pixelvae-model: samples, encodes, reconstructs, completes and scores images with a trained model.

pixelvae-model sample --pretrained=digits/gated_pixel_vae --output=grid.png
pixelvae-model sample --saved_model=models/lsun --output=grid.png --vary=top
pixelvae-model encode a.png b.png --workdir=runs/digits
pixelvae-model reconstruct a.png b.png --workdir=runs/digits --output=pairs.png
pixelvae-model complete a.png --saved_model=models/digits --mask=top --output=completions.png
pixelvae-model log_prob a.png --server=localhost:8501 --model=digits

The model comes with the package, from a run, from an export, or from a server such as TensorFlow Serving.
(pixelvae-sample is pixelvae-model sample.)

`sample` writes a grid. `encode` and `log_prob` print one JSON object per image: its path, then the latents of every
level, or its bounds in nats. `reconstruct` writes each image with what its latents make of it beside it. `complete`
writes one row per image: the image, what is kept of it, its completions. Images are read as `--config.data.folder`
reads them for training: the largest centred square, averaged over areas to the model's size.

With --vary, every row of `sample` holds the noise of all levels but one (PixelVAE, figure 6): the first image of a row
is a sample, the others have new noise for the top level of latents, for all levels between it and the pixels
("middle"), or for the pixels.
"""

import json
import math
import pathlib

import numpy as np
from absl import app, flags

from pixelvae_tf import console, files, limits
from pixelvae_tf.export import client, local
from pixelvae_tf.export.caller import Caller, check_vary, read_mask

_PRETRAINED = console.define_pretrained("The model: trained weights")
_WORKDIR = console.define_path("workdir", None, "The model: the directory of a run.")
_SAVED_MODEL = console.define_path("saved_model", None, "The model: an export, or a directory of them (the newest).")
_SERVER = flags.DEFINE_string(
    "server", None, "The model: on a server at host:port, of REST (often 8501) or gRPC (often 8500)."
)
_WEIGHTS = flags.DEFINE_enum("weights", None, ["best", "latest"], "Which averaged weights of the run; best by default.")
_MODEL = flags.DEFINE_string("model", None, "The name that the server knows the model by.")
_NUM_VALUES = flags.DEFINE_integer(
    "num_values",
    None,
    "How many values a channel of the server's images can take; left out, the server is asked.",
    lower_bound=2,
    upper_bound=256,
)
_PROTOCOL = flags.DEFINE_enum(
    "protocol", "rest", ["rest", "grpc"], "Of the server; grpc needs the package tensorflow-serving-api."
)
_TIMEOUT = flags.DEFINE_float("timeout", 60.0, "Seconds that a call of the server may take.", 0.001, client.MAX_TIMEOUT)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images at once; does not change them.", 1, limits.MAX_BATCH)
_IMAGES = console.define_paths("images", [], "Picture files, with commas, in place of those after the verb.")
_MASK = console.define_path(
    "mask", None, "complete: what is kept, the top, bottom, left or right half, or what is light in a picture file."
)
_OUTPUT = console.define_path("output", None, "sample, reconstruct, complete: the PNG to write.")
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", None, "sample: how many (64); complete: how many of each image (6).", 1, limits.MAX_BATCH
)
_ROUNDS = flags.DEFINE_integer(
    "rounds",
    None,
    "complete: rounds of encoding and filling in; left out, as many as the export does, or 8.",
    0,
    limits.MAX_CHOSEN_ROUNDS,
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first image; the next ones count on.", -(2**62), 2**62)
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Below 1 likelier images, above 1 stranger; 1e-6 to 1e6.")
_LABEL = flags.DEFINE_string(
    "label",
    None,
    "The class of all images, by its number or name. Without it sample draws each in turn, but of a server.",
)
_VARY = flags.DEFINE_enum(
    "vary", None, ["top", "middle", "pixels"], "sample: what varies along a row; by default everything."
)
_SCALE = flags.DEFINE_integer("scale", 4, "How many picture pixels a pixel is wide.", 1, 64)

# The sources of the model, exactly one of which is given, with the flags that only that source takes.
SOURCES = {
    "pretrained": set(),
    "workdir": {"weights"},
    "saved_model": set(),
    "server": {"model", "num_values", "protocol", "timeout"},
}
DRAWING = {"output", "seed", "temperature", "label", "scale"}
# For each verb, the flags that it takes beside the source's, and those that it requires.
VERBS = {
    "sample": ({"num_images", "vary", *DRAWING}, {"output"}),
    "encode": ({"images"}, {"images"}),
    "reconstruct": ({"images", *DRAWING}, {"images", "output"}),
    "complete": ({"images", "mask", "num_images", "rounds", *DRAWING}, {"images", "mask", "output"}),
    "log_prob": ({"images", "seed", "label"}, {"images"}),
}


def main(argv: list[str]) -> None:
    """Parses the flags and runs the verb."""
    if len(argv) < 2 or argv[1] not in VERBS:
        raise app.UsageError(f"one verb, of {', '.join(VERBS)}. Received: {' '.join(argv[1:]) or 'none'}")
    verb, paths = argv[1], [*argv[2:], *_IMAGES.value]
    try:
        _check_flags(verb, paths)
        caller = _open()
        match verb:
            case "sample":
                images, columns = caller.sample(_NUM_IMAGES.value or 64, _VARY.value)
                _write(caller, images, columns)
                print(f"{len(images)} samples: {_OUTPUT.value}")
            case "reconstruct":
                _reconstruct(caller, paths)
            case "complete":
                _complete(caller, paths)
            case "encode":
                _print(paths, caller.encode(caller.read_images(paths, verb)))
            case _:
                _print(paths, caller.log_prob(caller.read_images(paths, verb)))
    except (OSError, ValueError, client.ServerError) as error:
        raise SystemExit(f"{console.command()}: {error}") from error


def _check_flags(verb: str, paths: list[str]) -> None:
    """Raises a ValueError for a missing flag, or one that the verb or the source would ignore."""
    sources = [name for name in SOURCES if flags.FLAGS[name].value is not None]
    if len(sources) != 1:
        expected = "one of --pretrained=NAME, --workdir=DIR, --saved_model=DIR, --server=HOST:PORT"
        raise ValueError(f"the model must be given by {expected}. Received: {', '.join(sources) or 'none'}")
    for name in sorted(set().union(*SOURCES.values()) - SOURCES[sources[0]]):
        if flags.FLAGS[name].present:
            raise ValueError(f"{name} must be left out with {sources[0]}. Received: {flags.FLAGS[name].value}")
    needed_values = {"model": _MODEL.value} if sources == ["server"] else {}
    taken, needed = VERBS[verb]
    for name in sorted(set().union(*(names for names, _ in VERBS.values()))):
        value = paths if name == "images" else flags.FLAGS[name].value
        if name in needed:
            needed_values[name] = value
        if name not in taken and (value if name == "images" else flags.FLAGS[name].present):
            shown = " ".join(value) if name == "images" else value
            raise ValueError(f"{name} must be left out for {verb}. Received: {shown}")
    for name, value in needed_values.items():
        if not value:
            raise ValueError(f"{name} must be given for {verb}. Received: none")
    if _OUTPUT.value:
        console.check_output(_OUTPUT.value, inputs=[*paths, *([_MASK.value] if _MASK.value else [])])


def _open() -> Caller:
    """The model that the flags name."""
    if _SERVER.value is not None:
        try:
            protocol = {"rest": client.Rest, "grpc": client.Grpc}[_PROTOCOL.value]
            server = protocol(_SERVER.value, _MODEL.value, _TIMEOUT.value)
        except ImportError as error:
            raise ValueError(
                f"protocol grpc needs the package tensorflow-serving-api. Received: {error}; rest does without"
            ) from error
        num_values, batch_size = _NUM_VALUES.value, _BATCH_SIZE.value or 16
        if num_values is None:
            num_values, batch_size = server.limits(batch_size)
        return Caller(server, num_values, batch_size, None, [], *_common())
    if _PRETRAINED.value is not None:
        model = local.pretrained(_PRETRAINED.value)
    elif _WORKDIR.value is not None:
        console.start_tensorflow()
        model = local.run(_WORKDIR.value, _WEIGHTS.value or "best")
    else:
        model = local.SavedModel(_SAVED_MODEL.value)
    folder = model.config.data.folder
    if _OUTPUT.value and folder and _PRETRAINED.value is None:  # of what travels, a name that means nothing here
        files.require_outside(
            pathlib.Path(_OUTPUT.value), files.local_path(folder, "data.folder"), "output", "data.folder"
        )
    batch_size, config = min(_BATCH_SIZE.value or 64, model.max_batch), model.config.model
    caller = Caller(model, config.num_values, batch_size, config.num_classes, model.classes, *_common())
    # Refuse what the model does not have before its weights are read.
    caller.label_number()
    check_vary(_VARY.value, len(config.levels))
    if _ROUNDS.value is not None and not config.levels:
        raise ValueError(f"rounds must be left out for a model without latents. Received: {_ROUNDS.value}")
    console.start_tensorflow()
    return caller


def _common() -> tuple[int, float, str | None]:
    return _SEED.value, _TEMPERATURE.value, _LABEL.value


def _print(paths: list[str], outputs: client.Arrays) -> None:
    for row, path in enumerate(paths):
        print(json.dumps({"image": path, **{name: outputs[name][row].tolist() for name in sorted(outputs)}}))


def _reconstruct(caller: Caller, paths: list[str]) -> None:
    from pixelvae_tf import pictures

    images = caller.read_images(paths, "encode")
    pairs = pictures.beside(images, caller.reconstruct(images))
    _write(caller, pairs, columns=2 * math.ceil(math.sqrt(len(paths) / 2)))
    print(f"{len(paths)} reconstructions: {_OUTPUT.value}")


def _complete(caller: Caller, paths: list[str]) -> None:
    from pixelvae_tf import pictures

    images, each = caller.read_images(paths, "complete"), _NUM_IMAGES.value or 6
    mask = read_mask(_MASK.value, *images.shape[1:3])
    completions = caller.complete(images, mask, each, _ROUNDS.value)
    console.write_picture(
        _OUTPUT.value, pictures.completions(images, mask, completions, caller.num_values, _SCALE.value)
    )
    print(f"{len(images) * each} completions: {_OUTPUT.value}")


def _write(caller: Caller, images: np.ndarray, columns: int | None) -> None:
    from pixelvae_tf import pictures

    console.write_picture(_OUTPUT.value, pictures.tile(images, caller.num_values, columns, _SCALE.value))


def _sample_main(argv: list[str]) -> None:
    if len(argv) > 1 and argv[1] != "sample":
        others = ", ".join(verb for verb in VERBS if verb != "sample")
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}; pixelvae-model does {others}")
    main([argv[0], "sample"])


def run() -> None:
    """The console script pixelvae-model."""
    console.run(main)


def run_sample() -> None:
    """The console script pixelvae-sample."""
    console.run(_sample_main)


if __name__ == "__main__":
    run()
