"""Networks that are no causal layers of ours: a user's own, which compute whole images alone."""

import weakref

import keras
import tensorflow as tf

# By network, and by what else it is made with: `sampling` keeps the graphs of each. They go when the network goes.
_made: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def as_whole_images(
    network: keras.layers.Layer, shape: tuple[int, int, int], units: int, context_shape: tuple | None
) -> "WholeImages":
    """A network as `WholeImages`, the same one for all grids of these sizes."""
    if not isinstance(network, keras.layers.Layer):
        raise ValueError(f"network must be a Keras layer or model. Received: {network!r}")
    made, key = _made.setdefault(network, {}), (tuple(shape), units, context_shape and tuple(context_shape))
    if key not in made:
        made[key] = WholeImages(network, shape, units, context_shape)
    return made[key]


class WholeImages:
    """Any causal Keras layer as a network of `sampling`, which knows how to compute whole images alone.

    Args:
      network: the layer; built here if it is not. Whoever uses this keeps it.
      shape: (H, W, C) of values.
      units: how many parameters a location has.
      context_shape: None, or (None, ...).
    """

    def __init__(self, network: keras.layers.Layer, shape: tuple[int, int, int], units: int, context_shape):
        self._network, self._output_shape = weakref.ref(network), (None, *shape[:2], units)
        self.compute_dtype = network.compute_dtype
        self.channel_groups = getattr(network, "channel_groups", 1)
        if not network.built:
            with tf.init_scope():
                self(tf.zeros((1, *shape)), None if context_shape is None else tf.zeros((1, *context_shape[1:])))

    def __call__(self, values: tf.Tensor, context: tf.Tensor | None = None, training: bool = False, seed=None):
        network = self._network()
        assert network is not None
        values = tf.cast(values, self.compute_dtype)
        params = network(values if context is None else [values, context], training=training)
        check_params(params.shape, self._output_shape)
        return params


def check_params(shape: tuple, expected: tuple) -> None:
    """Raises a ValueError unless a network gives the parameters of its site."""
    if not tf.TensorShape(shape).is_compatible_with(expected):
        raise ValueError(
            f"network must give {list(expected)}, the parameters of the site at every location. Received: {list(shape)}"
        )
