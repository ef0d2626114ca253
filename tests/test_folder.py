"""Folders of images: read as they are, or prepared once."""

import json
import os
import pathlib
import zlib

import numpy as np
import pytest
import tensorflow as tf
from commands import run_command
from PIL import Image
from small_run import small_config

from pixelvae_tf import data, runs
from pixelvae_tf.config import DataConfig
from pixelvae_tf.data import folder, prepare
from pixelvae_tf.train import trainer
from pixelvae_tf.train.interruption import Interruption

SIDE = 8


def _picture(seed, size=(40, 30)):
    """Smooth noise: pictures that no perceptual hash takes for each other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path):
    """Twelve images of all kinds in three splits, one of them twice, and files that are none."""
    root = tmp_path / "photos"
    for split, seeds in (("train", range(8)), ("val", range(8, 10)), ("test", range(10, 12))):
        (root / split / "deep").mkdir(parents=True)
        for seed in seeds:
            _picture(seed).save(root / split / "deep" / f"{seed:02d}.png")
    _picture(3).convert("L").save(root / "train" / "grey.JPG")
    _picture(20).convert("CMYK").save(root / "train" / "cmyk.jpeg")
    _picture(21).convert("RGBA").save(root / "train" / "alpha.png")
    _picture(10, (80, 60)).save(root / "train" / "again.jpg", quality=60)  # 10 is in test
    (root / "train" / "torn.jpg").write_bytes((root / "train" / "again.jpg").read_bytes()[:300])
    (root / "train" / "notes.txt").write_text("no image")
    (root / "train" / "empty.png").write_bytes(b"")
    return root


def _options(**changes):
    return prepare.Options(**{"side": SIDE, "shard_size": 4, **changes})


def _files(path):
    return {file.name: file.read_bytes() for file in sorted(pathlib.Path(path).rglob("*")) if file.is_file()}


def test_a_folder_is_read_as_it_is(photos, caplog):
    train = data.load(DataConfig("photos", folder=str(photos)), "train", (SIDE, SIDE, 3))
    assert train.images.shape == (12, SIDE, SIDE, 3) and train.images.dtype == np.uint8
    assert (train.name, train.num_values, train.labels) == ("photos from photos/train", 256, None)
    # One clear line each for the two that cannot be read, one for the grey, the CMYK and the RGBA image.
    lines = [record.message for record in caplog.records]
    assert len(lines) == 3 and sum("which cannot be read" in line for line in lines) == 2
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
        Image.new("RGB", (4, 4)).save(tmp_path / f"{index}.png")
    splits = folder.find(tmp_path)
    assert sum(map(len, splits.values())) == 100 and all(splits.values())
    (tmp_path / "17.png").unlink()
    again = folder.find(tmp_path)
    for split in folder.SPLITS:
        assert set(splits[split]) - {"17.png"} == set(again[split])


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
    assert not (tmp_path / "out" / prepare.UNFINISHED).exists()
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
def test_interrupted_it_goes_on_to_the_same_result(photos, tmp_path, stop_after, distance):
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
    with pytest.raises(ValueError, match=r"data\.folder must be prepared to the end: run pixelvae-prepare once more"):
        data.load(DataConfig("x", folder=str(tmp_path / "out")), "train", (SIDE, SIDE, 3))
    read = []
    assert prepare.prepare(photos, tmp_path / "out", options, lambda done, total: read.append(done)) == whole
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")
    # A third time there is nothing to do.
    assert prepare.prepare(photos, tmp_path / "out", options) == whole


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
    records = (out / prepare.UNFINISHED).glob
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


def test_folders_of_all_kinds_are_searched(tmp_path, caplog):
    (tmp_path / "elsewhere").mkdir()
    root = tmp_path / "photos"
    for name in ("Train", "VAL", "cats"):
        (root / name).mkdir(parents=True)
        _picture(1).save(root / name / "a.png")
    for index in range(3):
        _picture(index).save(tmp_path / "elsewhere" / f"{index}.PNG")
    (root / "test").symlink_to(tmp_path / "elsewhere")
    (root / "test" / "round").symlink_to(root)  # links may lead back
    try:
        _picture(5).save(root / "Train" / b"caf\xe9.png".decode("utf-8", "surrogateescape"))
        odd = 1
    except OSError:  # a file system that takes UTF-8 alone
        odd = 0
    splits = folder.find(root)
    assert len(splits["train"]) == 1 + odd and len(splits["validation"]) == 1 and len(splits["test"]) == 3
    (message,) = (record.message for record in caplog.records)
    assert "1 of " in message and "lie in no split and are left out, such as 'cats/a.png'" in message
    manifest = prepare.prepare(root, tmp_path / "out", _options(duplicate_distance=-1))
    assert manifest["num_files"] == 5 + odd
    assert folder.split_of("caf\udce9.png") in folder.SPLITS


def test_a_folder_of_two_names_goes_by_the_first_and_that_is_said(tmp_path, caplog):
    root = tmp_path / "photos"
    (root / "validation").mkdir(parents=True)
    _picture(1).save(root / "validation" / "a.png")
    (root / "train").symlink_to("validation")
    assert {split: len(paths) for split, paths in folder.find(root).items()} == {"train": 1, "validation": 0, "test": 0}
    (message,) = (record.message for record in caplog.records)
    assert "validation', which is the folder" in message and "train' by another name" in message


def test_splits_that_lie_deeper_are_said(tmp_path, caplog):
    for name in ("train", "Test"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        _picture(1).save(tmp_path / "photos" / name / "a.png")
    folder.find(tmp_path)
    (message,) = (record.message for record in caplog.records)
    assert "Folders called 'Test', 'train' lie deeper in" in message
    caplog.clear()
    folder.find(tmp_path / "photos")
    assert not caplog.records


def test_a_grey_of_16_bits_may_be_transparent(tmp_path):
    values = np.full((4, 4), 128 * 257, np.uint16)
    values[:, 2:] = 7
    Image.fromarray(values).save(tmp_path / "grey.png", transparency=7)
    found = folder.read(tmp_path, "grey.png", 4, 1).pixels[..., 0]
    assert (found[:, :2] == 128).all() and (found[:, 2:] == 255).all()


def test_what_is_transparent_is_white_and_what_is_small_is_counted(tmp_path):
    pixels = np.zeros((6, 6, 4), np.uint8)
    pixels[:, 3:] = (10, 20, 30, 255)
    (tmp_path / "train").mkdir()
    Image.fromarray(pixels).save(tmp_path / "train" / "half.png")
    found = folder.read(tmp_path, "train/half.png", 6, 3)
    assert (found.pixels[:, :3] == 255).all() and (found.pixels[:, 3:] == (10, 20, 30)).all()
    assert (found.note, found.enlarged) == ("RGBA", False)
    assert folder.read(tmp_path, "train/half.png", 12, 3).enlarged
    assert prepare.prepare(tmp_path, tmp_path / "out", _options(side=12))["num_enlarged"] == 1


def test_damaged_files_never_stop_the_rest(tmp_path):
    """Bytes changed in a JPEG with an orientation, and in a PNG, two thousand times."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x829A] = 6, "maker", (1, 3)
    whole = []
    for name in ("a.jpg", "a.png"):
        _picture(1, (16, 16)).save(tmp_path / name, exif=exif)
        whole.append((tmp_path / name).read_bytes())
    generator = np.random.default_rng(0)
    unreadable = 0
    for index in range(2000):
        content = np.frombuffer(whole[index % 2], np.uint8).copy()
        content[generator.integers(0, 200, 3)] ^= generator.integers(1, 256, 3).astype(np.uint8)
        (tmp_path / "x.jpg").write_bytes(content.tobytes())
        result = folder.read(tmp_path, "x.jpg", 4, 3)
        unreadable += result.pixels is None
        assert result.note if result.pixels is None else result.pixels.shape == (4, 4, 3)
    assert 0 < unreadable < 2000


