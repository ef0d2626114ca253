"""Prepared folders: made once, whole whatever interrupts it, and read from disk."""

import errno
import json
import os
import pathlib
import re
import shutil
import zlib

import numpy as np
import pytest
import tensorflow as tf
from commands import run_command
from photo_folder import HARMS, SIDE, make_animals, make_photos, picture

from pixelvae_tf import data, files
from pixelvae_tf.config import DataConfig
from pixelvae_tf.data import decoding, near_duplicates, prepare, resumable, shards


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos")


def _options(**changes):
    return prepare.Preparation(**{"side": SIDE, "shard_size": 4, **changes})


def _files(path):
    return {file.name: file.read_bytes() for file in sorted(pathlib.Path(path).rglob("*")) if file.is_file()}


def test_prepared_images_are_those_of_the_folder_less_its_duplicates(photos, tmp_path):
    manifest = prepare.prepare(photos, tmp_path / "out", _options())
    counts = {split: found["num_images"] for split, found in manifest["splits"].items()}
    # `again.jpg` is an image of test, and `grey.JPG` looks as one of train.
    assert counts == {"train": 10, "validation": 2, "test": 2}
    assert manifest["num_files"] == 18 and manifest["num_duplicates"] == 2
    # Names with capitals come before others.
    assert set(manifest["duplicates"]) == {"train/again.jpg", "train/grey.JPG"}
    assert set(manifest["unreadable"]) == {"train/torn.jpg", "train/empty.png"}
    assert "train/cmyk.jpeg" in manifest["converted"] and manifest["converted"]["train/alpha.png"] == "RGBA"
    image_set = data.load(DataConfig("photos", folder=str(tmp_path / "out")), "train", (SIDE, SIDE, 3))
    raw = data.load(DataConfig("photos", folder=str(photos)), "train", (SIDE, SIDE, 3))
    known = {image.tobytes() for image in raw.images}
    assert len(image_set.images) == 10 and all(image.tobytes() in known for image in image_set.images[:])
    assert not (tmp_path / "out" / resumable.UNFINISHED).exists()
    everything = prepare.prepare(photos, tmp_path / "all", _options(duplicate_distance=-1))
    assert everything["splits"]["train"]["num_images"] == 12 and everything["num_duplicates"] == 0


def test_batches_from_shards_equal_those_from_memory(photos, tmp_path):
    prepare.prepare(photos, tmp_path / "out", _options(shard_size=3))
    sharded = data.load(DataConfig("x", folder=str(tmp_path / "out")), "train", (SIDE, SIDE, 3))
    assert len(list((tmp_path / "out").glob("train-*.npy"))) > 2
    in_memory = data.ImageSet(sharded.images[:], None, "x", 256, "none")
    assert in_memory.images.shape == sharded.images.shape
    for a, b in zip(
        data.training_batches(sharded, 4, 1).take(7), data.training_batches(in_memory, 4, 1).take(7), strict=True
    ):
        np.testing.assert_array_equal(a["images"], b["images"])
        assert a["images"].shape == b["images"].shape == (4, SIDE, SIDE, 3)
    for a, b in zip(data.evaluation_batches(sharded, 4, 0), data.evaluation_batches(in_memory, 4, 0), strict=True):
        np.testing.assert_array_equal(a["images"], b["images"])
    np.testing.assert_array_equal(sharded.some()[0], in_memory.images)


@pytest.mark.parametrize(("stop_after", "distance"), [(1, 4), (5, -1), (5, 4), (9, 4), (17, 4)])
def test_interrupted_it_goes_on_to_the_same_result(photos, tmp_path, monkeypatch, stop_after, distance):
    options = _options(duplicate_distance=distance)
    whole = prepare.prepare(photos, tmp_path / "whole", options)
    calls = []

    def stop(done, total):
        calls.append(done)
        assert total == 18
        if done == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(photos, tmp_path / "out", options, stop)
    with pytest.raises(ValueError, match=r"data\.folder must be completely prepared: run pixelvae-prepare once more"):
        data.load(DataConfig("x", folder=str(tmp_path / "out")), "train", (SIDE, SIDE, 3))
    read, read_file = [], prepare.folder_lib.read

    def count(folder, path, *size):
        read.append(path)
        return read_file(folder, path, *size)

    monkeypatch.setattr(prepare.folder_lib, "read", count)
    assert prepare.prepare(photos, tmp_path / "out", options) == whole
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")
    # Test (2 files) and validation (2) are a shard each, train's 14 are four.
    ends = [2, 4, 8, 12, 16, 18]
    assert len(read) == 18 - max([0, *(end for end in ends if end < stop_after)]), "finished shards are not read again"
    read.clear()
    assert prepare.prepare(photos, tmp_path / "out", options) == whole
    assert not read, "a third time there is nothing to do"


