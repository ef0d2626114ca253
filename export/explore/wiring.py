"""What the tabs share: the image at hand, the choices in the address, and how a choice makes a tab draw itself anew."""

import inspect
import time
from collections.abc import Callable, Sequence

import gradio as gr
import numpy as np

from pixelvae_tf import pictures
from pixelvae_tf.export import client
from pixelvae_tf.export.explore import choices as choices_lib
from pixelvae_tf.export.explore import markup, origins
from pixelvae_tf.export.explore.explored_model import ExploredModel, Image

# What is said in the page instead of an exception; any other is a fault of ours, and is printed.
SAID = (ValueError, OSError, client.ServerError)
# Seconds in which a newer choice, as of a slider on its way, makes a drawing needless.
PATIENCE = 0.03
EACH_IN_TURN = -1  # for a label
OPTIONS = {"api_visibility": "private", "concurrency_limit": None}


class Page:
    """The page while it is built; tabs add their choices, pictures and drawing to it.

    Args:
      model: what is looked at.

    Attributes:
      hand: the origin of the image that all tabs but the first are about.
      before: that of the image at hand before it; empty at the start.
      shown: the tab on the screen; empty until a link's choices are there.
      python: the lines that make what is shown.
    """

    def __init__(self, model: ExploredModel):
        self.model, self.choices = model, choices_lib.Choices()
        first = str(origins.Drawn((0,) * (model.facts.num_levels + 1)))
        is_origin = choices_lib.checked(model.facts.parse)
        self.shown = gr.Textbox("", visible=False)
        self.hand = self.choices.add("image", gr.Textbox(first, visible=False), is_origin)
        self.before = self.choices.add("before", gr.Textbox("", visible=False), is_origin)
        self.python = copied(markup.PYTHON, render=False, elem_id="python")
        self._turns = gr.State({})  # of this page in this browser tab
        self._on_take: list[tuple[gr.components.Component, Callable[[Image], object]]] = []
        self._takes: list[tuple[Callable, Callable, list]] = []
        self._draws: list[tuple] = []

    def image(self, text: str) -> Image:
        """The image of an origin's text."""
        return self.model.image(self.model.facts.parse(text))

    def pictures(self, takes: bool = True, **options) -> gr.HTML:
        """A place for `markup.grid`; a click on a picture that has an origin takes it in hand."""
        element = gr.HTML(js_on_load="explore.pictures(element, trigger)", apply_default_css=False, **options)
        if takes:
            self.takes(element.select, lambda hand, event: event._data["value"], [])
        return element

    def takes(self, listener: Callable, origin: Callable, inputs: Sequence[gr.components.Component]) -> None:
        """Lets an event take an image in hand: `origin(hand, event, *inputs)` is its text."""
        self._takes.append((listener, origin, list(inputs)))

    def on_take(self, component: gr.components.Component, value: Callable[[Image], object]) -> None:
        """Sets a component by each image that is taken in hand."""
        self._on_take.append((component, value))

    def draws(
        self,
        tab: str | None,
        function: Callable,
        inputs: Sequence[gr.components.Component],
        outputs: Sequence[gr.components.Component],
        triggers: Sequence[Callable],
        patience: float = PATIENCE,
    ) -> None:
        """Lets a function draw a tab when it comes on the screen, and when a choice or the image at hand changes.

        Args:
          tab: its id; None for what every tab shows.
          function: of the inputs; returns the outputs, or yields them as often as there is more to see.
          inputs, outputs: components; with `hand` among the inputs, another image at hand is drawn too.
          triggers: events of its choices.
          patience: seconds that it waits for a newer choice, which makes it needless.
        """
        triggers = [*triggers, self.shown.change, *([self.hand.change] if self.hand in inputs else [])]
        drawing = self._replaceable(tab, function, len(outputs), patience)
        self._draws.append((drawing, list(inputs), list(outputs), triggers))

    def _replaceable(self, tab: str | None, function: Callable, number: int, patience: float) -> Callable:
        """A function that says its errors in the page, and ends when a newer call of it has begun."""
        key = len(self._draws)
        skipped = [gr.skip()] * number if number > 1 else gr.skip()

        def draw(turns: dict, shown: str, *values):
            if not shown or tab not in (None, shown):
                yield skipped
                return
            turn = turns[key] = turns.get(key, 0) + 1
            time.sleep(patience)
            try:
                parts = function(*values) if turns[key] == turn else skipped
                for outputs in parts if inspect.isgenerator(parts) else [parts]:
                    if turns[key] != turn:  # a newer choice: what this one would still compute nobody wants
                        yield skipped
                        return
                    yield outputs
            except SAID as error:
                if turns[key] == turn:
                    raise said(error) from error

        return draw

    def finish(self) -> None:
        """Wires what the tabs have added."""
        for function, inputs, outputs, triggers in self._draws:
            inputs = [self._turns, self.shown, *inputs]
            gr.on(triggers, function, inputs, outputs, trigger_mode="multiple", show_progress="minimal", **OPTIONS)
        outputs = [self.hand, self.before, *(component for component, _ in self._on_take)]
        for listener, origin, inputs in self._takes:
            listener(self._take(origin), [self.hand, *inputs], outputs, show_progress="hidden", **OPTIONS)

    def _take(self, origin: Callable) -> Callable:
        def take(event: gr.EventData, hand: str, *values):
            try:
                image = self.image(origin(hand, event, *values))
            except SAID as error:
                raise said(error) from error
            return [str(image.origin), hand, *(value(image) for _, value in self._on_take)]

        return take

    def label(self, name: str, each_in_turn: bool = False):
        """A choice of a class; of a model without classes, one that nobody sees."""
        facts = self.model.facts
        if facts.num_classes == 0:
            return gr.Number(None, visible=False)
        if facts.num_classes is None:
            component = gr.Number(0, label="Class", precision=0, minimum=0)
            return self.choices.add(name, component, choices_lib.whole(0, 2**31))
        names = [*facts.classes, *map(str, range(len(facts.classes), facts.num_classes))]
        options = [
            *([("each in turn", EACH_IN_TURN)] if each_in_turn else []),
            *zip(names, range(len(names)), strict=True),
        ]
        component = gr.Dropdown(options, value=options[0][1], label="Class")
        return self.choices.add(name, component, choices_lib.one_of(*(value for _, value in options)))

    def seed(self, name: str, label: str = "Seed") -> gr.Number:
        """A choice of a seed."""
        component = gr.Number(0, label=label, precision=0, minimum=-origins.MAX_SEED, maximum=origins.MAX_SEED)
        return self.choices.add(name, component, choices_lib.whole(-origins.MAX_SEED, origins.MAX_SEED))

    def temperature(self, name: str, label: str = "Temperature", value: float = 1.0) -> gr.Slider:
        """A choice of a temperature."""
        low, high = origins.LOWEST_TEMPERATURE, origins.HIGHEST_TEMPERATURE
        component = gr.Slider(low, high, value, step=0.05, label=label)
        return self.choices.add(name, component, choices_lib.number(low, high))

    def count(self, name: str, label: str, low: int, high: int, value: int) -> gr.Slider:
        """A choice of how many; what the model does not take at once is asked for in batches."""
        component = gr.Slider(low, high, value, step=1, label=label)
        return self.choices.add(name, component, choices_lib.whole(low, high))


def copied(template: str, **options) -> gr.HTML:
    """A text in a template of `markup`, with a button that copies it."""
    script = "explore.copy(element)"
    return gr.HTML("", html_template=template, js_on_load=script, apply_default_css=False, **options)


def said(error: Exception) -> gr.Error:
    """An error as a message in the page."""
    return gr.Error(str(error), duration=30, title="That did not work", print_exception=False)


def picture(image: Image, num_values: int, name: str = "", caption: str = "") -> markup.Picture:
    """An image as a picture to be clicked on; its name says what it is, if not what it comes from."""
    shown = pictures.to_uint8_picture(image.pixels, num_values)
    return markup.Picture(shown, name or image.origin.description, caption, str(image.origin))


def made(pixels: np.ndarray, label: int | None, num_values: int, name: str, caption: str = "") -> markup.Picture:
    """Pixel values [H, W, C] that are no sample of a seed, as a picture to be clicked on."""
    return picture(Image(origins.given(pixels, label), pixels, np.zeros(0, np.float32)), num_values, name, caption)
