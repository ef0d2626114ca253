"""What a user can get wrong: one clear message, a status that is not zero, and nothing saved is lost."""

import dataclasses
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from commands import SAMPLE, run_command

import pixelvae_tf
from pixelvae_tf import bounds, runs
from pixelvae_tf import config as config_lib
from pixelvae_tf.config import Config, GatedPixelCNNConfig, LevelConfig, ModelConfig, PixelCNNPPConfig
from pixelvae_tf.train import trainer

PRESET = "--config=digits/gated_pixel_vae"
EXPORT, EVALUATE, TRAIN = "export.main", "train.evaluate_main", "train.main"
PREPARE = "train.prepare_main"
TRAINED = "digits/gated_pixel_vae"


@pytest.fixture(scope="module")
def places(trained_run, tmp_path_factory):
    """Folders for the table: {run} is good, the others are each wrong in one way."""
    base = tmp_path_factory.mktemp("places")
    for name in ("run", "swapped", "no_weights", "torn_config", "torn_images", "lost_config"):
        shutil.copytree(trained_run, base / name)
    for name in ("empty", "no_pictures"):
        (base / name).mkdir()
    text = (base / "run" / runs.CONFIG).read_text()
    # Its weights are those of another model.
    other = config_lib.from_json(text)
    other.model.pixels.filters += 4
    (base / "swapped" / runs.CONFIG).write_text(config_lib.to_json(other))
    shutil.rmtree(base / "no_weights" / runs.CHECKPOINTS)
    shutil.rmtree(base / "no_weights" / runs.BEST)
    (base / "torn_config" / runs.CONFIG).write_text(text[: len(text) // 2])
    (base / "lost_config" / runs.CONFIG).unlink()
    (base / "torn_images" / runs.CONFIG).unlink()
    shutil.rmtree(base / "torn_images" / runs.CHECKPOINTS)
    (base / "torn_images" / runs.IMAGES).write_text("[1")
    (base / "no_room" / "samples.png").mkdir(parents=True)  # a file that cannot be written, as on a full disk
    (base / "file").write_text("not a directory")
    (base / "damaged" / "binarized_mnist" / "1.0.0").mkdir(parents=True)
    (base / "damaged" / "binarized_mnist" / "1.0.0" / "dataset_info.json").write_text("{ noise")
    return base


def _contents(base: pathlib.Path) -> dict:
    return {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}


MNIST = "--config=binarized_mnist/gated_pixel_vae"
EXPORTED = ["--workdir={run}", "--export_dir={empty}/out"]
CASES = {
    "preset": (TRAIN, ["--config=digits/gan"], "must be one of the presets"),
    "no preset": (TRAIN, [], "--config=PRESET is required"),
    "no workdir": (TRAIN, [PRESET], "--workdir=DIR is required"),
    "field": (
        TRAIN,
        [PRESET, "--config.train.stepz=3"],
        "every --config.FIELD must name a field",
    ),
    "level": (TRAIN, [PRESET, "--config.model.levels[3].dim=3"], "must name a field of the"),
    "no path": (TRAIN, [PRESET, "--workdir="], "--workdir=: it must be a path, and not empty"),
    # TensorFlow would take the checkpoints of {empty}/a, {empty}/b for those of this one, and remove them.
    "pattern": (TRAIN, [PRESET, "--workdir={empty}/[ab]"], "workdir must be a path without *, ?, [, ] and"),
    "bracket": (TRAIN, [PRESET, "--config.model.levels[0=3"], "every --config.FIELD must name a field"),
    "no devices": (TRAIN, [PRESET, "--strategy=mirrored", "--virtual_cpus=-3"], "flag --virtual_cpus=-3: "),
    "type": (TRAIN, [PRESET, "--config.train.steps=many"], "flag --config.train.steps=many: "),
    "value": (TRAIN, [PRESET, "--config.train.steps=0"], "train.steps must be at least 1"),
    "strategy": (
        TRAIN,
        [PRESET, "--strategy=tpu"],
        "value should be one of <auto|one_device|",
    ),
    "virtual CPUs": (TRAIN, [PRESET, "--virtual_cpus=2"], "--virtual_cpus needs --strategy=mirrored"),
    "argument": (TRAIN, [PRESET, "more"], "unknown arguments: more"),
    "data set": (TRAIN, [PRESET, "--config.data.name=lsun"], "data.name must be one of"),
    "shape": (
        TRAIN,
        [PRESET, "--config.model.image_shape=(28, 28, 1)"],
        "must fit the images of digits/train, (8, 8, 1) and 256",
    ),
    "values": (TRAIN, [PRESET, "--config.model.num_values=2"], "must fit the images"),
    "replicas": (
        TRAIN,
        [PRESET, "--strategy=mirrored", "--virtual_cpus=2", "--config.train.batch_size=15"],
        "train.batch_size must be a multiple of the number of replicas",
    ),
    "network": (
        TRAIN,
        [PRESET, "--config.model.pixels.network=row_lstm"],
        "a whole network or level is the preset's choice",
    ),
    "field of another": (TRAIN, ["--config=digits/vae", "--config.model.pixels.filters=3"], "must name a field of the"),
    "classes": (TRAIN, [PRESET, "--config.model.num_classes=3"], "must be 0, or fit the labels of digits/train"),
    "strides": (
        TRAIN,
        ["--config=digits/pixel_cnn_pp", "--config.model.pixels.num_scales=5"],
        "multiples of 16 for model.pixels.num_scales=5",
    ),
    "grid": (
        TRAIN,
        ["--config=digits/hierarchical", "--config.model.levels[0].grid=(8,8)"],
        "model.levels[0].grid must be (4, 4), which the 1 halvings of its filters leave",
    ),
    "network of a level": (
        TRAIN,
        ["--config=digits/hierarchical", "--config.model.levels[1].prior=3"],
        "a whole network or level is the preset's choice",
    ),
    "schedule": (TRAIN, [PRESET, "--config.train.prior_floor_steps=3"], "must be 0 for a model of fewer than two"),
    "no folder": (TRAIN, ["--config=lsun_32/two_level_vae"], "data.folder must be given for 'lsun_32'"),
    "empty folder": (TRAIN, [PRESET, "--config.data.folder={no_pictures}"], "data.folder must hold images"),
    "folder": (TRAIN, [PRESET, "--config.data.folder={empty}/no"], "data.folder must be a directory of images"),
    "prepare nothing": (PREPARE, ["{empty}", "--size=8", "--output={empty}/out"], "folder must hold images"),
    "prepare no folder": (PREPARE, ["{empty}/no", "--size=8", "--output={empty}/out"], "folder must be a directory"),
    "prepare an empty name": (PREPARE, ["", "--size=8", "--output={empty}/out"], "one folder of images is expected"),
    "prepare no output": (PREPARE, ["{empty}", "--size=8", "--output="], "--output=: it must be a path, and not empty"),
    "prepare distance": (PREPARE, ["{empty}", "--size=8", "--output=o", "--duplicate_distance=64"], "64 is not an int"),
    "no data": (TRAIN, [MNIST, "--config.data.data_dir={empty}/no"], "must be a directory"),
    "empty data": (TRAIN, [MNIST, "--config.data.data_dir={empty}"], "data.data_dir must be"),
    "noise": (TRAIN, [MNIST, "--config.data.data_dir={damaged}"], "data.data_dir must be"),
    "other config": (TRAIN, [PRESET, "--workdir={run}"], "holds a run with another config: "),
    "other network": (TRAIN, ["--config=digits/row_lstm", "--workdir={run}"], "another config: "),
    "no directory": (TRAIN, [PRESET, "--workdir={file}/new"], "workdir must be a directory that can be written"),
    "damaged config": (TRAIN, [PRESET, "--workdir={torn_config}"], "torn_config/config.json: config must be a JSON ob"),
    "lost config": (TRAIN, [PRESET, "--workdir={lost_config}"], "holds checkpoints and no config.json to say what"),
    "damaged fingerprints": (TRAIN, [PRESET, "--workdir={torn_images}"], "images.json of workdir must be as a run wri"),
    "full disk": (
        TRAIN,
        ["--config=digits/vae", "--config.train.steps=1", "--workdir={no_room}"],
        "workdir must be writable and have room for the run. Received: ",
    ),
    "split": (EVALUATE, ["--workdir={run}", "--split=dev"], "split must be one of train, validation, test"),
    "evaluate into a file": (EVALUATE, ["--workdir={run}", "--output={file}"], "output must be a directory that"),
    "evaluate into the run's reports": (
        EVALUATE,
        ["--workdir={run}", "--output={run}/evaluations"],
        "output must not be where the run keeps its reports",
    ),
    "evaluate into nothing": (EVALUATE, ["--workdir={run}", "--output="], "--output=: it must be a path, and not"),
    "no path to evaluate": (EVALUATE, ["--workdir="], "and not empty. Received: ''"),
    "two sources": (
        EVALUATE,
        ["--workdir={run}", "--folder=x", "--data_dir=y"],
        "At most one of --folder, --data_dir",
    ),
    "no run": (EVALUATE, ["--workdir={empty}"], "workdir must be the directory of a run, with config.json"),
    "no weights": (EVALUATE, ["--workdir={no_weights}"], "must hold 'best' weights; a run writes them at"),
    "other weights": (EVALUATE, ["--workdir={swapped}"], "weights of the model of its config.json"),
    "no weights at all": (EVALUATE, [], "Exactly one of --workdir, --pretrained must be given"),
    "two weights": (EXPORT, [*EXPORTED, f"--pretrained={TRAINED}"], "Exactly one of --workdir, --pretrained"),
    "unknown weights": (EVALUATE, ["--pretrained=digits/gan"], "preset must be one of the pretrained models "),
    "latest weights": (
        EXPORT,
        [f"--pretrained={TRAINED}", "--weights=latest", EXPORTED[1]],
        "At most one of --weights, --pretrained must",
    ),
    "samples": (EVALUATE, ["--workdir={run}", "--importance_samples=-1"], "-1 is not an integer in the range"),
    "exported run": (EXPORT, ["--workdir={empty}", "--export_dir={empty}/out"], "workdir must be the directory of"),
    "nowhere to export": (EXPORT, EXPORTED[:1], "Exactly one of --export_dir, --preset_dir must be"),
    "served weights": (
        EXPORT,
        ["--workdir={run}", "--preset_dir={empty}/out", "--warmup=1"],
        "warmup must be left out with preset_dir. Received: ['1']",
    ),
    "preset dir": (EXPORT, ["--workdir={run}", "--preset_dir={run}"], "preset_dir must be a new or empty folder"),
    "export dir": (EXPORT, ["--workdir={run}", "--export_dir={file}/out"], "export_dir must be a directory that can"),
    "exported weights": (EXPORT, ["--workdir={swapped}", "--export_dir={empty}/out"], "weights of the model of its"),
    "max_batch": (EXPORT, [*EXPORTED, "--max_batch=0"], "max_batch must be at least 1. Received: 0"),
    "xla_parts": (EXPORT, [*EXPORTED, "--xla", "--xla_parts=0"], "xla_parts must be in 1..128, the max_batch, and 1"),
    "xla_parts without xla": (EXPORT, [*EXPORTED, "--xla_parts=2"], "Received: 2, xla=False"),
    "max_batch type": (EXPORT, [*EXPORTED, "--max_batch=many"], "flag --max_batch=many: "),
    "rounds": (EXPORT, [*EXPORTED, "--completion_rounds=-1"], "completion_rounds must be in 0..1048575. Received: -1"),
    "warm-up": (EXPORT, [*EXPORTED, "--warmup=1,x"], "warmup must be batch sizes with commas between them, as 1,16. "),
    "no rows": (EXPORT, [*EXPORTED, "--warmup=0,1"], "warmup must be batch sizes in 1..128, the max_batch. Received"),
    "rows": (EXPORT, [*EXPORTED, "--max_batch=8", "--warmup=8,9"], "batch sizes in 1..8, the max_batch. Received: 8,9"),
    "no name": (EXPORT, ["--workdir={run}", "--export_dir=/"], "export_dir must have a name, which becomes the model"),
    "saved model": (SAMPLE, ["--saved_model={run}", "--output={empty}/x.png"], "must be a version directory written"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_command_refuses_with_one_message(places, case):
    module, arguments, message = CASES[case]
    if module == TRAIN and case != "no workdir" and not any("--workdir" in argument for argument in arguments):
        arguments = [*arguments, "--workdir={empty}/new"]
    folders = {path.name: path for path in places.iterdir()}
    before = _contents(places)
    status, out, errors = run_command(module, *(argument.format(**folders) for argument in arguments))
    assert status != 0
    assert message in errors and not out
    assert "Traceback" not in errors
    after = _contents(places)
    assert {path: after.get(path) for path in before} == before, "what was saved must stay as it was"


def test_a_run_does_not_go_on_with_the_weights_of_another_model(places):
    before = _contents(places)
    workdir = places / "swapped"
    with pytest.raises(ValueError, match="a checkpoint of this model that can be read"):
        trainer.train_and_evaluate(runs.read_config(workdir), workdir, trainer.make_strategy("one_device"))
    assert {path: content for path, content in _contents(places).items() if path in before} == before


SMALL = GatedPixelCNNConfig(num_layers=1, filters=6, kernel_size=3, first_kernel_size=3, num_output_layers=1)
CONFIG = ModelConfig((5, 4, 1), 4, [LevelConfig(3, (6,))], SMALL)
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
        lambda model, images: bounds.importance_weighted_nats(model, images, SEEDS, 2),
        lambda model, images: model.start_from(images),
    ],
    ids=["posterior", "call", "elbo", "importance_weighted", "start_from"],
)
def test_wrong_images_are_refused(model, door, case):
    images, message = WRONG_IMAGES[case]
    with pytest.raises(ValueError) as refused:
        door(model, tf.constant(images))
    assert "images must be integer pixel values" in str(refused.value) and message in str(refused.value)


@pytest.mark.parametrize("case", WRONG_IMAGES)
def test_wrong_images_have_no_probability(model, case):
    """A distribution of pixels would give a number, even a positive logarithm, for what cannot happen."""
    images, message = WRONG_IMAGES[case]
    message = "value must be of shape [..., 5, 4, 1]. Received: shape " if case in ("shape", "rank") else message
    likelihood = model.likelihood([LATENTS])
    with pytest.raises(ValueError, match=re.escape(message)):
        likelihood.log_prob(images)
    if case in ("too large", "negative"):
        with pytest.raises(tf.errors.InvalidArgumentError, match="images must be integer pixel values"):
            tf.function(likelihood.log_prob, autograph=False)(tf.constant(images))


def test_images_of_any_integer_type_and_sample_shape_have_a_probability(model):
    likelihood = model.likelihood([LATENTS])
    expected = likelihood.log_prob(IMAGES)
    for given in (IMAGES.astype(np.uint8), tf.constant(IMAGES, tf.int32), IMAGES[None]):
        # The same arithmetic in a batch of the same size.
        np.testing.assert_array_equal(np.squeeze(likelihood.log_prob(given)), expected)


def test_a_batch_of_the_trainer_is_not_images(model):
    with pytest.raises(ValueError, match=r"images must be integer .*\. Received: dict"):
        model.posterior({"images": IMAGES, "seeds": SEEDS})


def test_fit_refuses_wrong_images():
    # The embedding of a value that is out of range must not be the first to complain.
    pixels = dataclasses.replace(SMALL, embedding_dim=2)
    model = pixelvae_tf.build(Config(model=ModelConfig((5, 4, 1), 4, [], pixels)))
    model.compile("adam")
    for case, (images, _) in WRONG_IMAGES.items():
        with pytest.raises(ValueError, match="images must be integer pixel values"):
            model.fit(images, verbose=0)
        # Values in a dataset are known when its graph runs.
        error = tf.errors.InvalidArgumentError if case in ("too large", "negative") else ValueError
        with pytest.raises(error, match="images must be integer pixel values"):
            model.fit(tf.data.Dataset.from_tensors(images), verbose=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.decode([LATENTS[:, :2]], SEEDS), r"latents must be .* of shapes \[B, 3\]"),
        (lambda model: model.decode([], SEEDS), "latents must be a list"),
        (lambda model: model.decode([LATENTS * np.nan], SEEDS), "latents must be finite"),
        (lambda model: model.decode([LATENTS], tf.ones(2)), r"seeds must be integers \[B\], or .*Received: float32"),
        (lambda model: model.sample("two"), r"seeds must be integers \[B\], or .*Received: 'two'"),
        (lambda model: model.sample(True), "seeds must be integers .*Received: True"),
        (lambda model: model.sample(0), r"Received: 0, where 1\.\.1048576 images can be made at once"),
        (lambda model: model.sample(2**40), r"Received: 1099511627776, where 1\.\.1048576"),
        (lambda model: model.interpolate(IMAGES, IMAGES, 1), r"steps must be in 2\.\.\d+\. Received: steps=1"),
        (lambda model: model.sample(SEEDS, temperature=0.0), "temperature must be in 1e-06..1e\\+06. Received: 0"),
        (lambda model: model.sample(SEEDS, temperature=[1.0, np.nan]), "temperature must be in"),
        (lambda model: model.sample(SEEDS, method="slow"), "method must be"),
        (
            lambda model: model.complete(IMAGES, IMAGES[:, :2], SEEDS),
            r"mask must be .*\(2, 5, 4, 1\), or \[H, W\] .*Received: int64 of",
        ),
        (lambda model: model.complete(IMAGES, IMAGES > 0, SEEDS, num_rounds=-1), "num_rounds must be in 0"),
        (
            lambda model: model.complete(IMAGES, IMAGES > 0, SEEDS, num_rounds=[1, 2**20]),
            r"0\.\.1048575. Received: \[ ",
        ),
        (lambda model: model.complete(IMAGES, IMAGES > 0, SEEDS, num_rounds=1.5), r"or \[B\]. Received: float32"),
        (lambda model: model.complete(IMAGES[:, 1:], IMAGES > 0, SEEDS), "images must be integer pixel values"),
        (lambda model: model.likelihood([LATENTS], temperature=-1.0), "temperature must be in"),
        (
            lambda model: model.sample(SEEDS[:, None]),
            r"seeds must be integers \[B\].*Received: int64 of shape \(2, 1\)",
        ),
        (
            lambda model: model.sample(SEEDS, temperature="hot"),
            r"temperature must be in .* or \[B\]\. Received: string",
        ),
        (
            lambda model: model.sample(SEEDS, temperature=[[1.0, 1.0]]),
            r"or \[B\]\. Received: float32 of shape \(1, 2\)",
        ),
        (lambda model: model.decode(None, SEEDS), r"latents must be a list of tensors, .*\[B, 3\]\. Received: None"),
        (
            lambda model: model.decode([LATENTS.tolist()], SEEDS),
            r"latents must be a list of tensors, .*Received: \[\[\[",
        ),
        (lambda model: model.likelihood(LATENTS), "latents must be a list of tensors"),
        (
            lambda model: model.complete(IMAGES, IMAGES * 0.5, SEEDS),
            "mask must be bool, integers, or 0 and 1 .*Received: float64",
        ),
        (
            lambda model: model.start_from(IMAGES[:0]),
            "images must have one entry for each image, and there must be at least one image. Received: im",
        ),
        (
            lambda model: model.sample(SEEDS, labels=tf.constant([0, 1])),
            "labels must be None: the model is not class-conditional",
        ),
    ],
)
def test_wrong_arguments_of_a_sampler_are_refused(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"labels must be integers \[B\] in 0..2, one an image, for a class-conditional model. Received: None"),
        ([0, 3], r"labels must be .* in 0..2.*\. Received: values from 0 to 3"),
        ([-1, 0], "Received: values from -1 to 0"),
        ([0.0, 1.0], r"labels must be integers .*\. Received: float32"),
        ([[0], [1]], r"labels must be integers \[B\] .*\. Received: int32 of shape \(., 1\)"),
        ([0, 1, 2], r"must have one entry for each image, and there must be at least one image\. Received: .*labels 3"),
    ],
)
def test_wrong_labels_are_refused(labels, message):
    model = pixelvae_tf.build(Config(model=dataclasses.replace(CONFIG, num_classes=3)))
    for door in (
        lambda: model.sample(SEEDS, labels=labels),
        lambda: model.decode([LATENTS], SEEDS, labels=labels),
        lambda: model.likelihood([LATENTS], labels=labels),
        lambda: bounds.elbo(model, IMAGES, SEEDS, labels=labels),
        lambda: bounds.importance_weighted_nats(model, IMAGES, SEEDS, 2, labels=labels),
    ):
        with pytest.raises(ValueError, match=message):
            door()


