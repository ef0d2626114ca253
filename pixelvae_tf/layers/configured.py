"""What Keras stores of layers: the arguments of their constructors, and which of their parts are frozen."""

import inspect

import keras

PACKAGE = "pixelvae_tf"


class Freezable(keras.layers.Layer):
    """A layer that freezes its parts when it is built, if it is frozen itself.

    Keras hands `trainable` to the constructor, when it loads a layer too; parts that are made there would not hear.
    """

    def _post_build(self) -> None:  # Keras' hook
        super()._post_build()
        self.freeze_parts()

    def freeze_parts(self) -> None:
        """Freezes the parts of a frozen layer."""
        if not self.trainable:
            for part in self._flatten_layers(include_self=False):
                part.trainable = False


def frozen_parts(layer: keras.layers.Layer) -> list[int]:
    """Which of the layers within a layer are frozen: their places among all of them."""
    return [place for place, part in enumerate(layer._flatten_layers(include_self=False)) if not part.trainable]


def freeze(layer: keras.layers.Layer, places: list[int]) -> None:
    """Freezes the layers within a layer that `frozen_parts` named."""
    parts = list(layer._flatten_layers(include_self=False))
    for place in places:
        parts[place].trainable = False


class Configured(Freezable):
    """A layer that keeps each argument of its constructor as an attribute of its name: these are its config.

    Keras derives a config by itself, but not of layers that are given a dtype policy. A subclass names those of its
    parent's arguments that it leaves open: what goes through **kwargs is not kept.
    """

    def get_config(self) -> dict:
        parameters = inspect.signature(type(self).__init__).parameters.values()
        kept = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = [parameter.name for parameter in parameters if parameter.kind in kept]
        return {**super().get_config(), **{name: getattr(self, name) for name in names if name != "self"}}
