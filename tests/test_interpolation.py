"""The way between two latents: its ends, its lengths, its turns; of tensors as of arrays."""

import math

import numpy as np
import pytest
import tensorflow as tf

from pixelvae_tf.interpolation import interpolate

# float32 rounds at 6e-8, and the angle of two vectors, by its cosine, at 1e-6 where they are not nearly in line.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(params=["arrays", "tensors", "graph"])
def way(request):
    """The function, from arrays to an array."""
    if request.param == "arrays":
        return interpolate

    def of_tensors(first, last, number):
        return interpolate(first, last, number, tf.experimental.numpy)

    if request.param == "graph":
        of_tensors = tf.function(of_tensors, autograph=False)
    return lambda first, last, number: of_tensors(tf.constant(first), tf.constant(last), number).numpy()


def test_vectors_turn_evenly_and_grow_evenly(way):
    first, last = np.array([[3, 0, 0], [0, 0, 1]], np.float32), np.array([[0, 4, 0], [0, 1, 1]], np.float32)
    path = way(first, last, 5)
    assert path.dtype == np.float32
    np.testing.assert_array_equal(path[:, [0, -1]], np.stack([first, last], axis=1))
    lengths = np.linspace([3, 1], [4, math.sqrt(2)], 5, axis=1)
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), lengths, **CLOSE)
    np.testing.assert_allclose(np.diff(np.arctan2(path[0, :, 1], path[0, :, 0])), math.pi / 8, **CLOSE)
    np.testing.assert_allclose(np.diff(np.arctan2(path[1, :, 1], path[1, :, 2])), math.pi / 16, **CLOSE)


@pytest.mark.parametrize("shape", [(2, 3), (2, 2, 2, 3)])
def test_the_way_has_the_dtype_of_its_ends(way, shape):
    """In float64 sums of the ends' shares are those of float64: 1e-12 is far below what float32 tells."""
    first, last = np.random.default_rng(0).normal(size=(2, *shape))
    path = way(first, last, 3)
    assert path.dtype == np.float64
    np.testing.assert_allclose(path[:, [0, -1]], np.stack([first, last], axis=1), rtol=1e-12)


def test_where_no_turn_is_told_and_in_grids_the_way_is_straight(way):
    first = np.array([[3, 0, 0]], np.float32)
    for one, other in (
        (first, 2 * first),
        (first, -first),
        (first, -first + np.float32(1e-4)),
        (0 * first, first),
        (0 * first, 0 * first),
        (first[:, None], np.array([[[0, 4, 0]]], np.float32)),
    ):
        np.testing.assert_allclose(way(one, other, 3)[0], np.concatenate([one, (one + other) / 2, other]), **CLOSE)
