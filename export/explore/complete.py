"""Complete: pixels are erased with a brush, and drawn anew by the model."""

import gradio as gr
import numpy as np

from pixelvae_tf import pictures
from pixelvae_tf.export.explore import as_python, choices, markup, masks
from pixelvae_tf.export.explore.explored_model import ExploredModel, Image
from pixelvae_tf.export.explore.wiring import Page, made

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
            number = page.count(
                "completions", "Completions", 1, min(16, model.facts.max_batch), min(8, model.facts.max_batch)
            )
            seed, temperature = page.seed("filling", "Seed of the first completion"), page.temperature("heat")
            shown = page.pictures()

    def redraw(hand, mask, count, first_seed, degree):
        image = page.image(hand)
        html, script = draw(model, image, mask, int(count), int(first_seed or 0), float(degree))
        url = markup.png_url(pictures.to_uint8_picture(image.pixels, model.facts.num_values))
        return gr.HTML(picture=url), html, script

    chosen = [number, seed, temperature]
    triggers = [brush.input, *(each.change for each in chosen)]
    page.draws(ID, redraw, [page.hand, brush, *chosen], [brush, shown, page.python], triggers)


def complete(model: ExploredModel, image: Image, mask: np.ndarray, seeds: list[int], temperature: float) -> np.ndarray:
    """Completions uint8 [B, H, W, C] of an image, one a seed; of what the mask [H, W, 1] keeps."""
    number, label = len(seeds), image.origin.label
    inputs = {"images": image.pixels[None].repeat(number, axis=0), "mask": mask[None].repeat(number, axis=0)}
    return model.predict("complete", inputs | model.noise(seeds, temperature, label))["images"]


def draw(model: ExploredModel, image: Image, text: str, number: int, seed: int, temperature: float) -> tuple[str, str]:
    """The completions, the lines of Python."""
    height, width, _ = model.facts.image_shape
    seeds, label, columns = list(range(seed, seed + number)), image.origin.label, min(number, 4)
    drawn = complete(model, image, masks.read(text, height, width), seeds, temperature)
    shown = [
        made(pixels, label, model.facts.num_values, f"completion of seed {each}")
        for each, pixels in zip(seeds, drawn, strict=True)
    ]
    inputs = {"images": f"images.repeat({number}, axis=0)", "mask": f"mask.repeat({number}, axis=0)"}
    script = as_python.script(
        model,
        as_python.pixels(model, image.origin),
        as_python.mask(text, height, width),
        as_python.call("complete", inputs | as_python.noise(model, seeds, temperature, label)),
        as_python.save(model, "completions.png", columns),
    )
    return markup.grid(shown, columns, "completions.png"), script
