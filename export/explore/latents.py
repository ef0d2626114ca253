"""Latents: the units of z1 as sliders, one of them swept along a row, and the way between two images."""

import math

import gradio as gr
import numpy as np

from pixelvae_tf import heat_maps
from pixelvae_tf.export.explore import as_python, choices, markup
from pixelvae_tf.export.explore.explored_model import ExploredModel, Image, Noise
from pixelvae_tf.export.explore.units import (
    MOST_SLIDERS,
    REACH,
    MovedImage,
    place_of,
    position,
    ranked,
    read_moves,
    unit_name,
    with_sliders,
    write_moves,
)
from pixelvae_tf.export.explore.wiring import OPTIONS, SAID, Page, made, said
from pixelvae_tf.interpolation import interpolate

ID, TITLE = "latents", "Latents"
SWEEP = np.linspace(-3, 3, 9)


def build(page: Page) -> None:
    """Adds the tab to the page."""
    tab = _Tab(page)
    common = [tab.moves, tab.location, tab.seed, tab.temperature]
    chosen = [tab.location.change, tab.seed.change, tab.temperature.change]
    outputs = [tab.shown, *tab.sliders, tab.rank, tab.map_of_places]
    page.draws(ID, tab.redraw, [page.hand, *common, tab.rank], outputs, [*chosen, tab.renewed.change])
    # A row is made when the slider has come to rest.
    inputs = [page.hand, *common, page.before, tab.rank, tab.steps]
    triggers = [*chosen, tab.moves.change, tab.rank.input, tab.steps.change]
    page.draws(ID, tab.redraw_rows, inputs, [tab.row, tab.between, page.python], triggers, patience=0.3)
    # The image follows the hand: a call at a time, the newest last, past the queue.
    gr.on(
        [slider.input for slider in tab.sliders],
        tab.drag,
        [page.hand, *common, *tab.sliders],
        [tab.moves, tab.shown],
        queue=False,
        trigger_mode="always_last",
        show_progress="hidden",
        **OPTIONS,
    )
    tab.reset.click(None, tab.renewed, [tab.moves, tab.renewed], js="(times) => ['', times + 1]")
    tab.map_of_places.select(_clicked, None, tab.location, **OPTIONS)
    page.on_take(tab.moves, lambda image: "")
    page.on_take(tab.seed, lambda image: image.origin.seed)
    page.on_take(tab.temperature, lambda image: image.origin.temperature)


class _Tab:
    """The components of the tab, as they stand on it, and what they show."""

    def __init__(self, page: Page):
        self.page, self.model = page, page.model
        shape = self.model.facts.latent_shape
        self.size, self.places = math.prod(shape), math.prod(shape[:-1])
        self._add_hidden()
        with gr.Row():
            with gr.Column(scale=1, min_width=260, elem_classes="follows"):
                self.shown = page.pictures(elem_id="moved")
                self.seed = page.seed("noise", "Seed of the pixels' noise")
                self.temperature = page.temperature("degree")
                self.reset = gr.Button("Back to the image's own latents")
                self.map_of_places = page.pictures(takes=False, visible=self.places > 1)
            with gr.Column(scale=2, min_width=300, elem_classes="sliders"):
                gr.Markdown("Units of z1, in standard deviations of the prior, and what each tells of an image:")
                self.sliders = [
                    gr.Slider(-REACH, REACH, 0, step=0.01, label=f"unit {rank + 1}")
                    for rank in range(min(shape[-1], MOST_SLIDERS))
                ]
        options = [(f"unit {place + 1}", place) for place in range(len(self.sliders))]
        self.rank = gr.Dropdown(options, value=0, label="Unit to sweep from -3 to 3")
        page.choices.add("unit", self.rank, choices.whole(0, len(self.sliders) - 1))
        self.row = page.pictures()
        self.steps = page.count("steps", "Images between the image at hand before and this one", 3, 16, 8)
        self.between = page.pictures()

    def _add_hidden(self) -> None:
        """What is chosen by other means than a field of its own."""
        add, places = self.page.choices.add, choices.whole(0, self.places - 1)
        is_moves = choices.checked(lambda text: read_moves(text, self.size))
        self.moves = add("moves", gr.Textbox("", visible=False), is_moves)
        self.location = add("location", gr.Number(0, visible=False, precision=0), places)
        self.renewed = gr.Number(0, visible=False, precision=0)

    def _moved(self, hand: str, moves: str, seed: float, temperature: float) -> MovedImage:
        noise = Noise(int(seed or 0), float(temperature))
        return MovedImage(self.page.image(hand), read_moves(moves, self.size), noise)

    def redraw(self, hand, moves, place, seed, temperature, rank):
        """The image, the sliders with their names, the units to sweep, the map."""
        model, moved, units = self.model, self._moved(hand, moves, seed, temperature), ranked(self.model, int(place))
        names = [unit_name(model, unit) for unit in units]
        sliders = [
            gr.Slider(value=moved.moves.get(unit, position(model, moved.image, unit)), label=name, visible=True)
            for unit, name in zip(units, names, strict=True)
        ]
        return [
            draw(model, moved),
            *(sliders + [gr.Slider(visible=False)] * (len(self.sliders) - len(sliders))),
            gr.Dropdown(
                choices=[(name, index) for index, name in enumerate(names)],
                value=min(int(rank), len(names) - 1),  # this location may have fewer
            ),
            _map_of_places(model, int(place)) if self.places > 1 else "",
        ]

    def redraw_rows(self, hand, moves, place, seed, temperature, before, rank, count):
        """The sweep, the way between two images, the lines of Python."""
        model, moved, units = self.model, self._moved(hand, moves, seed, temperature), ranked(self.model, int(place))
        unit, first = units[min(int(rank), len(units) - 1)], self.page.image(before) if before else None
        script = as_python.script(model, *script_parts(model, moved, unit, first, int(count)))
        return draw_sweep(model, moved, unit), draw_between(model, first, moved, int(count)), script

    def drag(self, hand, moves, place, seed, temperature, *values):
        """The moves and the image as sliders stand."""
        try:
            moved, units = self._moved(hand, moves, seed, temperature), ranked(self.model, int(place))
            moved = moved._replace(moves=with_sliders(self.model, moved, units, values))
            return write_moves(moved.moves), draw(self.model, moved)
        except SAID as error:
            raise said(error) from error


