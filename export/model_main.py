"""pixelvae-model: samples, encodes, reconstructs, completes and scores images with a trained model.

pixelvae-model sample --pretrained=digits/gated_pixel_vae --output=grid.png
pixelvae-model sample --saved_model=models/lsun --output=grid.png --vary=top
pixelvae-model encode a.png b.png --workdir=runs/digits
pixelvae-model reconstruct a.png b.png --workdir=runs/digits --output=pairs.png
pixelvae-model complete a.png --saved_model=models/digits --mask=top --output=completions.png
pixelvae-model log_prob a.png --server=localhost:8501 --model=digits --num_values=256

The model is one that comes with the package, that of a run, an export, or one that a server has, such as TensorFlow
Serving. (pixelvae-sample is pixelvae-model sample; pixelvae-client is pixelvae-model under its earlier name.)

`sample` writes a grid. `encode` and `log_prob` print a JSON object an image: its path, then the latents of every level,
or its bounds in nats. `reconstruct` writes each image with what its latents make of it beside it. `complete` writes a
row an image: the image, what is kept of it, its completions. Images are read as `--config.data.folder` reads them for
training: the largest centred square, averaged over areas to the model's size.

With --vary, every row of `sample` holds the noise of all levels but one (PixelVAE, figure 6): the first image of a row
is a sample, the others have new noise for the top level of latents, for all levels between it and the pixels
("middle"), or for the pixels.
"""

import json
import math
import os
import pathlib
from typing import NamedTuple

import numpy as np
from absl import app, flags

from pixelvae_tf import config as config_lib
from pixelvae_tf import console, limits, pretrained
from pixelvae_tf.export import client, local

_PRETRAINED = flags.DEFINE_enum("pretrained", None, pretrained.names(), "The model: weights of the package.")
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
    "How many values a channel of the server's images can take: 2 for binary images, mostly 256. "
    "The export's assets.extra/pixelvae_tf.json says it, the server does not.",
    lower_bound=2,
    upper_bound=256,
)
_PROTOCOL = flags.DEFINE_enum(
    "protocol", "rest", ["rest", "grpc"], "Of the server; grpc needs the package tensorflow-serving-api."
)
_TIMEOUT = flags.DEFINE_float("timeout", 60.0, "Seconds that a call of the server may take.", 0.001, client.MAX_TIMEOUT)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images at once; does not change them.", 1, limits.MAX_BATCH)
_IMAGES = console.define_paths("images", [], "Picture files, with commas, in place of those behind the verb.")
_MASK = console.define_path(
    "mask", None, "complete: what is kept, the top, bottom, left or right half, or what is light in a picture file."
)
_OUTPUT = console.define_path("output", None, "sample, reconstruct, complete: the PNG to write.")
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", None, "sample: how many (64); complete: how many of each image (6).", 1, limits.MAX_BATCH
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first image; the next ones count on.", -(2**62), 2**62)
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Below 1 likelier images, above 1 stranger; 1e-6 to 1e6.")
_LABEL = flags.DEFINE_string(
    "label", None, "The class of all images, by its number or name; sample draws each in turn without it."
)
_VARY = flags.DEFINE_enum(
    "vary", None, ["top", "middle", "pixels"], "sample: what varies along a row; by default everything."
)
_SCALE = flags.DEFINE_integer("scale", 4, "How many picture pixels a pixel is wide.", 1, 64)

# Exactly one of them, with the flags that go with it alone.
SOURCES = {
    "pretrained": set(),
    "workdir": {"weights"},
    "saved_model": set(),
    "server": {"model", "num_values", "protocol", "timeout"},
}
DRAWING = {"output", "seed", "temperature", "label", "scale"}
# What each verb takes beside the model, and what of that it needs.
VERBS = {
    "sample": ({"num_images", "vary", *DRAWING}, {"output"}),
    "encode": ({"images"}, {"images"}),
    "reconstruct": ({"images", *DRAWING}, {"images", "output"}),
    "complete": ({"images", "mask", "num_images", *DRAWING}, {"images", "mask", "output"}),
    "log_prob": ({"images", "seed", "label"}, {"images"}),
}


