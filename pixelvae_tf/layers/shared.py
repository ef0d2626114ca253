"""Layers that are alike share their graph: it is traced for the first of them, and called with the weights of each.

Tracing costs Python half a millisecond an operation, and as long again for its gradient; then TensorFlow optimizes the
graph. Of twelve blocks that are alike, both see one, and twelve calls.
"""

import json
import weakref
from typing import Any

import keras
import tensorflow as tf

# The functions that were traced for a layer. They go when the layer goes.
_functions = weakref.WeakKeyDictionary()


def alike(layers: list[keras.layers.Layer]) -> list[keras.layers.Layer | None]:
    """For each of some built layers the first one that is like it; None for a layer that is like no other."""
    kinds = [_kind(layer) for layer in layers]
    return [
        layers[kinds.index(kind)] if kinds.count(kind) > 1 else None for kind, layer in zip(kinds, layers, strict=True)
    ]


def _kind(layer: keras.layers.Layer) -> Any:
    """What a layer computes as a function of its weights: class, config without names, and the shapes of the weights.

    Another for each layer that has no weights, or no config: layers of users' own need none.
    """
    # What a layer changes itself, such as the seed of a dropout, would be changed in the common graph alone.
    if not layer.weights or len(layer.variables) != len(layer.trainable_variables):
        return object()
    try:
        config = _without_names(keras.saving.serialize_keras_object(layer))
        weights = [(list(weight.shape), weight.dtype) for weight in layer.weights]
        return type(layer), json.dumps([config, weights], sort_keys=True)
    except (NotImplementedError, TypeError):  # of Keras and of json
        return object()


def _without_names(config: Any) -> Any:
    """Without the names of layers: those of dtype policies, or in arguments of users' layers, are what they compute."""
    if isinstance(config, dict):
        dropped = {"name", "build_config"} if {"name", "trainable", "dtype"} <= config.keys() else {"build_config"}
        return {key: _without_names(value) for key, value in config.items() if key not in dropped}
    return [_without_names(value) for value in config] if isinstance(config, list | tuple) else config


def call(alike: keras.layers.Layer | None, layer: keras.layers.Layer, method: str, *inputs, **options) -> Any:
    """`layer.method(*inputs, **options)`, in graphs by the function of `alike`, unless that is None.

    Args:
      alike: the layer whose graph it is, from the function `alike`; or None.
      layer: the layer whose weights are used.
      method: "__call__", or another name.
      *inputs, **options: nests of tensors; each other value in them makes another graph.
    """
    if alike is None or tf.executing_eagerly():
        return getattr(layer, method)(*inputs, **options)
    functions = _functions.setdefault(alike, {})
    if method not in functions:
        reference = weakref.ref(alike)

        def run(weights, inputs, options):
            layer = reference()
            with keras.StatelessScope(zip(layer.weights, weights, strict=True)):
                return getattr(layer, method)(*inputs, **options)

        # Not inlined, or TensorFlow would optimize a copy for each layer.
        functions[method] = tf.function(run, autograph=False, experimental_attributes={"_noinline": True})
    return functions[method]([tf.convert_to_tensor(weight) for weight in layer.weights], inputs, options)
