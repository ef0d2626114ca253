"""Names of folders and files, and the splits that they speak of: taken where they are plain, refused in doubt."""

import pytest

from pixelvae_tf.data import splits

PLAIN = [
    (["train", "val", "test"], ["train", "validation", "test"]),
    (["Train", "VALIDATION", "Test"], ["train", "validation", "test"]),
    (["train", "valid"], ["train", "validation"]),
    (["val", "validation"], ["validation", "validation"]),
    (["train2017", "val2017", "test2017"], ["train", "validation", "test"]),
    (["training", "testing"], ["train", "test"]),
    (["train_images", "test_images"], ["train", "test"]),
    (["images_train", "images-val", "images test"], ["train", "validation", "test"]),
    (["trainset", "valset", "testdata"], ["train", "validation", "test"]),
    (["TrainingSet", "dev", "01_test"], ["train", "validation", "test"]),
    (["trn", "tst"], ["train", "test"]),
    (["train_64x64", "valid_64x64"], ["train", "validation"]),
    (["train", "test_images"], ["train", "test"]),
    (["train_dir", "testfolder"], ["train", "test"]),
    (["imagesTr", "imagesTs"], ["train", "test"]),
]


@pytest.mark.parametrize(("names", "expected"), PLAIN, ids=lambda value: "-".join(value))
def test_plain_names_are_taken(names, expected):
    others = ["cats", "trains", "testimonials", "latest", "contest", "valley", "devices", "sets"]
    assert splits.folders_of_splits([*names, *others], "folder") == dict(zip(names, expected, strict=True))


@pytest.mark.parametrize(
    "names",
    [
        ["trainA", "trainB", "testA"],
        ["trainA", "testA"],
        ["train2014", "train2017", "val2017"],
        ["train", "train2017"],
        ["train", "test_tubes"],
        ["trainval", "test"],
        ["train_val", "test"],
        ["photos", "photos_holdout"],
        ["DIV2K_train_HR", "DIV2K_valid_HR"],
        ["train", "eval_images"],
        ["photos", "test-shots"],
        ["Xtrain", "Xtest"],
        ["mytrain", "myval"],
        ["trainpics", "testpics"],
        ["trains", "tests"],
        ["development", "test"],
        ["photosTr", "photosTs"],
        ["x_tr", "x_va", "x_te"],
        ["tr", "ts"],
        ["train\u6807\u6ce8", "test"],  # labels of train, in Chinese
        ["train\u00e9", "test\u00e9"],
    ],
    ids="-".join,
)
def test_doubtful_names_are_refused(names):
    with pytest.raises(
        ValueError, match=r"folder must have subfolders that are plainly named .* Rename them"
    ) as raised:
        splits.folders_of_splits([*names, "cats"], "folder")
    assert "cats" not in str(raised.value)


def test_trains_are_classes_among_others():
    classes = ["beach", "freight_train", "lake", "train_station", "valley"]
    assert splits.folders_of_splits(classes, "folder") == {}
    for names in (classes[:4], [*classes, "lakes_test"], [*classes, "train2017", "val2017"]):
        with pytest.raises(ValueError, match="are plainly named"):
            splits.folders_of_splits(names, "folder")


def test_a_single_train_among_others_may_be_a_class():
    with pytest.raises(ValueError, match=r"if that is a class, another name.*Received: 2 other subfolders, none"):
        splits.folders_of_splits(["bus", "train", "car"], "folder")
    with pytest.raises(ValueError, match=r"beside 'training', or, if that is a class, .*Received: 2 other subfolders"):
        splits.folders_of_splits(["bus", "training", "car"], "folder")
    assert splits.folders_of_splits(["bus", "trains", "car"], "folder") == {}
    assert splits.folders_of_splits(["bus", "train", "val", "car", "cat"], "folder").keys() == {"train", "val"}


def test_no_other_names_speak_of_splits():
    assert splits.folders_of_splits(["cats", "trains", "2017", "images", "été", "tr", "en", ""], "folder") == {}


def test_no_other_split_lies_in_the_one_for_training():
    splits.check_train(["train/train/1.png", "train/latest/1.png", "train/test.png"], "folder")
    with pytest.raises(ValueError, match=r"Received: folders called 'Val', 'test2' in the one for training"):
        splits.check_train(["train/a/test2/1.png", "train/Val/1.png", "train/b/1.png"], "folder")


@pytest.mark.parametrize(
    "paths",
    [
        ["coco/train2017/a.png", "coco/val2017/a.png"],
        ["coco/images/a.png", "coco/test/a.png"],
        ["cat/train/a.png", "cat/test/a.png", "b.png", "c.png"],
        ["train_1.png", "train_2.png", "test_1.png", "a.png"],
        ["test-1.jpg", "training-1.jpg"],
        ["cat/train_1.png", "dog/test_1.png"],
    ],
)
def test_what_a_hash_would_mix_is_refused(paths):
    with pytest.raises(ValueError, match=r"folder must have the splits as its own subfolders .* would mix them"):
        splits.check_hashed(paths, "folder")


@pytest.mark.parametrize(
    ("paths", "deeper"),
    [
        (["a/train/1.png", "a/plane/1.png"], ["train"]),
        (["train_1.png", "train_2.png"], []),
        (["test.png", "train.png", "a.png", "b.png", "c.png"], []),
    ],
)
def test_a_single_word_is_no_split(paths, deeper):
    assert splits.check_hashed(paths, "folder") == deeper


def test_a_path_decides_its_split_by_itself():
    paths = [f"{index}.png" for index in range(2000)]
    of = [splits.split_of(path) for path in paths]
    # One in 20 each, of 2,000: 100 with a standard deviation of 9.7; four of them are allowed.
    assert all(abs(of.count(split) - 100) < 40 for split in ("validation", "test"))
    assert of == [splits.split_of(path) for path in paths]
    assert splits.split_of("caf\udce9.png") in splits.SPLITS
    # A change of the hash would move images of earlier runs from test to training.
    assert [path for path in paths[:60] if splits.split_of(path) == "test"] == ["13.png", "26.png", "57.png"]
