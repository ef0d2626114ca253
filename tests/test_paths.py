"""Paths that users give, and what is written where: never into the images, never to a place of another name."""

import dataclasses
import os
import stat

import numpy as np
import pytest
from absl import flags
from photo_folder import SIDE, make_animals, make_photos
from PIL import Image
from scripts import MAINS
from small_run import small_config

from pixelvae_tf import console, data, files, model_card, pictures, runs
from pixelvae_tf.config import Config, DataConfig
from pixelvae_tf.export import card, exporter
from pixelvae_tf.train import initial_weights, trainer, workdir

URLS = [
    "gs://bucket/run",
    "s3://bucket",
    "hdfs://host/run",
    "file:///tmp/run",
    "ram://run",
    "https://host/run",
    "gs:/b/r",
    "gs:/",
    "user@host:/data",
]


@pytest.mark.parametrize("url", URLS)
def test_urls_are_no_folders(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(DataConfig(folder=url))
    for call in (
        lambda: files.local_path(url, "workdir"),
        lambda: runs.load(url),
        lambda: runs.read_config(url),
        lambda: trainer.prepare(small_config(), url, trainer.make_strategy("one_device")),
        lambda: data.load(config.data, "train", (8, 8, 3)),
        lambda: data.load(DataConfig("mnist", data_dir=url), "train"),
        lambda: data.load(DataConfig("photos", data_dir=url), "train"),
        lambda: initial_weights.load(small_config(initial_weights=url), None),
        lambda: exporter.make_folder(url),
    ):
        with pytest.raises(ValueError, match=r"must be a path on this machine, not a URL\. Received: '[\w@]+:"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["runs/a", "/runs/a", "./gs:/b", "a:b", "C:/runs", "runs/~", ""])
def test_other_paths_are_as_they_were(path):
    assert str(files.local_path(path, "workdir")) == os.path.normpath(path)


def test_a_folder_that_is_called_like_a_scheme_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ab:").mkdir()
    assert files.local_path("ab:/x/y", "workdir") == files.pathlib.Path("ab:/x/y")
    for path in ("ab://x", "abc:/x"):
        with pytest.raises(ValueError, match="not a URL"):
            files.local_path(path, "workdir")


def test_a_path_with_nul_is_told_so():
    with pytest.raises(ValueError, match=r"workdir must be a path without NUL characters\. Received: 'a\\x00b'"):
        files.local_path("a\0b", "workdir")


def test_a_tilde_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.local_path("~/run", "workdir") == tmp_path / "run"
    make_animals(tmp_path / "animals")
    by_home = data.load(DataConfig("x", folder="~/animals"), "train", (SIDE, SIDE, 3))
    assert len(by_home.images) == 8 and by_home.name == "animals/train"
    with pytest.raises(ValueError, match=r"workdir must be a path on this machine\. Received: '~nobody_at_all/run'"):
        files.local_path("~nobody_at_all/run", "workdir")


def test_flags_that_are_paths_are_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    values = flags.FlagValues()
    workdir_flag = console.define_path("workdir", None, "Where.", flag_values=values)
    images_flag = console.define_paths("images", None, "Which.", flag_values=values)
    values(["program", "--workdir=~/run", "--images=~/a.png,b.png"])
    assert workdir_flag.value == f"{tmp_path}/run" and images_flag.value == [f"{tmp_path}/a.png", "b.png"]
    optional_flag = console.define_path("cache", "", "Where, if anywhere.", flag_values=values)
    values(["program", "--cache="])
    assert optional_flag.value == ""
    with pytest.raises(flags.IllegalFlagValueError, match=r"flag --workdir=: it must be a path, and not empty"):
        values(["program", "--workdir="])
    for argument in ("--workdir=gs://bucket/run", "--images=a.png,gs://bucket/b.png"):
        with pytest.raises(
            flags.IllegalFlagValueError, match=r"flag --\w+=.*must be a path on this machine, not a URL"
        ):
            values(["program", argument])


PATH_FLAGS = {
    "train.main": {"workdir"},
    "train.evaluate_main": {"workdir", "folder", "data_dir", "output"},
    "train.prepare_main": {"output"},
    "export.main": {"workdir", "export_dir", "preset_dir"},
    "export.model_main": {"workdir", "saved_model", "images", "mask", "output"},
    "export.score_main": {"saved_model", "images", "output", "background", "reference"},
    "export.explore_main": {"saved_model"},
    "export.compress_main": {"saved_model", "images", "output", "data_dir", "labels"},
    "export.decompress_main": {"saved_model", "input", "output"},
    "train.launch_main": set(),
}


@pytest.mark.parametrize("path", MAINS, ids=lambda path: path.stem)
def test_every_command_takes_its_paths_so(path):
    calls = [line.partition("console.define_path")[2] for line in path.read_text().replace("(\n    ", "(").splitlines()]
    expected = PATH_FLAGS[f"{path.parent.name}.{path.stem}"]
    assert {call.partition('"')[2].partition('"')[0] for call in calls if call} == expected


@pytest.mark.parametrize("target", ["there", "new"])
def test_what_is_written_goes_through_links(tmp_path, target):
    (tmp_path / "other").mkdir()
    if target == "there":
        (tmp_path / "other" / "real.png").write_bytes(b"before")
    (tmp_path / "link.png").symlink_to("other/real.png")
    pictures.write_png(tmp_path / "link.png", np.zeros((2, 2, 1), np.uint8))
    assert (tmp_path / "link.png").is_symlink() and os.listdir(tmp_path / "other") == ["real.png"]
    assert Image.open(tmp_path / "other" / "real.png").size == (2, 2)


def test_who_may_read_a_file_stays(tmp_path):
    (tmp_path / "private").touch(0o600)
    for name in ("private", "new"):
        files.write_atomically(tmp_path / name, "text")
    (tmp_path / "other").touch()
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("private", "new", "other")]
    assert modes[0] == 0o600 and modes[1] == modes[2]


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "null", tmp_path / "folder", "/dev/null"):
        with pytest.raises(ValueError, match="output must be a file in a directory that exists"):
            console.check_output(str(path))
        with pytest.raises(OSError, match="must be a regular file"):
            files.write_atomically(path, "text")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    assert sorted(os.listdir(tmp_path)) == ["folder", "null", "pipe"]


