"""A model as a folder that travels, in KerasHub's layout; `hub` has its files and finds it."""

import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import pathlib
import tempfile
import typing
from collections.abc import Iterator
from typing import Any

from pixelvae_tf import hub
from pixelvae_tf.fields import check
from pixelvae_tf.files import is_new_or_empty, local_path, write_together
from pixelvae_tf.limits import DTYPES
from pixelvae_tf.model_card import hub_page
from pixelvae_tf.models.config import ModelConfig

if typing.TYPE_CHECKING:
    from pixelvae_tf.models import PixelVAE

MODULE, CLASS, REGISTERED = "pixelvae_tf.models.pixel_vae", "PixelVAE", "pixelvae_tf>PixelVAE"
# Where metadata.json has the card, beside KerasHub's entries.
CARD = "pixelvae_tf"
CARD_FIELDS = {
    **dict.fromkeys(("config", "data", "versions", "commands"), dict),
    **dict.fromkeys(("evaluations", "lineage"), list),
    **dict.fromkeys(("fingerprint", "weights"), str),
}
# What Keras, h5py and the config's reader raise for files that are missing, torn or damaged.
UNREADABLE = (OSError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class Presets:
    """Methods of `PixelVAE`, in KerasHub's names: a "preset" there is a folder of trained weights with their config."""

    def save_to_preset(self: "PixelVAE", preset_dir: str | os.PathLike, card: dict | None = None) -> None:
        """Writes the model as a folder that travels: its config, weights, metadata, and a model card for the hubs.

        `pixelvae-export --preset_dir` does so for a run, with its evaluations and commands.

        Args:
          preset_dir: a new or empty folder, or one to be written anew.
          card: what the model card says of the training, of `export.card.make_card`; None for nothing. A "name" in it
            takes the place of the folder's.

        A README.md that somebody edited since it was written stays, as README.old.md.

        Raises:
          ValueError: if the folder holds other files, such as a run or a model of another library.
          OSError: if it cannot be written.

        Examples:
          >>> model = pixelvae_tf.PixelVAE.from_preset("digits/gated_pixel_vae")
          >>> model.save_to_preset("presets/digits")
        """
        from pixelvae_tf.models import weights

        folder = local_path(preset_dir, "preset_dir")
        before = _written_page(folder)
        if before is None and not is_new_or_empty(folder):
            raise ValueError(
                "preset_dir must be a new or empty folder, or one that save_to_preset wrote. "
                f"Received: {str(preset_dir)!r}, which holds something else"
            )
        with tempfile.TemporaryDirectory() as temporary:
            path = pathlib.Path(temporary, hub.WEIGHTS)
            self.save_weights(path)
            weights.halve_exact(path)
            content = path.read_bytes()
        card = {"name": folder.absolute().name, **(card or {}), **weights.describe(self)}
        try:  # all of it, before a file of another model is replaced
            config = {**card.get("config", {}), "model": dataclasses.asdict(self.config)}
            files: dict[str, str | bytes] = {
                hub.WEIGHTS: content,
                hub.CONFIG: _as_json(_keras_config(self)),
                hub.README: hub_page(json.loads(json.dumps({**card, "config": config}))),
                hub.METADATA: _as_json(_metadata(card)),
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"card must be plain data, as export.card.make_card gives it. Received: {card}: {error!r}"
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        if before is not None:
            _keep_edited(folder / hub.README, before)
        write_together({folder / name: file for name, file in files.items()})

    @classmethod
    def from_preset(cls, preset: str | os.PathLike) -> "PixelVAE":
        """A trained model from the package, a folder or a hub.

        Args:
          preset: a name of `pixelvae_tf.pretrained.names()`; a folder that `save_to_preset` wrote; "hf://user/name";
            or "kaggle://user/model/keras/variation[/version]".

        Returns:
          The model. `pixelvae_tf.load_pretrained` gives the config of its run and the step too.

        Raises:
          ValueError: if it names nothing, its files are not as they were saved, or the package that speaks with the
            hub is not installed.
          OSError: if the hub does not give it.

        Examples:
          >>> model = pixelvae_tf.PixelVAE.from_preset("digits/gated_pixel_vae")
          >>> model.encode(np.zeros((2, 8, 8, 1), "uint8"))["z1_mean"].shape
          TensorShape([2, 16])
        """
        return read(preset).load()


@dataclasses.dataclass(frozen=True)
class Preset:
    """A folder of trained weights.

    Attributes:
      name: how it was named.
      folder: where its files are.
      config: of the model.
      dtype: Keras' dtype policy of the model.
      card: what its metadata says of the training; "config" has no "model".
    """

    name: str
    folder: pathlib.Path
    config: ModelConfig
    dtype: str
    card: dict

    def load(self) -> "PixelVAE":
        """The model with its weights; a ValueError if they are not as they were saved."""
        from pixelvae_tf import keras_backend

        keras_backend.check()
        from pixelvae_tf import checks, layers
        from pixelvae_tf.models import PixelVAE, weights

        checks.check_eager()  # no fault of the files
        with as_saved(self.name, self.folder):
            with layers.seeded_weights(0):  # leaves Python's random numbers, which Keras draws from, as they are
                model = PixelVAE(self.config, dtype=self.dtype)
            try:
                model.load_weights(self.folder / hub.WEIGHTS)
            except ValueError as error:
                raise ValueError(
                    f"{hub.WEIGHTS} has not the weights that {hub.CONFIG} says: {_first_misfit(error)}"
                ) from error
            # Keras silently keeps a weight that is missing in the file.
            if weights.fingerprint(model) != self.card["fingerprint"]:
                raise ValueError(f"weights of fingerprint {weights.fingerprint(model)}, not {self.card['fingerprint']}")
        return model


def read(preset: str | os.PathLike) -> Preset:
    """Finds trained weights and reads what is said of them; errors of `hub.fetch`, and as `Preset.load`.

    TensorFlow is not needed for it.
    """
    folder, name = hub.fetch(preset), os.fspath(preset)
    for file in (hub.CONFIG, hub.METADATA, hub.WEIGHTS):
        if not (folder / file).is_file():
            raise ValueError(
                f"preset must have the files of save_to_preset, {', '.join(hub.FILES)}. "
                f"Received: {name!r}, which has no {file}"
            )
    with as_saved(name, folder):
        stored, card = (_read_json(folder / file) for file in (hub.CONFIG, hub.METADATA))
        registered, card = stored.get("registered_name"), card.get(CARD)
        if registered != REGISTERED:
            whose = repr(registered) if registered else "another program"
            raise ValueError(f"{hub.CONFIG} is that of {whose}, not of a PixelVAE")
        if not isinstance(card, dict):
            raise ValueError(f"{hub.METADATA} has nothing of {CARD}")
        for field, kind in CARD_FIELDS.items():
            if not isinstance(card.get(field, kind()), kind):
                raise ValueError(f"{hub.METADATA} has no {kind.__name__} {field!r} of {CARD}")
        classes = card.get("data", {}).get("classes", [])
        if not isinstance(classes, list) or not all(isinstance(each, str) for each in classes):
            raise ValueError(f"{hub.METADATA} has no names of classes, but {classes!r}")
        dtype = stored["config"]["dtype"]["config"]["name"]
        if dtype not in DTYPES:
            raise ValueError(f"{hub.CONFIG} has a dtype policy {dtype!r}, not one of {', '.join(DTYPES)}")
        model = stored["config"]["config"]
        config = check(ModelConfig, model, "config")
        _page(card, model)  # which needs all that a card has
        return Preset(name, folder, config, dtype, card)


@contextlib.contextmanager
def as_saved(name: str, folder: pathlib.Path) -> Iterator[None]:
    """Explains a failed read of a folder's files."""
    try:
        yield
    except UNREADABLE as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"the files of {name!r} must be as save_to_preset wrote them; get them again. Received: {folder}: {reason}"
        ) from error


def _written_page(folder: pathlib.Path) -> str | None:
    """The model card that was written into a folder of `save_to_preset`; None for any other folder."""
    try:
        card, stored = (_read_json(folder / file) for file in (hub.METADATA, hub.CONFIG))
        return _page(card[CARD], stored["config"]["config"])
    except UNREADABLE:
        return None


def _page(card: dict, model: dict) -> str:
    """The model card of what metadata.json says of the training and config.json of the model."""
    return hub_page({**card, "config": {**card.get("config", {}), "model": model}})


def _keep_edited(page: pathlib.Path, written: str) -> None:
    """Puts a model card that is not as it was written out of the way of the next one."""
    if page.is_file() and page.read_text(encoding="utf-8", errors="replace") != written:
        names = (page.with_suffix(f".old{number or ''}.md") for number in itertools.count())
        page.replace(next(path for path in names if not path.exists()))


def _first_misfit(error: ValueError) -> str:
    """What Keras says of the first layer that does not fit, without the list of all."""
    return " ".join(str(error).partition("List of objects")[0].split())


def _read_json(path: pathlib.Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return content


def _keras_config(model: "PixelVAE") -> dict:
    """The model as Keras serializes it, without what belongs to a process: its name, and how it was compiled."""
    import keras

    policy = keras.dtype_policies.serialize(model.dtype_policy)
    config = {"dtype": policy, "config": dataclasses.asdict(model.config)}
    return {"module": MODULE, "class_name": CLASS, "config": config, "registered_name": REGISTERED}


def _metadata(card: dict) -> dict:
    """KerasHub's entries, of which there are no tasks here, and the card."""
    config = {name: part for name, part in card.get("config", {}).items() if name != "model"}  # that is in config.json
    return {
        "keras_version": card["versions"]["keras"],
        "parameter_count": card["num_weights"],
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "tasks": [],
        CARD: {**card, **({"config": config} if config else {})},
    }


def _as_json(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"
