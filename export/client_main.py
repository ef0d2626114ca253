"""pixelvae-client: samples, encodes and completes on a server that has an export, such as TensorFlow Serving.

pixelvae-client sample --server=localhost:8501 --model=digits --num_values=256 --output=grid.png
pixelvae-client encode --server=localhost:8501 --model=digits --num_values=256 --images=a.png,b.png
pixelvae-client complete --server=localhost:8500 --protocol=grpc --model=digits --num_values=256 --images=a.png \
    --mask=top --output=completions.png

`sample` writes a grid. `encode` prints a JSON object an image: its path and the latents of every level. `complete`
writes a row an image: the image, then its completions. Images are read as `--config.data.folder` reads them for
training: the largest centred square, averaged over areas to the model's size.
"""

import json
import os
import pathlib

import numpy as np
from absl import app, flags

from pixelvae_tf import console, limits
from pixelvae_tf.export import client

_SERVER = flags.DEFINE_string("server", None, "host:port, of REST (often 8501) or gRPC (often 8500).", required=True)
_MODEL = flags.DEFINE_string("model", None, "The name that the server knows the model by.", required=True)
_NUM_VALUES = flags.DEFINE_integer(
    "num_values",
    None,
    "How many values a channel of the model's images can take: 2 for binary images, mostly 256. "
    "The export's assets.extra/pixelvae_tf.json says it, the server does not.",
    required=True,
    lower_bound=2,
    upper_bound=256,
)
_PROTOCOL = flags.DEFINE_enum("protocol", "rest", ["rest", "grpc"], "grpc needs the package tensorflow-serving-api.")
_TIMEOUT = flags.DEFINE_float("timeout", 60.0, "Seconds that a call may take.", 0.001, client.MAX_TIMEOUT)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images a call; does not change them.", 1, limits.MAX_BATCH)
_IMAGES = console.define_paths("images", None, "encode, complete: picture files.")
_MASK = console.define_path(
    "mask", None, "complete: what is kept, the top, bottom, left or right half, or what is light in a picture file."
)
_OUTPUT = console.define_path("output", None, "sample, complete: the PNG to write.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 16, "sample, complete: how many, of each image.", 1, limits.MAX_BATCH)
_SEED = flags.DEFINE_integer(
    "seed", 0, "sample, complete: seed of the first image; the next ones count on.", -(2**62), 2**62
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", 1.0, "sample, complete: below 1 likelier images, above 1 stranger; 1e-6 (greedy) to 1e6."
)
_LABEL = flags.DEFINE_integer("label", None, "sample, complete: the class, where the model has classes.", 0, 2**62)
_SCALE = flags.DEFINE_integer("scale", 4, "sample, complete: how many picture pixels a pixel is wide.", 1, 64)

DRAWING = {"output", "num_images", "seed", "temperature", "label", "scale"}
# What each command takes beside what all take, and what of that it needs.
COMMANDS = {
    "sample": (DRAWING, {"output"}),
    "encode": ({"images"}, {"images"}),
    "complete": ({"images", "mask", *DRAWING}, {"images", "mask", "output"}),
}


def main(argv: list[str]) -> None:
    """Parses the flags and does as the command says."""
    if len(argv) != 2 or argv[1] not in COMMANDS:
        raise app.UsageError(f"one command, of {', '.join(COMMANDS)}. Received: {' '.join(argv[1:]) or 'none'}")
    command = argv[1]
    try:
        _check_flags(command)
        try:
            server = {"rest": client.Rest, "grpc": client.Grpc}[_PROTOCOL.value](
                _SERVER.value, _MODEL.value, _TIMEOUT.value
            )
        except ImportError as error:
            raise ValueError(
                f"protocol grpc needs the package tensorflow-serving-api. Received: {error}; rest does without"
            ) from error
        {"sample": _sample, "encode": _encode, "complete": _complete}[command](server)
    except (OSError, ValueError, client.ServerError) as error:
        raise SystemExit(f"pixelvae-client: {error}") from error


def _check_flags(command: str) -> None:
    """Refuses a flag that the command lacks or would ignore."""
    taken, needed = COMMANDS[command]
    for name in sorted(set().union(*(names for names, _ in COMMANDS.values()))):
        value = flags.FLAGS[name].value
        if name in needed and not value:
            raise ValueError(f"{name} must be given for {command}. Received: none")
        if name not in taken and flags.FLAGS[name].present:
            raise ValueError(f"{name} must be left out for {command}. Received: {value}")
    if _OUTPUT.value:
        console.check_output(_OUTPUT.value)
        inputs = [*(_IMAGES.value or []), *([_MASK.value] if _MASK.value else [])]
        if os.path.realpath(_OUTPUT.value) in map(os.path.realpath, inputs):
            raise ValueError(f"output must not be one of the pictures that are read. Received: {_OUTPUT.value!r}")


def _sample(server) -> None:
    inputs = _noise(server, "sample", _NUM_IMAGES.value)
    _write(_predict(server, "sample", inputs)["images"], columns=None)
    print(f"{_NUM_IMAGES.value} samples: {_OUTPUT.value}")


def _encode(server) -> None:
    latents = _predict(server, "encode", {"images": _read_images(server, "encode")})
    for row, path in enumerate(_IMAGES.value):
        print(json.dumps({"image": path, **{name: latents[name][row].tolist() for name in sorted(latents)}}))


def _complete(server) -> None:
    images, each = _read_images(server, "complete"), _NUM_IMAGES.value
    repeated = images.repeat(each, axis=0)
    inputs = _noise(server, "complete", len(repeated))
    inputs |= {"images": repeated, "mask": _read_mask(images.shape[1:3])[None].repeat(len(repeated), axis=0)}
    completions = _predict(server, "complete", inputs)["images"].reshape(len(images), each, *images.shape[1:])
    rows = np.concatenate([images[:, None], completions], axis=1)
    _write(rows.reshape(-1, *images.shape[1:]), columns=1 + each)
    print(f"{len(repeated)} completions: {_OUTPUT.value}")


def _noise(server, name: str, number: int) -> dict[str, np.ndarray]:
    """What the flags ask of a signature that draws: [number] each."""
    has_classes = "label" in server.signature(name).inputs
    if has_classes != (_LABEL.value is not None):
        expected = "given: this model has classes" if has_classes else "left out: this model has no classes"
        raise ValueError(f"label must be {expected}. Received: {_LABEL.value}")
    inputs = {"seed": _SEED.value + np.arange(number), "temperature": np.full(number, _TEMPERATURE.value)}
    return inputs | ({"label": np.full(number, _LABEL.value)} if has_classes else {})


def _predict(server, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of all rows, a batch a call."""
    number, step = len(next(iter(inputs.values()))), _BATCH_SIZE.value
    batches = []
    for start in range(0, number, step):
        try:
            batches.append(server.predict(name, {key: values[start : start + step] for key, values in inputs.items()}))
        except client.ServerError as error:
            # The server alone knows the limit, and names it.
            if "the max_batch of the export" not in str(error):
                raise
            raise ValueError(f"batch_size must be what the model takes. Received: {step}: {error}") from error
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def _read_images(server, name: str) -> np.ndarray:
    """The pictures as pixel values of the model, uint8 [N, H, W, C]."""
    shape = server.signature(name).inputs["images"].shape[1:]
    grey = np.stack([_read_picture(path, shape, "images") for path in _IMAGES.value])
    # The inverse of what stretches pixel values for people to look at.
    return np.rint(grey * ((_NUM_VALUES.value - 1) / 255.0)).astype(np.uint8)


def _read_mask(size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 1], 1 where the image is kept."""
    height, width = size
    row, column = np.indices(size)
    halves = {
        "top": row < height // 2,
        "bottom": row >= height // 2,
        "left": column < width // 2,
        "right": column >= width // 2,
    }
    if _MASK.value in halves:
        return halves[_MASK.value].astype(np.uint8)[..., None]
    if not pathlib.Path(_MASK.value).is_file():
        raise ValueError(f"mask must be one of {', '.join(halves)}, or a picture file. Received: {_MASK.value!r}")
    return (_read_picture(_MASK.value, (height, width, 1), "mask") >= 128).astype(np.uint8)


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


def _write(images: np.ndarray, columns: int | None) -> None:
    from pixelvae_tf import pictures

    if images.max() >= _NUM_VALUES.value:
        raise ValueError(f"num_values must be the model's. Received: {_NUM_VALUES.value}, and the value {images.max()}")
    console.write_picture(_OUTPUT.value, pictures.tile(images, _NUM_VALUES.value, columns, _SCALE.value))


def run() -> None:
    """The console script."""
    console.run(main)


if __name__ == "__main__":
    run()
