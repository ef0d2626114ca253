"""From what a command line names to the model that the page is of."""

import pathlib

from pixelvae_tf import hub
from pixelvae_tf import pretrained as pretrained_lib
from pixelvae_tf.export import client, local
from pixelvae_tf.export.explore.explored_model import ExploredModel, facts_of_local, facts_of_server
from pixelvae_tf.model_card import PAGE, page


def pretrained(name: str) -> ExploredModel:
    """Trained weights by name; errors of `local.pretrained`."""
    folder = hub.fetch(name)
    place = name if hub.is_portable(name) else str(folder.absolute())
    code = ("local", f"local.pretrained({place!r})")
    return _local(local.pretrained(folder), name, code, page(pretrained_lib.find(folder).card))


def saved_model(path: str | pathlib.Path) -> ExploredModel:
    """An export; errors of `local.SavedModel`."""
    model = local.SavedModel(path)
    code = ("local", f"local.SavedModel({str(model.path.absolute())!r})")
    card = (model.path / PAGE).read_text(encoding="utf-8") if (model.path / PAGE).is_file() else ""
    return _local(model, f"{model.path.absolute().parent.name}/{model.path.name}", code, card)


def _local(model: local.Local, name: str, code: tuple[str, str], card: str) -> ExploredModel:
    return ExploredModel(model, facts_of_local(model), name, code, card)


def server(address: str, name: str, timeout: float) -> ExploredModel:
    """A served model; errors of `client.Rest`."""
    model = client.Rest(address, name, timeout)
    code = ("client", f"client.Rest({address!r}, {name!r}, {timeout!r})")
    return ExploredModel(model, facts_of_server(model), f"{name} of {address}", code)