def test_near_duplicates_are_found_as_by_comparing_all():
    generator = np.random.default_rng(0)
    codes = [int(code) for code in generator.integers(0, 2**63, 300)]
    # Each with 0 to 8 bits flipped.
    near = [
        code ^ sum(1 << int(bit) for bit in generator.choice(64, i % 9, replace=False)) for i, code in enumerate(codes)
    ]
    for distance in (0, 1, 4, 6, 63):
        known, kept = prepare.NearDuplicates(distance), []
        for code in codes + near:
            new = all((code ^ other).bit_count() > distance for other in kept)
            assert known.add(code) == new
            if new:
                kept.append(code)
    assert prepare.perceptual_hash(np.asarray(_picture(0))) != prepare.perceptual_hash(np.asarray(_picture(1)))


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


HARMS = {
    "noise": lambda shard: shard.write_bytes(bytes(shard.stat().st_size)),
    "torn": lambda shard: os.truncate(shard, 150),
    "missing": pathlib.Path.unlink,
}


@pytest.mark.parametrize("harm", HARMS)
def test_shards_that_change_while_they_are_read_are_not_learnt_from(photos, tmp_path, harm):
    """What is written over is refused by name; what is only removed can be read to the end."""
    prepare.prepare(photos, tmp_path / "out", _options())
    config = small_config("digits/vae", steps=20, batch_size=4, steps_per_loop=1, checkpoint_every=1, evaluate_every=20)
    config.model.image_shape, config.data.folder = (SIDE, SIDE, 3), str(tmp_path / "out")
    images = data.load(config.data, "train", (SIDE, SIDE, 3)).images
    before = images[:]
    runner = trainer.prepare(config, tmp_path / "run", trainer.make_strategy("one_device"))
    loop = runner.loop

    def harmed(iterator, count):
        if runner.step == 2:
            HARMS[harm](tmp_path / "out" / "train-00000.npy")
        return loop(iterator, count)

    runner.loop = harmed
    if harm == "missing":
        runner.run(Interruption())
        np.testing.assert_array_equal(images[:], before)
        return
    message = r"data\.folder must stay as it is while it is read\. Received: .*train-00000\.npy"
    with pytest.raises(OSError, match=message):
        runner.run(Interruption())
    # A few batches had been read ahead.
    assert 2 <= runs.load(tmp_path / "run", "latest")[2] < 12
    with pytest.raises(OSError, match=message):
        images[:]


