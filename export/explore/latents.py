"""Latents: the units of z1 as sliders, one of them swept along a row, and the way between two images."""

import math

import gradio as gr
import numpy as np

from pixelvae_tf import heat_maps
from pixelvae_tf.export.explore import as_python, choices, markup
from pixelvae_tf.export.explore.explored_model import ExploredModel, Image
from pixelvae_tf.export.explore.interpolation import interpolate
from pixelvae_tf.export.explore.wiring import OPTIONS, SAID, Page, made, said

ID, TITLE = "latents", "Latents"
# Sliders, the units of highest KL first; those that tell nothing of an image have none.
MOST_SLIDERS, ACTIVE_NATS = 16, 0.02
REACH = 4.0  # of a slider, in standard deviations of the prior
SWEEP = np.linspace(-3, 3, 9)
Moves = dict[int, float]
Noise = tuple[int, float]  # the pixels' seed, and the temperature


def build(page: Page) -> None:
    """Adds the tab to the page."""
    model = page.model
    shape = model.facts.latent_shape
    size, places = math.prod(shape), math.prod(shape[:-1])
    moves = page.choices.add(
        "moves", gr.Textbox("", visible=False), choices.checked(lambda text: read_moves(text, size))
    )
    location = page.choices.add("location", gr.Number(0, visible=False, precision=0), choices.whole(0, places - 1))
    renewed = gr.Number(0, visible=False, precision=0)
    with gr.Row():
        with gr.Column(scale=1, min_width=260, elem_classes="follows"):
            shown = page.pictures(elem_id="moved")
            seed, temperature = page.seed("noise", "Seed of the pixels' noise"), page.temperature("degree")
            reset = gr.Button("Back to the image's own latents")
            map_of_places = page.pictures(takes=False, visible=places > 1)
        with gr.Column(scale=2, min_width=300, elem_classes="sliders"):
            gr.Markdown("Units of z1, in standard deviations of the prior, and what each tells of an image:")
            sliders = [
                gr.Slider(-REACH, REACH, 0, step=0.01, label=f"unit {rank + 1}")
                for rank in range(min(shape[-1], MOST_SLIDERS))
            ]
    rank = gr.Dropdown(
        [(f"unit {place + 1}", place) for place in range(len(sliders))], value=0, label="Unit to sweep from -3 to 3"
    )
    page.choices.add("unit", rank, choices.whole(0, len(sliders) - 1))
    row = page.pictures()
    steps = page.count(
        "steps", "Images between the image at hand before and this one", 3, min(16, model.facts.max_batch), 8
    )
    between = page.pictures()

    def redraw(hand, moved, place, pixels_seed, degree):
        image, changed, units = page.image(hand), read_moves(moved, size), ranked(model, int(place))
        names = [unit_name(model, unit) for unit in units]
        return [
            draw(model, image, changed, (int(pixels_seed or 0), float(degree))),
            *_set_sliders(model, image, changed, units, names, len(sliders)),
            gr.Dropdown(choices=[(name, index) for index, name in enumerate(names)]),
            _map_of_places(model, int(place)) if places > 1 else "",
        ]

    def redraw_rows(hand, before, moved, place, pixels_seed, degree, chosen_rank, count):
        image, changed, units = page.image(hand), read_moves(moved, size), ranked(model, int(place))
        noise, unit = (int(pixels_seed or 0), float(degree)), units[min(int(chosen_rank), len(units) - 1)]
        other = page.image(before) if before else None
        way = draw_between(model, other, image, int(count), noise)
        script = as_python.script(model, *script_parts(model, image, changed, noise, unit, other, int(count)))
        return draw_sweep(model, image, changed, unit, noise), way, script

    def drag(hand, moved, place, pixels_seed, degree, *values):
        try:
            image = page.image(hand)
            changed = with_sliders(model, image, read_moves(moved, size), ranked(model, int(place)), values)
            return write_moves(changed), draw(model, image, changed, (int(pixels_seed or 0), float(degree)))
        except SAID as error:
            raise said(error) from error

    common = [moves, location, seed, temperature]
    chosen = [location.change, seed.change, temperature.change]
    page.draws(ID, redraw, [page.hand, *common], [shown, *sliders, rank, map_of_places], [*chosen, renewed.change])
    # A row is made when the slider has come to rest.
    inputs = [page.hand, page.before, *common, rank, steps]
    triggers = [*chosen, moves.change, rank.input, steps.change]
    page.draws(ID, redraw_rows, inputs, [row, between, page.python], triggers, patience=0.3)
    # The image follows the hand: a call at a time, the newest last, past the queue.
    gr.on(
        [slider.input for slider in sliders],
        drag,
        [page.hand, *common, *sliders],
        [moves, shown],
        queue=False,
        trigger_mode="always_last",
        show_progress="hidden",
        **OPTIONS,
    )
    reset.click(None, renewed, [moves, renewed], js="(times) => ['', times + 1]")
    map_of_places.select(_clicked, None, location, **OPTIONS)
    page.on_take(moves, lambda image: "")
    page.on_take(seed, lambda image: image.origin.seed)
    page.on_take(temperature, lambda image: image.origin.temperature)


