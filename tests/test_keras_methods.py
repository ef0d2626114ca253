"""Methods that a model inherits from Keras work, or name what they cannot do."""

import numpy as np
import pytest
import tensorflow as tf

import pixelvae_tf
from pixelvae_tf.config import Config, GatedPixelCNNConfig, ModelConfig

PIXELS = GatedPixelCNNConfig(num_layers=1, filters=4, kernel_size=3, first_kernel_size=3, num_output_layers=0)
IMAGES = np.random.default_rng(0).integers(0, 4, (2, 3, 2, 1)).astype(np.uint8)
ONES = np.ones(2)


def _make(num_classes=0):
    return pixelvae_tf.build(Config(model=ModelConfig((3, 2, 1), 4, [], PIXELS, num_classes=num_classes)))


@pytest.fixture(scope="module")
def compiled():
    model = _make()
    model.compile("adam")
    return model


@pytest.mark.parametrize("num_classes", [0, 3])
def test_export_writes_the_bound_of_a_model_that_was_never_called(tmp_path, num_classes):
    model = _make(num_classes)
    model.export(tmp_path, verbose=False)
    inputs = tf.constant(IMAGES)
    if num_classes:
        inputs = {"images": inputs, "labels": tf.constant([0, 2], tf.int64)}
    loaded = tf.saved_model.load(str(tmp_path))
    # The same operations, eagerly and as a graph: float32 rounds at 6e-8.
    expected = model(inputs)["reconstruction_nats"]
    np.testing.assert_allclose(loaded.serve(inputs)["reconstruction_nats"], expected, rtol=1e-5)


def test_export_takes_a_signature_of_the_users_own(tmp_path):
    model = _make()
    model.export(tmp_path, verbose=False, input_signature=[tf.TensorSpec((2, 3, 2, 1), tf.int32)])
    loaded = tf.saved_model.load(str(tmp_path))
    assert loaded.serve(tf.constant(IMAGES, tf.int32))["reconstruction_nats"].shape == (2,)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("class_weight", lambda model: model.fit(IMAGES, ONES, class_weight={0: 1.0, 1: 2.0})),
        ("class_weight", lambda model: model.fit(IMAGES, class_weight={0: 1.0, 1: 2.0})),
        ("class_weight", lambda model: model.train_on_batch(IMAGES, class_weight={0: 1.0})),
        ("sample_weight", lambda model: model.train_on_batch(IMAGES, None, ONES)),
        ("sample_weight", lambda model: model.evaluate(IMAGES, None, 2, 0, ONES)),
        ("sample_weight", lambda model: model.fit(IMAGES, None, 2, 1, 0, None, 0.0, None, True, None, ONES)),
    ],
)
def test_weights_of_samples_and_classes_are_refused_by_their_own_names(compiled, name, call):
    with pytest.raises(ValueError, match=f"^{name} must be None: the bound is a plain mean"):
        call(compiled)
