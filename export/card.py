"""Model cards: files inside a SavedModel, as JSON for programs and as a page for people."""

import json
import pathlib
from collections.abc import Sequence

import tensorflow as tf

from pixelvae_tf import config as config_lib
from pixelvae_tf import data
from pixelvae_tf.export.options import ServingOptions
from pixelvae_tf.files import write_together
from pixelvae_tf.model_card import CARD, PAGE, page
from pixelvae_tf.models import PixelVAE
from pixelvae_tf.models import weights as weights_lib

__all__ = ["make_card"]


def make_card(
    config: config_lib.Config,
    weights: str,
    step: int,
    evaluations: Sequence[dict] = (),
    commands: dict[str, str | None] | None = None,
    classes: Sequence[str] = (),
) -> dict:
    """Describes a run.

    Args:
      config: the run's.
      weights: which of its weights these are, "best" or "latest".
      step: that they are from.
      evaluations: reports of pixelvae-evaluate of these weights.
      commands: by what each is for: "train", "export", "evaluate".
      classes: the names that labels are numbers of, where they have names.

    Returns:
      Plain data, to which "lineage" may be added: `runs.read_lineage`.
    """
    name, binarization = data.describe(config.data)
    return {
        "config": json.loads(config_lib.to_json(config)),
        "weights": weights,
        "step": step,
        "data": {"name": name, "binarization": binarization, **({"classes": list(classes)} if classes else {})},
        "evaluations": list(evaluations),
        "commands": commands or {},
    }


def describe(
    model: PixelVAE, endpoints: dict[str, tf.types.experimental.PolymorphicFunction], options: ServingOptions
) -> dict:
    """Describes a model and how it is served, as plain data."""
    return {
        **weights_lib.describe(model),
        "max_batch": options.max_batch,
        # Without latents `complete` has none.
        "completion_rounds": options.completion_rounds if model.num_levels else 0,
        "warmup": list(options.warmup),
        "xla": options.xla,
        "xla_parts": options.xla_parts,
        "signatures": {
            name: {
                "inputs": _tensors(endpoint.input_signature[0]),
                "outputs": _tensors(endpoint.get_concrete_function().structured_outputs),
            }
            for name, endpoint in sorted(endpoints.items())
        },
    }


def _tensors(specs: dict[str, tf.TensorSpec]) -> dict[str, dict]:
    return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()}


def write(card: dict, saved_model: pathlib.Path) -> None:
    """Writes a card into a SavedModel, as JSON and as a page."""
    (saved_model / CARD).parent.mkdir(exist_ok=True)
    write_together({saved_model / CARD: json.dumps(card, indent=2) + "\n", saved_model / PAGE: page(card)})
