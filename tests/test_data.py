"""Data: batch t is a function of (seed, t); evaluation sees every image once."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from pixelvae_tf import data
from pixelvae_tf.config import DataConfig, ModelConfig
from pixelvae_tf.data import shards, sources
from pixelvae_tf.train import evaluation


def _image_set(number):
    images = np.arange(number, dtype=np.uint8)[:, None, None, None]
    return data.ImageSet(images, None, "numbers", 256, "none")


def _take(dataset, number):
    return [{key: value.numpy() for key, value in batch.items()} for batch in dataset.take(number)]


def test_an_epoch_holds_every_image_once_in_a_new_order():
    batches = _take(data.training_batches(_image_set(30), 10, seed=1), 6)
    values = np.concatenate([batch["images"].ravel() for batch in batches])
    first, second = values[:30], values[30:]
    assert sorted(first) == sorted(second) == list(range(30))
    assert (first != second).any() and (first != np.arange(30)).any()
    seeds = np.concatenate([batch["seeds"] for batch in batches])
    assert len(set(seeds)) == 60


@pytest.mark.parametrize("number", [1000, 16384])
def test_an_epoch_is_shuffled_as_by_chance(number):
    """Files often come sorted by class: neighbours must not meet in batches, nor one epoch be like another."""
    images = np.arange(number, dtype=np.uint16).view(np.uint8).reshape(number, 1, 1, 2)
    image_set = data.ImageSet(images, None, "numbers", 256, "none")
    epochs = _take(data.training_batches(image_set, number, seed=0), 8)
    orders = np.stack([epoch["images"].view(np.uint16).ravel() for epoch in epochs]).astype(np.float64)
    # The correlation of two random orders has a standard deviation of 1 / sqrt(N); five of them are allowed.
    correlations = np.corrcoef(orders)[np.triu_indices(len(orders), 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(number)
    # The mean of n of N numbers without replacement has the variance (N + 1) (N - n) / 12 n; its estimate from k means
    # a relative standard deviation of about sqrt(2 / k).
    size = 50
    means = orders[:, : number // size * size].reshape(len(orders), -1, size).mean(axis=2)
    ratio = means.var() * 12 * size / (number + 1) / (number - size)
    assert ratio == pytest.approx(1.0, abs=5 * np.sqrt(2 / means.size))


def test_batches_start_anywhere():
    from_start = _take(data.training_batches(_image_set(7), 3, seed=1), 6)
    resumed = _take(data.training_batches(_image_set(7), 3, seed=1, start_step=4), 2)
    for a, b in zip(from_start[4:], resumed, strict=True):
        np.testing.assert_array_equal(a["images"], b["images"])
        np.testing.assert_array_equal(a["seeds"], b["seeds"])


def test_the_seed_matters():
    a, b = (_take(data.training_batches(_image_set(50), 50, seed=seed), 1)[0] for seed in (1, 2))
    assert (a["images"] != b["images"]).any() and (a["seeds"] != b["seeds"]).any()


def test_workers_and_replicas_share_a_batch():
    whole = _take(data.training_batches(_image_set(64), 8, seed=1), 3)
    parts = []
    for worker in range(2):
        context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=worker, num_replicas_in_sync=4)
        parts.append(_take(data.training_batches(_image_set(64), 8, 1, input_context=context), 6))
    for step in range(3):
        shares = [parts[worker][2 * step + replica] for worker in range(2) for replica in range(2)]
        for key in ("images", "seeds"):
            np.testing.assert_array_equal(whole[step][key], np.concatenate([share[key] for share in shares]))


def test_replicas_must_divide_the_batch():
    context = tf.distribute.InputContext(num_replicas_in_sync=3)
    with pytest.raises(ValueError, match="multiple of the number of replicas"):
        data.training_batches(_image_set(5), 8, 0, input_context=context)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 64])
def test_evaluation_sees_every_image_once_with_its_own_seed(batch_size):
    batches = list(data.evaluation_batches(_image_set(10), batch_size, seed=3))
    assert all(len(batch["images"]) == batch_size for batch in batches)
    real = np.concatenate([batch["real"] for batch in batches])
    images = np.concatenate([batch["images"] for batch in batches]).ravel()[real]
    np.testing.assert_array_equal(images, np.arange(10))
    seeds = np.concatenate([batch["seeds"] for batch in batches])[real]
    np.testing.assert_array_equal(seeds, next(data.evaluation_batches(_image_set(10), 10, seed=3))["seeds"])


@pytest.mark.parametrize(
    ("number", "largest", "replicas", "size"),
    [
        (4, 100, 1, 4),
        (200, 40_000, 1, 200),
        (200, 150, 1, 100),
        (5, 2, 1, 2),
        (3, 1, 1, 1),
        (10, 10, 1, 10),
        (5, 8, 4, 8),
    ],
)
def test_no_batch_is_larger_than_what_there_is(number, largest, replicas, size):
    assert data.even_batch_size(number, largest, replicas) == size


def test_an_evaluation_computes_no_copies_of_a_small_split(monkeypatch):
    class Asked(Exception):
        pass

    def batches(image_set, batch_size, seed):
        raise Asked(batch_size)

    monkeypatch.setattr(data, "evaluation_batches", batches)
    config = ModelConfig(image_shape=(1, 1, 1), num_values=256, levels=[])
    model = type("Model", (), {"config": config, "num_levels": 0})()
    with pytest.raises(Asked, match=r"^7$"):
        evaluation.Evaluator(model, batch_size=40_000)(_image_set(7))


def test_digits():
    splits = {split: data.load(DataConfig("digits"), split) for split in ("train", "validation", "test")}
    assert [len(image_set.images) for image_set in splits.values()] == [1197, 200, 400]
    for image_set in splits.values():
        assert image_set.images.shape[1:] == (8, 8, 1) and image_set.images.dtype == np.uint8
        assert set(np.unique(image_set.labels)) == set(range(10))
    together = np.concatenate([image_set.images for image_set in splits.values()])
    assert (together.min(), together.max(), len(np.unique(together))) == (0, 255, 17)


@pytest.mark.parametrize(
    ("name", "shape", "num_values", "sizes"),
    [
        ("binarized_mnist", (28, 28, 1), 2, (50_000, 10_000, 10_000)),
        ("dynamically_binarized_mnist", (28, 28, 1), 2, (50_000, 10_000, 10_000)),
        ("mnist", (28, 28, 1), 256, (50_000, 10_000, 10_000)),
        ("cifar10", (32, 32, 3), 256, (45_000, 5_000, 10_000)),
    ],
)
def test_tfds(tfds_dir, name, shape, num_values, sizes):
    there = tfds.builder(sources.DATA_SETS[name].tfds_name or name, data_dir=tfds_dir).info.splits
    named = [there[sources.DATA_SETS[name].splits[split]] for split in sources.SPLITS]
    assert tuple(split.num_examples for split in named) == sizes
    # Where two are parts of one, they have nothing in common.
    files = [file for split in named for file in split.file_instructions]
    parts = [(file.filename, place) for file in files for place in range(file.skip, file.skip + file.take)]
    assert len(parts) == len(set(parts)) == sum(sizes)
    # The smallest: the others are read in the same way.
    split, size = min(zip(sources.SPLITS, sizes, strict=True), key=lambda each: each[1])
    image_set = data.load(DataConfig(name, tfds_dir), split)
    assert image_set.images.shape == (size, *shape) and image_set.images.dtype == np.uint8
    assert image_set.images.max() == image_set.num_values - 1 == num_values - 1
    assert (image_set.labels is None) == (name == "binarized_mnist")


def _grey_set(number: int) -> data.ImageSet:
    """A dynamically binarized set: its values are 1 with the probabilities 0, 1/5, 2/5, ..."""
    grey = np.broadcast_to(np.arange(0, 256, 51, np.uint8).reshape(1, 6, 1, 1), (number, 6, 6, 1))
    return data.ImageSet(sources._binarize(grey, "train"), np.arange(number), "dots", 2, "dynamic", grey=grey)


def test_training_binarizes_anew_each_time_and_evaluation_does_not():
    image_set = _grey_set(50)
    first, second = _take(data.training_batches(image_set, 50, seed=1), 2)
    (again,) = _take(data.training_batches(image_set, 50, seed=1, start_step=1), 1)
    np.testing.assert_array_equal(second["images"], again["images"])
    epochs = [batch["images"][np.argsort(batch["labels"])] for batch in (first, second)]
    # Two draws of independent values of probability p differ in 2 p (1 - p) of them; 300 of each p.
    for values, other in (epochs, (epochs[0], image_set.images)):
        assert set(np.unique(values)) == {0, 1}
        for row in range(6):
            p = row / 5
            spread = 5 * np.sqrt(p * (1 - p) / 300)
            assert values[:, row].mean() == pytest.approx(p, abs=spread)
            assert (values[:, row] != other[:, row]).mean() == pytest.approx(
                2 * p * (1 - p), abs=5 * np.sqrt(0.25 / 300)
            )
    (one,) = data.evaluation_batches(image_set, 50, seed=1)
    np.testing.assert_array_equal(one["images"], image_set.images)
    np.testing.assert_array_equal(image_set.images, _grey_set(50).images)
    assert not np.array_equal(sources._binarize(image_set.grey, "test"), image_set.images), "splits have their own"


def test_a_part_of_a_dynamically_binarized_set_is_binarized_as_the_whole():
    grey = np.zeros((40, 6, 6, 1), np.uint8)
    grey[30:] = 255
    image_set = data.ImageSet(sources._binarize(grey, "train"), np.arange(40), "dots", 2, "dynamic", grey=grey)
    last = sources.without_classes(image_set, tuple(range(30)), "train")
    (batch,) = _take(data.training_batches(last, 10, seed=1), 1)
    assert set(batch["labels"]) == set(range(30, 40)) and batch["images"].all() and last.images.all()
    assert not image_set.first(3).grey.any() and len(image_set.first(3).grey) == 3


@pytest.mark.parametrize("number", [1, 7, 200])
def test_some_images_are_from_all_parts_of_a_set(number):
    images = data.load(DataConfig("digits"), "validation")
    some = images.spread(number)
    places = [np.flatnonzero((images.images == image).all(axis=(1, 2, 3)))[0] for image in some.images]
    assert len(some.images) == number and places == sorted(set(places))
    # From the first to the last, as far apart as can be.
    assert places[0] == 0 and (number == 1 or (places[-1] == 199 and np.ptp(np.diff(places)) <= 1))
    np.testing.assert_array_equal(some.labels, images.labels[places])
    assert some.name == ("digits/validation" if number == 200 else f"digits/validation, {number} images of 200")
    # Always the same, and what more images are wanted than there are, all.
    assert images.spread(number).fingerprint() == some.fingerprint() and images.spread(201) is images


def test_a_mutation_replaces_a_share_of_the_values_and_nothing_else():
    """Ren et al. 2019: each value is drawn anew with this probability, evenly over all values."""
    images = np.zeros((50, 8, 8, 3), np.uint8)
    image_set = data.ImageSet(images, None, "black", 256, "none")
    plain, mutated, again = (
        _take(data.training_batches(image_set, 50, seed=1, mutation=share), 2) for share in (0.0, 0.3, 0.3)
    )
    assert not plain[0]["images"].any()
    for before, batch, repeated in zip(plain, mutated, again, strict=True):
        np.testing.assert_array_equal(batch["images"], repeated["images"])
        np.testing.assert_array_equal(batch["seeds"], before["seeds"])
        changed = batch["images"] != 0
        # One of 256 is drawn as it was. 9,600 values: five standard deviations.
        assert changed.mean() == pytest.approx(0.3 * 255 / 256, abs=5 * np.sqrt(0.3 * 0.7 / changed.size))
        assert not np.array_equal(changed[..., 0], changed[..., 1]), "channels are drawn by themselves"
        drawn = batch["images"][changed]
        assert drawn.mean() == pytest.approx(128, abs=5 * 74 / np.sqrt(drawn.size)) and drawn.max() > 250
    assert (mutated[0]["images"] != mutated[1]["images"]).any(), "an image is mutated anew each time"
    binary = data.ImageSet(images, None, "black", 2, "none")
    (batch,) = _take(data.training_batches(binary, 50, seed=1, mutation=1.0), 1)
    assert set(np.unique(batch["images"])) == {0, 1}


@pytest.mark.parametrize("on_disk", [False, True])
def test_classes_are_left_out_of_every_split(on_disk, monkeypatch):
    read = sources._load

    def from_disk(*arguments):
        images = read(*arguments)
        return dataclasses.replace(images, images=shards.ShardedImages([images.images[:150], images.images[150:]]))

    if on_disk:
        monkeypatch.setattr(sources, "_load", from_disk)
    for split in sources.SPLITS:
        whole, without = (data.load(DataConfig("digits", exclude_labels=labels), split) for labels in ((), (5, 3)))
        kept = ~np.isin(whole.labels, (3, 5))
        assert len(without.images) == kept.sum() < len(kept)
        everything = whole.images[np.arange(len(kept))]
        np.testing.assert_array_equal(without.images[np.arange(kept.sum())], everything[kept])
        np.testing.assert_array_equal(without.images[3:7], everything[kept][3:7])
        np.testing.assert_array_equal(without.labels, whole.labels[kept])
        assert without.name == f"digits without the classes 3, 5/{split}"
        assert without.fingerprint() != whole.fingerprint()


@pytest.mark.parametrize("excluded", [(10,), tuple(range(10))])
def test_classes_to_leave_out_must_be_there_and_not_all(excluded):
    with pytest.raises(
        ValueError, match=r"exclude_labels must be some of the labels of digits.*: 0, 1, 2, .* Received"
    ):
        data.load(DataConfig("digits", exclude_labels=excluded), "train")


def test_classes_can_be_left_out_of_a_set_with_labels_alone(monkeypatch):
    monkeypatch.setattr(sources, "_load", lambda *arguments: _image_set(3))
    with pytest.raises(ValueError, match=r"exclude_labels must be left out for numbers, which has no labels"):
        data.load(DataConfig("numbers", exclude_labels=(1,)), "train")


def test_unknown_names():
    with pytest.raises(ValueError, match=r"data.name must be one of digits, .* Received: 'imagenet'"):
        data.load(DataConfig("imagenet"), "train")
    with pytest.raises(ValueError, match="split must be one of train, validation, test"):
        data.load(DataConfig("digits"), "dev")


def test_a_fingerprint_is_of_every_image():
    image_set, other = _image_set(30), _image_set(30)
    assert image_set.fingerprint() == other.fingerprint()
    other.images[-1] += 1
    assert image_set.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("labels", [[0, 3, 1], [0, -1, 2]])
def test_labels_must_be_classes_of_the_model(labels):
    model = ModelConfig((1, 1, 1), 256, num_classes=3)
    image_set = dataclasses.replace(_image_set(3), labels=np.array([0, 2, 1]))
    data.check_fits(image_set, model)
    with pytest.raises(ValueError, match=r"model\.num_classes must be 0, or fit the labels of numbers"):
        data.check_fits(dataclasses.replace(image_set, labels=np.array(labels)), model)
