"""The page around the tabs: what it is of, the image at hand, the tabs, the link, the lines of Python."""

import pathlib

import gradio as gr

from pixelvae_tf.export.explore import about, choices, complete, latents, levels, markup, samples, your_image
from pixelvae_tf.export.explore.explored_model import ExploredModel
from pixelvae_tf.export.explore.preparation import Preparation
from pixelvae_tf.export.explore.wiring import OPTIONS, Page, copied, picture

HERE = pathlib.Path(__file__).parent
SYSTEM_FONTS = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")


def look() -> dict:
    """The arguments of `launch` that say how the page looks: fonts of the system, nothing from another host."""
    font, font_mono = SYSTEM_FONTS
    theme = gr.themes.Default(font=font, font_mono=font_mono, primary_hue="sky", neutral_hue="slate")
    return {
        # Gradio's own is too light to read on white.
        "theme": theme.set(body_text_color_subdued="*neutral_500"),
        "css": (HERE / "page.css").read_text(),
        "head": f"<script>{(HERE / 'page.js').read_text()}</script>",
    }


def tabs_of(model: ExploredModel) -> list:
    """The modules of the tabs; a model without latents has fewer."""
    of_latents = [latents, levels] if model.facts.num_levels else []
    return [samples, *of_latents, your_image, complete, about]


def build(model: ExploredModel, preparation: Preparation) -> gr.Blocks:
    """The page of a model."""
    tabs = tabs_of(model)
    with gr.Blocks(
        title=f"{model.name} - pixelvae-explore", analytics_enabled=False, delete_cache=(600, 600)
    ) as blocks:
        page = Page(model)
        with gr.Row(elem_classes="top"):
            gr.HTML(f"<h1>{markup.title(model.name)}</h1>", apply_default_css=False, min_width=280)
            strip = gr.HTML(elem_id="strip", apply_default_css=False)
        status = gr.HTML(apply_default_css=False, elem_id="status")
        with gr.Tabs() as shown_tabs:
            for tab in tabs:
                with gr.Tab(tab.TITLE, id=tab.ID) as item:
                    tab.build(page)
                # Before a link is read, the first tab comes up by itself.
                item.select(None, page.shown, page.shown, js=f"(shown) => shown && '{tab.ID}'")
        with gr.Row():
            link = copied(markup.LINK, elem_id="link")
            page.python.render()

        def show_hand(hand: str, before: str) -> str:
            captions = [(hand, "image at hand"), (before, "the one before")]
            shown = [
                picture(page.image(text), model.facts.num_values, caption=caption)._replace(value="")
                for text, caption in captions
                if text
            ]
            return markup.grid(shown, len(shown), side=64) + markup.message(page.image(hand).origin.description)

        page.draws(None, show_hand, [page.hand, page.before], [strip], [page.before.change])
        page.choices.add("tab", page.shown, choices.one_of(*(tab.ID for tab in tabs)))
        page.finish()

        address = gr.Textbox("", visible=False)
        components = page.choices.components

        def restore(fragment: str):
            values = page.choices.restore(fragment)
            shown = values[-1] = values[-1] or tabs[0].ID
            return [*values, gr.Tabs(selected=shown)]

        blocks.load(
            restore, address, [*components, shown_tabs], js="() => location.hash", show_progress="hidden", **OPTIONS
        )
        blocks.load(preparation.messages, None, status, show_progress="hidden", **OPTIONS)
        gr.on(
            [each.change for each in components], None, components, link, js=page.choices.write, show_progress="hidden"
        )
    return blocks
