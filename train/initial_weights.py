"""Trained weights that a run starts with, and the trainings behind them."""

import dataclasses
import pathlib
import re

import tensorflow as tf

from pixelvae_tf import config as config_lib
from pixelvae_tf import hub, layers, presets, pretrained, runs
from pixelvae_tf.models import PixelVAE


def load(config: config_lib.Config, model: PixelVAE) -> tuple[dict[str, tf.Variable], list[dict]]:
    """Loads what `train.initial_weights` names.

    Args:
      config: the run that starts with them.
      model: of that config.

    Returns:
      The weights by name, all of the model's or, with `train.partial_initial_weights`, those that both models have,
      and all trainings behind them as `runs.read_lineage` gives them.

    Raises:
      ValueError: if it names neither a pretrained model nor a run's directory with weights that can be read, or both,
        or weights of another architecture. A model that goes through images in more orders than the trained one, and
        first in its, is none where its network has a context: what tells it the further ones starts at 0. Partial ones
        must be of a model that shares layers with this one, of the same shapes.
    """
    source = config.train.initial_weights
    if hub.is_preset(source):
        if source in hub.names() and pathlib.Path(source, runs.CONFIG).is_file():
            raise ValueError(
                "train.initial_weights must name a pretrained model or the directory of a run, not both; "
                f"./{source} is the directory. Received: {source!r}"
            )
        trained, trained_config, card = pretrained.load(source)
        lineage = card["lineage"]
        training = {"command": card["commands"]["train"], "step": card["step"], "fingerprint": card["fingerprint"]}
    else:
        try:
            trained, trained_config, step = runs.load(source)
            lineage = runs.read_lineage(source)
        except (OSError, ValueError) as error:
            raise ValueError(
                "train.initial_weights must be the directory of a run or one of the pretrained models "
                f"{', '.join(hub.names())}, or what save_to_preset wrote, in a folder or on a hub. "
                f"Received: {source!r}: {error}"
            ) from error
        training = as_training(trained_config, source, step, trained)
    lineage = [*lineage, training]
    if config.train.partial_initial_weights:
        return _shared(trained, model, source), lineage
    # The weights must match, not the config: dropout, for example, may change.
    trained = _with_orders(trained, config) or trained
    same_orders = trained.config.orders == config.model.orders
    if not same_orders or _shapes(trained) != _shapes(model):
        different = [field for field in config_lib.differences(trained_config, config) if field[0].startswith("model.")]
        raise ValueError(
            f"train.initial_weights must be weights of this architecture. Received: {source!r}, where "
            f"{config_lib.in_words(different, 'that model', 'this config')}; "
            "--config.train.partial_initial_weights copies the layers that both models share"
        )
    return runs.weights_of(trained), lineage


def as_training(config: config_lib.Config, workdir: str, step: int, model: PixelVAE) -> dict:
    """A training as `runs.read_lineage` gives it; it travels with weights, so it says nothing of this machine."""
    command = presets.command_for(presets.without_places(config), f"runs/{pathlib.Path(workdir).absolute().name}")
    return {"command": command, "step": step, "fingerprint": runs.fingerprint(model)}


def _shared(trained: PixelVAE, model: PixelVAE, source: str) -> dict[str, tf.Variable]:
    """The trained weights that mean the same in the model."""
    shapes, anew = _shapes(model), "context"  # by which latents enter: they are others
    if trained.config.num_classes != model.config.num_classes:
        anew += "|/decoder/first/"  # which is given the label beside the latents
    kinds = [[level.prior and level.prior.network for level in each.config.levels] for each in (trained, model)]
    if trained.config.pixels.network != model.config.pixels.network:
        anew += "|^pixels/"
    for number, (theirs, ours) in enumerate(zip(*kinds, strict=False), start=1):
        if theirs != ours:  # a learnt prior bounds the posterior's sigma, so that its head means something else
            anew += f"|^level_{number}/(prior|posterior_head)/"
    weights = runs.weights_of(trained).items()
    shared = {name: weight for name, weight in weights if name in shapes and not re.search(anew, name)}
    for name, weight in shared.items():
        if tuple(weight.shape) != shapes[name]:
            raise ValueError(
                "train.initial_weights must have this model's shapes where it has the same layers. "
                f"Received: {source!r}, where {name} is {tuple(weight.shape)} and not {shapes[name]}"
            )
    if not shared:
        raise ValueError(f"train.initial_weights must share layers with this model. Received: {source!r}, with none")
    return shared


def _with_orders(trained: PixelVAE, config: config_lib.Config) -> PixelVAE | None:
    """The trained model with the orders of the config, if its own are the first of them and it is told by a context."""
    known, orders = trained.config.orders, config.model.orders
    if len(known) == len(orders) or known != orders[: len(known)] or trained.network_context_shape() is None:
        return None
    try:
        with layers.seeded_weights(0):
            wider = PixelVAE(dataclasses.replace(trained.config, orders=orders), dtype=trained.dtype_policy)
    except ValueError:  # a network without an order, or images that are not square
        return None
    weights = runs.weights_of(trained)
    for name, weight in runs.weights_of(wider).items():
        added = [(0, new - old) for old, new in zip(weights[name].shape, weight.shape, strict=True)]
        weight.assign(tf.pad(weights[name], added))
    return wider


def _shapes(model: PixelVAE) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in runs.weights_of(model).items()}
