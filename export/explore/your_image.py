"""Your image: a file as the model sees it, its reconstructions, its bound, and where and why it is unlikely."""

import gradio as gr
import numpy as np

from pixelvae_tf import heat_maps, pictures, scores
from pixelvae_tf.export.explore import as_python, markup, origins, uploads
from pixelvae_tf.export.explore.explored_model import ExploredModel, Image, kl_nats
from pixelvae_tf.export.explore.wiring import Page, made, picture

ID, TITLE = "your_image", "Your image"
# Units whose KL is shown, those of the most first.
MOST_UNITS = 16


def build(page: Page) -> None:
    """Adds the tab to the page."""
    model = page.model
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            file = gr.File(label="An image file", file_types=["image"], height=140)
            label = page.label("class")
            seed = page.seed("measured", "Seed of the first reconstruction, and of the bound")
            degree = page.temperature("warmth")
            number = page.count("made", "Reconstructions", 1, 12, 6)
        with gr.Column(scale=2, min_width=300):
            shown = page.pictures()
            numbers = gr.HTML(apply_default_css=False)

    def redraw(hand, first_seed, temperature, count):
        return draw(model, page.image(hand), int(first_seed or 0), float(temperature), int(count))

    chosen = [seed, degree, number]
    page.draws(ID, redraw, [page.hand, *chosen], [shown, numbers, page.python], [each.change for each in chosen])
    page.takes(file.upload, lambda hand, event, path, chosen_class: _upload(model, path, chosen_class), [file, label])
    page.takes(label.input, lambda hand, event, chosen_class: _with_class(page, hand, chosen_class), [label])
    page.on_take(file, lambda image: None)  # there is room for the next one
    page.on_take(label, lambda image: image.origin.label)


def _upload(model: ExploredModel, path: str, label: int | None) -> str:
    return str(origins.given(uploads.read_and_remove(path, model.facts), _of_model(model, label)))


def _with_class(page: Page, hand: str, label: int | None) -> str:
    """The same pixels as an image of another class."""
    return str(origins.given(page.image(hand).pixels, _of_model(page.model, label)))


def _of_model(model: ExploredModel, label: int | None) -> int | None:
    return None if model.facts.num_classes == 0 else int(label or 0)


def draw(model: ExploredModel, image: Image, seed: int, temperature: float, number: int) -> tuple[str, str, str]:
    """The pictures, the numbers, the lines of Python."""
    num_values, label = model.facts.num_values, image.origin.label
    measured = measure(model, image, seed)
    low, high = 0.0, max(float(np.quantile(measured["pixel_nats"], 0.999)), 1e-6)
    where = heat_maps.colours(measured["pixel_nats"], low, high)
    shown = [
        picture(image, num_values, "the image as the model sees it", "as the model sees it"),
        markup.Picture(where, "map of where it is unlikely", f"unlikely: 0 to {high:.2g} nats"),
    ]
    html = [
        markup.grid(
            [each._replace(pixels=pictures.coloured(each.pixels)) for each in shown], 2, "likelihood_map.png", side=192
        )
    ]
    lines = [as_python.pixels(model, image.origin), _measure_code(model, seed, label)]
    if model.facts.num_levels:
        seeds = list(range(seed, seed + number))
        drawn = model.decode(image.z1, seeds, temperature, label)
        of = [
            made(pixels, label, num_values, f"reconstruction of seed {each}")
            for each, pixels in zip(seeds, drawn, strict=True)
        ]
        html.append(markup.grid(of, min(number, 6), "reconstructions.png", "What its latents make of it"))
        noise = as_python.noise(model, seeds, temperature, label)
        lines += [
            as_python.latents(model, image.origin) if isinstance(image.origin, origins.Drawn) else as_python.ENCODED,
            as_python.call(model, "decode", {"z1": f"z1.repeat({number}, axis=0)", **noise}),
            as_python.save(model, "reconstructions.png", min(number, 6)),
        ]
    return "".join(html), _numbers(model, image, measured), as_python.script(model, *lines)


def measure(model: ExploredModel, image: Image, seed: int) -> dict[str, np.ndarray]:
    """The outputs of log_prob for an image, without the batch; `z1_mean` and `z1_stddev` where there are latents."""
    inputs = {"images": image.pixels[None], "seed": np.array([seed], np.int64), **model.labels([image.origin.label])}
    outputs = model.predict("log_prob", inputs)
    if model.facts.num_levels:
        posterior = model.predict("encode", {"images": image.pixels[None]})
        outputs |= {name: posterior[name] for name in ("z1_mean", "z1_stddev")}
    return {name: values[0] for name, values in outputs.items()}


def _measure_code(model: ExploredModel, seed: int, label: int | None) -> str:
    inputs = {"images": "images", "seed": f"[{seed}]", **as_python.labels(model, [label])}
    return f"{as_python.call(model, 'log_prob', inputs, 'log_prob')}\nprint(log_prob[0])"


def _numbers(model: ExploredModel, image: Image, measured: dict[str, np.ndarray]) -> str:
    """The bound with its parts, the anomaly scores, and the KL of each unit."""
    bits = measured["log_prob"] / (-np.log(2) * image.pixels.size)
    exact = model.facts.num_levels == 0
    rows = [
        ("log p(x)" if exact else "log p(x), at least", f"{measured['log_prob']:.3f} nats"),
        ("bits per dimension", f"{bits:.3f}"),
    ]
    if not exact:
        rows.append(("reconstruction", f"{measured['reconstruction_nats']:.3f} nats"))
        rows += [(f"KL of z{level}", f"{nats:.3f} nats") for level, nats in enumerate(measured["kl_nats"], start=1)]
    html = [markup.table(rows, "How likely it is")]
    kl = None if exact else measured["kl_nats"][None]
    scored = scores.table(measured["log_prob"][None], kl, image.pixels[None], model.facts.num_values)
    lines = [(name.removesuffix("_nats").replace("_", " "), f"{values[0]:.2f} nats") for name, values in scored.items()]
    html.append(markup.table(lines, "Anomaly scores: higher is odder"))
    if not exact:
        units = model.units()
        nats = kl_nats(measured["z1_mean"], measured["z1_stddev"], units.mean, units.stddev)
        places = np.unravel_index(np.argsort(-nats, axis=None, kind="stable")[:MOST_UNITS], nats.shape)
        shown = [(f"z1[{', '.join(map(str, place))}]", float(nats[place])) for place in zip(*places, strict=True)]
        html.append(markup.bars(shown, "nats", "What each unit tells of it"))
    return f'<div class="tables">{"".join(html)}</div>'
