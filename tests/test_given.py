"""A run on images that a program has: arrays and tf.data, with all that a run on a folder has."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import pixelvae_tf
from pixelvae_tf import data, presets, runs
from pixelvae_tf.config import Config, GatedPixelCNNConfig, ModelConfig, TrainConfig
from pixelvae_tf.train import evaluation, trainer

PIXELS = GatedPixelCNNConfig(num_layers=1, filters=4, kernel_size=3, first_kernel_size=3, num_output_layers=0)
MODEL = ModelConfig((3, 4, 1), 4, [], PIXELS)
IMAGES = np.random.default_rng(0).integers(0, 4, (45, 3, 4, 1))
LABELS = np.arange(45) % 3


def _same(first, second):
    for split in ("train", "validation"):
        np.testing.assert_array_equal(first[split].images, second[split].images)
        np.testing.assert_array_equal(first[split].labels, second[split].labels)


def test_images_come_in_arrays_and_data_sets():
    from_slices = tf.data.Dataset.from_tensor_slices
    expected = data.given_splits((IMAGES, LABELS), MODEL)
    assert expected["train"].images.dtype == np.uint8 and expected["validation"].name == "arrays/validation"
    np.testing.assert_array_equal(expected["validation"].images, IMAGES[[19, 39]])
    np.testing.assert_array_equal(expected["validation"].labels, LABELS[[19, 39]])
    assert len(expected["train"].images) == 43
    for given in (
        (tf.constant(IMAGES), tf.constant(LABELS)),
        {"images": IMAGES, "labels": LABELS},
        {"image": IMAGES, "label": LABELS},
        from_slices((IMAGES, LABELS)),
        from_slices((IMAGES, LABELS)).batch(10),
        from_slices({"image": IMAGES, "label": LABELS}),  # as TFDS has them
        {
            "train": from_slices((IMAGES, LABELS))
            .enumerate()
            .filter(lambda i, _: i % 20 != 19)
            .map(lambda _, pair: pair),
            "validation": expected["validation"],
        },
    ):
        _same(data.given_splits(given, MODEL), expected)
    some = data.given_splits((IMAGES, LABELS), MODEL, exclude_labels=(1,))
    assert set(some["train"].labels) == {0, 2} and len(some["train"].images) + len(some["validation"].images) == 30
    alone = data.given_splits(from_slices(IMAGES), MODEL)
    np.testing.assert_array_equal(alone["train"].images, expected["train"].images)
    assert alone["train"].labels is None


def test_the_parts_of_a_dynamically_binarized_set_keep_their_grey_values():
    grey = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 1), np.uint8)
    whole = data.ImageSet((grey > 127).astype(np.uint8), LABELS[:40], "mine/train", 2, "dynamic", grey=grey)
    parts = data.given_splits(whole, dataclasses.replace(MODEL, num_values=2))
    np.testing.assert_array_equal(parts["validation"].grey, grey[[19, 39]])
    np.testing.assert_array_equal(parts["train"].grey, np.delete(grey, [19, 39], axis=0))
    assert parts["train"].name == "arrays/train" and parts["train"].binarization == "dynamic"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES / 3.0, r"images must be integer .*\[B, 3, 4, 1\]\. Received: float64"),
        (IMAGES[..., 0], r"Received: int64 of shape \[45, 3, 4\]"),
        (IMAGES * 2, "Received: values from 0 to 6"),
        (IMAGES[:19], "images must be at least 20, of which one is held out, .*Received: 19"),
        (
            (IMAGES, LABELS[:3]),
            r"labels must be integers \[N\], one for each of the 45 images. Received: int64 of shape \(3",
        ),
        ((IMAGES, LABELS / 2), "labels must be integers .*Received: float64"),
        ("photos", "images must be integer pixel values .*Received: string"),
        ({"train": IMAGES}, "images must be arrays, .*Received: a dict of 'train'"),
        (tf.data.Dataset.from_tensor_slices(IMAGES).repeat(), "images must be a finite tf.data.Dataset"),
        (tf.data.Dataset.range(3), r"of images \[H, W, C\] or .*Received: TensorSpec"),
        (tf.data.Dataset.from_tensor_slices(IMAGES).take(0), "of at least one image"),
        ((IMAGES, LABELS, LABELS), "images must be an array, or a tuple .*Received: a tuple of 3 elements"),
        ((), "images must be an array, or a tuple .*Received: a tuple of 0 elements"),
        ([IMAGES, LABELS], "images must be of one size, .*inhomogeneous"),
        (
            tf.data.Dataset.from_generator(
                lambda: (np.zeros((side, 4, 1), int) for side in (3, 5)),
                output_signature=tf.TensorSpec((None, 4, 1), tf.int64),
            ),
            "images must be of one size, .*same shape",
        ),
    ],
)
def test_what_is_no_set_of_images_is_named(images, message):
    with pytest.raises(ValueError, match=message):
        data.given_splits(images, MODEL)


def test_other_labels_are_other_images():
    """Of a run that goes on, batches are places in what is given."""
    same, other = (data.given_splits((IMAGES, labels), MODEL)["train"] for labels in (LABELS.copy(), LABELS[::-1]))
    assert same.fingerprint() == data.given_splits((IMAGES, LABELS), MODEL)["train"].fingerprint()
    assert same.fingerprint() != other.fingerprint()
    sets = [
        data.ImageSet(IMAGES.astype(np.uint8), labels, "mine/train", 4, "none") for labels in (LABELS, LABELS[::-1])
    ]
    of_sets = [data.given_splits({"train": each, "validation": each}, MODEL)["train"] for each in sets]
    assert of_sets[0].fingerprint() != of_sets[1].fingerprint()


def test_a_split_without_images_is_refused_before_anything_is_trained(tmp_path):
    config = Config(model=MODEL, train=TrainConfig(2, 8))
    with pytest.raises(ValueError, match=r"arrays/validation must have images\. Received: none"):
        trainer.prepare(config, tmp_path / "run", images={"train": IMAGES, "validation": IMAGES[:0]})


def test_a_run_on_arrays_has_what_a_run_has(tmp_path):
    config = Config(
        model=MODEL, train=TrainConfig(2, 8, steps_per_loop=2, log_every=2, evaluate_every=2, checkpoint_every=2)
    )
    workdir = tmp_path / "run"
    # Interrupted after two of four steps, as far as the run knows.
    config.train.steps, config.data.mutation = 4, 0.25
    run = trainer.prepare(config, workdir, images=IMAGES)
    loop = run.loop

    def stopping(*arguments):
        interruption.signal = 15
        return loop(*arguments)

    run.loop, interruption = stopping, trainer.Interruption()
    with pytest.raises(trainer.Interrupted):
        run.run(interruption)
    with pytest.raises(ValueError, match=r"must be the images that the run .* began with"):
        trainer.prepare(config, workdir, images=IMAGES[::-1])
    again = trainer.prepare(config, workdir, images=tf.data.Dataset.from_tensor_slices(IMAGES))
    assert again.step == 2
    again.run(trainer.Interruption())
    model, stored, step = pixelvae_tf.load(workdir)
    assert step in (2, 4) and stored.data.name == "arrays" and stored.data.mutation == 0.25 and model.config == MODEL
    np.testing.assert_array_equal(
        pixelvae_tf.load(workdir, "latest")[0].get_weights()[0], again.state.average.get_weights()[0]
    )
    assert list((workdir / runs.TENSORBOARD).glob("*/events*")) and (workdir / "samples.png").exists()
    assert config.data.name == "digits", "the caller's config stays"
    # Whoever reads the run later is told that its images are not there.
    with pytest.raises(ValueError, match="images that a Python program gave to the trainer"):
        data.load(stored.data, "test", MODEL.image_shape)
    assert presets.command_for(stored, "w") is None and data.describe(stored.data) == ("arrays", "as given")


def test_arrays_are_evaluated_as_a_split_is():
    model = pixelvae_tf.build(Config(model=MODEL))
    evaluator = evaluation.Evaluator(model)
    report, expected = (evaluator(images) for images in (IMAGES, data.given_images(IMAGES, MODEL)))
    assert report["data"] == "arrays/test" and report["num_images"] == 45
    assert report["bound_nats"] == expected["bound_nats"]


def test_labels_that_are_given_are_checked_against_the_classes(tmp_path):
    config = Config(model=dataclasses.replace(MODEL, num_classes=2))
    with pytest.raises(ValueError, match=r"must be 0, or fit the labels of arrays/train, which are: 0\.\.2"):
        trainer.prepare(config, tmp_path / "run", images=(IMAGES, LABELS))