def _clicked(event: gr.EventData) -> int:
    return int(event._data["value"])


def read_moves(text: str, size: int) -> Moves:
    """Which units were moved, by their place in z1 as one row, and where to: "3_1.5*17_-2".

    Raises:
      ValueError: for any other text.
    """
    moves = {}
    for part in text.split("*") if text else []:
        unit, _, value = part.partition("_")
        moves[int(unit)] = float(value)
    if not all(0 <= unit < size and abs(value) <= REACH for unit, value in moves.items()):
        raise ValueError(f"moves must be of units 0..{size - 1}, by at most {REACH}. Received: {text[:80]!r}")
    return moves


def write_moves(moves: Moves) -> str:
    """The inverse."""
    return "*".join(f"{unit}_{value:g}" for unit, value in sorted(moves.items()))


def ranked(model: ExploredModel, place: int) -> list[int]:
    """The units of a location, of z1 as one row, that tell most of an image, first the one that tells most."""
    nats = model.units().nats.reshape(-1, model.facts.latent_shape[-1])[place]
    active = [unit for unit in np.argsort(-nats, kind="stable") if nats[unit] >= ACTIVE_NATS]
    first = int(np.argmax(nats))
    return [place * len(nats) + int(unit) for unit in (active or [first])[:MOST_SLIDERS]]


def unit_name(model: ExploredModel, unit: int) -> str:
    """As "z1[3], 1.8 nats"."""
    return f"z1[{_place(model, unit)}], {model.units().nats.flat[unit]:.1f} nats"


def _place(model: ExploredModel, unit: int) -> str:
    """A unit's place in z1 as an index."""
    return ", ".join(map(str, np.unravel_index(unit, model.facts.latent_shape)))


def position(model: ExploredModel, image: Image, unit: int) -> float:
    """Where a slider stands for an image, in standard deviations of the prior."""
    units = model.units()
    place = (image.z1.flat[unit] - units.mean.flat[unit]) / units.stddev.flat[unit]
    return round(float(np.clip(place, -REACH, REACH)), 2)


def with_sliders(model: ExploredModel, image: Image, moves: Moves, units: list[int], values) -> Moves:
    """Moves with those of the sliders, which are of some units; a slider that stands where it stood moves nothing."""
    moved = {unit: float(value) for unit, value in zip(units, values, strict=False)}
    return {
        unit: value
        for unit, value in (moves | moved).items()
        if unit not in moved or value != position(model, image, unit)
    }


def moved(model: ExploredModel, z1: np.ndarray, moves: Moves) -> np.ndarray:
    """Latents [*latent_shape] with units moved."""
    z1, units = np.array(z1, np.float32), model.units()
    for unit, value in moves.items():
        z1.flat[unit] = units.mean.flat[unit] + value * units.stddev.flat[unit]
    return z1


