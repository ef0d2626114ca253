"""From what a command line names to the model that the page is of."""

import pathlib

from pixelvae_tf import pretrained as pretrained_lib
from pixelvae_tf.export import client, local
from pixelvae_tf.export.explore.explored_model import ExploredModel, facts_of_config, facts_of_server
from pixelvae_tf.export.page import PAGE


def pretrained(name: str) -> ExploredModel:
    """A model that comes with the package; errors of `local.pretrained`."""
    model = local.pretrained(name)
    code = ("local", f"local.pretrained({name!r})")
    return _local(model, name, code, (pretrained_lib.FOLDER / name / pretrained_lib.PAGE).read_text(encoding="utf-8"))


def saved_model(path: str | pathlib.Path) -> ExploredModel:
    """An export; errors of `local.SavedModel`."""
    model = local.SavedModel(path)
    code = ("local", f"local.SavedModel({str(model.path.absolute())!r})")
    card = (model.path / PAGE).read_text(encoding="utf-8") if (model.path / PAGE).is_file() else ""
    return _local(model, f"{model.path.absolute().parent.name}/{model.path.name}", code, card)


def _local(model: local.Local, name: str, code: tuple[str, str], card: str) -> ExploredModel:
    return ExploredModel(model, facts_of_config(model.config.model, model.classes, model.max_batch), name, code, card)


def server(address: str, name: str, timeout: float) -> ExploredModel:
    """A served model; errors of `client.Rest`."""
    model = client.Rest(address, name, timeout)
    code = ("client", f"client.Rest({address!r}, {name!r})")
    return ExploredModel(model, facts_of_server(model), f"{name} of {address}", code)