def test_what_a_folder_lacks_is_named(photos, tmp_path):
    shape = (SIDE, SIDE, 3)
    prepare.prepare(photos, tmp_path / "out", _options())
    with pytest.raises(ValueError, match=r"data\.folder must be a directory of images"):
        data.load(DataConfig("x", folder=str(tmp_path / "nowhere")), "train", shape)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"data\.folder must hold images"):
        data.load(DataConfig("x", folder=str(tmp_path / "empty")), "train", shape)
    with pytest.raises(ValueError, match=r"data\.folder must be prepared with --size=16 --channels=3"):
        data.load(DataConfig("x", folder=str(tmp_path / "out")), "train", (16, 16, 3))
    with pytest.raises(ValueError, match="image_shape must be a square of 1 or 3 channels"):
        data.load(DataConfig("x", folder=str(photos)), "train", (8, 6, 3))
    with pytest.raises(ValueError, match=r"data\.folder must be given for 'lsun_32', which TFDS no longer downloads"):
        data.load(DataConfig("lsun_32"), "train", (32, 32, 3))
    for name in ("val", "test"):
        for path in (photos / name / "deep").iterdir():
            path.unlink()
    with pytest.raises(ValueError, match=r"data\.folder must hold images of the split 'validation'"):
        data.load(DataConfig("x", folder=str(photos)), "validation", shape)


