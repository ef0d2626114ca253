"""Image sets that TFDS has prepared: read from disk at any places."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from photo_folder import HARMS
from small_run import largest_difference, run_steps, small_config

from pixelvae_tf import data, runs
from pixelvae_tf.config import DataConfig
from pixelvae_tf.data import records
from pixelvae_tf.train import trainer
from pixelvae_tf.train.interruption import Interruption

SHAPE, NUM_IMAGES = (8, 8, 3), 240
IMAGE = tfds.features.Image(shape=SHAPE)


def _images(seed, number=NUM_IMAGES):
    """Noise, whose first value says which image it is: TFDS writes them in an order of its own."""
    images = np.random.default_rng(seed).integers(0, 256, (number, *SHAPE)).astype(np.uint8)
    images[:, 0, 0, 0] = np.arange(number)
    return images


class Photos(tfds.core.GeneratorBasedBuilder):
    """A set of some splits of images, each with a label."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, splits, feature, key, **options):
        self.images, self.feature, self.key = splits, feature, key
        super().__init__(**options)

    def _info(self):
        features = {self.key: self.feature, "label": tfds.features.ClassLabel(num_classes=10)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(images) for split, images in self.images.items()}

    def _generate_examples(self, images):
        for index, image in enumerate(images):
            yield index, {self.key: image, "label": index % 10}


def _prepare(folder, splits, feature=IMAGE, key="image", file_format="array_record", num_shards=3):
    """What `tfds build` does; returns the folder of the files."""
    builder = Photos(splits, feature, key, data_dir=folder, file_format=file_format)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=num_shards))
    return pathlib.Path(builder.data_dir)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    _prepare(folder, {"train": _images(0), "validation": _images(1, 20)})
    return folder


def _load(folder, split="train"):
    return data.load(DataConfig("photos", str(folder)), split, SHAPE)


def test_images_are_read_at_any_places(prepared):
    image_set = _load(prepared)
    images, truth = image_set.images, _images(0)
    assert images.shape == truth.shape and len(images) == NUM_IMAGES
    assert (image_set.name, image_set.num_values, image_set.labels) == ("photos/train", 256, None)
    whole = images[:]
    order = whole[:, 0, 0, 0]
    assert sorted(order) == list(range(NUM_IMAGES))
    np.testing.assert_array_equal(whole, truth[order])
    for index in (slice(2, 5), np.random.default_rng(2).permutation(NUM_IMAGES), np.array([7, 7, 0])):
        np.testing.assert_array_equal(images[index], whole[index])
    np.testing.assert_array_equal(image_set.some()[0], whole)
    # By its whole name it is the same.
    assert data.load(DataConfig("photos:1.0.0", str(prepared)), "train").fingerprint() == image_set.fingerprint()


def test_the_fingerprint_is_of_the_images_and_not_of_where_they_are(prepared, tmp_path):
    fingerprint = _load(prepared).fingerprint()
    shutil.copytree(prepared, tmp_path / "moved")
    assert _load(tmp_path / "moved").fingerprint() == fingerprint
    _prepare(tmp_path / "others", {"train": _images(3)})
    _prepare(tmp_path / "fewer", {"train": _images(0)[:-1]})
    assert len({fingerprint, *(_load(tmp_path / other).fingerprint() for other in ("others", "fewer"))}) == 3


def test_training_on_it_is_training_on_the_same_images_in_memory(prepared, monkeypatch):
    config = small_config("digits/vae", batch_size=8)
    config.model.image_shape, config.data = SHAPE, DataConfig("photos", str(prepared))
    on_disk = data.load(config.data, "train")
    in_memory = data.ImageSet(on_disk.images[:], None, "x", 256, "none")
    for a, b in zip(data.evaluation_batches(on_disk, 7, 0), data.evaluation_batches(in_memory, 7, 0), strict=True):
        np.testing.assert_array_equal(a["images"], b["images"])
    strategy = trainer.make_strategy("one_device")
    found = run_steps(config, strategy, 4)[0]
    monkeypatch.setattr(data, "load", lambda *_: in_memory)
    # Equal batches, summed by threads that may differ in rounding; the same images in another order make 6e-4.
    assert largest_difference(found, run_steps(config, strategy, 4)[0]) < 1e-6


