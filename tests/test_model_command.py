"""pixelvae-model on this machine: an export, a run and pretrained weights give what the model gives."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import MODEL, SAMPLE, run_command
from PIL import Image

import pixelvae_tf
from pixelvae_tf import bounds, pictures, runs
from pixelvae_tf.export import client, local

SEED = 5


@pytest.fixture(scope="module")
def exported(export):
    """Of a model with one level of latents and 7x7 images of four values."""
    return export("gated_pixel_vae")


@pytest.fixture(scope="module")
def images(exported):
    return exported.model.sample(np.arange(3)).numpy().astype(np.uint8)


@pytest.fixture(scope="module")
def paths(images, tmp_path_factory):
    """Picture files of the images."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(images):
        pictures.write_png(folder / f"{number}.png", pictures.to_uint8_picture(image, 4))
    return sorted(map(str, folder.iterdir()))


def _model(verb, *arguments):
    status, out, errors = run_command(MODEL, verb, *arguments)
    assert status == 0, errors
    return out


def _picture(path):
    return np.asarray(Image.open(path))


def test_the_newest_version_of_a_directory_is_sampled(exported, tmp_path):
    """Ten is newer than nine, and what is not whole yet is no version."""
    for name in ("9", "10"):
        shutil.copytree(exported.path, tmp_path / name)
    for name in ("11", "notes"):
        (tmp_path / name).mkdir()
    assert local.newest_version(tmp_path) == local.newest_version(tmp_path / "10") == tmp_path / "10"
    output = tmp_path / "grid.png"
    assert _model("sample", f"--saved_model={tmp_path}", f"--output={output}", "--num_images=4", "--scale=1") == (
        f"4 samples: {output}\n"
    )
    np.testing.assert_array_equal(_picture(output), pictures.tile(exported.model.sample(np.arange(4)), 4)[..., 0])


def test_an_export_answers_every_verb_as_its_model_does(exported, images, paths, tmp_path):
    model, source, output = exported.model, f"--saved_model={exported.path}", tmp_path / "picture.png"
    # Another graph of the same arithmetic: float32 rounding.
    close = {"rtol": 1e-4, "atol": 1e-4}
    encoded = [json.loads(line) for line in _model("encode", *paths, source).splitlines()]
    assert [line["image"] for line in encoded] == paths
    np.testing.assert_allclose([line["z1_mean"] for line in encoded], model.posterior(images)[0].mean(), **close)
    scored = [json.loads(line) for line in _model("log_prob", *paths, source, f"--seed={SEED}").splitlines()]
    parts = bounds.elbo(model, images, SEED + np.arange(3))
    np.testing.assert_allclose([line["reconstruction_nats"] for line in scored], parts.reconstruction_nats, **close)
    assert _model("reconstruct", *paths, source, f"--output={output}", "--scale=1") == f"3 reconstructions: {output}\n"
    made = model.decode([model.posterior(images)[0].mean()], np.arange(3)).numpy()
    np.testing.assert_array_equal(_picture(output), pictures.tile(pictures.beside(images, made), 4, 4)[..., 0])
    _model("complete", *paths, source, f"--output={output}", "--mask=left", "--num_images=1", "--scale=1")
    mask = pictures.halves(7, 7)["left"]
    completed = model.complete(images, np.stack([mask] * 3), np.arange(3)).numpy()
    expected = pictures.completions(images, mask, completed[:, None], 4)
    np.testing.assert_array_equal(_picture(output), expected[..., 0])
    kept = expected.reshape(3, 8, 3, 8)[:, :7, 1, :7]
    assert (kept[:, :, 3:] == 128).all() and (kept[:, :, :3] == pictures.to_uint8_picture(images, 4)[:, :, :3, 0]).all()


def test_a_run_is_sampled_without_an_export(trained_run, tmp_path):
    model, config, _ = runs.load(trained_run, "latest")
    output = tmp_path / "grid.png"
    arguments = [f"--workdir={trained_run}", "--weights=latest", f"--output={output}", "--num_images=3", "--scale=1"]
    status, out, errors = run_command(SAMPLE, *arguments, f"--seed={SEED}")
    assert (status, out) == (0, f"3 samples: {output}\n"), errors
    drawn = model.sample(SEED + np.arange(3)).numpy()
    np.testing.assert_array_equal(_picture(output), pictures.tile(drawn, config.model.num_values)[..., 0])