def test_a_shard_that_was_damaged_meanwhile_is_made_again(photos, tmp_path):
    whole = prepare.prepare(photos, tmp_path / "whole", _options())

    def stop(done, total):
        if done == 12:
            (tmp_path / "out" / "test-00000.npy").write_bytes(b"torn")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(photos, tmp_path / "out", _options(), stop)
    assert prepare.prepare(photos, tmp_path / "out", _options()) == whole
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")


def test_interrupted_again_it_trusts_no_record_behind_a_shard_that_was_made_again(photos, tmp_path):
    options, out = _options(shard_size=2), tmp_path / "out"

    def stop_at(number):
        def stop(done, total):
            if done == number:
                raise KeyboardInterrupt

        return stop

    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(photos, out, options, stop_at(8))
    records = (out / resumable.UNFINISHED).glob
    assert len(list(records("*-*.json"))) == 3
    (out / "test-00000.npy").write_bytes(b"torn")
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(photos, out, options, stop_at(3))
    assert {path.stem for path in records("*-*.json")} == {"test-00000"}
    whole = prepare.prepare(photos, tmp_path / "whole", options)
    assert prepare.prepare(photos, out, options) == whole
    assert _files(out) == _files(tmp_path / "whole")


def test_a_lost_shard_is_made_again_by_the_same_command(photos, tmp_path):
    whole = prepare.prepare(photos, tmp_path / "out", _options())
    before = _files(tmp_path / "out")
    (tmp_path / "out" / "train-00001.npy").unlink()
    assert prepare.prepare(photos, tmp_path / "out", _options()) == whole
    assert _files(tmp_path / "out") == before
    for damaged in ("{", "[]"):
        (tmp_path / "out" / "manifest.json").write_text(damaged)
        assert prepare.prepare(photos, tmp_path / "out", _options()) == whole
        assert _files(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["manifest.json", "train-00000.npy"])
