"""Complete: pixels are erased with a brush, and drawn anew by the model."""

import gradio as gr
import numpy as np

from pixelvae_tf import pictures
from pixelvae_tf.export.explore import as_python, choices, markup, masks
from pixelvae_tf.export.explore.explored_model import ExploredModel, Image, Noise
from pixelvae_tf.export.explore.wiring import Page, made
from pixelvae_tf.limits import MAX_CHOSEN_ROUNDS

ID, TITLE = "complete", "Complete"
KEEPS = ("everything", "nothing", "top", "bottom", "left", "right")
BRUSH = """
<canvas width="@WIDTH" height="@HEIGHT" tabindex="0" role="application"
  aria-label="Mask: what is orange is drawn anew. Arrow keys move, space paints."></canvas>
<p class="unseen" role="status"></p>
<fieldset><legend>The brush</legend>
  <label><input type="radio" name="tool" value="0" checked> erases</label>
  <label><input type="radio" name="tool" value="1"> keeps</label>
  <label>Size <input type="range" name="size" min="1" max="8" value="3"></label>
</fieldset>
<fieldset><legend>Keep</legend>@KEEPS</fieldset>
"""


def build(page: Page) -> None:
    """Adds the tab to the page."""
    model = page.model
    height, width, _ = model.facts.image_shape
    start = masks.write(pictures.halves(height, width)["top"])
    scale = max(360 // width, 1)
    buttons = "".join(f'<button type="button" data-keep="{name}">{name}</button>' for name in KEEPS)
    template = BRUSH.replace("@WIDTH", str(width * scale)).replace("@HEIGHT", str(height * scale))
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            brush = gr.HTML(
                start,
                html_template=template.replace("@KEEPS", buttons),
                js_on_load=f"explore.brush(element, props, () => trigger('input'), watch, {height}, {width})",
                elem_classes="brush",
                picture="",
            )
            page.choices.add("mask", brush, choices.checked(lambda text: masks.read(text, height, width)))
        with gr.Column(scale=2, min_width=300):
            number = page.count("completions", "Completions", 1, 16, 8)
            seed, temperature = page.seed("filling", "Seed of the first completion"), page.temperature("heat")
            rounds = _rounds(page)
            shown = page.pictures()

    def redraw(hand, mask, count, first_seed, degree, chosen_rounds):
        image, noise = page.image(hand), Noise(int(first_seed or 0), float(degree))
        html, script = draw(model, image, mask, int(count), noise, int(chosen_rounds))
        url = markup.png_url(pictures.to_uint8_picture(image.pixels, model.facts.num_values))
        return gr.HTML(picture=url), html, script

    chosen = [number, seed, temperature, rounds]
    triggers = [brush.input, *(each.change for each in chosen)]
    page.draws(ID, redraw, [page.hand, brush, *chosen], [brush, shown, page.python], triggers)


def _rounds(page: Page) -> gr.components.Component:
    """A choice of the rounds; where there is none, why."""
    facts = page.model.facts
    if facts.rounds is None:
        old = "this export was made before they could be. Export the model again."
        gr.Markdown(f"Rounds cannot be chosen: {old if facts.num_levels else 'without latents there are none.'}")
        return gr.Number(0, visible=False)
    start = min(facts.rounds, MAX_CHOSEN_ROUNDS)
    return page.count("rounds", "Rounds of encoding and filling in", 0, MAX_CHOSEN_ROUNDS, start)


def draw(model: ExploredModel, image: Image, text: str, number: int, noise: Noise, rounds: int) -> tuple[str, str]:
    """The completions, the lines of Python; `rounds` count where the model lets them be chosen."""
    height, width, _ = model.facts.image_shape
    (seed, temperature), label, columns = noise, image.origin.label, min(number, 4)
    seeds, name = list(range(seed, seed + number)), model.facts.completion
    in_rounds = name == "complete_in_rounds"
    inputs = {
        "images": image.pixels[None].repeat(number, axis=0),
        "mask": masks.read(text, height, width)[None].repeat(number, axis=0),
        **({"rounds": np.full(number, rounds)} if in_rounds else {}),
    }
    drawn = model.predict(name, inputs | model.noise(seeds, temperature, label))["images"]
    shown = [
        made(pixels, label, model.facts.num_values, f"completion of seed {each}")
        for each, pixels in zip(seeds, drawn, strict=True)
    ]
    code = {
        "images": f"images.repeat({number}, axis=0)",
        "mask": f"mask.repeat({number}, axis=0)",
        **({"rounds": f"[{rounds}] * {number}"} if in_rounds else {}),
    }
    script = as_python.script(
        model,
        as_python.pixels(model, image.origin),
        as_python.mask(text, height, width),
        as_python.call(model, name, code | as_python.noise(model, seeds, temperature, label)),
        as_python.save(model, "completions.png", columns),
    )
    return markup.grid(shown, columns, "completions.png"), script
