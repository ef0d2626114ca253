"""About: the model's card."""

import gradio as gr

from pixelvae_tf.export.explore import as_python
from pixelvae_tf.export.explore.wiring import Page

ID, TITLE = "about", "About"


def build(page: Page) -> None:
    """Adds the tab to the page."""
    model = page.model
    height, width, channels = model.facts.image_shape
    gr.Markdown(
        model.card
        or f"# {model.name}\n\nImages of {height}x{width}x{channels}. The server does not tell what it was trained on; "
        "`assets.extra/model_card.md` in its export does."
    )
    page.draws(ID, lambda: as_python.script(model), [], [page.python], [])