def _clicked(event: gr.EventData) -> int:
    return int(event._data["value"])


def draw(model: ExploredModel, moved: MovedImage) -> str:
    """The image of latents that were moved."""
    (pixels,) = model.decode(moved.z1(model), [moved.noise.seed], moved.noise.temperature, moved.label)
    shown = made(pixels, moved.label, model.facts.num_values, "image of these latents")
    return markup.grid([shown], 1, "latents.png", side=256)


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


def draw_sweep(model: ExploredModel, moved: MovedImage, unit: int) -> str:
    """A row of images as one unit goes from one end to the other."""
    z1 = np.stack([moved.z1(model, {unit: float(value)}) for value in SWEEP])
    captions = [f"{value:+g}" for value in SWEEP]
    return _row(model, moved, z1, captions, f"{unit_name(model, unit)}, swept", "sweep.png")


def draw_between(model: ExploredModel, first: Image | None, last: MovedImage, number: int) -> str:
    """A row from one image to another as it was before it was moved, between the means of their posteriors."""
    if first is None:
        return markup.message("Take another image, and what lies between the two is shown here.")
    ends = model.encode([first.pixels, last.image.pixels])
    z1 = interpolate(ends[:1], ends[1:], number)[0]
    captions = [f"{share:.0%}" for share in np.linspace(0, 1, number)]
    return _row(model, last, z1, captions, "From the image at hand before to this one", "between.png")


def _row(
    model: ExploredModel, moved: MovedImage, z1: np.ndarray, captions: list[str], title: str, file_name: str
) -> str:
    """Images of latents, with the noise and the class of one."""
    drawn = model.decode(z1, [moved.noise.seed] * len(z1), moved.noise.temperature, moved.label)
    shown = [
        made(pixels, moved.label, model.facts.num_values, f"{title}: {caption}", caption)
        for pixels, caption in zip(drawn, captions, strict=True)
    ]
    return markup.grid(shown, len(shown), file_name, title)


def script_parts(model: ExploredModel, moved: MovedImage, unit: int, first: Image | None, number: int) -> list[str]:
    """The lines that make the image and both rows."""
    z1, (seed, temperature) = moved.z1(model), moved.noise

    def decode(file_name: str, size: int) -> list[str]:
        drawn = as_python.noise(model, [seed] * size, temperature, moved.label)
        return [as_python.call(model, "decode", {"z1": "z1", **drawn}), as_python.save(model, file_name, size)]

    swept = [float(moved.z1(model, {unit: float(value)}).flat[unit]) for value in SWEEP]
    parts = [
        as_python.latents(model, moved.image.origin),
        *(f"z1[0, {place_of(model, each)}] = {float(z1.flat[each])!r}" for each in sorted(moved.moves)),
        *decode("latents.png", 1),
        "",
        f"z1 = z1.repeat({len(swept)}, axis=0)",
        f"z1[:, {place_of(model, unit)}] = {swept}",
        *decode("sweep.png", len(swept)),
    ]
    if first is not None:
        parts += [
            "",
            as_python.pixels(model, first.origin, "first"),
            as_python.pixels(model, moved.image.origin, "last"),
            f"ends = {as_python.predict(model, 'encode', {'images': 'np.concatenate([first, last])'})}['z1_mean']",
            f"z1 = interpolate(ends[:1], ends[1:], {number})[0]",
            *decode("between.png", number),
        ]
    return parts
