"""A model depends on its config alone, not on the thread, the name scope or the random state around it."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import pixelvae_tf
from pixelvae_tf import runs
from pixelvae_tf.config import Config, GatedPixelCNNConfig, LevelConfig, ModelConfig, TrainConfig

PIXELS = GatedPixelCNNConfig(
    num_layers=1, filters=4, kernel_size=3, first_kernel_size=3, num_output_layers=1, embedding_dim=2
)
MODEL = ModelConfig((3, 2, 1), 4, [LevelConfig(3, (4,))], PIXELS)


def _build(seed):
    return pixelvae_tf.build(Config(model=MODEL, train=TrainConfig(seed=seed)))


def test_threads_that_build_at_once_get_the_weights_of_their_seeds():
    seeds, weights, together = range(4), {}, threading.Barrier(4)

    def build(seed):
        together.wait()
        weights[seed] = _build(seed).get_weights()

    threads = [threading.Thread(target=build, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in seeds:
        for of_thread, alone in zip(weights[seed], _build(seed).get_weights(), strict=True):
            np.testing.assert_array_equal(of_thread, alone)


def test_a_model_made_without_a_seed_follows_keras_seed():
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        weights.append(pixelvae_tf.models.PixelVAE(MODEL).get_weights()[0])
    np.testing.assert_array_equal(*weights)


def test_names_of_weights_do_not_depend_on_name_scopes():
    names = list(runs.weights_of(_build(0)))
    assert "pixels/params/bias" in names
    with keras.name_scope("mine"), keras.name_scope("too"):
        scoped = _build(0)
    assert list(runs.weights_of(scoped)) == names
    assert runs.fingerprint(scoped) == runs.fingerprint(_build(0))


@pytest.mark.parametrize("around", ["tf.function", "tf.Graph", "tf.data"])
@pytest.mark.parametrize("make", ["build", "load_pretrained", "PixelVAE"])
def test_a_model_made_while_a_graph_is_built_is_refused_with_the_reason(make, around):
    makers = {
        "build": lambda: _build(0),
        "load_pretrained": lambda: pixelvae_tf.load_pretrained("digits/gated_pixel_vae"),
        "PixelVAE": lambda: pixelvae_tf.PixelVAE(MODEL),
    }
    with pytest.raises(RuntimeError, match="a model must be built or loaded eagerly"):
        if around == "tf.function":
            tf.function(makers[make])()
        elif around == "tf.data":
            tf.data.Dataset.range(1).map(lambda _: makers[make]())
        else:
            with tf.Graph().as_default():
                makers[make]()