class _Source(NamedTuple):
    """Where the model is.

    Attributes:
      model: what is called.
      num_values: how many values a channel of its images can take.
      batch_size: of a call.
      num_classes: None where a server alone knows.
      classes: the names of classes, where they have names.
    """

    model: client.Model
    num_values: int
    batch_size: int
    num_classes: int | None
    classes: list[str]


def main(argv: list[str]) -> None:
    """Parses the flags and does as the verb says."""
    if len(argv) < 2 or argv[1] not in VERBS:
        raise app.UsageError(f"one verb, of {', '.join(VERBS)}. Received: {' '.join(argv[1:]) or 'none'}")
    verb, paths = argv[1], [*argv[2:], *_IMAGES.value]
    try:
        _check_flags(verb, paths)
        source = _open()
        match verb:
            case "sample":
                _sample(source)
            case "reconstruct":
                _reconstruct(source, paths)
            case "complete":
                _complete(source, paths)
            case _:
                _print(source, verb, paths)
    except (OSError, ValueError, client.ServerError) as error:
        raise SystemExit(f"{console.command()}: {error}") from error


def _check_flags(verb: str, paths: list[str]) -> None:
    """Refuses a flag that is missing, or that the verb or the model would ignore."""
    sources = [name for name in SOURCES if flags.FLAGS[name].value is not None]
    if len(sources) != 1:
        expected = "one of --pretrained=NAME, --workdir=DIR, --saved_model=DIR, --server=HOST:PORT"
        raise ValueError(f"the model must be given by {expected}. Received: {', '.join(sources) or 'none'}")
    for name in sorted(set().union(*SOURCES.values()) - SOURCES[sources[0]]):
        if flags.FLAGS[name].present:
            raise ValueError(f"{name} must be left out with {sources[0]}. Received: {flags.FLAGS[name].value}")
    needed_values = {name: flags.FLAGS[name].value for name in ("model", "num_values") if sources == ["server"]}
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
        console.check_output(_OUTPUT.value)
        inputs = [*paths, *([_MASK.value] if _MASK.value else [])]
        if os.path.realpath(_OUTPUT.value) in map(os.path.realpath, inputs):
            raise ValueError(f"output must not be one of the pictures that are read. Received: {_OUTPUT.value!r}")


def _open() -> _Source:
    """The model that the flags name."""
    if _SERVER.value is not None:
        try:
            protocol = {"rest": client.Rest, "grpc": client.Grpc}[_PROTOCOL.value]
            server = protocol(_SERVER.value, _MODEL.value, _TIMEOUT.value)
        except ImportError as error:
            raise ValueError(
                f"protocol grpc needs the package tensorflow-serving-api. Received: {error}; rest does without"
            ) from error
        return _Source(server, _NUM_VALUES.value, _BATCH_SIZE.value or 16, None, [])
    if _PRETRAINED.value is not None:
        model = local.pretrained(_PRETRAINED.value)
    elif _WORKDIR.value is not None:
        console.start_tensorflow()
        model = local.run(_WORKDIR.value, _WEIGHTS.value or "best")
    else:
        model = local.SavedModel(_SAVED_MODEL.value)
    if _OUTPUT.value:
        console.check_output(_OUTPUT.value, model.config.data.folder)
    batch_size = min(_BATCH_SIZE.value or 64, model.max_batch)
    about = model.config.model
    source = _Source(model, about.num_values, batch_size, about.num_classes, model.classes)
    _check_model(source, about)
    console.start_tensorflow()
    return source


def _check_model(source: _Source, about: config_lib.ModelConfig) -> None:
    """Refuses what a model of this machine has not, before its weights are read."""
    _label(source)
    num_levels = len(about.levels)
    if _VARY.value is not None and num_levels < {"top": 1, "middle": 2, "pixels": 1}[_VARY.value]:
        raise ValueError(
            "vary must be left out for a model without latents, and be top or pixels for one of a "
            f"single level. Received: {_VARY.value} for {num_levels} levels"
        )


