"""What all tests share: two logical CPUs (set before TensorFlow starts), seeds, the real images."""

import gc
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
import tensorflow as tf
from cpu_guard import CpuGuard

# Two logical devices on the one CPU, so that MirroredStrategy can be tested without GPUs.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


# What importing TensorFlow made stays: half a million objects that no collection need look at again.
gc.freeze()
# Tracing makes objects by the hundred thousand that stay; a look at all of them after every 700 finds nothing.
gc.set_threshold(200_000, 100, 100)


def pytest_configure(config):
    config.pluginmanager.register(CpuGuard())


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)
    yield
    # A collection after every test would take longer than most tests.
    keras.backend.clear_session(free_memory=False)


@pytest.fixture(autouse=True, scope="module")
def _collected():
    yield
    gc.collect()


@pytest.fixture
def tfds_dir() -> str:
    """A TFDS directory with real images beside the checkout, or a skip."""
    directory = pathlib.Path(__file__).parents[2] / "shared" / "data" / "tfds"
    if not (directory / "binarized_mnist").is_dir():
        pytest.skip("no TFDS directory ../shared/data/tfds beside this checkout")
    return str(directory)
