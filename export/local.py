"""Models on this machine, called like served ones: a SavedModel, a run, or pretrained weights."""

import functools
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pixelvae_tf import config as config_lib
from pixelvae_tf import limits
from pixelvae_tf.errors import assertion, first_line
from pixelvae_tf.export import client
from pixelvae_tf.files import plain_path
from pixelvae_tf.model_card import CARD
from pixelvae_tf.models.config import COMPLETION_ROUNDS


class Local(client.Model):
    """A model on this machine. TensorFlow is imported when it is first called.

    Args:
      config: the config of the run that trained it.
      classes: the names that labels are numbers of, where they have names.
      max_batch: the largest batch that it takes.
      completion_rounds: of `complete`; None of a model without `complete_in_rounds`.
    """

    def __init__(
        self, config: config_lib.Config, classes: Sequence[str], max_batch: int, completion_rounds: int | None
    ):
        self.config, self.classes, self.max_batch = config, list(classes), max_batch
        self.completion_rounds = completion_rounds


class SavedModel(Local):
    """A version that `pixelvae-export` wrote.

    Args:
      path: a version's directory, or a directory of versions, of which the newest is loaded.

    Raises:
      ValueError: if there is none, or its card cannot be read.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = newest_version(plain_path(path, "saved_model"))
        try:
            card = json.loads((self.path / CARD).read_text())
            config = config_lib.from_json(json.dumps(card["config"]))
            chosen = "complete_in_rounds" in card.get("signatures", ())  # earlier versions had no choice of rounds
            rounds = card["completion_rounds"] if chosen else None
            # Earlier versions exported no limit.
            max_batch, classes = int(card.get("max_batch", limits.MAX_BATCH)), card["data"].get("classes", ())
            super().__init__(config, classes, max_batch, rounds)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"{CARD} must have a config that this version knows. Received: {str(self.path)!r}: {error}"
            ) from error
        self._card = card

    @functools.cached_property
    def networks(self):
        """For `pixelvae_tf.codec`, a `codec.Networks`."""
        from pixelvae_tf.codec import Networks

        return Networks(self._loaded, self._card, self.config.model, str(self.path))

    @functools.cached_property
    def _loaded(self):
        import tensorflow as tf

        try:
            return tf.saved_model.load(str(self.path))
        except MemoryError:
            raise
        except Exception as error:  # TensorFlow's loader raises anything for damaged files
            raise ValueError(f"saved_model must be whole. Received: {str(self.path)!r}: {first_line(error)}") from error

    def signature(self, name: str) -> client.Signature:
        """See `client.Model`."""
        if name not in self._loaded.signatures:
            raise self._no_signature(name, str(self.path), self._loaded.signatures)
        function = self._loaded.signatures[name]
        return client.Signature(_tensors(function.structured_input_signature[1]), _tensors(function.structured_outputs))

    def _call(self, name, inputs, outputs):
        return _answer(lambda tensors: self._loaded.signatures[name](**tensors), inputs)


class Weights(Local):
    """A model with weights, called through the functions that `pixelvae-export` would write.

    Args:
      load: reads it; the model comes first.
      config, classes: as of `Local`.
    """

    def __init__(self, load: Callable[[], tuple], config: config_lib.Config, classes: Sequence[str] = ()):
        rounds = COMPLETION_ROUNDS if config.model.levels else None
        super().__init__(config, classes, limits.MAX_BATCH, rounds)
        self._load = load

    @functools.cached_property
    def _functions(self) -> dict[str, Any]:
        import tensorflow as tf

        from pixelvae_tf.export.options import ServingOptions
        from pixelvae_tf.export.signatures import signatures

        model, *_ = self._load()
        return {
            name: tf.function(signature.function, input_signature=[signature.inputs], autograph=False)
            for name, signature in signatures(model, ServingOptions(self.max_batch)).items()
        }

    def signature(self, name: str) -> client.Signature:
        """See `client.Model`."""
        if name not in self._functions:
            raise self._no_signature(name, self.config.model.pixels.network, self._functions)
        # The outputs are known only after tracing, and need no check: they are ours.
        return client.Signature(_tensors(self._functions[name].input_signature[0]), {})

    def _call(self, name, inputs, outputs):
        return _answer(self._functions[name], inputs)


def _answer(function: Callable[[dict], dict], inputs: client.Arrays) -> client.Arrays:
    """What a signature gives; raises a ServerError for what it refuses as a whole, as a server does."""
    import tensorflow as tf

    try:
        outputs = function({key: tf.constant(value) for key, value in inputs.items()})
    except tf.errors.InvalidArgumentError as error:
        raise client.ServerError(f"the request was refused: {assertion(error)}") from error
    return {key: value.numpy() for key, value in outputs.items()}


def pretrained(name: str | os.PathLike) -> Weights:
    """Trained weights by name; those of a hub are downloaded.

    Args:
      name: as for `pretrained.load_pretrained`.

    Raises:
      ValueError, OSError: as there; a ValueError when it is called, if its weights are not as they were saved.
    """
    from pixelvae_tf import pretrained as pretrained_lib

    trained = pretrained_lib.find(name)
    return Weights(lambda: (trained.load(),), trained.config, trained.card["data"].get("classes", ()))


def run(workdir: str | pathlib.Path, weights: str) -> Weights:
    """The model of a run; arguments and errors of `runs.load`."""
    from pixelvae_tf import runs

    classes = (runs.read_images(workdir) or {}).get("classes", ())
    return Weights(lambda: runs.load(workdir, weights), runs.read_config(workdir), classes)


def newest_version(path: pathlib.Path) -> pathlib.Path:
    """A version's directory: the path itself, or the highest number in it.

    Raises:
      ValueError: if there is none.
    """

    def complete(version: pathlib.Path) -> bool:
        return (version / CARD).is_file() and (version / "saved_model.pb").is_file()

    if complete(path):
        return path
    versions = (
        [child for child in path.iterdir() if child.name.isdecimal() and complete(child)] if path.is_dir() else []
    )
    if not versions:
        raise ValueError(
            "saved_model must be a version directory written by pixelvae-export, with saved_model.pb "
            f"and {CARD} in it, or a directory of such versions. Received: {str(path)!r}"
        )
    return max(versions, key=lambda version: int(version.name))


def _tensors(specs: dict) -> dict[str, client.Tensor]:
    return {
        name: client.Tensor(
            np.object_ if spec.dtype.name == "string" else spec.dtype.as_numpy_dtype,
            tuple(-1 if size is None else size for size in spec.shape),
        )
        for name, spec in specs.items()
    }