def _label(source: _Source) -> int | None:
    """The number of the class that the flags name."""
    text = _LABEL.value
    if text is None:
        return None
    if text in source.classes:
        return source.classes.index(text)
    number = int(text) if text.removeprefix("-").isdecimal() and len(text) < 20 else None
    if source.num_classes is None and number is not None:
        return number  # the server refuses it, if it must
    if number is None or not 0 <= number < (source.num_classes or 0):
        names = f" or one of {', '.join(map(ascii, source.classes))}" if source.classes else ""
        some = source.num_classes is None or source.num_classes > 0
        top = "" if source.num_classes is None else source.num_classes - 1
        expected = f"in 0..{top}{names}" if some else "left out: this model has no classes"
        raise ValueError(f"label must be {expected}. Received: {text}")
    return number


def _sample(source: _Source) -> None:
    number, columns = _NUM_IMAGES.value or 64, None
    index = np.arange(number)
    name = "sample_by_level" if _VARY.value else "sample"
    inputs, group = {"temperature": np.full(number, _TEMPERATURE.value)}, index
    taken = source.model.signature(name).inputs
    if _VARY.value is None:
        inputs["seed"] = _SEED.value + index
    else:
        num_levels = sum(name.startswith("seed_z") for name in taken)
        columns = math.ceil(math.sqrt(number))
        group = index // columns
        held = _SEED.value + group
        # Behind all that are held; a row's first image has the row's own.
        varied = np.where(index % columns == 0, held, _SEED.value + number + index)
        levels = {"top": [num_levels], "middle": range(1, num_levels), "pixels": []}[_VARY.value]
        inputs["seed_pixels"] = varied if _VARY.value == "pixels" else held
        inputs |= {f"seed_z{level}": varied if level in levels else held for level in range(1, num_levels + 1)}
    if "label" in taken and _LABEL.value is None and source.num_classes:
        inputs["label"] = group % source.num_classes
        # Without anything held, a column a class.
        columns = columns or source.num_classes
    else:
        inputs |= _labels(source, name, number)
    images = _predict(source, name, inputs)["images"]
    _write(source, images, columns)
    print(f"{number} samples: {_OUTPUT.value}")


def _print(source: _Source, verb: str, paths: list[str]) -> None:
    inputs = {"images": _read_images(source, verb, paths)}
    if verb == "log_prob":
        inputs |= {"seed": _SEED.value + np.arange(len(paths)), **_labels(source, verb, len(paths))}
    outputs = _predict(source, verb, inputs)
    if verb == "log_prob":  # without its maps
        outputs = {name: values for name, values in outputs.items() if values.ndim < 3}
    for row, path in enumerate(paths):
        print(json.dumps({"image": path, **{name: outputs[name][row].tolist() for name in sorted(outputs)}}))


def _reconstruct(source: _Source, paths: list[str]) -> None:
    from pixelvae_tf import pictures

    images = _read_images(source, "encode", paths)
    # What the pixels see: the mean of the lowest level.
    latents = _predict(source, "encode", {"images": images})["z1_mean"]
    made = _predict(source, "decode", {"z1": latents, **_noise(source, "decode", len(paths))})["images"]
    columns = 2 * math.ceil(math.sqrt(len(paths) / 2))
    _write(source, pictures.beside(images, made), columns)
    print(f"{len(paths)} reconstructions: {_OUTPUT.value}")


def _complete(source: _Source, paths: list[str]) -> None:
    from pixelvae_tf import pictures

    images, each = _read_images(source, "complete", paths), _NUM_IMAGES.value or 6
    mask = _read_mask(images.shape[1:3])
    repeated = images.repeat(each, axis=0)
    inputs = _noise(source, "complete", len(repeated))
    inputs |= {"images": repeated, "mask": mask[None].repeat(len(repeated), axis=0)}
    completions = _predict(source, "complete", inputs)["images"].reshape(len(images), each, *images.shape[1:])
    _check_values(source, completions)
    grid = pictures.completions(images, mask, completions, source.num_values, _SCALE.value)
    console.write_picture(_OUTPUT.value, grid)
    print(f"{len(repeated)} completions: {_OUTPUT.value}")


