"""From the name of trained weights to the folder of their files: of the package, local, or from a hub.

config.json          what the model is made of, as Keras serializes it
metadata.json        versions, the number of parameters, and where the weights are from: the card
model.weights.h5     the weights as Keras saves them: arrays, nothing that could be run
README.md            the model card: what the hubs and people read

The layout and the names are KerasHub's. [1] "hf://user/name" is downloaded by `huggingface_hub` into its own cache,
"kaggle://user/model/keras/variation[/version]" by `kagglehub` into its own. Of the former, nothing else is fetched.

[1] https://github.com/keras-team/keras-hub, keras_hub/src/utils/preset_utils.py
"""

import os
import pathlib
import re

from pixelvae_tf.errors import first_line
from pixelvae_tf.files import local_path

__all__ = ["fetch", "is_portable", "is_preset", "names"]

CONFIG, METADATA, WEIGHTS, README = "config.json", "metadata.json", "model.weights.h5", "README.md"
FILES = (CONFIG, METADATA, WEIGHTS, README)
# The weights that come with the package, <data set>/<model>/.
FOLDER = pathlib.Path(__file__).parent / "pretrained"
HANDLES = {
    "hf://": (re.compile(r"[\w.-]+/[\w.-]+", re.ASCII), "hf://user/name"),
    "kaggle://": (
        re.compile(r"[\w.-]+/[\w.-]+/keras/[\w.-]+(/\d+)?", re.ASCII),
        "kaggle://user/model/keras/variation[/version]",
    ),
}


def names() -> list[str]:
    """The names of the weights that come with the package, <data set>/<model>, sorted."""
    return sorted(path.parent.relative_to(FOLDER).as_posix() for path in FOLDER.glob(f"*/*/{METADATA}"))


def is_portable(source: str) -> bool:
    """Whether it names the same weights on every machine: those of the package, or "hf://..." or "kaggle://..."."""
    return source in names() or source.startswith(tuple(HANDLES))


def portable(source: str) -> str:
    """The same where it is that on every machine, and a path's last name."""
    return source if is_portable(source) else pathlib.PurePath(source).name


def is_preset(source: str) -> bool:
    """Whether it names weights that `fetch` would look for: those of the package, of a hub, or a folder of them."""
    return is_portable(source) or (bool(source) and _is_folder(source))


def _is_folder(source: str) -> bool:
    return "://" not in source and (local_path(source, "preset") / METADATA).is_file()


def check(preset: str) -> None:
    """Checks what can be said of weights before anything is fetched.

    Args:
      preset: as for `fetch`.

    Raises:
      ValueError: if it is none of the forms that `fetch` takes, or there is no such folder.
    """
    for scheme, (pattern, form) in HANDLES.items():
        if preset.startswith(scheme):
            if not pattern.fullmatch(preset.removeprefix(scheme)):
                raise ValueError(f"preset of {scheme} must be {form}. Received: {preset!r}")
            return
    if preset not in names() and (not preset or "://" in preset or not local_path(preset, "preset").is_dir()):
        raise ValueError(
            f"preset must be one of the pretrained models {', '.join(names())}, a folder that save_to_preset wrote, "
            f"or {' or '.join(form for _, form in HANDLES.values())}. Received: {preset!r}"
        )


def fetch(preset: str | os.PathLike) -> pathlib.Path:
    """The folder of trained weights, which is downloaded from a hub if it is there.

    Args:
      preset: a name of the package's weights, as "digits/gated_pixel_vae"; a folder that
        `PixelVAE.save_to_preset` wrote; "hf://user/name"; or "kaggle://user/model/keras/variation[/version]".

    Returns:
      The folder; whether its files are whole is found out by who reads them.

    Raises:
      ValueError: if it is none of these, or the package that speaks with the hub is not installed.
      OSError: if the hub has no such weights, does not give them, or cannot be reached.
    """
    text = os.fspath(preset)
    check(text)
    if text.startswith("hf://"):
        return pathlib.Path(_from_hugging_face(text))
    if text.startswith("kaggle://"):
        return pathlib.Path(_from_kaggle(text))
    return FOLDER / text if text in names() else local_path(text, "preset")


def _from_hugging_face(preset: str) -> str:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ValueError(
            f"hf:// needs huggingface_hub: pip install 'pixelvae_tf[hf]'. Received: {preset!r}; {error}"
        ) from error
    handle = preset.removeprefix("hf://")
    try:
        return huggingface_hub.snapshot_download(handle, allow_patterns=list(FILES), library_name="pixelvae_tf")
    except errors.RepositoryNotFoundError as error:  # and those that want a token, or their terms accepted
        raise OSError(
            f"preset must be a model that the hub gives you: public, or yours after `hf auth login`. "
            f"Received: {preset!r}: {first_line(error)}"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        reason = first_line(error.__cause__ or error)
        raise OSError(
            f"the hub must be reachable for weights that are not in its cache yet. Received: {preset!r}: {reason}"
        ) from error
    # The last are of the library below it: a proxy that refuses, an address that is none, a connection that drops.
    except (errors.HFValidationError, errors.HfHubHTTPError, *errors.HfHubHTTPError.__bases__) as error:
        raise OSError(f"the hub must give its files. Received: {preset!r}: {first_line(error)}") from error


def _from_kaggle(preset: str) -> str:
    try:
        import kagglehub
        from kagglehub import exceptions
    except ImportError as error:
        raise ValueError(
            f"kaggle:// needs kagglehub: pip install 'pixelvae_tf[kaggle]'. Received: {preset!r}; {error}"
        ) from error
    errors = (exceptions.BackendError, exceptions.CredentialError, exceptions.DataCorruptionError)
    errors += (exceptions.NotFoundError, exceptions.UnauthenticatedError, OSError, ValueError)
    try:
        return kagglehub.model_download(preset.removeprefix("kaggle://"))
    except errors as error:  # what requests raises is an OSError
        raise OSError(f"Kaggle must give its files. Received: {preset!r}: {first_line(error)}") from error