ONE_EACH = r"must have one entry for each image, and there must be at least one image\. Received: "
NUMBERS = {
    "elbo": lambda model, images, seeds, labels, latents: bounds.elbo(model, images, seeds, labels=labels),
    "importance_weighted": lambda model, images, seeds, labels, latents: bounds.importance_weighted_nats(
        model, images, seeds, 2, labels=labels
    ),
    "decode": lambda model, images, seeds, labels, latents: model.decode(latents, seeds, labels=labels),
    "complete": lambda model, images, seeds, labels, latents: model.complete(
        images, images[..., :1] > 0, seeds, labels=labels
    ),
}


@pytest.mark.parametrize("levels", [0, 1])
@pytest.mark.parametrize("door", NUMBERS)
def test_nothing_is_broadcast_over_a_batch(door, levels):
    """One seed or one label for several images is a mistake, and no image is no batch."""
    config = dataclasses.replace(CONFIG, num_classes=3, levels=CONFIG.levels[:levels])
    model, call = pixelvae_tf.build(Config(model=config)), NUMBERS[door]
    good = {"images": IMAGES, "seeds": SEEDS, "labels": np.array([0, 2]), "latents": [LATENTS][:levels]}
    wrong = [{"seeds": SEEDS[:1]}, {"labels": good["labels"][:1]}]
    wrong += [{"images": IMAGES[:1]}] if door != "decode" else [{"latents": [LATENTS[:1]]}] * levels
    empty = {name: [z[:0] for z in value] if name == "latents" else value[:0] for name, value in good.items()}
    for change in (*wrong, empty):
        with pytest.raises(ValueError, match=ONE_EACH):
            call(model, **{**good, **change})
    call(model, **good)