def test_files_of_something_else_stay(photos, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("// mine")
    with pytest.raises(ValueError, match=rf"output must not have a {re.escape(name)} of something else"):
        prepare.prepare(photos, out, _options())
    assert (out / name).read_text() == "// mine" and len(list(out.iterdir())) == 1


def test_what_a_killed_process_left_half_written_is_removed(photos, tmp_path):
    def kill(done, total):
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(photos, tmp_path / "out", _options(), kill)
    (tmp_path / "out" / f"train-00001.npy.0a{files.HALF}").write_bytes(b"half")
    (tmp_path / "out" / resumable.UNFINISHED / f"train-00001.json.0a{files.HALF}").write_bytes(b"half")
    prepare.prepare(photos, tmp_path / "out", _options())
    prepare.prepare(photos, tmp_path / "whole", _options())
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")


def test_two_commands_do_not_write_the_same_output(photos, tmp_path):
    def meanwhile(done, total):
        with pytest.raises(ValueError, match="output must be written by one pixelvae-prepare at a time"):
            prepare.prepare(photos, tmp_path / "out", _options())

    assert prepare.prepare(photos, tmp_path / "out", _options(), meanwhile)["num_files"] == 18


def test_a_link_that_leads_nowhere_is_left_out(photos, tmp_path):
    whole = prepare.prepare(photos, tmp_path / "whole", _options())
    (photos / "train" / "gone.jpg").symlink_to("nowhere.jpg")
    found = prepare.prepare(photos, tmp_path / "out", _options())
    assert found["num_files"] == whole["num_files"] + 1
    assert _files(tmp_path / "out").keys() == _files(tmp_path / "whole").keys()


def test_near_duplicates_are_found_as_by_comparing_all():
    generator = np.random.default_rng(0)
    codes = [int(code) for code in generator.integers(0, 2**63, 300)]
    # Each with 0 to 8 bits flipped.
    near = [
        code ^ sum(1 << int(bit) for bit in generator.choice(64, i % 9, replace=False)) for i, code in enumerate(codes)
    ]
    for distance in (0, 1, 4, 6, 63):
        known, kept = near_duplicates.NearDuplicates(distance), []
        for code in codes + near:
            new = all((code ^ other).bit_count() > distance for other in kept)
            assert known.add(code) == new
            if new:
                kept.append(code)
    assert near_duplicates.perceptual_hash(np.asarray(picture(0))) != near_duplicates.perceptual_hash(
        np.asarray(picture(1))
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "train-00000.npy").unlink(), "must hold the shards of its.*train-00000.npy"),
        (lambda out: (out / "train-00000.npy").write_bytes(b"torn"), "must hold the shards of its manifest.json"),
        (
            lambda out: np.save(out / "train-00000.npy", np.zeros((1, 8, 8, 3), np.uint8)),
            "train-00000.npy must be uint8",
        ),
        (lambda out: _flip_a_bit(out / "train-00000.npy"), "train-00000.npy must be uint8.*with CRC-32"),
        (
            lambda out: (out / "manifest.json").write_text("{"),
            "must have a manifest.json as pixelvae",
        ),
        (
            lambda out: (out / "manifest.json").write_text("{}"),
            "must have a manifest.json as pixelvae",
        ),
    ],
)
def test_a_manifest_that_does_not_match_its_shards_is_named(photos, tmp_path, damage, message):
    prepare.prepare(photos, tmp_path / "out", _options())
    damage(tmp_path / "out")
    with pytest.raises(ValueError, match=message):
        data.load(DataConfig("x", folder=str(tmp_path / "out")), "train", (SIDE, SIDE, 3))


def _flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", HARMS)
def test_shards_that_change_while_they_are_read_are_not_learnt_from(photos, tmp_path, harm):
    """What is written over is refused by name; what is only removed can be read to the end."""
    prepare.prepare(photos, tmp_path / "out", _options())
    image_set = data.load(DataConfig("x", folder=str(tmp_path / "out")), "train", (SIDE, SIDE, 3))
    before = image_set.images[:]
    batches = iter(data.training_batches(image_set, 4, 0))
    next(batches)
    HARMS[harm](tmp_path / "out" / "train-00000.npy")
    if harm == "missing":
        image_set.require_unchanged()
        np.testing.assert_array_equal(image_set.images[:], before)
        return
    message = r"data\.folder must stay as it is while it is read\. Received: .*train-00000\.npy"
    for read in (lambda: image_set.images[:], image_set.require_unchanged):
        with pytest.raises(OSError, match=message):
            read()
    with pytest.raises(tf.errors.UnknownError, match=message):
        for _ in range(20):  # A few batches have been read ahead.
            next(batches)


def test_the_command_says_what_it_made(tmp_path):
    prepared, animals = tmp_path / "out", make_animals(tmp_path / "animals")
    (animals / "train" / "cat" / "torn.jpg").write_bytes(b"")
    arguments = (animals, "--size=8", f"--output={prepared}", "--shard_size=4", "--labels=folders")
    status, output, errors = run_command("train.prepare_main", *arguments, "--channels=1")
    assert status == 0, errors
    assert np.load(prepared / "train-00000.npy").shape == (4, 8, 8, 1)
    assert "train: 8 images in 3 shards" in output and "classes: 0 'cat', 1 'dog'" in output
    assert (
        "skipped, unreadable: 1\n    train/cat/torn.jpg: UnidentifiedImageError: no picture of a known format" in output
    )
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert manifest["splits"]["train"]["shards"][0]["crc32"] == zlib.crc32((prepared / "train-00000.npy").read_bytes())