def _labels(source: _Source, name: str, number: int) -> dict[str, np.ndarray]:
    """The class of all images, for a signature that takes one."""
    has_classes = "label" in source.model.signature(name).inputs
    if has_classes != (_LABEL.value is not None):
        expected = "given: this model has classes" if has_classes else "left out: this model has no classes"
        raise ValueError(f"label must be {expected}. Received: {_LABEL.value}")
    return {"label": np.full(number, _label(source))} if has_classes else {}


def _noise(source: _Source, name: str, number: int) -> dict[str, np.ndarray]:
    """What the flags ask of a signature that draws: [number] each."""
    inputs = {"seed": _SEED.value + np.arange(number), "temperature": np.full(number, _TEMPERATURE.value)}
    return inputs | _labels(source, name, number)


def _predict(source: _Source, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of all rows, a batch a call."""
    from pixelvae_tf.train import progress

    number, step = len(next(iter(inputs.values()))), source.batch_size
    batches = []
    with progress.announced(f"{name}: {number} image{'s' if number > 1 else ''}") as count:
        for start in range(0, number, step):
            batch = {key: values[start : start + step] for key, values in inputs.items()}
            try:
                batches.append(source.model.predict(name, batch))
            except client.ServerError as error:
                # The server alone knows the limit, and names it.
                if "the max_batch of the export" not in str(error):
                    raise
                raise ValueError(f"batch_size must be what the model takes. Received: {step}: {error}") from error
            count(min(start + step, number), number)
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def _read_images(source: _Source, name: str, paths: list[str]) -> np.ndarray:
    """The pictures as pixel values of the model, uint8 [N, H, W, C]."""
    from pixelvae_tf import pictures

    shape = source.model.signature(name).inputs["images"].shape[1:]
    grey = np.stack([_read_picture(path, shape, "images") for path in paths])
    return pictures.to_pixel_values(grey, source.num_values)


def _read_mask(size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 1], 1 where the image is kept."""
    from pixelvae_tf import pictures

    halves = pictures.halves(*size)
    if _MASK.value in halves:
        return halves[_MASK.value]
    if not pathlib.Path(_MASK.value).is_file():
        raise ValueError(f"mask must be one of {', '.join(halves)}, or a picture file. Received: {_MASK.value!r}")
    return (_read_picture(_MASK.value, (*size, 1), "mask") >= 128).astype(np.uint8)


def _read_picture(path: str, shape: tuple[int, int, int], flag: str) -> np.ndarray:
    """A picture as training reads it, 0..255 [H, W, C]."""
    from pixelvae_tf.data import folder

    height, width, channels = shape
    if height != width:
        raise ValueError(f"{flag} can be read for models of square images alone. Received: {height}x{width}")
    try:
        read = folder.read(".", path, height, channels)
    except OSError as error:
        raise ValueError(f"{flag} must be picture files. Received: {path!r}: {error.__cause__ or error}") from error
    if read.pixels is None:
        raise ValueError(f"{flag} must be picture files. Received: {path!r}, which cannot be read: {read.note}")
    return read.pixels


def _check_values(source: _Source, images: np.ndarray) -> None:
    if images.max() >= source.num_values:
        raise ValueError(f"num_values must be the model's. Received: {source.num_values}, and the value {images.max()}")


def _write(source: _Source, images: np.ndarray, columns: int | None) -> None:
    from pixelvae_tf import pictures

    _check_values(source, images)
    console.write_picture(_OUTPUT.value, pictures.tile(images, source.num_values, columns, _SCALE.value))


def _sample_main(argv: list[str]) -> None:
    if len(argv) > 1 and argv[1] != "sample":
        others = ", ".join(verb for verb in VERBS if verb != "sample")
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}; pixelvae-model does {others}")
    main([argv[0], "sample"])


def run() -> None:
    """The console scripts pixelvae-model and pixelvae-client."""
    console.run(main)


def run_sample() -> None:
    """The console script pixelvae-sample."""
    console.run(_sample_main)


if __name__ == "__main__":
    run()