def test_an_output_that_cannot_be_there_is_refused(tmp_path):
    (tmp_path / "astray.png").symlink_to("no/x.png")
    with pytest.raises(ValueError, match=r"in a directory that exists\. Received: '.*astray\.png'"):
        console.check_output(str(tmp_path / "astray.png"))
    with pytest.raises(ValueError, match=r"that can be written.*File name too long"):
        console.check_output(str(tmp_path / f"{'n' * 300}.png"))


def test_an_output_is_called_what_it_is(tmp_path):
    for name in ("x.jpg", "x.JPEG", "x.jp2", "x.pdf", "x.svg", "x.SVG", "x.mp4", "x.npy", "x.npz", "x.json", "x.h5"):
        with pytest.raises(ValueError, match=r"output must be called \.png: it is written as PNG\. Received: '.*x\."):
            console.check_output(str(tmp_path / name))
    for name in ("x.png", "x.PNG", "x", "samples.2", "x_t0.9", ".png"):
        console.check_output(str(tmp_path / name))


def test_a_run_in_the_folder_of_its_images_is_refused(tmp_path):
    photos = make_photos(tmp_path / "photos")
    config = small_config()
    config.data.folder = str(photos)
    for place in (photos, photos / "train" / "run"):
        with pytest.raises(ValueError, match=r"workdir must not lie in data\.folder: .* part of the images"):
            workdir.check(config, place)
    assert not (photos / "train" / "run").exists()
    workdir.check(config, tmp_path)  # Images in a workdir are no part of what is written there.


