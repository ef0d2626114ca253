"""The same seed gives the same image wherever an export runs: alone, or in a batch of 16 with others.

The servers of servers.py are our reading of TensorFlow Serving's interfaces, so what is tested here is that contract,
not TensorFlow Serving.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from exports import BATCH, PLACE, constants, same_images
from family import make_model
from servers import Model, serve_grpc, serve_rest

from pixelvae_tf import sampling
from pixelvae_tf.export import client, exporter
from pixelvae_tf.export.check_process import CheckProcess
from pixelvae_tf.export.signatures import signatures

QUICK = ["gated_pixel_vae"]
# One for each other network, and for each kind of latents.
SLOW = [
    "vae",
    "pixel_cnn",
    "row_lstm",
    "diagonal_bilstm",
    "pixel_cnn_pp",
    "pixel_vae_classes",
    "hierarchy_classes",
    "hierarchy_three_levels",
]
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


@pytest.fixture(params=QUICK + [pytest.param(name, marks=pytest.mark.slow) for name in SLOW])
def exported(request, export):
    return export(request.param)


@pytest.fixture(scope="module")
def c_program(tmp_path_factory):
    """serve.c, linked with the libraries of the TensorFlow wheel."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    folder = pathlib.Path(tf.sysconfig.get_lib())
    libraries = [folder / "libtensorflow_cc.so.2", folder / "libtensorflow_framework.so.2"]
    if not compiler:
        pytest.skip("there is no C compiler")
    if not all(library.exists() for library in libraries):
        pytest.skip("this build of TensorFlow has no libtensorflow_cc.so.2")
    program = tmp_path_factory.mktemp("c") / "serve"
    source = pathlib.Path(__file__).with_name("serve.c")
    command = [compiler, "-Wall", "-Werror", source, "-o", program, f"-I{tf.sysconfig.get_include()}"]
    subprocess.run([*command, *libraries, f"-Wl,-rpath,{folder}"], check=True)
    return program


def test_the_c_api(exported, c_program):
    """A process without Python, by the loader that the model server uses."""
    signature = Model(exported.path).signature("sample")

    def run(inputs):
        batch = len(inputs["seed"])
        arguments = [exported.path, batch, signature.outputs["images"].name]
        for name, values in inputs.items():
            kind = "f" if values.dtype == np.float32 else "i"
            arguments += [signature.inputs[name].name, kind, *values.tolist()]
        command = [str(argument) for argument in (c_program, *arguments)]
        outcome = subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=False)
        assert outcome.returncode == 0, outcome.stderr.decode()
        return np.frombuffer(outcome.stdout, np.uint8).reshape(batch, *exported.model.config.image_shape)

    same_images(run, exported)


@pytest.mark.parametrize(("serve", "protocol"), [(serve_grpc, client.Grpc), (serve_rest, client.Rest)])
def test_the_wire(exported, serve, protocol):
    """Contract test: our client, a server that follows TensorFlow Serving's interfaces."""
    with serve({"family": Model(exported.path)}) as address:
        server = protocol(address, "family")
        same_images(lambda inputs: server.predict("sample", inputs)["images"], exported)
        if exported.model.num_levels:
            images = exported.images(3)
            encoded = server.predict("encode", {"images": images})
            for level, posterior in enumerate(exported.model.posterior(images), start=1):
                # Another graph of the same arithmetic: float32 rounding.
                np.testing.assert_allclose(encoded[f"z{level}_mean"], posterior.mean(), rtol=1e-4, atol=1e-5)
                assert encoded[f"z{level}_stddev"].dtype == np.float32


def test_a_keras_layer(exported):
    layer = keras.layers.TFSMLayer(str(exported.path), call_endpoint="sample")
    same_images(lambda inputs: layer(constants(inputs))["images"], exported)


def test_a_tf_data_pipeline(exported):
    loaded = exported.loaded

    def run(inputs):
        pipeline = tf.data.Dataset.from_tensor_slices(constants(inputs)).batch(BATCH)
        (images,) = pipeline.map(lambda batch: loaded.signatures["sample"](**batch)["images"])
        return images

    same_images(run, exported)
    if exported.model.num_levels:
        images = exported.images(BATCH)
        pipeline = tf.data.Dataset.from_tensor_slices(images).batch(3)
        pipeline = pipeline.map(lambda batch: loaded.signatures["encode"](images=batch)["z1_mean"])
        means = np.concatenate(list(pipeline.as_numpy_iterator()))
        np.testing.assert_allclose(means, exported.model.posterior(images)[0].mean(), rtol=1e-4, atol=1e-5)


def test_an_image_is_the_same_where_another_method_draws_it():
    """Up to 16 wide binary images are drawn by "rows", more by "cached": `sampling.rows_are_faster`."""
    signature = signatures(make_model("gated_pixel_vae_wide"))["sample"]
    sample = tf.function(signature.function, input_signature=[signature.inputs], autograph=False)
    largest, drawn = sampling.ROWS_MAX_BATCH, {}
    for number in (1, largest, largest + 1):
        seeds = np.arange(100, 100 + number)
        seeds[PLACE % number] = 7
        drawn[number] = sample(constants({"seed": seeds, "temperature": np.full(number, 0.9, np.float32)}))["images"]
    alone = drawn.pop(1)[0]
    for images in drawn.values():
        np.testing.assert_array_equal(images[PLACE], alone)
        assert (images[0].numpy() != alone.numpy()).any()


def draw_by_cli(python, path, folder):
    """Runs `sample` in a fresh process of an interpreter, which loads TensorFlow alone."""

    def run(inputs):
        place = folder / str(len(inputs["seed"]))
        place.mkdir()
        for name, values in inputs.items():
            np.save(place / f"{name}.npy", values)
        named = ";".join(f"{name}={place / name}.npy" for name in inputs)
        command = [python, "-P", "-m", "tensorflow.python.tools.saved_model_cli", "run", "--dir", str(path)]
        command += ["--tag_set", "serve", "--signature_def", "sample", "--inputs", named, "--outdir", str(place)]
        outcome = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
        assert outcome.returncode == 0, outcome.stderr
        return np.load(place / "images.npy")

    return run


@pytest.mark.slow  # Another process with TensorFlow alone, as the check of every export.
def test_saved_model_cli(exported, tmp_path):
    """Sixteen images: what one process draws alone is compared above."""
    images = draw_by_cli(sys.executable, exported.path, tmp_path)(exported.inputs(BATCH))
    np.testing.assert_array_equal(images, exported.images(BATCH))


@pytest.fixture(scope="module")
def older_python(tmp_path_factory):
    """The interpreter of a virtual environment with TensorFlow 2.20 alone."""
    folder = tmp_path_factory.mktemp("tensorflow_2_20")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "tensorflow==2.20.*"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        pytest.skip(f"TensorFlow 2.20 cannot be installed: {outcome.stderr.strip()[-300:]}")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK + SLOW)
def test_tensorflow_2_20(older_python, name, export, tmp_path, monkeypatch):
    """All signatures, held against the model by the check that every export passes; and the same images."""
    exported = export(name)
    same_images(draw_by_cli(older_python, exported.path, tmp_path), exported)
    endpoints = {
        name: tf.function(signature.function, input_signature=[signature.inputs], autograph=False)
        for name, signature in signatures(exported.model).items()
    }
    monkeypatch.setattr(sys, "executable", older_python)
    with CheckProcess() as process:
        exporter.check(process, endpoints, exported.path)
