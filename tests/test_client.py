"""pixelvae-model against the servers of servers.py: what it draws and prints is the model's, what is wrong is said."""

import http.server
import json
import pathlib
import re
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from commands import MODEL, run_command
from PIL import Image
from servers import Model, serve_grpc, serve_http, serve_rest

from pixelvae_tf import pictures
from pixelvae_tf.export import caller, client

SIZE, NUM_VALUES = 6, 5
HALVES = {
    "top": (slice(3), slice(None)),
    "bottom": (slice(3, None), slice(None)),
    "left": (slice(None), slice(3)),
    "right": (slice(None), slice(3, None)),
}


def _stand_in(num_classes: int) -> tf.Module:
    """A module with the signatures of a model: what is drawn is the seed, plus the class."""
    specs = {
        "images": tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, "images"),
        "mask": tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, "mask"),
        "seed": tf.TensorSpec((None,), tf.int64, "seed"),
        "temperature": tf.TensorSpec((None,), tf.float32, "temperature"),
    }
    if num_classes:
        specs["label"] = tf.TensorSpec((None,), tf.int64, "label")

    def answer(inputs):
        value = inputs["seed"] + inputs.get("label", tf.zeros_like(inputs["seed"]))
        images = tf.cast(value % NUM_VALUES, tf.uint8)[:, None, None, None] * tf.ones((SIZE, SIZE, 1), tf.uint8)
        if "mask" in inputs:
            images = tf.where(inputs["mask"] == 1, inputs["images"], images)
        good = inputs["temperature"] > 0
        error = tf.where(good, "", "temperature must be in 1e-06..1e+06")
        if "label" in inputs:
            error = tf.where(inputs["label"] < num_classes, error, f"label must be in 0..{num_classes - 1}")
        return {"images": images, "error": error}

    module = tf.Module()
    module.complete = tf.function(answer, input_signature=[specs])
    of_sample = {name: spec for name, spec in specs.items() if name not in ("images", "mask")}
    module.sample = tf.function(answer, input_signature=[of_sample])
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory, export):
    """All that is served."""
    served = {"gated_pixel_vae": Model(export("gated_pixel_vae").path)}
    for name, num_classes in (("stand_in", 0), ("stand_in_classes", 3)):
        path, module = tmp_path_factory.mktemp(name) / "1", _stand_in(num_classes)
        tf.saved_model.save(module, str(path), signatures={"complete": module.complete, "sample": module.sample})
        served[name] = Model(path)
    return served


@pytest.fixture(scope="module", params=["rest", "grpc"])
def server(request, models):
    """Arguments that reach it."""
    with {"rest": serve_rest, "grpc": serve_grpc}[request.param](models) as address:
        yield [f"--server={address}", f"--protocol={request.param}"]


@pytest.fixture(scope="module")
def rest(models):
    with serve_rest(models) as address:
        yield address


def _client(*arguments) -> str:
    status, out, errors = run_command(MODEL, *arguments)
    assert status == 0, errors
    return out


def test_sample_writes_the_models_images(export, server, tmp_path):
    output = tmp_path / "grid.png"
    arguments = ["--model=gated_pixel_vae", "--num_values=4", f"--output={output}", "--num_images=5", "--batch_size=2"]
    out = _client("sample", *server, *arguments, "--seed=3", "--temperature=0.7", "--scale=2")
    assert out == f"5 samples: {output}\n"
    drawn = export("gated_pixel_vae").model.sample(3 + np.arange(5), 0.7).numpy()
    np.testing.assert_array_equal(np.asarray(Image.open(output)), pictures.tile(drawn, 4, scale=2)[..., 0])


def test_sample_of_a_class(server, tmp_path):
    output = tmp_path / "grid.png"
    arguments = ["--model=stand_in_classes", f"--num_values={NUM_VALUES}", f"--output={output}", "--num_images=5"]
    _client("sample", *server, *arguments, "--label=2", "--scale=1")
    values = (np.arange(5) + 2) % NUM_VALUES
    drawn = np.broadcast_to(values[:, None, None, None], (5, SIZE, SIZE, 1))
    np.testing.assert_array_equal(np.asarray(Image.open(output)), pictures.tile(drawn, NUM_VALUES)[..., 0])


