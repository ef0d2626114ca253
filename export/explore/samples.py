"""Samples: a grid of them; the same seeds at another temperature beside it. A click takes one to the other tabs."""

import math
from collections.abc import Iterator

import gradio as gr

from pixelvae_tf.export.explore import as_python, choices, markup, origins
from pixelvae_tf.export.explore.explored_model import BATCH, MOST_IMAGES, ExploredModel
from pixelvae_tf.export.explore.wiring import EACH_IN_TURN, Page, picture

ID, TITLE = "samples", "Samples"


def build(page: Page) -> None:
    """Adds the tab to the page."""
    model = page.model
    with gr.Row():
        seed = page.seed("seed", "Seed of the first image")
        number = page.count("number", "Images", 1, MOST_IMAGES, 16)
        temperature = page.temperature("temperature")
        label = page.label("label", each_in_turn=True)
    with gr.Row():
        more = gr.Button("New images", scale=0, min_width=160)
        compared = page.choices.add(
            "compared",
            gr.Checkbox(label="Beside them, the same seeds at another temperature"),
            choices.one_of(True, False),
        )
        other = page.temperature("other", "The other temperature", 0.5)
    shown = page.pictures()

    def redraw(first_seed, count, degree, chosen_label, beside, degree_beside):
        yield from draw(
            model, int(first_seed or 0), int(count), float(degree), chosen_label, degree_beside if beside else None
        )

    inputs = [seed, number, temperature, label, compared, other]
    page.draws(ID, redraw, inputs, [shown, page.python], [each.change for each in inputs])
    more.click(None, [seed, number], seed, js="(seed, number) => seed + number")


def draw(
    model: ExploredModel, seed: int, number: int, temperature: float, label: int | None, other: float | None
) -> Iterator[tuple[str, str]]:
    """The grid, and the same seeds at another temperature beside it, with the lines of Python; in parts."""
    degrees = [temperature, *([] if other is None else [float(other)])]
    done, script = [""] * len(degrees), []
    for index, degree in enumerate(degrees):
        many = grid_origins(model, seed, number, degree, label)
        in_turn = label == EACH_IN_TURN and model.facts.num_classes
        columns = min(in_turn, number) if in_turn else math.isqrt(number - 1) + 1
        file_name, title = f"samples_{index + 1}.png", "" if other is None else f"Temperature {degree:g}"
        script += ["", as_python.drawn(model, many), as_python.save(model, file_name, columns)]
        for end in range(BATCH, number + BATCH, BATCH):
            shown = [picture(image, model.facts.num_values) for image in model.draw(many[:end])]
            done[index] = markup.grid(shown, columns, file_name, title)
            grids = "".join(f"<div>{grid}</div>" for grid in done)
            yield f'<div class="beside">{grids}</div>', as_python.script(model, *script)


def grid_origins(
    model: ExploredModel, seed: int, number: int, temperature: float, label: int | None
) -> list[origins.Drawn]:
    """Those of a grid: one seed after the other; where each class is wanted in turn, a column a class."""
    classes, depth = model.facts.num_classes, model.facts.num_levels + 1
    labels = [None if classes == 0 else index % classes if label == EACH_IN_TURN else label for index in range(number)]
    return [
        origins.Drawn((seed + index,) * depth, float(temperature), None if each is None else int(each))
        for index, each in enumerate(labels)
    ]
