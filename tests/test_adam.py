"""Adam in one operation a variable is Keras' Adam."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pixelvae_tf import adam

OPTIONS = [
    {"learning_rate": 0.01, "beta_1": 0.7, "epsilon": 0.1},
    {"learning_rate": keras.optimizers.schedules.CosineDecay(0.1, 3, alpha=0.1), "clipnorm": 0.5},
    {"gradient_accumulation_steps": 2, "use_ema": True},
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
def test_it_moves_variables_as_keras_does(options, dtype):
    rng, moved = np.random.default_rng(0), []
    starts, gradients = (rng.normal(size=(4, 2, 3)) for _ in range(2))
    for optimizer in (adam.Adam(**options), keras.optimizers.Adam(**options)):
        variables = [keras.Variable(start, dtype=dtype) for start in starts[:2]]
        optimizer.build(variables)
        apply = tf.function(lambda *values, optimizer=optimizer: optimizer.apply(list(values)), autograph=False)
        for first, second in zip(gradients, gradients[::-1], strict=True):
            apply(tf.constant(first, dtype), tf.constant(second, dtype))
        moved.append([variable.numpy() for variable in (*variables, *optimizer.variables)])
    assert np.abs(moved[0][0] - starts[0]).max() > 1e-3
    # Keras' betas are float32 in any case, so that 1 - beta_2 is 6e-5 off; the steps are of 0.1 at most.
    for ours, theirs in zip(*moved, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_amsgrad_is_refused_as_it_would_be_another_step():
    with pytest.raises(ValueError, match=r"amsgrad must be False; keras\.optimizers\.Adam has it"):
        adam.Adam(amsgrad=True)


def test_a_model_compiled_by_name_is_saved_and_loaded_with_it():
    optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(adam.Adam(0.3, beta_2=0.9)))
    assert type(optimizer) is adam.Adam and optimizer.get_config()["beta_2"] == 0.9
    assert float(optimizer.learning_rate) == pytest.approx(0.3)