def test_temperatures_and_seeds_of_levels_are_one_an_image(model):
    for call in (
        lambda: model.sample(SEEDS, temperature=[1.0]),
        lambda: model.sample_prior(SEEDS, temperature=[1.0, 1.0, 1.0]),
        lambda: model.sample(SEEDS, level_seeds=[SEEDS[:1]]),
        lambda: model.complete(IMAGES, IMAGES > 0, SEEDS, temperature=[1.0]),
        lambda: model.sample_posterior(model.posterior(IMAGES), SEEDS[:1]),
    ):
        with pytest.raises(ValueError, match=ONE_EACH):
            call()


def test_a_class_conditional_model_is_fitted_to_images_and_labels():
    model = pixelvae_tf.build(Config(model=dataclasses.replace(CONFIG, num_classes=3)))
    model.compile("adam")
    with pytest.raises(ValueError, match=r"a class-conditional model takes .*Received: "):
        model.fit(IMAGES, verbose=0)
    model.compile("adam")
    history = model.fit({"images": IMAGES, "labels": np.array([0, 2])}, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    # In the same graph, which does not know values beforehand.
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels must be integers"):
        model.fit({"images": IMAGES, "labels": np.array([0, 3])}, verbose=0)


def test_labels_of_another_number_are_refused_without_latents_too():
    model = pixelvae_tf.build(Config(model=dataclasses.replace(CONFIG, num_classes=3, levels=[])))
    with pytest.raises(
        ValueError,
        match=r"must have one entry for each image, and there must be at least one image\. Received: seeds 2, labels 3",
    ):
        model.sample(SEEDS, labels=[0, 1, 2])
    assert model.sample(SEEDS, labels=np.array([0, 2], np.int16)).shape == (2, 5, 4, 1)


@pytest.mark.parametrize("labels", [2, [0, 7, *[1] * 98]], ids=["scalar", "one that the start does not look at"])
def test_all_labels_of_a_start_are_checked(labels):
    model = pixelvae_tf.build(Config(model=dataclasses.replace(CONFIG, num_classes=3)))
    with pytest.raises(ValueError, match=r"labels must be integers \[B\] in 0\.\.2"):
        model.start_from(np.repeat(IMAGES[:1], 100, axis=0), labels)


def test_a_start_takes_tensors_and_lists():
    conditional = pixelvae_tf.build(Config(model=dataclasses.replace(CONFIG, num_classes=3)))
    streams = PixelCNNPPConfig(num_blocks=1, num_scales=1, filters=4)
    normed = pixelvae_tf.build(Config(model=dataclasses.replace(CONFIG, pixels=streams, num_classes=3)))
    for some in (conditional, normed):
        some.start_from(tf.constant(IMAGES), labels=[0, 2])
        assert all(np.isfinite(weights).all() for weights in some.get_weights())