def test_a_link_in_the_images_folder_does_not_make_a_run_part_of_them(tmp_path):
    photos, work = make_photos(tmp_path / "photos"), tmp_path / "work"
    (work / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (photos / "train" / "more").symlink_to(tmp_path / "elsewhere")
    (photos / "train" / "round").symlink_to(photos)
    for hidden in (".runs", "@eaDir"):  # nobody looks for images there
        (photos / hidden).symlink_to(work)
    files.require_outside(work, photos, "workdir", "folder")
    (tmp_path / "elsewhere" / "runs").symlink_to(work)  # behind two links
    for place in (work, work / "deep", work / "new"):
        with pytest.raises(ValueError, match=r"workdir must not lie in folder: .* part of the images"):
            files.require_outside(place, photos, "workdir", "folder")
    files.require_outside(tmp_path / "worker", photos, "workdir", "folder")


def test_a_config_is_written_with_paths_that_are_the_same_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    config = small_config(initial_weights="runs/a")
    config.data = DataConfig("photos", data_dir="~/tfds", folder="photos")
    workdir.write_config(config, tmp_path)
    there = runs.read_config(tmp_path)
    assert there.data == DataConfig("photos", data_dir="/home/me/tfds", folder=str(tmp_path / "photos"))
    assert there.train.initial_weights == str(tmp_path / "runs" / "a")
    assert config.data.folder == "photos"  # the caller's is left alone
    for name in ("", "digits/gated_pixel_vae"):
        config.train.initial_weights = name
        workdir.write_config(config, tmp_path)
        assert runs.read_config(tmp_path).train.initial_weights == name


def test_initial_weights_may_be_spelled_in_other_ways(tmp_path, monkeypatch):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to("runs/a")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    # As this version writes it, and as earlier ones did.
    for first in ("runs/a", str(tmp_path / "runs" / "a")):
        (run / runs.CONFIG).write_text(runs.config_lib.to_json(small_config(initial_weights=first)))
        for again in ("runs/a", "runs/a/", "./runs/../runs/a", str(tmp_path / "runs" / "a"), "link"):
            workdir.check(small_config(initial_weights=again), run)
        with pytest.raises(ValueError, match=r"holds a run with another config: train\.initial_weights is"):
            workdir.check(small_config(initial_weights="runs/b"), run)


def test_other_images_than_the_runs_are_not_evaluated_under_its_name(tmp_path):
    photos = make_photos(tmp_path / "photos")
    config = small_config()
    config.data, config.model.image_shape = DataConfig("photos", folder=str(photos)), (SIDE, SIDE, 3)
    sets = {split: data.load(config.data, split, (SIDE, SIDE, 3)) for split in ("train", "validation", "test")}
    workdir.check_evaluated(config, "test", sets["test"], tmp_path)  # an earlier version's run kept no fingerprints
    workdir.write_images({split: sets[split].fingerprint() for split in ("train", "validation")}, tmp_path)
    for split, images in sets.items():
        workdir.check_evaluated(config, split, images, tmp_path)
    (photos / "val" / "deep" / "08.png").unlink()
    changed = data.load(config.data, "validation", (SIDE, SIDE, 3))
    message = (
        r"the data must be the images that the run .* was trained on\. Received: other images for validation .*--folder"
    )
    for split, images in (("validation", changed), ("test", sets["test"])):
        with pytest.raises(ValueError, match=message):
            workdir.check_evaluated(config, split, images, tmp_path)
    workdir.check_evaluated(config, "train", sets["train"], tmp_path)


def test_the_classes_of_a_run_are_kept(tmp_path):
    config = small_config("digits/pixel_cnn_pp_class_conditional")
    config.data = DataConfig("x", folder=str(make_animals(tmp_path / "animals")), labels="folders")
    config.model.image_shape, config.model.num_classes = (SIDE, SIDE, 3), 2
    animals = data.load(config.data, "train", (SIDE, SIDE, 3))
    workdir.write_images({"train": animals.fingerprint()}, tmp_path, animals.classes)
    workdir.check_images({"train": animals.fingerprint()}, tmp_path)
    stored = runs.read_images(tmp_path)["classes"]
    workdir.check_classes(animals, stored)
    others = dataclasses.replace(animals, classes=("ant", "cat"))
    with pytest.raises(
        ValueError, match=r"must have the classes that the model was trained on: 'cat', 'dog'\. Received: 'ant', 'cat'"
    ):
        workdir.check_classes(others, stored)
    workdir.check_classes(data.load(DataConfig(), "test"), stored)  # Labels without names are left to the user.
    made = card.make_card(config, "best", 1, classes=animals.classes)
    assert made["data"]["classes"] == ["cat", "dog"]
    known = {"versions": {}, "num_weights": 1, "fingerprint": "0" * 16, "name": "x"}
    assert "| classes | 2: 0 'cat', 1 'dog' |" in model_card.page({**made, **known})


def test_a_run_does_not_go_on_with_other_images(tmp_path):
    photos = make_photos(tmp_path / "photos")
    config = small_config("digits/vae")
    config.data, config.model.image_shape = DataConfig("photos", folder=str(photos)), (SIDE, SIDE, 3)
    run = tmp_path / "run"
    run.mkdir()
    workdir.write_images({"train": 1, "validation": 2}, run)
    with pytest.raises(
        ValueError, match=r"the data must be the images that the run .* for train and validation\. Choose"
    ):
        trainer.prepare(config, run, trainer.make_strategy("one_device"))
    assert os.listdir(run) == [runs.IMAGES]
    # Images elsewhere are the same images.
    before = data.load(config.data, "train", (SIDE, SIDE, 3)).fingerprint()
    photos.rename(tmp_path / "moved")
    config.data.folder = str(tmp_path / "moved")
    assert data.load(config.data, "train", (SIDE, SIDE, 3)).fingerprint() == before