def test_pretrained_weights_encode(tmp_path):
    images = np.full((1, 8, 8, 1), 255, np.uint8)
    pictures.write_png(tmp_path / "white.png", images[0])
    (line,) = _model("encode", tmp_path / "white.png", "--pretrained=digits/gated_pixel_vae").splitlines()
    mean = pixelvae_tf.load_pretrained("digits/gated_pixel_vae")[0].posterior(images)[0].mean()
    np.testing.assert_allclose(json.loads(line)["z1_mean"], mean[0], rtol=1e-4, atol=1e-4)


NO_MODEL = "the model must be given by one of --pretrained=NAME, --workdir=DIR, --saved_model=DIR, --server=HOST:PORT."
CASES = {
    "no model": (["sample", "--output=x.png"], f"{NO_MODEL} Received: none"),
    "two models": (
        ["sample", "--output=x.png", "--workdir=a", "--server=b:1"],
        f"{NO_MODEL} Received: workdir, server",
    ),
    "of a server": (
        ["sample", "--output=x.png", "--workdir=a", "--num_values=2"],
        "num_values must be left out with workdir. Received: 2",
    ),
    "of a run": (
        ["sample", "--output=x.png", "--saved_model=a", "--weights=best"],
        "weights must be left out with saved_model. Received: best",
    ),
    "no name": (["sample", "--output=x.png", "--server=a:1"], "model must be given for sample. Received: none"),
    "images": (
        ["sample", "a.png", "--output=x.png", "--workdir=a"],
        "images must be left out for sample. Received: a.p",
    ),
    "no run": (["encode", "a.png", "--workdir=no"], "workdir must be the directory of a run"),
    "no versions": (["encode", "a.png", "--saved_model=."], "or a directory of such versions. Received: '.'"),
    "unknown weights": (
        ["sample", "--output=x.png", "--pretrained=mnist"],
        "preset must be one of the pretrained models ",
    ),
    "no rounds": (
        ["complete", "{png}", "--saved_model={without_latents}", "--output=x.png", "--mask=top", "--rounds=2"],
        "rounds must be left out for a model without latents. Received: 2",
    ),
    "no latents": (
        ["encode", "{png}", "--saved_model={without_latents}"],
        "model must have the signature encode. Received: ",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_one_message(export, paths, case):
    arguments, message = CASES[case]
    places = {"png": paths[0], "without_latents": export("at_most_2").path}
    status, out, errors = run_command(MODEL, *(argument.format(**places) for argument in arguments))
    assert status == 1 and message in errors + out and "Traceback" not in errors


def test_the_command_for_samples_names_the_other_verbs():
    status, out, errors = run_command(SAMPLE, "encode", "a.png", "--workdir=a")
    assert status == 1 and "pixelvae-model does encode, reconstruct, complete, log_prob" in out + errors


def test_a_client_imports_no_tensorflow(tmp_path):
    """What a picture is read and written with, and REST: TensorFlow takes seconds to import."""
    code = (
        "import sys, numpy as np\n"
        "from pixelvae_tf.export import model_main\n"
        "from pixelvae_tf.export.client import Signature, Tensor\n"
        "class Stub(model_main.client.Model):\n"
        "    def __init__(self, *arguments): pass\n"
        "    def signature(self, name):\n"
        "        return Signature({'images': Tensor(np.uint8, (-1, 2, 2, 1))}, {})\n"
        "    def predict(self, name, inputs):\n"
        "        return {'images': inputs.get('images', np.ones((1, 2, 2, 1), np.uint8))}\n"
        "model_main.client.Rest = Stub\n"
        "sys.argv = ['pixelvae-model', *sys.argv[1:]]\n"
        "try:\n    model_main.run()\nfinally:\n    print('tensorflow' in sys.modules)"
    )
    picture = tmp_path / "a.png"
    pictures.write_png(picture, np.zeros((2, 2, 1), np.uint8))
    server = ["--server=localhost:1", "--model=m", "--num_values=2"]
    for verb in (["sample", f"--output={tmp_path / 'x.png'}", "--num_images=1"], ["encode", picture]):
        command = [sys.executable, "-c", code, *map(str, verb), *server]
        lines = subprocess.run(command, text=True, capture_output=True, check=True).stdout.splitlines()
        assert len(lines) == 2 and lines[1] == "False"


def test_what_a_model_of_this_machine_refuses_names_the_row(exported):
    saved = local.SavedModel(pathlib.Path(exported.path))
    with pytest.raises(client.ServerError, match="row 1 of the request was refused: temperature must be in"):
        saved.predict("sample", {"seed": np.arange(2), "temperature": np.array([1.0, -1.0])})
    number = saved.max_batch + 1
    with pytest.raises(client.ServerError, match=rf"request was refused: .* at most {saved.max_batch}, the max_batch"):
        saved.predict("sample", {"seed": np.arange(number), "temperature": np.ones(number)})
