"""Folders of images, read as they are: which files are images, of which split, and of which class."""

import errno
import os
import shutil

import numpy as np
import pytest
from photo_folder import SIDE, make_animals, make_photos, picture
from PIL import Image

from pixelvae_tf import data, presets
from pixelvae_tf.config import Config, DataConfig, ModelConfig
from pixelvae_tf.data import decoding, folder, walk
from pixelvae_tf.train import trainer


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos")


def test_a_folder_is_read_as_it_is(photos, caplog):
    train = data.load(DataConfig("photos", folder=str(photos)), "train", (SIDE, SIDE, 3))
    assert train.images.shape == (12, SIDE, SIDE, 3) and train.images.dtype == np.uint8
    assert (train.name, train.num_values, train.labels) == ("photos/train", 256, None)
    # A clear line for the text, for each of the two that cannot be read, and for the grey, the CMYK and the RGBA image.
    lines = [record.message for record in caplog.records]
    assert lines[0] == f"Passed over in {photos}: 1 not called images (1 .txt)"
    assert len(lines) == 4 and sum("which cannot be read" in line for line in lines) == 2
    assert any("torn.jpg" in line for line in lines) and any("empty.png" in line for line in lines)
    assert any("3 of 14 images of train were converted to RGB" in line for line in lines)
    assert len(data.load(DataConfig("x", folder=str(photos)), "validation", (SIDE, SIDE, 3)).images) == 2
    grey = data.load(DataConfig("x", folder=str(photos)), "test", (SIDE, SIDE, 1)).images
    assert grey.shape == (2, SIDE, SIDE, 1)


def test_images_are_cropped_to_the_centre_and_averaged_over_areas(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 4:12] = np.arange(64).reshape(8, 8, 1)
    pixels[:, :4], pixels[:, 12:] = 255, 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    found = folder.read(tmp_path, "wide.png", 4, 3).pixels
    means = np.arange(64).reshape(4, 2, 4, 2).mean(axis=(1, 3))
    assert np.abs(found[..., 0] - means).max() <= 0.5  # rounded
    # 16 bits keep their brightness, and a camera's orientation is undone.
    Image.fromarray(np.full((9, 9), 257 * 100 - 128, np.uint16)).save(tmp_path / "deep.png")  # the lowest that is 100
    assert (folder.read(tmp_path, "deep.png", 3, 1).pixels == 100).all()
    turned = Image.fromarray(np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 30, 8, axis=0).repeat(3, axis=2))
    exif = turned.getexif()
    exif[0x0112] = 6  # shot with the camera on its side
    turned.save(tmp_path / "turned.png", exif=exif)
    upright = folder.read(tmp_path, "turned.png", 8, 3).pixels
    assert (np.diff(upright[:, 0, 0].astype(int)) == 30).all()


def test_without_subfolders_a_path_decides_its_split(tmp_path):
    for index in range(100):
        (tmp_path / f"{index}.png").write_bytes(b"")
    splits = folder.list_images(tmp_path).splits
    assert sum(map(len, splits.values())) == 100 and all(splits.values())
    (tmp_path / "17.png").unlink()
    again = folder.list_images(tmp_path).splits
    for split in folder.SPLITS:
        assert set(splits[split]) - {"17.png"} == set(again[split])


def test_folders_of_all_kinds_are_searched(tmp_path, caplog):
    (tmp_path / "elsewhere").mkdir()
    root = tmp_path / "photos"
    for name in ("Train", "VAL", "cats"):
        (root / name).mkdir(parents=True)
        picture(1).save(root / name / "a.png")
    for index in range(3):
        picture(index).save(tmp_path / "elsewhere" / f"{index}.PNG")
    (root / "test").symlink_to(tmp_path / "elsewhere")
    (root / "test" / "round").symlink_to(root)  # links may lead back
    try:
        picture(5).save(root / "Train" / b"caf\xe9.png".decode("utf-8", "surrogateescape"))
        odd = 1
    except OSError:  # a file system that takes UTF-8 alone
        odd = 0
    splits = folder.list_images(root).splits
    assert len(splits["train"]) == 1 + odd and len(splits["validation"]) == 1 and len(splits["test"]) == 3
    (message,) = (record.message for record in caplog.records)
    assert "1 of " in message and "lie in no split and are left out, such as 'cats/a.png'" in message
    assert all(folder.read(root, path, SIDE, 3).pixels is not None for path in splits["train"])


