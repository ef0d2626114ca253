"""An evaluation that leaves every image's bound goes on where it was interrupted, and is of one model and one split."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from family import leave_the_start
from small_run import small_config

from pixelvae_tf import bounds, data, runs
from pixelvae_tf.data import decoding
from pixelvae_tf.data.resumable import IDENTITY, UNFINISHED
from pixelvae_tf.train import evaluation, evaluation_files

ABOUT = {"fingerprint": "of a test"}


@pytest.fixture(scope="module")
def model():
    """Of two levels; each image's bound is another."""
    model = runs.build(small_config("digits/hierarchical"))
    leave_the_start(model)
    return model


@pytest.fixture(scope="module")
def images():
    return data.load(small_config().data, "test").first(22)


def _evaluate(model, images, output, progress=lambda done, total: None, about=ABOUT, **options):
    evaluator = evaluation.Evaluator(model, **{"batch_size": 8, "importance_samples": 2, **options})
    return evaluation_files.evaluate(evaluator, images, output, about, progress)


def _table(output):
    return np.genfromtxt(output / evaluation_files.TABLE, delimiter=",", names=True)


def _interrupt_after(number):
    def progress(done, total):
        if done == number:
            raise KeyboardInterrupt

    return progress


def test_the_table_is_of_the_report(model, images, tmp_path):
    report, table = _evaluate(model, images, tmp_path / "out"), _table(tmp_path / "out")
    assert list(table["image"]) == list(range(22)) and not (tmp_path / "out" / UNFINISHED).exists()
    (batch,) = data.evaluation_batches(images, 22, 0)
    elbo = bounds.elbo(model, batch["images"], batch["seeds"])
    importance_weighted = bounds.importance_weighted_nats(model, batch["images"], batch["seeds"], 2)
    for column, values, mean in (
        ("bound_nats", elbo.bound_nats, report["bound_nats"]),
        ("reconstruction_nats", elbo.reconstruction_nats, report["reconstruction_nats"]),
        ("kl_z1_nats", elbo.kl_nats[:, 0], report["kl_nats"][0]),
        ("kl_z2_nats", elbo.kl_nats[:, 1], report["kl_nats"][1]),
        ("importance_weighted_nats", importance_weighted, report["importance_weighted_nats"]),
    ):
        # Float32, in other batches; seven digits of each number.
        np.testing.assert_allclose(table[column], values, rtol=1e-4, atol=1e-4, err_msg=column)
        assert table[column].mean() == pytest.approx(mean, rel=1e-6), column
    assert report["fingerprint"] == ABOUT["fingerprint"]
    written = json.loads((tmp_path / "out" / evaluation_files.REPORT).read_text())
    assert {name: written[name] for name in report} == report


@pytest.mark.parametrize("flipped", [False, True])
def test_what_is_interrupted_goes_on(model, images, tmp_path, monkeypatch, flipped):
    at_once = _evaluate(model, images, tmp_path / "at_once")
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        _evaluate(model, images, tmp_path / "out", _interrupt_after(16))
    records = sorted((tmp_path / "out" / UNFINISHED).glob("0*"))
    assert len(records) == 2 and not (tmp_path / "out" / evaluation_files.TABLE).exists()
    whole = records[0].read_bytes()
    damaged = bytes([*whole[:300], whole[300] ^ 1, *whole[301:]])
    records[0].write_bytes(damaged if flipped else whole[:-40])
    kept = evaluation._read_arrays(records[1])
    evaluation._write_arrays(records[1], kept | {"seconds": np.array(1000.0)})
    measured, batch = [], evaluation.Evaluator._run

    def run(self, function, inputs):
        if function is self._importance_weighted:
            measured.append(inputs["images"])
        return batch(self, function, inputs)

    monkeypatch.setattr(evaluation.Evaluator, "_run", run)
    report = _evaluate(model, images, tmp_path / "out")
    # The damaged batch, and the one that was missing, which is filled up to 8.
    np.testing.assert_array_equal(np.concatenate(measured)[:14], np.delete(images.images, np.s_[8:16], axis=0))
    assert {**report, "seconds": 0} == {**at_once, "seconds": 0}
    assert 1000 < report["seconds"] < 1000 + 60 + at_once["seconds"], "those of a record count"
    assert _table(tmp_path / "out").tolist() == _table(tmp_path / "at_once").tolist()
    assert _evaluate(model, images, tmp_path / "out") == report and len(measured) == 2


