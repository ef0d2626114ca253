"""What a user can get wrong: one clear message, a status that is not zero, and nothing saved is lost."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from commands import run_command
from small_run import small_config

import pixelvae_tf
from pixelvae_tf import bounds, runs
from pixelvae_tf.config import Config, LevelConfig, ModelConfig, PixelsConfig
from pixelvae_tf.train import trainer

PRESET = "--config=digits/gated_pixel_vae"
EXPORT, EVALUATE, SAMPLE, TRAIN = "export.main", "train.evaluate_main", "export.sample_main", "train.main"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders for the table: {run} is good, the others are each wrong in one way."""
    base = tmp_path_factory.mktemp("places")
    trainer.train_and_evaluate(small_config(steps=2), base / "run", trainer.make_strategy("one_device"))
    other = small_config(steps=2)
    other.model.pixels.filters = 12
    trainer.train_and_evaluate(other, base / "other", trainer.make_strategy("one_device"))
    (base / "empty").mkdir()
    for name in ("swapped", "no_weights", "torn_config"):
        shutil.copytree(base / "run", base / name)
    for folder in (runs.CHECKPOINTS, runs.BEST):
        shutil.rmtree(base / "swapped" / folder)
        shutil.copytree(base / "other" / folder, base / "swapped" / folder)
        shutil.rmtree(base / "no_weights" / folder)
    text = (base / "run" / runs.CONFIG).read_text()
    (base / "torn_config" / runs.CONFIG).write_text(text[: len(text) // 2])
    (base / "file").write_text("not a directory")
    (base / "damaged" / "binarized_mnist" / "1.0.0").mkdir(parents=True)
    (base / "damaged" / "binarized_mnist" / "1.0.0" / "dataset_info.json").write_text("{ noise")
    return base


def _contents(base: pathlib.Path) -> dict:
    return {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}


MNIST = "--config=binarized_mnist/gated_pixel_vae"
CASES = {
    "preset": (TRAIN, ["--config=digits/gan", "--workdir={empty}/new"], "must be one of the presets"),
    "no preset": (TRAIN, ["--workdir={empty}/new"], "--config=PRESET is required"),
    "no workdir": (TRAIN, [PRESET], "--workdir=DIR is required"),
    "field": (
        TRAIN,
        [PRESET, "--config.train.stepz=3", "--workdir={empty}/new"],
        "every --config.FIELD must name a field",
    ),
    "level": (TRAIN, [PRESET, "--config.model.levels[3].dim=3", "--workdir={empty}/new"], "must name a field of the"),
    "type": (TRAIN, [PRESET, "--config.train.steps=many", "--workdir={empty}/new"], "flag --config.train.steps=many: "),
    "value": (TRAIN, [PRESET, "--config.train.steps=0", "--workdir={empty}/new"], "train.steps must be at least 1"),
    "dtype": (TRAIN, [PRESET, "--config.train.dtype=int8", "--workdir={empty}/new"], "train.dtype must be one of"),
    "strategy": (
        TRAIN,
        [PRESET, "--strategy=tpu", "--workdir={empty}/new"],
        "value should be one of <auto|one_device|",
    ),
    "argument": (TRAIN, [PRESET, "--workdir={empty}/new", "more"], "unknown arguments: more"),
    "data set": (TRAIN, [PRESET, "--config.data.name=lsun", "--workdir={empty}/new"], "data.name must be one of"),
    "shape": (
        TRAIN,
        [PRESET, "--config.model.image_shape=(28, 28, 1)", "--workdir={empty}/new"],
        "must fit the images of digits/train, (8, 8, 1) and 256",
    ),
    "values": (TRAIN, [PRESET, "--config.model.num_values=2", "--workdir={empty}/new"], "must fit the images"),
    "replicas": (
        TRAIN,
        [PRESET, "--strategy=mirrored", "--virtual_cpus=2", "--config.train.batch_size=15", "--workdir={empty}/new"],
        "train.batch_size must be a multiple of the number of replicas",
    ),
    "no data": (TRAIN, [MNIST, "--config.data.data_dir={empty}/no", "--workdir={empty}/new"], "must be a directory"),
    "empty data": (TRAIN, [MNIST, "--config.data.data_dir={empty}", "--workdir={empty}/new"], "data.data_dir must be"),
    "noise": (TRAIN, [MNIST, "--config.data.data_dir={damaged}", "--workdir={empty}/new"], "data.data_dir must be"),
    "other config": (TRAIN, [PRESET, "--workdir={run}"], "holds a run with another config: "),
    "no directory": (TRAIN, [PRESET, "--workdir={file}/new"], "workdir must be a directory that can be written"),
    "damaged config": (TRAIN, [PRESET, "--workdir={torn_config}"], "config must be a JSON object"),
    "split": (EVALUATE, ["--workdir={run}", "--split=dev"], "split must be one of train, validation, test"),
    "no run": (EVALUATE, ["--workdir={empty}"], "workdir must be the directory of a run, with config.json"),
    "no weights": (EVALUATE, ["--workdir={no_weights}"], "must hold 'best' weights; a run writes them at"),
    "other weights": (EVALUATE, ["--workdir={swapped}"], "weights of the model of its config.json"),
    "samples": (EVALUATE, ["--workdir={run}", "--importance_samples=-1"], "-1 is not a non-negative integer"),
    "exported run": (EXPORT, ["--workdir={empty}", "--export_dir={empty}/out"], "workdir must be the directory of"),
    "export dir": (EXPORT, ["--workdir={run}", "--export_dir={file}/out"], "export_dir must be a directory that can"),
    "exported weights": (EXPORT, ["--workdir={swapped}", "--export_dir={empty}/out"], "weights of the model of its"),
    "saved model": (SAMPLE, ["--saved_model={run}", "--output={empty}/x.png"], "must be a version directory written"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_command_refuses_with_one_message(places, case):
    module, arguments, message = CASES[case]
    folders = {path.name: path for path in places.iterdir()}
    before = _contents(places)
    status, out, errors = run_command(module, *(argument.format(**folders) for argument in arguments))
    assert status != 0
    assert message in errors + out  # absl prints what is wrong with a flag, and its usage, on standard output
    assert "Traceback" not in errors
    after = _contents(places)
    assert {path: after.get(path) for path in before} == before, "what was saved must stay as it was"


def test_a_run_does_not_go_on_with_the_weights_of_another_model(places):
    before = _contents(places)
    workdir = places / "swapped"
    with pytest.raises(ValueError, match="a checkpoint of this model that can be read"):
        trainer.train_and_evaluate(runs.read_config(workdir), workdir, trainer.make_strategy("one_device"))
    assert {path: content for path, content in _contents(places).items() if path in before} == before


CONFIG = ModelConfig((5, 4, 1), 4, [LevelConfig(3, (6,))], PixelsConfig(1, 6, 3, 3, 1))
IMAGES = np.random.default_rng(0).integers(0, 4, (2, 5, 4, 1))
SEEDS = tf.range(2, dtype=tf.int64)
LATENTS = np.zeros((2, 3), np.float32)


@pytest.fixture(scope="module")
def model():
    return pixelvae_tf.build(Config(model=CONFIG))


WRONG_IMAGES = {
    "shape": (IMAGES[:, :3], "integer pixel values 0..3 of shape [B, 5, 4, 1]. Received: int64 of shape [2, 3, 4, 1]"),
    "rank": (IMAGES[..., 0], "Received: int64 of shape [2, 5, 4]"),
    "dtype": (IMAGES.astype(np.float32), "Received: float32"),
    "too large": (IMAGES + 1, "Received: values from 1 to 4"),
    "negative": (IMAGES - 1, "Received: values from -1 to 2"),
}


@pytest.mark.parametrize("case", WRONG_IMAGES)
@pytest.mark.parametrize(
    "door",
    [
        lambda model, images: model.posterior(images),
        lambda model, images: model(images),
        lambda model, images: bounds.elbo(model, images, SEEDS),
        lambda model, images: bounds.importance_weighted(model, images, SEEDS, 2),
    ],
    ids=["posterior", "call", "elbo", "importance_weighted"],
)
def test_wrong_images_are_refused(model, door, case):
    images, message = WRONG_IMAGES[case]
    with pytest.raises(ValueError) as refused:
        door(model, tf.constant(images))
    assert "images must be integer pixel values" in str(refused.value) and message in str(refused.value)


def test_a_batch_of_the_trainer_is_not_images(model):
    with pytest.raises(ValueError, match=r"images must be integer .*\. Received: dict"):
        model.posterior({"images": IMAGES, "seeds": SEEDS})


@pytest.mark.parametrize("case", ["dtype", "too large", "negative"])
def test_fit_refuses_wrong_images(case):
    # The embedding of a value that is out of range must not be the first to complain.
    pixels = PixelsConfig(1, 6, 3, 3, 1, embedding_dim=2)
    model = pixelvae_tf.build(Config(model=ModelConfig((5, 4, 1), 4, [], pixels)))
    model.compile("adam")
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="images must be integer pixel values"):
        model.fit(WRONG_IMAGES[case][0], verbose=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.decode([LATENTS[:, :2]], SEEDS), r"latents must be .* of shapes \[B, 3\]"),
        (lambda model: model.decode([], SEEDS), "latents must be a list"),
        (lambda model: model.decode([LATENTS * np.nan], SEEDS), "latents must be finite"),
        (lambda model: model.decode([LATENTS], tf.range(2)), r"seeds must be int64 \[B\]. Received: int32"),
        (lambda model: model.sample(SEEDS, temperature=0.0), "temperature must be positive and finite. Received: 0"),
        (lambda model: model.sample(SEEDS, temperature=[1.0, np.nan]), "temperature must be positive and finite"),
        (lambda model: model.sample(SEEDS, method="slow"), "method must be"),
        (lambda model: model.likelihood([LATENTS], temperature=-1.0), "temperature must be positive and finite"),
        (lambda model: model.sample(SEEDS[:, None]), r"seeds must be int64 \[B\]"),
    ],
)
def test_wrong_arguments_of_a_sampler_are_refused(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)
