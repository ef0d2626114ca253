"""Levels: figure 6 of the paper. Which noise is held along a row, of z2, of z1 or of the pixels, and which is new."""

import gradio as gr

from pixelvae_tf.export.explore import as_python, choices, markup, origins
from pixelvae_tf.export.explore.explored_model import ExploredModel
from pixelvae_tf.export.explore.wiring import Page, picture

ID, TITLE = "levels", "Levels"
MOST = 16


def build(page: Page) -> None:
    """Adds the tab to the page."""
    model = page.model
    names = parts(model)
    with gr.Row():
        redrawn = gr.CheckboxGroup(names, value=names[-1:], label="Noise that is redrawn; the rest is held")
        page.choices.add("redrawn", redrawn, choices.some_of(*names))
        number = page.count("row", "Images", 2, MOST, 8)
        turn = page.choices.add("turn", gr.Number(1, visible=False, precision=0), choices.whole(1, 10**6))
        again = gr.Button("Redraw", scale=0, min_width=160)
    shown, row = gr.HTML(apply_default_css=False), page.pictures()

    def redraw(hand, names, count, times):
        return draw(model, model.facts.parse(hand), names, int(count), int(times))

    inputs = [page.hand, redrawn, number, turn]
    page.draws(ID, redraw, inputs, [shown, row, page.python], [redrawn.change, number.change, turn.change])
    again.click(None, turn, turn, js="(turn) => turn + 1")


def parts(model: ExploredModel) -> list[str]:
    """What has noise of its own, the top first."""
    return [name.removeprefix("seed_") for name in model.facts.seed_names]


def draw(
    model: ExploredModel, held: origins.Origin, redrawn: list[str], number: int, turn: int
) -> tuple[str, str, str]:
    """What is held in words, the row, the lines of Python."""
    said = f"The first image is the {held.description}."
    if isinstance(held, origins.Given):
        held = origins.Drawn((0,) * (model.facts.num_levels + 1), 1.0, held.label)
        said = f"The image at hand was not drawn from noise. The first image is the {held.description}."
    many = row_origins(model, held, redrawn, number, turn)
    shown = [picture(image, model.facts.num_values) for image in model.draw(many)]
    script = as_python.script(model, as_python.drawn(model, many), as_python.save(model, "levels.png", len(many)))
    return markup.message(said), markup.grid(shown, len(shown), "levels.png"), script


def row_origins(
    model: ExploredModel, held: origins.Drawn, redrawn: list[str], number: int, turn: int
) -> list[origins.Drawn]:
    """The held image, then such with new noise for what is redrawn; each turn has other noise."""
    names = parts(model)
    return [
        origins.Drawn(
            tuple(
                seed + turn * MOST + index if index and name in redrawn else seed
                for name, seed in zip(names, held.seeds, strict=True)
            ),
            held.temperature,
            held.label,
        )
        for index in range(number)
    ]
