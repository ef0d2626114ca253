"""Adam (Kingma and Ba 2015), whose step is one operation a variable.

Keras computes it with a dozen, which for hundreds of small variables take longer to trace and to run than their
arithmetic does.
"""

import keras
import tensorflow as tf

from pixelvae_tf.layers.configured import PACKAGE


def scalars(optimizer: keras.optimizers.Adam, learning_rate: tf.Tensor, dtype: str | tf.DType) -> dict[str, tf.Tensor]:
    """What the next step of an Adam needs beside its moments; see `move`.

    Args:
      optimizer: built.
      learning_rate: scalar.
      dtype: of the weights.
    """
    steps = tf.cast(optimizer.iterations + 1, tf.float64)
    values = {
        "beta1_power": optimizer.beta_1**steps,
        "beta2_power": optimizer.beta_2**steps,
        "lr": learning_rate,
        # Tensors, as a number would be a constant of each variable's own.
        "beta1": tf.constant(optimizer.beta_1, dtype),
        "beta2": tf.constant(optimizer.beta_2, dtype),
        "epsilon": tf.constant(optimizer.epsilon, dtype),
    }
    return {name: tf.cast(value, dtype) for name, value in values.items()}


def move(
    weights: tf.Variable, gradient: tf.Tensor, momentum: tf.Variable, velocity: tf.Variable, numbers: dict
) -> None:
    """Adam's step of one variable, with the `scalars` of its optimizer."""
    tf.raw_ops.ResourceApplyAdam(
        var=weights.handle, m=momentum.handle, v=velocity.handle, grad=gradient, use_nesterov=False, **numbers
    )


@keras.saving.register_keras_serializable(PACKAGE)
class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, for one device; `compile("adam")` takes it.

    Args:
      **options: of `keras.optimizers.Adam`, but amsgrad.

    Raises:
      ValueError: for amsgrad, whose maximum the operation does not keep.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if self.amsgrad:
            raise ValueError("amsgrad must be False; keras.optimizers.Adam has it. Received: True")

    def apply(self, grads, trainable_variables=None):
        """Moves the weights."""
        # Of this graph, for all variables that are moved below. Not tracked: tensors are no part of the state.
        object.__setattr__(self, "_numbers", {})
        super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        """Moves one of them, a tf.Variable."""
        if variable.dtype not in self._numbers:
            self._numbers[variable.dtype] = scalars(self, learning_rate, variable.dtype)
        index = self._get_variable_index(variable)
        moments = self._momentums[index], self._velocities[index]
        move(
            variable,
            tf.cast(gradient, variable.dtype),
            *(moment.value for moment in moments),
            self._numbers[variable.dtype],
        )
