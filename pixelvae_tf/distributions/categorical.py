"""TFP's categorical distribution, with a log-probability that is twice as fast on CPUs."""

import tensorflow as tf
import tensorflow_probability as tfp


class Categorical(tfp.distributions.Categorical):
    """`tfd.Categorical` of logits [..., K].

    TFP's log-probability is `tf.nn.sparse_softmax_cross_entropy_with_logits`, which on CPUs takes one exponential after
    the other, a third of a step of training over 256 values. A softmax of all of them is vectorised.
    """

    def _log_prob(self, value):
        logits, value = self.logits_parameter(), tf.cast(value, self.dtype)
        if not (value.shape.is_fully_defined() and value.shape == logits.shape[:-1]):
            static = tf.broadcast_static_shape(logits.shape[:-1], value.shape)
            shape = tf.broadcast_dynamic_shape(tf.shape(logits)[:-1], tf.shape(value))
            # Of what has that shape already no copy is made.
            logits = tf.broadcast_to(logits, tf.concat([shape, logits.shape[-1:]], 0))
            value = tf.ensure_shape(tf.broadcast_to(value, shape), static)
        flat = log_softmax_at(tf.reshape(logits, (-1, logits.shape[-1])), tf.reshape(value, [-1]))
        return tf.reshape(flat, tf.shape(value))


def log_softmax_at(logits: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """log softmax(logits)[n, values[n]].

    Args:
      logits: [N, K].
      values: integers [N].

    Returns:
      [N].
    """

    @tf.custom_gradient
    def at_values(logits):
        highest = tf.reduce_max(logits, -1)
        # That of the highest is at least 1 / K, so its logarithm is as exact as the normaliser's own.
        normalizer = highest - tf.math.log(tf.reduce_max(tf.nn.softmax(logits), -1))

        def gradient(upstream):
            # Computed again, for gradients of gradients; in a graph both softmaxes become one.
            one_hot = tf.one_hot(values, logits.shape[-1], dtype=logits.dtype)
            return upstream[:, None] * (one_hot - tf.nn.softmax(logits))

        return tf.gather(logits, values, batch_dims=1) - normalizer, gradient

    return at_values(logits)