def test_encode_prints_the_latents_of_pictures(export, server, tmp_path):
    model = export("gated_pixel_vae").model
    images = model.sample(np.arange(3)).numpy()
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, image in zip(paths, images, strict=True):
        # As people see it, and larger: the average over areas is the image again.
        pictures.write_png(path, pictures.to_uint8_picture(image, 4).repeat(3, axis=0).repeat(3, axis=1))
    # How many values there are, the server is asked.
    arguments = ["--model=gated_pixel_vae", "--images=" + ",".join(map(str, paths))]
    lines = [json.loads(line) for line in _client("encode", *server, *arguments, "--batch_size=2").splitlines()]
    assert [line.pop("image") for line in lines] == [str(path) for path in paths]
    posterior = model.posterior(images)[0]
    assert all(set(line) == {"z1_mean", "z1_stddev"} for line in lines)
    # Another graph of the same arithmetic: float32 rounding. Another image would differ in the first digits.
    np.testing.assert_allclose([line["z1_mean"] for line in lines], posterior.mean(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([line["z1_stddev"] for line in lines], posterior.stddev(), rtol=1e-4)


@pytest.mark.parametrize(("mask", "label"), [("top", None), ("right", 2), ("picture", None)])
def test_complete_keeps_what_the_mask_keeps(server, mask, label, tmp_path):
    images = np.random.default_rng(0).integers(0, NUM_VALUES, (2, SIZE, SIZE, 1)).astype(np.uint8)
    kept = np.zeros((SIZE, SIZE, 1), bool)
    kept[HALVES.get(mask, (slice(1, 3), slice(2, 6)))] = True
    if mask == "picture":
        mask = tmp_path / "mask.png"
        pictures.write_png(mask, np.where(kept, 200, 50).astype(np.uint8))
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, image in zip(paths, images, strict=True):
        pictures.write_png(path, pictures.to_uint8_picture(image, NUM_VALUES))
    name, output = "stand_in" if label is None else "stand_in_classes", tmp_path / "completions.png"
    arguments = [f"--model={name}", f"--num_values={NUM_VALUES}", f"--images={paths[0]},{paths[1]}", f"--mask={mask}"]
    arguments += [f"--output={output}", "--num_images=3", "--batch_size=4", "--seed=1", "--scale=1"]
    _client("complete", *server, *arguments, *([] if label is None else [f"--label={label}"]))
    seeds = 1 + np.arange(6).reshape(2, 3)
    drawn = ((seeds + (label or 0)) % NUM_VALUES)[..., None, None, None]
    completed = pictures.to_uint8_picture(np.where(kept, images[:, None], drawn), NUM_VALUES)
    shown = pictures.to_uint8_picture(images, NUM_VALUES)[:, None]
    rows = np.concatenate([shown, np.where(kept, shown, 128), completed], axis=1)
    grid = pictures.tile(rows.reshape(-1, SIZE, SIZE, 1), 256, columns=5)
    np.testing.assert_array_equal(np.asarray(Image.open(output)), grid[..., 0])


def test_complete_draws_the_models_completions(export, rest, tmp_path):
    model, output = export("gated_pixel_vae").model, tmp_path / "completions.png"
    image = model.sample(np.array([9])).numpy().astype(np.uint8)
    pictures.write_png(tmp_path / "image.png", pictures.to_uint8_picture(image[0], 4))
    arguments = ["--model=gated_pixel_vae", "--num_values=4", f"--images={tmp_path / 'image.png'}", "--mask=left"]
    mask = np.zeros((2, 7, 7, 1), np.uint8)
    mask[:, :, :3] = 1
    for rounds in ([], [1]):
        chosen = [f"--rounds={number}" for number in rounds]
        written = [f"--output={output}", "--num_images=2", "--scale=1", *chosen]
        _client("complete", f"--server={rest}", *arguments, *written)
        completions = model.complete(image.repeat(2, axis=0), mask, np.arange(2), 1.0, *rounds).numpy()
        grid = pictures.completions(image, mask[0], completions[None], 4)
        np.testing.assert_array_equal(np.asarray(Image.open(output)), grid[..., 0])


def test_halves_of_a_mask():
    halves = pictures.halves(SIZE, SIZE)
    assert halves.keys() == HALVES.keys()
    for half, place in HALVES.items():
        kept = np.zeros((SIZE, SIZE, 1), np.uint8)
        kept[place] = 1
        np.testing.assert_array_equal(halves[half], kept)


GOOD = ["--model=gated_pixel_vae", "--num_values=4", "--output=x.png", "--num_images=1"]
ENCODE = ["--model=gated_pixel_vae", "--num_values=4"]
COMPLETE = ["--model=stand_in", "--num_values=5", "--output=x.png", "--images={png}"]
CASES = {
    "model": (["sample", *GOOD, "--model=other"], "model must be one that the server has. Received: 'other': Servable"),
    "signature": (
        ["encode", *ENCODE, "--model=stand_in", "--images={png}"],
        "model must have the signature encode. Received: 'stand_in', which has complete, sample",
    ),
    "an earlier export": (
        ["complete", *COMPLETE, "--mask=top", "--rounds=2"],
        "model must have the signature complete_in_rounds. Received: 'stand_in', which has complete, sample",
    ),
    "row": (["sample", *GOOD, "--temperature=-1"], "row 0 of the request was refused: temperature must be in"),
    "class": (
        ["sample", *GOOD, "--model=stand_in_classes", "--label=3"],
        "row 0 of the request was refused: label must be in 0..2",
    ),
    "no class": (["sample", *GOOD, "--model=stand_in_classes"], "label must be given: this model has classes."),
    "classes": (["sample", *GOOD, "--label=1"], "label must be left out: this model has no classes. Received: 1"),
    "values": (["sample", *GOOD, "--num_values=2"], "num_values must be the model's. Received: 2, and the value "),
    "folder": (
        ["sample", *GOOD, "--output=no/x.png"],
        "output must be a file in a directory that exists. Received: 'no/x",
    ),
    "its input": (
        ["complete", *COMPLETE, "--mask=top", "--output={png}"],
        "output must not be one of the files that are read. Received: '",
    ),
    "no time": (["sample", *GOOD, "--timeout=nan"], "timeout must be above 0 and at most 86400 seconds. Received: nan"),
    "a folder": (["sample", *GOOD, "--output=."], "output must be a file in a directory that exists. Received: '.'"),
    "batch": (
        ["sample", *GOOD, "--num_images=200", "--batch_size=200"],
        "batch_size must be what the model takes. Rec",
    ),
    "no output": (["sample", *GOOD[:2]], "output must be given for sample. Received: none"),
    "no images": (["encode", *ENCODE], "images must be given for encode. Received: none"),
    "idle flag": (["encode", *ENCODE, "--images={png}", "--seed=3"], "seed must be left out for encode. Received: 3"),
    "picture": (["encode", *ENCODE, "--images={text}"], "which cannot be read: UnidentifiedImageError"),
    "no picture": (
        ["encode", *ENCODE, "--images=no.png"],
        "images must be picture files. Received: 'no.png': [Errno 2] No",
    ),
    "mask": (["complete", *COMPLETE, "--mask=middle"], "mask must be one of top, bottom, left, right, or a picture"),
    "command": (["draw", *GOOD], "one verb, of sample, encode, reconstruct, complete, log_prob. Received: draw"),
    "no command": (GOOD, "one verb, of sample, encode, reconstruct, complete, log_prob. Received: none"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_one_message(rest, tmp_path, case):
    arguments, message = CASES[case]
    places = {"png": tmp_path / "a.png", "text": tmp_path / "text.png"}
    pictures.write_png(places["png"], np.zeros((SIZE, SIZE, 1), np.uint8))
    places["text"].write_text("not a picture")
    arguments = [argument.format(**places) for argument in arguments]
    status, out, errors = run_command(MODEL, *arguments, f"--server={rest}")
    assert status != 0 and message in errors + out, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("address", ["127.0.0.1:1", "no such host:8501", "127.0.0.1:port"])
def test_a_server_that_is_not_there(protocol, address):
    arguments = [f"--server={address}", f"--protocol={protocol}", "--timeout=5"]
    status, _, errors = run_command(MODEL, "sample", *arguments, *GOOD)
    assert (
        status != 0
        and f"pixelvae-model: server must be the host:port of one that answers. Received: {address!r}" in errors
    )
    assert "Traceback" not in errors


def _answering(status: int, body: bytes, answer: bytes = b""):
    """A server that always says the same, to a request `answer`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format, *args):
            pass

    return serve_http(Handler)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b"<html>", "server must be the host:port of one that answers"),
        (200, b"[]", "server must be the host:port of one that answers.*it gave no signatures"),
        (200, b'{"metadata": {"signature_def": {"signature_def": null}}}', "it gave no signatures"),
        (200, b'{"metadata": {"signature_def": {"signature_def": ["sample"]}}}', "it gave no signatures"),
        (200, b"\xff\xfe", "server must be the host:port of one that answers"),
        (503, b"<html>busy", "the server refused the request, HTTP 503: <html>busy"),
        (404, b"", "model must be one that the server has"),
        (200, b"[" * 100_000, "server must be the host:port of one that answers.*RecursionError"),
        (503, b"[" * 100_000, r"the server refused the request, HTTP 503: \[\["),
    ],
)
def test_a_server_of_something_else(status, body, message):
    with _answering(status, body) as address, pytest.raises(client.ServerError, match=message):
        client.Rest(address, "digits", timeout=5)


def test_a_models_name_is_one_part_of_the_path():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, format, *args):
            pass

    with serve_http(Handler) as address, pytest.raises(client.ServerError, match="/v1/models/a%2Fb%3F/metadata"):
        client.Rest(address, "a/b?", timeout=5)


def test_a_server_that_is_too_slow(models):
    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(0.5)

    message = "timeout must be at least what an answer takes. Received: 0.1 seconds"
    with serve_http(Slow) as address, pytest.raises(client.ServerError, match=message):
        client.Rest(address, "digits", timeout=0.1)
    with serve_grpc(models) as address:
        server = client.Grpc(address, "stand_in", timeout=60.0)
        server._timeout = 1e-6
        with pytest.raises(client.ServerError, match="timeout must be at least"):
            server.predict("sample", {"seed": np.arange(2), "temperature": np.ones(2)})
        server._timeout = 60.0
    # It was there a moment ago: a full queue is answered so too.
    with pytest.raises(client.ServerError, match="the server refused the request, UNAVAILABLE"):
        server.predict("sample", {"seed": np.arange(2), "temperature": np.ones(2)})


@pytest.mark.parametrize("num_values", [2, 256])
def test_a_model_says_by_its_refusal_how_many_values_there_are(num_values):
    class Served(client.Model):
        def signature(self, name):
            assert name == "log_prob"
            inputs = {"images": client.Tensor(np.uint8, (-1, 4, 4, 1)), "seed": client.Tensor(np.int64, (-1,))}
            return client.Signature(inputs, {"error": client.Tensor(np.object_, (-1,))})

        def _call(self, name, inputs, outputs):
            good = inputs["images"].max() < num_values
            return {"error": np.array([b"" if good else f"images must hold values in 0..{num_values - 1}".encode()])}

    assert Served().limits() == (num_values, 1)


def test_a_model_of_something_else():
    info = {"dtype": "DT_DOUBLE", "tensor_shape": {"dim": [{"size": "-1"}]}}
    definitions = {"sample": {"inputs": {"x": info}, "outputs": {"y": info}}}
    body = json.dumps({"metadata": {"signature_def": {"signature_def": definitions}}}).encode()
    with _answering(200, body) as address:
        server = client.Rest(address, "half_plus_two", timeout=5)
        with pytest.raises(client.ServerError, match=r"model must be one that pixelvae-export wrote.*DT_DOUBLE"):
            server.predict("sample", {"x": np.zeros(1)})
    for shape in ((-1,), (-1, 4, 4), (-1, -1, 4, 1)):
        model = client.Model()
        model.signature = lambda name, shape=shape: client.Signature({"images": client.Tensor(np.uint8, shape)}, {})
        with pytest.raises(client.ServerError, match="whose signature log_prob takes images"):
            model.limits()
        with pytest.raises(client.ServerError, match="whose signature encode takes images"):
            caller.Caller(model, 2, 1, None, [], 0, 1.0, None).read_images(["a.png"], "encode")
    model = mock.Mock(predict=lambda name, inputs: {"pictures": np.zeros(1)})
    model.signature.return_value = client.Signature({}, {})
    with pytest.raises(client.ServerError, match=r"that pixelvae-export wrote, with images\. Received: pictures"):
        caller.Caller(model, 2, 1, None, [], 0, 1.0, None).sample(1, None)


def test_a_server_takes_classes_by_number():
    assert caller.label_number("2", (), None) == 2
    with pytest.raises(ValueError, match=r"label must be a number: a server does not tell .* Received: cat"):
        caller.label_number("cat", (), None)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"images": [[[0]]], "error": [""]}, r"images of shape \(1, 1, 1\) for \(2, 2, 1\)"),
        ({"images": [[[0], [1]]], "error": [""]}, r"images of shape \(1, 2, 1\) for \(2, 2, 1\)"),
        ({"images": [[0, 0], [0, 0]], "error": ["", ""]}, r"images of shape \(2, 2\) for \(2, 2, 1\)"),
        ({"images": [], "error": []}, r"images of shape \(0,\)"),
        ({"images": [[[0], [1.7]]] * 2, "error": ["", ""]}, "images must hold values of uint8. Received: 1.7"),
        ({"images": [[[0], [1]]] * 2, "error": None}, r"error of shape \(\) for \(2,\)"),
        ({"images": [[[0], [1]], 3], "error": ["", ""]}, "inhomogeneous"),
        ({"images": [[[0], [1]]] * 2}, "KeyError"),
    ],
)
def test_an_answer_that_is_not_the_signatures_is_refused(outputs, message):
    def info(dtype, *shape):
        return {"dtype": dtype, "tensor_shape": {"dim": [{"size": str(size)} for size in shape]}}

    definition = {
        "inputs": {"seed": info("DT_INT64", -1)},
        "outputs": {"images": info("DT_UINT8", -1, 2, 1), "error": info("DT_STRING", -1)},
    }
    body = json.dumps({"metadata": {"signature_def": {"signature_def": {"sample": definition}}}}).encode()
    inputs = {"seed": np.arange(2)}
    good = {"images": [[[0], [1]]] * 2, "error": ["", ""]}
    with _answering(200, body, json.dumps({"outputs": good}).encode()) as address:
        assert client.Rest(address, "any").predict("sample", inputs)["images"].tolist() == good["images"]
    with _answering(200, body, json.dumps({"outputs": outputs}).encode()) as address:
        server = client.Rest(address, "any")
        with pytest.raises(client.ServerError, match=f"it gave other outputs than its signature: .*{message}"):
            server.predict("sample", inputs)


def test_an_address_with_a_scheme_is_refused(rest):
    for protocol in (client.Rest, client.Grpc):
        with pytest.raises(client.ServerError, match=r"must be the host:port .* it begins with a scheme"):
            protocol(f"http://{rest}", "gated_pixel_vae")


def test_other_inputs_are_named(rest):
    server = client.Rest(rest, "gated_pixel_vae")
    with pytest.raises(client.ServerError, match=r"must be seed, temperature\. Received: seed"):
        server.predict("sample", {"seed": np.zeros(1)})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"seed": 5, "temperature": [1.0]}, r"seed must be of shape \[B\]\. Received: \[\]"),
        ({"seed": [2**70], "temperature": [1.0]}, "seed must hold values of int64. Received: "),
        ({"seed": [[1], [2, 3]], "temperature": [1.0]}, "seed must hold values of int64. Received: "),
    ],
)
def test_inputs_of_other_shapes_are_refused_before_they_are_sent(rest, inputs, message):
    with pytest.raises(client.ServerError, match=message):
        client.Rest(rest, "gated_pixel_vae").predict("sample", inputs)


def test_rest_needs_no_tensorflow(export, rest):
    """The file may be copied to where neither TensorFlow nor this package is."""
    code = (
        "import sys, numpy as np, client;"
        "server = client.Rest(sys.argv[1], 'gated_pixel_vae');"
        "images = server.predict('sample', {'seed': np.arange(2), 'temperature': np.ones(2)})['images'];"
        "assert not {'tensorflow', 'grpc', 'pixelvae_tf'} & set(sys.modules);"
        "sys.stdout.buffer.write(images.tobytes())"
    )
    folder = pathlib.Path(client.__file__).parent
    outcome = subprocess.run([sys.executable, "-c", code, rest], capture_output=True, cwd=folder, check=True)
    images = export("gated_pixel_vae").model.sample(np.arange(2)).numpy()
    assert outcome.stdout == images.astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    ("name", "value"), [("seed", 1.7), ("seed", np.nan), ("images", 256), ("images", -1), ("temperature", 1e300)]
)
def test_a_value_that_the_dtype_does_not_hold_is_refused(name, value):
    dtype = {"seed": np.int64, "images": np.uint8, "temperature": np.float32}[name]
    with pytest.raises(
        client.ServerError, match=re.escape(f"{name} must hold values of {np.dtype(dtype).name}. Received: {value}")
    ):
        client._cast(name, np.array([1, value]), dtype)
    np.testing.assert_array_equal(client._cast(name, np.array([1.0, 2.0]), dtype), [1, 2])
    with pytest.raises(client.ServerError, match=f"{name} must hold values of {np.dtype(dtype).name}. Received: .*'a'"):
        client._cast(name, np.array(["a"]), dtype)