def test_labels_are_prepared(tmp_path):
    animals = make_animals(tmp_path / "animals")
    picture([5, 0, 0]).save(animals / "train" / "dog" / "a_cat.jpg", quality=95)  # a near-duplicate
    out, raw = tmp_path / "out", DataConfig("x", folder=str(animals), labels="folders")
    manifest = prepare.prepare(animals, out, _options(labels=True))
    assert manifest["classes"] == ["cat", "dog"] and manifest["duplicates"] == ["train/dog/a_cat.jpg"]
    for split in ("train", "validation", "test"):
        prepared = data.load(DataConfig("x", folder=str(out), labels="folders"), split, (SIDE, SIDE, 3))
        as_it_is = data.load(raw, split, (SIDE, SIDE, 3))
        label_of = dict(zip(map(bytes, as_it_is.images), as_it_is.labels.tolist(), strict=True))
        assert prepared.classes == as_it_is.classes == ("cat", "dog") and prepared.labels.dtype == np.int64
        assert prepared.labels.tolist() == [label_of[bytes(image)] for image in prepared.images[:]]
    train = data.load(DataConfig("x", folder=str(out), labels="folders"), "train", (SIDE, SIDE, 3))
    label_of = dict(zip(map(bytes, train.images[:]), train.labels.tolist(), strict=True))
    for batch in data.training_batches(train, 4, 0).take(3):
        assert batch["labels"].numpy().tolist() == [label_of[bytes(image)] for image in batch["images"].numpy()]
    # Whoever wants no labels gets none; they are part of what is compared when a run goes on.
    plain = data.load(DataConfig("x", folder=str(out)), "train", (SIDE, SIDE, 3))
    assert plain.labels is None and plain.fingerprint() != train.fingerprint()
    assert prepare.prepare(animals, out, _options(labels=True)) == manifest


def test_a_class_that_lost_all_its_images_for_training_is_named(tmp_path, caplog):
    animals = make_animals(tmp_path / "animals")
    (animals / "train" / "emu").mkdir()
    # Looks like an image of the test split, which is read first.
    shutil.copy(next((animals / "test").rglob("*.*")), animals / "train" / "emu" / "a.png")
    out = tmp_path / "out"
    prepare.prepare(animals, out, _options(labels=True))
    assert "No image for training is left of 'emu'" in caplog.text
    with pytest.raises(ValueError, match=r"images for training of every class\. Received: none of 'emu' that can be"):
        data.load(DataConfig("x", folder=str(out), labels="folders"), "train", (SIDE, SIDE, 3))
    (animals / "train" / "emu" / "a.png").write_bytes(b"torn")
    with pytest.raises(ValueError, match="Received: none of 'emu' that can be read"):
        data.load(DataConfig("x", folder=str(animals), labels="folders"), "train", (SIDE, SIDE, 3))


def test_labels_survive_an_interruption_and_damage(tmp_path):
    animals, options = make_animals(tmp_path / "animals"), _options(labels=True, shard_size=2)
    whole = prepare.prepare(animals, tmp_path / "whole", options)

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(animals, tmp_path / "out", options, stop)
    assert prepare.prepare(animals, tmp_path / "out", options) == whole
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")
    labels, config = (
        tmp_path / "out" / "train-labels.npy",
        DataConfig("x", folder=str(tmp_path / "out"), labels="folders"),
    )
    _flip_a_bit(labels)
    with pytest.raises(ValueError, match=r"train-labels\.npy must be int64 \(8,\) with CRC-32"):
        data.load(config, "train", (SIDE, SIDE, 3))
    assert prepare.prepare(animals, tmp_path / "out", options) == whole
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")
    prepare.prepare(animals, tmp_path / "plain", _options())
    config.folder = str(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"must be prepared with --labels=folders for data\.labels='folders'"):
        data.load(config, "train", (SIDE, SIDE, 3))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ENOMEM])
def test_an_error_of_the_machine_is_never_recorded(photos, tmp_path, monkeypatch, number):
    """It stops the preparation; when the cause is gone, the same command goes on as if nothing had been."""
    whole = prepare.prepare(photos, tmp_path / "whole", _options())
    read_bytes = pathlib.Path.read_bytes

    def fail(path):
        if path.name == "05.png":
            raise OSError(number, os.strerror(number))
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(decoding.pathlib.Path, "read_bytes", fail)
        with pytest.raises(decoding.MachineError, match=rf"train/deep/05\.png.*{os.strerror(number)}"):
            prepare.prepare(photos, tmp_path / "out", _options())
    assert prepare.prepare(photos, tmp_path / "out", _options()) == whole
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")