def test_the_command_prepares_and_the_trainer_reads(photos, tmp_path):
    prepared = tmp_path / "out"
    status, output, errors = run_command(
        "train.prepare_main", photos, "--size=8", f"--output={prepared}", "--shard_size=4"
    )
    assert status == 0, errors
    assert "train: 10 images in 3 shards" in output and "dropped as near-duplicates: 2" in output
    assert "skipped, unreadable: 2" in output and "train/torn.jpg: " in output
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert manifest["splits"]["train"]["shards"][0]["crc32"] == zlib.crc32((prepared / "train-00000.npy").read_bytes())
    status, _, errors = run_command(
        "train.main",
        "--config=digits/hierarchical",
        "--config.model.image_shape=(8, 8, 3)",
        "--config.model.pixels.filters=6",
        f"--config.data.folder={prepared}",
        "--config.data.name=photos",
        "--config.train.steps=2",
        "--config.train.batch_size=4",
        f"--workdir={tmp_path / 'run'}",
    )
    assert status == 0, errors
    status, output, errors = run_command("train.evaluate_main", f"--workdir={tmp_path / 'run'}", f"--folder={photos}")
    assert status == 0, errors
    report = json.loads(output)
    assert (
        report["data"] == "photos from photos/test" and report["num_images"] == 2 and np.isfinite(report["bound_nats"])
    )


def test_a_run_does_not_go_on_with_other_images(photos, tmp_path):
    config = small_config("digits/hierarchical", steps=2, batch_size=4)
    config.model.image_shape, config.data.folder = (8, 8, 3), str(photos)
    config.model.pixels.filters = 6
    config.model.levels[0].prior.filters, config.model.levels[0].filters, config.model.levels[1].filters = 6, (6,), (6,)
    strategy = trainer.make_strategy("one_device")
    trainer.train_and_evaluate(config, tmp_path / "run", strategy)
    # The same images elsewhere are the same images.
    (photos.parent / "moved").mkdir()
    photos.rename(photos.parent / "moved" / "photos")
    config.data.folder = str(photos.parent / "moved" / "photos")
    trainer.prepare(config, tmp_path / "run", strategy)
    before = _files(tmp_path / "run")
    (photos.parent / "moved" / "photos" / "train" / "alpha.png").unlink()
    with pytest.raises(ValueError, match=r"the data must be the images that the run in .* for train\. Choose another"):
        trainer.prepare(config, tmp_path / "run", strategy)
    assert _files(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--size=8", "--output=out"], "folder must be a directory of images. Received: 'nowhere'"),
        (["--size=8", "--output=out"], "one folder of images is expected. Received: none"),
        ([".", "--size=8", "--output=out"], "folder must hold images"),
        ([".", "--size=0", "--output=out"], "lower bound|positive|flag --size"),
    ],
)
def test_bad_commands_are_named(arguments, message):
    status, _, errors = run_command("train.prepare_main", *arguments)
    assert status != 0 and "Traceback" not in errors
    assert any(part in errors for part in message.split("|"))


def test_other_options_are_kept_from_a_prepared_folder(photos, tmp_path):
    prepare.prepare(photos, tmp_path / "out", _options())
    before = _files(tmp_path / "out")
    with pytest.raises(ValueError, match=r"output must be new, or hold what was .* with side 8 there and 9 here"):
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
    sharded = prepare.ShardedImages([whole[:3], whole[3:4], whole[4:]])
    assert len(sharded) == 7 and sharded.shape == whole.shape
    for index in (slice(None), slice(2, 5), np.array([6, 0, 3, 3]), np.array([], np.int64)):
        np.testing.assert_array_equal(sharded[index], whole[index])
    assert tf.as_dtype(sharded.dtype) == tf.uint8
