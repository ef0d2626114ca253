"""What all tests share: two logical CPUs (set before TensorFlow starts), seeds, the real images."""

import functools
import gc
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A proxy of the environment does not reach the servers of the tests.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

import pytest
from cpu_guard import CpuGuard


def pytest_configure(config):
    config.pluginmanager.register(CpuGuard())
    if getattr(config.option, "numprocesses", None):
        return  # xdist's own process, which runs no test: its workers would wait for TensorFlow's import
    import tensorflow as tf

    # Two logical devices on the one CPU, so that MirroredStrategy can be tested without GPUs.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    # What importing TensorFlow made stays: half a million objects that no collection need look at again.
    gc.freeze()
    # Tracing makes objects by the hundred thousand that stay; a look at all of them after every 700 finds nothing.
    gc.set_threshold(200_000, 100, 100)


@pytest.fixture(autouse=True)
def _seeded():
    import keras

    keras.utils.set_random_seed(0)
    yield
    # A collection after every test would take longer than most tests.
    keras.backend.clear_session(free_memory=False)


@pytest.fixture(autouse=True, scope="module")
def _collected():
    yield
    gc.collect()
    # What a file leaves is kept to the end: the next collection need not look at a million objects again.
    gc.freeze()


@pytest.fixture
def tfds_dir() -> str:
    """A TFDS directory with real images beside the checkout, or a skip."""
    directory = pathlib.Path(__file__).parents[2] / "shared" / "data" / "tfds"
    if not (directory / "binarized_mnist").is_dir():
        pytest.skip("no TFDS directory ../shared/data/tfds beside this checkout")
    return str(directory)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> pathlib.Path:
    """A folder of this run of pytest, the same for all of its processes."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def export(shared_folder):
    """From a name to a model and its SavedModel, see exports.py; exported once per run of pytest."""
    import exports

    return functools.cache(functools.partial(exports.export, shared_folder))


@pytest.fixture(scope="session")
def trained_run(shared_folder) -> pathlib.Path:
    """The workdir of a small run on digits, trained once per run of pytest. Copy it to change it."""
    import shared

    return shared.make_once(shared_folder, "digits_run", shared.train)
