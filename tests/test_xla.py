"""Functions compiled by XLA in parts of the batch."""

import numpy as np
import pytest
import tensorflow as tf

from pixelvae_tf import xla


def cumulate(x, *, factor):
    """A loop, as the samplers have; rows apart, structures out."""
    total = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y + x * factor[:, None]), (0, tf.zeros_like(x)))[1]
    return {"total": total, "pair": (x, factor)}


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_make_the_whole(parts):
    function = xla.compiled(cumulate, parts)
    for batch in (1, 2, 3, 7, 8):
        x = tf.reshape(tf.range(batch * 2.0), (batch, 2))
        factor = tf.range(float(batch))
        # Whole numbers: exact.
        tf.nest.map_structure(np.testing.assert_array_equal, function(x, factor=factor), cumulate(x, factor=factor))


def test_parts_are_cut_at_run_time():
    shapes = []

    def spy(x):
        shapes.append(x.shape.as_list())
        return x

    function = xla.compiled(spy, 2)
    unknown = function.get_concrete_function(tf.TensorSpec([None, 3]))
    for batch in (1, 5):
        np.testing.assert_array_equal(unknown(tf.ones([batch, 3])), np.ones([batch, 3]))
    assert shapes == [[None, 3]]  # traced once, for the whole and for both parts


def test_what_has_no_rows_belongs_to_all_parts():
    def scaled(x, factor, *, how, shift=None):
        return {"sum": tf.add, "product": tf.multiply}[how](x, factor) + (0.0 if shift is None else shift)

    function, x = xla.compiled(scaled, 2), tf.range(5.0)
    np.testing.assert_array_equal(function(x, 0.5, how="product"), x * 0.5)
    np.testing.assert_array_equal(function(x, tf.constant(2.0), how="sum", shift=x), x + 2.0 + x)


def test_there_is_a_part():
    with pytest.raises(ValueError, match=r"parts must be at least 1\. Received: 0"):
        xla.compiled(cumulate, 0)