def test_a_folder_of_two_names_goes_by_the_first_and_that_is_said(tmp_path, caplog):
    root = tmp_path / "photos"
    (root / "validation").mkdir(parents=True)
    picture(1).save(root / "validation" / "a.png")
    (root / "train").symlink_to("validation")
    assert {split: len(paths) for split, paths in folder.list_images(root).splits.items()} == {
        "train": 1,
        "validation": 0,
        "test": 0,
    }
    (message,) = (record.message for record in caplog.records)
    assert "validation', which is the folder" in message and "train' by another name" in message


def test_a_split_for_training_may_lie_deeper_and_others_may_not(tmp_path, caplog):
    (tmp_path / "photos" / "train").mkdir(parents=True)
    picture(1).save(tmp_path / "photos" / "train" / "a.png")
    folder.list_images(tmp_path)
    (message,) = (record.message for record in caplog.records)
    assert "Folders called 'train' lie deeper in" in message
    (tmp_path / "photos" / "Test").mkdir()
    picture(1).save(tmp_path / "photos" / "Test" / "a.png")
    with pytest.raises(ValueError, match=r"folder must have the splits as its own subfolders.*'Test', 'train'"):
        folder.list_images(tmp_path)
    caplog.clear()
    assert {split: len(paths) for split, paths in folder.list_images(tmp_path / "photos").splits.items()} == {
        **{"train": 1, "validation": 0, "test": 1}
    }
    assert not caplog.records


def test_names_that_nearly_are_splits_never_mix_them(tmp_path, caplog):
    for name in ("train2017", "val2017", "test2017"):
        (tmp_path / name).mkdir()
        picture(1).save(tmp_path / name / f"{name}.png")
    assert folder.list_images(tmp_path).splits == {
        "train": ["train2017/train2017.png"],
        "validation": ["val2017/val2017.png"],
        "test": ["test2017/test2017.png"],
    }
    (message,) = (record.message for record in caplog.records)
    assert "'test2017' is taken for test, 'train2017' is taken for train, 'val2017' is taken for validation" in message
    (tmp_path / "trainB").mkdir()
    folder.list_images(tmp_path)  # without an image in it
    picture(1).save(tmp_path / "trainB" / "a.png")
    with pytest.raises(ValueError, match=r"are plainly named .*Received: 'test2017', 'train2017', 'trainB', 'val2017'"):
        folder.list_images(tmp_path)


def test_hidden_images_and_other_files_are_passed_over_with_a_line_each(tmp_path, caplog):
    root = tmp_path / ".cache" / "photos"  # Where the folder itself lies does not matter.
    hidden = (".ipynb_checkpoints", ".Trash-1000/files", "@eaDir/a.png", "__MACOSX", "deep/.hidden", "Lost+Found")
    hidden += ("#snapshot/daily", "~snapshot", "RECYCLER")
    for name in (*hidden, "deep"):
        (root / name).mkdir(parents=True, exist_ok=True)
        picture(1).save(root / name / "SYNOPHOTO_THUMB_M.png")
    picture(1).save(root / "a.png")
    for name in ("._a.png", ".b.PNG"):
        (root / name).write_bytes(b"")
    for name in ("c.heic", "d.HEIC", "e", ".DS_Store", "Thumbs.db", ".ipynb_checkpoints/f.heic"):
        (root / name).write_bytes(b"")
    (root / ".round").symlink_to(root)  # must not hide what it leads to
    os.mkfifo(root / "pipe.jpg")
    (root / "null.png").symlink_to("/dev/null")
    assert sorted(path for paths in folder.list_images(root).splits.values() for path in paths) == [
        "a.png",
        "deep/SYNOPHOTO_THUMB_M.png",
    ]
    lines = [record.message for record in caplog.records]
    assert lines == [
        f"Passed over in {root}: 11 hidden, such as '#snapshot/daily/SYNOPHOTO_THUMB_M.png'",
        f"Passed over in {root}: 2 no regular files, such as 'null.png'",
        f"Passed over in {root}: 3 not called images (2 .heic, 1 without an extension)",
        f"No subfolder of {root} is called a split ('deep'): a hash of each path decides",
    ]
    folder.list_images(root)
    assert [record.message for record in caplog.records] == lines  # once


