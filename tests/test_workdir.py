"""A workdir belongs to one run: another config, other images or lost files are refused, and nothing is changed."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from small_run import small_config
from tiny_run import contents, damage

from pixelvae_tf import config as config_lib
from pixelvae_tf import data, presets, runs
from pixelvae_tf.train import trainer, workdir

FINGERPRINTS = {"train": 1, "validation": 2}
LINEAGE = [{"command": "pixelvae-train", "step": 3, "fingerprint": "abc"}]


@pytest.fixture
def run(tmp_path):
    """A config, and the workdir of its run."""
    config, place = small_config(), tmp_path / "run"
    workdir.check(config, place)
    workdir.write_files(place, config, FINGERPRINTS, LINEAGE)
    return config, place


def test_a_workdir_holds_what_its_run_is(run):
    config, place = run
    assert runs.read_config(place) == config and runs.read_lineage(place) == LINEAGE
    workdir.check(config, place)
    workdir.check_images(FINGERPRINTS, place)
    workdir.write_files(place, config, FINGERPRINTS, None)
    assert runs.read_lineage(place) == LINEAGE, "that of a run that goes on stays"
    assert sorted(path.name for path in place.iterdir()) == [runs.CONFIG, runs.IMAGES, runs.LINEAGE]


def test_another_config_is_refused_and_nothing_is_lost(run):
    config, place = run
    before, other = contents(place), copy.deepcopy(config)
    other.train.learning_rate, other.model.levels[0].dim = 0.5, 7
    with pytest.raises(
        ValueError, match=r"model.levels\[0\].dim is 4 in the run and 7 in this config; train.learning_rate is"
    ):
        workdir.check(other, place)
    assert contents(place) == before


def test_only_fields_that_change_no_weight_may_change(run):
    config, place = run
    others = {"labels": "folders", "learning_rate_decay": "exponential", "dtype": "float64"}
    for group in ("data", "train"):
        for field in dataclasses.fields(getattr(config, group)):
            other = copy.deepcopy(config)
            value = getattr(getattr(other, group), field.name)
            if isinstance(value, bool):
                changed = not value
            elif isinstance(value, float):
                changed = (value + 0.3) / 2
            elif field.name in others:
                changed = others[field.name]
            elif field.name == "steps":
                changed = value - 1
            else:
                changed = value + (1 if isinstance(value, int) else value[:1] or ((1,) if value == () else "x"))
            setattr(getattr(other, group), field.name, changed)
            if f"{group}.{field.name}" in workdir.FREE_FIELDS:
                workdir.check(other, place)
            else:
                with pytest.raises(ValueError, match=rf"{group}\.{field.name} is .* in the run and .* in this config"):
                    workdir.check(other, place)
    free = {"data_dir", "folder", "steps_per_loop", "log_every", "evaluate_every", "checkpoint_every", "rematerialize"}
    assert {name.partition(".")[2] for name in workdir.FREE_FIELDS} == free


def test_a_run_may_be_trained_for_longer_and_for_nothing_else(run):
    config, place = run
    assert workdir.check(config, place) is None
    longer = copy.deepcopy(config)
    longer.train.steps += 1
    assert workdir.check(longer, place) == config
    shorter = copy.deepcopy(config)
    shorter.train.steps -= 1
    longer.train.seed += 1
    for other in (shorter, longer):
        with pytest.raises(ValueError, match=r"train\.steps is 8 in the run and \d in this config"):
            workdir.check(other, place)


def test_checkpoints_of_a_run_whose_config_is_lost_are_refused(run):
    config, place = run
    (place / runs.CONFIG).unlink()
    workdir.check(config, place)
    (place / runs.CHECKPOINTS).mkdir()
    (place / runs.CHECKPOINTS / "ckpt-4.index").touch()
    with pytest.raises(ValueError, match=r"holds checkpoints and no config\.json to say what"):
        workdir.check(config, place)


def test_other_images_are_refused(run):
    _, place = run
    with pytest.raises(ValueError, match=r"Received: other images for validation\. Choose another workdir"):
        workdir.check_images({"train": 1, "validation": 3}, place)
    with pytest.raises(ValueError, match=r"Received: other images for train and validation\."):
        workdir.check_images({"train": 3, "validation": 3}, place)
    damage(place / runs.IMAGES, "torn")
    with pytest.raises(ValueError, match=r"images\.json of workdir must be as a run writes it"):
        workdir.check_images(FINGERPRINTS, place)


def test_a_path_that_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match="workdir must be a directory that can be written"):
            workdir.check(small_config(), place)


def test_workers_compare_images_and_configs_but_not_where_the_images_are():
    config, elsewhere, other = (small_config() for _ in range(3))
    elsewhere.data.data_dir, elsewhere.data.folder = "there", "here"
    other.train.seed = 1
    numbers = workdir.checksums(config, FINGERPRINTS)
    assert workdir.checksums(elsewhere, FINGERPRINTS) == numbers and elsewhere.data.folder == "here"

    def different(others):
        return {name for name in numbers if others[name] != numbers[name]}

    assert different(workdir.checksums(other, FINGERPRINTS)) == {"checksum of the config"}
    for split in FINGERPRINTS:
        images = workdir.checksums(config, {**FINGERPRINTS, split: 9})
        assert different(images) == {f"checksum of the {split} images"}


def test_a_failed_start_leaves_no_trace(tmp_path):
    """A wrong first command must not keep the right second one out."""
    wrong = small_config()
    wrong.model.num_values = 4
    with pytest.raises(ValueError, match="must fit the images of digits/train"):
        trainer.prepare(wrong, tmp_path, trainer.make_strategy("one_device"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "shown"), [(None, "none"), (np.arange(3), r"0\.\.2"), (np.array([-1, 1]), r"-1\.\.1")]
)
def test_classes_must_fit_the_labels(labels, shown, tmp_path, monkeypatch):
    config = small_config("digits/gated_pixel_cnn_class_conditional")
    config.model.num_classes = 2
    images = dataclasses.replace(data.load(config.data, "train"), labels=labels)
    monkeypatch.setattr(data, "load", lambda *_: images)
    with pytest.raises(ValueError, match=f"model.num_classes must be 0, or fit the labels of .* are: {shown}"):
        trainer.prepare(config, tmp_path, trainer.make_strategy("one_device"))


def test_batch_normalisation_over_replicas_is_not_compiled(tmp_path):
    config = presets.get("digits/hierarchical")
    config.train.jit_compile = True
    with pytest.raises(ValueError, match=r"jit_compile must be False for batch normalisation over several replicas"):
        trainer.prepare(config, tmp_path, trainer.make_strategy("mirrored"))
    assert not list(tmp_path.iterdir())


def test_a_workdir_gives_the_evaluations_of_the_weights_that_are_asked_for(tmp_path):
    report = {"data": "digits/test", "step": 3, "fingerprint": "a" * 16, "dtype": "float32"}
    other, in_half = {**report, "fingerprint": "b" * 16}, {**report, "dtype": "mixed_bfloat16"}
    reports = (report, other, in_half, {**other, "seed": 7})
    paths = [runs.write_evaluation(each, tmp_path, images) for each in reports for images in (1, 2)]
    assert runs.write_evaluation({**report, "data": "画" * 200, "fingerprint": "d" * 16}, tmp_path, 1).is_file()
    assert len(set(paths)) == 8, "neither weights nor images, precisions nor seeds replace each other's"
    runs.write_evaluation({**other, "importance_samples": 5}, tmp_path, 1)

    def read(letter, dtype="float32"):
        return runs.read_evaluations(tmp_path, letter * 16, dtype)

    assert read("a") == [report, report] and read("a", "mixed_bfloat16") == [in_half, in_half]
    assert len(read("b")) == 3 and not read("c")
    # A version that computed in the run's precision alone did not say so.
    (tmp_path / runs.CONFIG).write_text(config_lib.to_json(small_config(dtype="mixed_bfloat16")))
    old = {name: value for name, value in report.items() if name != "dtype"}
    paths[0].write_text(json.dumps(old))
    assert read("a") == [report] and old in read("a", "mixed_bfloat16")