@pytest.mark.parametrize("harm", HARMS)
def test_files_that_change_while_they_are_read_are_not_learnt_from(tmp_path, harm):
    """What is written over stops the run with a message; what is only removed can be read to the end."""
    path = _prepare(tmp_path / "tfds", {"train": _images(0), "validation": _images(1, 4)}, num_shards=1)
    config = small_config("digits/vae", steps=20, batch_size=4, steps_per_loop=1, checkpoint_every=1, evaluate_every=20)
    config.model.image_shape, config.data = SHAPE, DataConfig("photos", str(tmp_path / "tfds"))
    runner = trainer.prepare(config, tmp_path / "run", trainer.make_strategy("one_device"))
    loop = runner.loop

    def harmed(iterator, count):
        if runner.step == 2:
            HARMS[harm](next(path.glob("*-train.*")))
        return loop(iterator, count)

    runner.loop = harmed
    if harm == "missing":
        runner.run(Interruption())
        return
    with pytest.raises(OSError, match=r"data\.data_dir must hold .* for photos/train .* Received: \w+Error: "):
        runner.run(Interruption())
    # A few batches had been read ahead.
    assert 2 <= runs.load(tmp_path / "run", "latest")[2] < 12


def test_what_a_set_lacks_is_named(prepared, tmp_path):
    images = _images(0, 4)
    with pytest.raises(
        ValueError, match=r"data\.name must be one of digits, .*, or an image set that TFDS has prepared"
    ):
        _load(tmp_path / "nowhere")
    message = r"photos/1\.0\.0 must have the split 'test'\. Received: train, validation, as TFDS prepared it"
    with pytest.raises(ValueError, match=message):
        _load(prepared, "test")
    wide = np.zeros((8, 9, 3), np.uint8)
    any_size, deep = tfds.features.Image(shape=(None, None, 3)), tfds.features.Image(shape=SHAPE, dtype=np.uint16)
    for name, splits, message, options in (
        ("sequential", images, r"must be prepared with --file_format=array_record\. Received: tfrecord\. "
         r"`tfds convert_format --dataset_version_dir=\S+/photos/1\.0\.0 --out_file_format=array_record` adds it",
         {"file_format": "tfrecord"}),
        ("sizes", [*images, wide], r"must hold images of one size for photos/train", {"feature": any_size}),
        ("deep", images.astype(np.uint16), "must have a feature 'image' of uint8", {"feature": deep}),
        ("other", images, "must have a feature 'image' of uint8 .*'picture': Image", {"key": "picture"}),
    ):  # fmt: skip
        _prepare(tmp_path / name, {"train": splits}, **options)
        with pytest.raises(ValueError, match=message):
            _load(tmp_path / name)
    # One size that TFDS does not know of is as good.
    _prepare(tmp_path / "one_size", {"train": images}, any_size)
    image_set = _load(tmp_path / "one_size")
    assert image_set.images.shape == (4, *SHAPE)
    config = small_config("digits/pixel_cnn_pp_class_conditional").model
    with pytest.raises(ValueError, match=r"must fit the images of photos/train, \(8, 8, 3\) and 256"):
        data.check_fits(image_set, config)
    config.image_shape = SHAPE
    with pytest.raises(ValueError, match="must be 0, or fit the labels of photos/train, which are: none"):
        data.check_fits(image_set, config)


@pytest.mark.parametrize("harm", HARMS)
def test_a_file_that_is_damaged_before_is_found_at_the_start(tmp_path, harm):
    path = _prepare(tmp_path, {"train": _images(0)}, num_shards=2)
    HARMS[harm](sorted(path.glob("*-train.*"))[1])
    with pytest.raises(ValueError, match=r"data\.data_dir must hold images .* for photos/train"):
        _load(tmp_path)


def test_images_of_another_size_are_no_part_of_the_set():
    class Source(list):
        def __getitems__(self, places):
            return [self[place] for place in places]

    class Features:
        @staticmethod
        def deserialize_example_np(height):
            return {"image": np.zeros((height, 4, 1), np.uint8)}

    images = records.Records(Source([4, 4, 5, 5]), Features, "photos/train")
    assert images[np.array([0, 1])].shape == (2, 4, 4, 1)
    for places in ([2, 3], [1, 2]):
        with pytest.raises(OSError, match="must hold images of one size for photos/train"):
            images[np.array(places)]