def draw(model: ExploredModel, image: Image, moves: Moves, noise: Noise) -> str:
    """The image of latents that were moved."""
    seed, temperature = noise
    (pixels,) = model.decode(moved(model, image.z1, moves), [seed], temperature, image.origin.label)
    shown = made(pixels, image.origin.label, model.facts.num_values, "image of these latents")
    return markup.grid([shown], 1, "latents.png", side=256)


def _set_sliders(model, image: Image, moves: Moves, units: list[int], names: list[str], number: int) -> list:
    there = [
        gr.Slider(value=moves.get(unit, position(model, image, unit)), label=name, visible=True)
        for unit, name in zip(units, names, strict=True)
    ]
    return there + [gr.Slider(visible=False)] * (number - len(there))


def _map_of_places(model: ExploredModel, chosen: int) -> str:
    """The grid of z1: a button a location, as bright as what its units tell."""
    nats = model.units().nats.sum(axis=-1)
    colours = heat_maps.colours(nats, 0.0, float(nats.max()))
    rows, columns = nats.shape
    shown = [
        markup.Picture(
            colours[index // columns, index % columns][None, None],
            f"row {index // columns + 1}, column {index % columns + 1}: {nats.flat[index]:.1f} nats",
            "here" if index == chosen else "",
            str(index),
        )
        for index in range(rows * columns)
    ]
    return markup.grid(shown, columns, title="Locations of z1")


def draw_sweep(model: ExploredModel, image: Image, moves: Moves, unit: int, noise: Noise) -> str:
    """A row of images as one unit goes from one end to the other."""
    z1 = np.stack([moved(model, image.z1, moves | {unit: float(value)}) for value in SWEEP])
    captions = [f"{value:+g}" for value in SWEEP]
    return _row(model, z1, image.origin.label, noise, captions, f"{unit_name(model, unit)}, swept", "sweep.png")


def draw_between(model: ExploredModel, first: Image | None, last: Image, number: int, noise: Noise) -> str:
    """A row from one image to another, between the means of their posteriors."""
    if first is None:
        return markup.message("Take another image, and what lies between the two is shown here.")
    z1 = interpolate(*model.encode([first.pixels, last.pixels]), number)
    captions = [f"{share:.0%}" for share in np.linspace(0, 1, number)]
    title = "From the image at hand before to this one"
    return _row(model, z1, last.origin.label, noise, captions, title, "between.png")


def _row(
    model: ExploredModel,
    z1: np.ndarray,
    label: int | None,
    noise: Noise,
    captions: list[str],
    title: str,
    file_name: str,
) -> str:
    drawn = model.decode(z1, [noise[0]] * len(z1), noise[1], label)
    shown = [
        made(pixels, label, model.facts.num_values, f"{title}: {caption}", caption)
        for pixels, caption in zip(drawn, captions, strict=True)
    ]
    return markup.grid(shown, len(shown), file_name, title)


def script_parts(
    model: ExploredModel, image: Image, moves: Moves, noise: Noise, unit: int, first: Image | None, number: int
) -> list[str]:
    """The lines that make the image and both rows."""
    z1 = moved(model, image.z1, moves)

    def decode(file_name: str, size: int) -> list[str]:
        drawn = as_python.noise(model, [noise[0]] * size, noise[1], image.origin.label)
        return [as_python.call("decode", {"z1": "z1", **drawn}), as_python.save(model, file_name, size)]

    swept = [float(moved(model, image.z1, {unit: float(value)}).flat[unit]) for value in SWEEP]
    parts = [
        as_python.latents(model, image.origin),
        *(f"z1[0, {_place(model, each)}] = {float(z1.flat[each])!r}" for each in sorted(moves)),
        *decode("latents.png", 1),
        "",
        f"z1 = z1.repeat({len(swept)}, axis=0)",
        f"z1[:, {_place(model, unit)}] = {swept}",
        *decode("sweep.png", len(swept)),
    ]
    if first is not None:
        parts += [
            "",
            as_python.pixels(model, first.origin, "first"),
            as_python.pixels(model, image.origin, "last"),
            'ends = model.predict("encode", {"images": np.concatenate([first, last])})["z1_mean"]',
            f"z1 = interpolate(*ends, {number})",
            *decode("between.png", number),
        ]
    return parts