@pytest.mark.parametrize("extension", [".jfif", ".jpe", ".JPEG", ".webp", ".bmp", ".gif", ".tif", ".tiff"])
def test_files_of_all_formats_are_found(tmp_path, extension):
    picture(1).save(tmp_path / f"a{extension}")
    ((path,),) = (paths for paths in folder.list_images(tmp_path).splits.values() if paths)
    assert path == f"a{extension}" and folder.read(tmp_path, path, SIDE, 3).pixels is not None


def test_a_folder_that_cannot_be_read_stops_it(photos, monkeypatch):
    scan = os.scandir

    def scandir(path):
        if str(path).endswith(("deep", ".Trash-1000")):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(walk.os, "scandir", scandir)
    with pytest.raises(decoding.MachineError, match=r"Received: '.*deep': PermissionError: Permission denied"):
        folder.list_images(photos)
    monkeypatch.setattr(walk.os, "scandir", scan)
    (photos / ".Trash-1000").mkdir()
    monkeypatch.setattr(walk.os, "scandir", lambda path: scan(path) if "Trash" not in str(path) else scandir(path))
    assert folder.list_images(photos).splits["train"]


def test_an_error_of_the_machine_stops_the_reading(photos, monkeypatch):
    def read_bytes(path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(decoding.pathlib.Path, "read_bytes", read_bytes)
    with pytest.raises(decoding.MachineError, match="OSError: Too many open files"):
        data.load(DataConfig("x", folder=str(photos)), "train", (SIDE, SIDE, 3))


def test_what_pillow_warns_of_is_said_once_with_a_name(photos, monkeypatch, caplog, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 30 - 1)
    data.load(DataConfig("x", folder=str(photos)), "validation", (SIDE, SIDE, 3))
    (line,) = (record.message for record in caplog.records if "Pillow" in record.message)
    assert line.startswith("Pillow warns of 2 of 2 images of validation, such as 'val/deep/08.png': Image size (1200 ")
    assert not recwarn.list


def test_subfolders_are_labels(tmp_path):
    animals = make_animals(tmp_path / "animals")
    config = DataConfig("animals", folder=str(animals), labels="folders")
    train, validation, test = (data.load(config, split, (SIDE, SIDE, 3)) for split in folder.SPLITS)
    assert train.classes == validation.classes == test.classes == ("cat", "dog")
    assert train.labels.dtype == np.int64 and train.labels.tolist() == [0] * 5 + [1] * 3
    assert validation.labels.tolist() == [0, 1] and test.labels.tolist() == [1]
    # The same images, with other labels, are other data; without labels they are those that they always were.
    plain = data.load(DataConfig("animals", folder=str(animals)), "train", (SIDE, SIDE, 3))
    assert plain.labels is None and (plain.images == train.images).all()
    (animals / "train" / "dog").rename(animals / "train" / "ant")
    for split in ("val", "test"):
        (animals / split / "dog").rename(animals / split / "ant")
    renamed = data.load(config, "train", (SIDE, SIDE, 3))
    assert renamed.classes == ("ant", "cat") and renamed.labels.tolist() == [0] * 3 + [1] * 5
    assert len({plain.fingerprint(), train.fingerprint(), renamed.fingerprint()}) == 3
    # One that cannot be read takes its label with it.
    (animals / "train" / "cat" / "0.png").write_bytes(b"")
    assert data.load(config, "train", (SIDE, SIDE, 3)).labels.tolist() == [0] * 3 + [1] * 4


def test_without_splits_a_class_is_the_first_subfolder(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name / "train").mkdir(parents=True)
        for index in range(100):
            (tmp_path / name / "train" / f"{index}.png").write_bytes(b"")
    images = folder.list_images(tmp_path)
    classes = images.classes("folder")
    assert classes == ("a", "b") and min(map(len, images.splits.values())) > 0
    for paths in images.splits.values():
        assert images.labels(paths, classes).tolist() == [int(path.startswith("b/")) for path in paths]


def test_labels_that_are_missing_are_refused(tmp_path):
    animals = make_animals(tmp_path / "animals")
    config = DataConfig("animals", folder=str(animals), labels="folders")
    (animals / "val" / "ant").mkdir()
    picture(1).save(animals / "val" / "ant" / "a.png")
    with pytest.raises(
        ValueError, match=r"data\.folder must have images for training of every class\. Received: none of 'ant'"
    ):
        data.load(config, "train", (SIDE, SIDE, 3))
    (animals / "val" / "ant" / "a.png").rename(animals / "val" / "a.png")
    with pytest.raises(
        ValueError, match=r"must hold every image in a subfolder that is its class.* 1 in none, such as 'val/a"
    ):
        data.load(config, "train", (SIDE, SIDE, 3))
    with pytest.raises(ValueError, match=r"data\.labels must be '' without a data\.folder"):
        data.load(DataConfig("digits", labels="folders"), "train")


def test_a_folder_of_test_images_alone_has_classes(tmp_path):
    """As an evaluation reads one that has no others."""
    animals = make_animals(tmp_path / "animals")
    for split in ("test", "val"):
        shutil.rmtree(animals / split)
    (animals / "train").rename(animals / "test")
    found = data.load(DataConfig("animals", folder=str(animals), labels="folders"), "test", (SIDE, SIDE, 3))
    assert found.classes == ("cat", "dog") and set(found.labels) == {0, 1}


def test_a_model_has_as_many_classes_as_folders(tmp_path):
    image_set = data.load(
        DataConfig("x", folder=str(make_animals(tmp_path / "animals")), labels="folders"), "test", (SIDE, SIDE, 3)
    )
    model = presets.get("digits/pixel_cnn_pp_class_conditional").model
    model.image_shape = (SIDE, SIDE, 3)
    message = r"model\.num_classes must be 0, or the number of classes of animals/test, 2: 'cat', 'dog'\. Received: 10"
    with pytest.raises(ValueError, match=message):
        data.check_fits(image_set, model)
    model.num_classes = 2
    data.check_fits(image_set, model)


def test_what_is_transparent_is_white_and_what_is_small_is_said(tmp_path):
    pixels = np.zeros((6, 6, 4), np.uint8)
    pixels[:, 3:] = (10, 20, 30, 255)
    (tmp_path / "train").mkdir()
    Image.fromarray(pixels).save(tmp_path / "train" / "half.png")
    found = folder.read(tmp_path, "train/half.png", 6, 3)
    assert (found.pixels[:, :3] == 255).all() and (found.pixels[:, 3:] == (10, 20, 30)).all()
    assert (found.note, found.enlarged) == ("RGBA", False)
    assert folder.read(tmp_path, "train/half.png", 12, 3).enlarged


def test_what_a_folder_lacks_is_named(photos, tmp_path):
    shape = (SIDE, SIDE, 3)
    with pytest.raises(ValueError, match=r"data\.folder must be a directory of images"):
        data.load(DataConfig("x", folder=str(tmp_path / "nowhere")), "train", shape)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"data\.folder must hold images"):
        data.load(DataConfig("x", folder=str(tmp_path / "empty")), "train", shape)
    with pytest.raises(
        ValueError, match=r"data\.folder can be read from files only for models of square images with 1 or 3 channels"
    ):
        data.load(DataConfig("x", folder=str(photos)), "train", (8, 6, 3))
    with pytest.raises(ValueError, match=r"data\.folder must be given for 'lsun_32', which nothing downloads"):
        data.load(DataConfig("lsun_32"), "train", (32, 32, 3))
    for name in ("val", "test"):
        for path in (photos / name / "deep").iterdir():
            path.unlink()
    with pytest.raises(ValueError, match=r"data\.folder must hold images of the split 'validation'"):
        data.load(DataConfig("x", folder=str(photos)), "validation", shape)


@pytest.mark.parametrize("num_classes", [0, 2])
def test_labels_that_a_model_does_not_take_are_said_to_be_unused(tmp_path, caplog, num_classes):
    folder = make_animals(tmp_path / "animals")
    model = ModelConfig((SIDE, SIDE, 3), 256, num_classes=num_classes)
    trainer._load(Config(data=DataConfig("x", folder=str(folder), labels="folders"), model=model), None)
    assert ("The 2 classes of data.labels are not used: model.num_classes is 0" in caplog.messages) == (not num_classes)
