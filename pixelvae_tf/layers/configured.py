"""Keras configs of layers that keep what their constructors are given."""

import inspect

import keras

PACKAGE = "pixelvae_tf"


class Configured(keras.layers.Layer):
    """A layer that keeps each argument of its constructor as an attribute of its name: these are its config.

    Keras derives a config by itself, but not of layers that are given a dtype policy. A subclass names those of its
    parent's arguments that it leaves open: what goes through **kwargs is not kept.
    """

    def get_config(self) -> dict:
        parameters = inspect.signature(type(self).__init__).parameters.values()
        kept = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = [parameter.name for parameter in parameters if parameter.kind in kept]
        return {**super().get_config(), **{name: getattr(self, name) for name in names if name != "self"}}