@pytest.mark.parametrize("unfinished", [False, True])
def test_an_output_belongs_to_its_model_images_and_options(model, images, tmp_path, unfinished):
    if unfinished:
        with pytest.raises(KeyboardInterrupt):
            _evaluate(model, images, tmp_path, _interrupt_after(8))
    else:
        _evaluate(model, images, tmp_path)
    refusal = "output must be new, or hold what was evaluated in the same way from the same files.*"
    with pytest.raises(ValueError, match=refusal + "fingerprint 'of a test' instead of 'of another'"):
        _evaluate(model, images, tmp_path, about={"fingerprint": "of another"})
    for options, difference in (
        ({"seed": 1}, "seed 0 instead of 1"),
        ({"importance_samples": 3}, "importance_samples 2 instead of 3"),
        ({"batch_size": 11}, "batch_size 8 instead of 11"),
    ):
        with pytest.raises(ValueError, match=refusal + difference):
            _evaluate(model, images, tmp_path, **options)
    with pytest.raises(ValueError, match=refusal + "other files"):
        _evaluate(model, images.first(20), tmp_path)


@pytest.mark.parametrize("content", ["mine", "[1, 2]", "{}", '{"identity": "mine"}'])
@pytest.mark.parametrize("name", [evaluation_files.TABLE, evaluation_files.REPORT])
def test_files_of_something_else_stay(model, images, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"output must not have a {re.escape(name)} of something else"):
        _evaluate(model, images, tmp_path)
    assert (tmp_path / name).read_text() == content and len(list(tmp_path.iterdir())) == 1


def test_what_was_begun_and_has_nothing_to_lose_is_begun_anew(model, images, tmp_path):
    """As smaller batches are after the first did not fit into memory."""

    def run_out_of_memory(*arguments):
        raise MemoryError

    evaluator = evaluation.Evaluator(model, batch_size=22)
    evaluator.measure = run_out_of_memory
    with pytest.raises(MemoryError):
        evaluation_files.evaluate(evaluator, images, tmp_path, ABOUT, lambda done, total: None)
    assert _evaluate(model, images, tmp_path)["num_images"] == 22


def test_records_that_nobody_knows_are_not_taken(model, images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _evaluate(model, images, tmp_path, _interrupt_after(8))
    (tmp_path / UNFINISHED / IDENTITY).unlink()
    _evaluate(model, images, tmp_path, seed=1)
    _evaluate(model, images, tmp_path / "at_once", seed=1)
    assert _table(tmp_path).tolist() == _table(tmp_path / "at_once").tolist()


def test_images_that_change_are_not_called_a_bad_output(model, images, tmp_path):
    class Changed:
        shape = images.images.shape
        fingerprint = 1

        def __len__(self):
            return len(images.images)

        def __getitem__(self, places):
            raise decoding.ImagesError("data.folder must stay as it is")

    changed = dataclasses.replace(images, images=Changed())
    with pytest.raises(OSError, match=r"^data\.folder must stay as it is$"):
        _evaluate(model, changed, tmp_path)


def test_a_report_that_is_not_finite_leaves_no_table(images, tmp_path):
    diverged = runs.build(small_config())
    diverged.trainable_variables[0].assign(np.full(diverged.trainable_variables[0].shape, math.nan))
    with pytest.raises(ValueError, match="every value must be finite; the weights diverged"):
        _evaluate(diverged, images, tmp_path)
    assert not (tmp_path / evaluation_files.TABLE).exists() and not (tmp_path / evaluation_files.REPORT).exists()