def test_an_error_of_the_machine_is_no_damaged_shard(photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    prepare.prepare(photos, out, _options())
    before = _files(out)

    def fail(*args, **kwargs):
        raise OSError(errno.EMFILE, "Too many open files")

    for broken in ((pathlib.Path, "read_text"), (pathlib.Path, "open")):
        with monkeypatch.context() as patch:
            patch.setattr(*broken, fail)
            with pytest.raises(decoding.MachineError, match="Too many open files"):
                data.load(DataConfig("x", folder=str(out)), "train", (SIDE, SIDE, 3))
            with pytest.raises((OSError, ValueError), match="Too many open files"):
                prepare.prepare(photos, out, _options())
    (out / resumable.UNFINISHED / "lock").unlink(missing_ok=True)
    assert _files(out) == before


def test_an_output_in_the_folder_of_images_is_refused(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    for output in (photos, photos / "out", tmp_path / "link" / "out", photos / "train" / ".." / "out"):
        with pytest.raises(ValueError, match=r"output must not lie in folder: .* Received: '.*' in '.*photos'"):
            prepare.prepare(photos, output, _options())
    assert not (photos / "out").exists()
    prepare.prepare(photos, tmp_path / "photos_8", _options())  # Only its name begins like the folder's.


def test_what_a_prepared_folder_lacks_is_named(photos, tmp_path):
    prepare.prepare(photos, tmp_path / "out", _options())
    with pytest.raises(ValueError, match=r"data\.folder must be prepared with --size=16 --channels=3"):
        data.load(DataConfig("x", folder=str(tmp_path / "out")), "train", (16, 16, 3))


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere", "folder must be a directory of images. Received: 'nowhere'"),
        (".", r"folder must hold images \(\.png, \.jpg"),
        ("gs://bucket/photos", "folder must be a path on this machine, not a URL"),
        ("~nobody_has_this_name/photos", "folder must be a path on this machine. Received: '~nobody"),
    ],
)
def test_wrong_folders_are_named(folder, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        prepare.prepare(folder, tmp_path / "out", _options())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [{"side": 0}, {"shard_size": 0}, {"channels": 2}, {"duplicate_distance": 64}, {"duplicate_distance": -2}]
)
def test_wrong_options_are_named(options, photos, tmp_path):
    with pytest.raises(ValueError, match=r"must be .*\. Received: "):
        prepare.prepare(photos, tmp_path / "out", _options(**options))


def test_a_command_that_fails_says_why():
    status, _, errors = run_command("train.prepare_main", "--size=8", "--output=out")
    assert status != 0 and "Traceback" not in errors
    assert "one folder of images is expected. Received: none" in errors


def test_other_options_are_kept_from_a_prepared_folder(photos, tmp_path):
    prepare.prepare(photos, tmp_path / "out", _options())
    before = _files(tmp_path / "out")
    with pytest.raises(ValueError, match=r"output must be new, or hold what was .* with side 8 instead of 9"):
        prepare.prepare(photos, tmp_path / "out", _options(side=9))
    (photos / "train" / "notes.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"output must be new, or hold what was .*, with other files"):
        prepare.prepare(photos, tmp_path / "out", _options())
    assert _files(tmp_path / "out") == before
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="output must be a directory that can be written"):
        prepare.prepare(photos, tmp_path / "file", _options())


def test_sharded_images_are_indexed_as_an_array():
    whole = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2, 1)
    sharded = shards.ShardedImages([whole[:3], whole[3:4], whole[4:]])
    assert len(sharded) == 7 and sharded.shape == whole.shape
    for index in (slice(None), slice(2, 5), np.array([6, 0, 3, 3]), np.array([], np.int64)):
        np.testing.assert_array_equal(sharded[index], whole[index])
    assert tf.as_dtype(sharded.dtype) == tf.uint8
