"""What all tests share: two logical CPUs (set before TensorFlow starts), seeds, the real images."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
import tensorflow as tf

# Two logical devices on the one CPU, so that MirroredStrategy can be tested without GPUs.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


@pytest.fixture
def tfds_dir() -> str:
    """A TFDS directory with real images beside the checkout, or a skip."""
    directory = pathlib.Path(__file__).parents[2] / "shared" / "data" / "tfds"
    if not (directory / "binarized_mnist").is_dir():
        pytest.skip("no TFDS directory ../shared/data/tfds beside this checkout")
    return str(directory)
