"""The lines of Python that make what a tab shows, from the same model."""

from pixelvae_tf.export.explore import origins
from pixelvae_tf.export.explore.explored_model import LABEL, MOST_IMAGES, ExploredModel
from pixelvae_tf.export.explore.markup import SAVED_SCALE

# Leaves the latents of `images` in `z1`.
ENCODED = 'z1 = model.predict("encode", {"images": images})["z1_mean"].copy()'


def script(model: ExploredModel, *parts: str) -> str:
    """A whole program: imports, the model, then the parts, each of which leaves pictures in `images`."""
    body = "\n".join(parts)
    module, expression = model.code
    standard = ["import base64", "import zlib", ""] if "zlib." in body else []
    numpy = ["import numpy as np", ""] if "np." in body else []
    package = [
        *(["from pixelvae_tf import pictures"] if "pictures." in body else []),
        f"from pixelvae_tf.export import {module}",
        *(["from pixelvae_tf.export.batches import predict_in_batches"] if "predict_in_batches(" in body else []),
        *(["from pixelvae_tf.interpolation import interpolate"] if "interpolate(" in body else []),
    ]
    return "\n".join([*standard, *numpy, *package, "", f"model = {expression}", body])


def save(model: ExploredModel, file_name: str, columns: int) -> str:
    """Writes what is in `images` as the page saves it."""
    grid = f"images, {model.facts.num_values}, columns={columns}, scale={SAVED_SCALE}"
    return f"pictures.write_png({file_name!r}, pictures.tile({grid}))"


def call(model: ExploredModel, name: str, inputs: dict[str, str], output: str = "images") -> str:
    """Leaves an output of a signature in a variable of its name."""
    return f"{output} = {predict(model, name, inputs)}[{output!r}]"


def predict(model: ExploredModel, name: str, inputs: dict[str, str]) -> str:
    """All outputs of a signature by name."""
    written = ", ".join(f"{key!r}: {value}" for key, value in inputs.items())
    if model.facts.max_batch < MOST_IMAGES:
        return f"predict_in_batches(model, {name!r}, {{{written}}}, {model.facts.max_batch})"
    return f"model.predict({name!r}, {{{written}}})"


def noise(model: ExploredModel, seeds: list[int], temperature: float, label: int | None) -> dict[str, str]:
    """The inputs of `ExploredModel.noise` as Python."""
    number = len(seeds)
    inputs = {"seed": _list(seeds), "temperature": f"[{float(temperature)!r}] * {number}"}
    return inputs | labels(model, [label] * number)


def labels(model: ExploredModel, numbers: list[int | None]) -> dict[str, str]:
    """The inputs of `ExploredModel.labels` as Python."""
    return {} if model.facts.num_classes == 0 else {LABEL: _list([number or 0 for number in numbers])}


def pixels(model: ExploredModel, origin: origins.Origin, name: str = "images") -> str:
    """Leaves the one image of an origin in a variable."""
    if isinstance(origin, origins.Drawn):
        return _drawn(model, origin, "images", name)
    return (
        f"{name} = np.frombuffer(zlib.decompress(base64.urlsafe_b64decode({origin.deflated!r})), np.uint8)\n"
        f"{name} = {name}.reshape(1, {', '.join(map(str, model.facts.image_shape))})"
    )


def latents(model: ExploredModel, origin: origins.Origin) -> str:
    """Leaves its latents, `Image.z1`, in `z1`."""
    if isinstance(origin, origins.Drawn):
        return _drawn(model, origin, "z1", "z1")
    return f"{pixels(model, origin)}\n{ENCODED}"


def drawn(model: ExploredModel, many: list[origins.Drawn]) -> str:
    """Leaves samples in `images`."""
    return call(model, *_inputs(model, many))


def _drawn(model: ExploredModel, origin: origins.Drawn, output: str, name: str) -> str:
    return f"{name} = {predict(model, *_inputs(model, [origin]))}[{output!r}].copy()"


def _inputs(model: ExploredModel, many: list[origins.Drawn]) -> tuple[str, dict[str, str]]:
    temperatures = _list([float(origin.temperature) for origin in many])
    rest = {"temperature": temperatures, **labels(model, [origin.label for origin in many])}
    if all(len(set(origin.seeds)) == 1 for origin in many):
        return "sample", {"seed": _list([origin.seed for origin in many]), **rest}
    columns = zip(model.facts.seed_names, zip(*(origin.seeds for origin in many), strict=True), strict=True)
    return "sample_by_level", {**{name: _list(column) for name, column in columns}, **rest}


def _list(values) -> str:
    """A list, shorter where it is one value, or integers that count."""
    values = list(values)
    if len(values) > 1 and len(set(values)) == 1:
        return f"[{values[0]!r}] * {len(values)}"
    if len(values) > 2 and all(isinstance(value, int) for value in values):
        first, last = values[0], values[-1]
        if values == list(range(first, last + 1)):
            return f"range({first}, {last + 1})"
    return repr(values)


def mask(text: str, height: int, width: int) -> str:
    """Leaves a mask, as `masks.write` writes it, in `mask`."""
    return (
        f"mask = np.unpackbits(np.frombuffer(bytes.fromhex({text!r}), np.uint8))\n"
        f"mask = mask[: {height * width}].reshape(1, {height}, {width}, 1)"
    )
