"""Checks of what users give."""

import numpy as np
import pytest
import tensorflow as tf

from pixelvae_tf import checks


@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e6])
def test_temperatures_in_the_range_are_good(temperature):
    assert checks.good_temperature(np.float64(temperature))
    checks.check_temperature([1.0, temperature])


@pytest.mark.parametrize("temperature", [-1.0, 0.0, 0.9e-6, 1.1e6, np.inf, np.nan])
def test_other_temperatures_are_refused(temperature):
    assert not checks.good_temperature(np.float64(temperature))
    with pytest.raises(ValueError, match="temperature must be in"):
        checks.check_temperature([1.0, temperature])


def test_labels_that_are_first_known_in_a_graph_are_checked_when_it_runs():
    one_hot = tf.function(
        lambda labels: checks.one_hot(labels, 3, "float32"), input_signature=[tf.TensorSpec([None], tf.int32)]
    )
    np.testing.assert_array_equal(one_hot([2, 0]), [[0, 0, 1], [1, 0, 0]])
    for labels in ([0, -1], [3, 0]):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"labels must be integers \[B\] in 0\.\.2"):
            one_hot(labels)
