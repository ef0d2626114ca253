"""An evaluation that leaves every image's bound goes on where it was interrupted, and is of one model and one split."""

import json
import math

import numpy as np
import pytest
from small_run import small_config

from pixelvae_tf import data, runs
from pixelvae_tf.data.resumable import UNFINISHED
from pixelvae_tf.train import evaluation, evaluation_files

WEIGHTS = {"fingerprint": "of a test"}


@pytest.fixture(scope="module")
def model():
    return runs.build(small_config())


@pytest.fixture(scope="module")
def images():
    return data.load(small_config().data, "test").first(24)


def _evaluate(model, images, output, progress=lambda done, total: None, weights=WEIGHTS, **options):
    evaluator = evaluation.Evaluator(model, batch_size=8, importance_samples=2, **options)
    return evaluation_files.evaluate(evaluator, images, output, weights, progress)


def _table(output):
    return np.genfromtxt(output / evaluation_files.TABLE, delimiter=",", names=True)


def _interrupt_after(number):
    def progress(done, total):
        if done == number:
            raise KeyboardInterrupt

    return progress


def test_the_table_is_of_the_report(model, images, tmp_path):
    report, table = _evaluate(model, images, tmp_path / "out"), _table(tmp_path / "out")
    assert list(table["image"]) == list(range(24)) and not (tmp_path / "out" / UNFINISHED).exists()
    # Seven digits of each of 24 numbers.
    for column, expected in (
        ("bound_nats", report["bound_nats"]),
        ("reconstruction_nats", report["reconstruction_nats"]),
        ("kl_z1_nats", report["kl_nats"][0]),
        ("importance_weighted_nats", report["importance_weighted_nats"]),
    ):
        assert table[column].mean() == pytest.approx(expected, rel=1e-6), column
    written = json.loads((tmp_path / "out" / evaluation_files.REPORT).read_text())
    assert {name: written[name] for name in report} == report


def test_what_is_interrupted_goes_on(model, images, tmp_path, monkeypatch):
    at_once = _evaluate(model, images, tmp_path / "at_once")
    with pytest.raises(KeyboardInterrupt):
        _evaluate(model, images, tmp_path / "out", _interrupt_after(16))
    records = sorted((tmp_path / "out" / UNFINISHED).glob("*.npz"))
    assert len(records) == 2 and not (tmp_path / "out" / evaluation_files.TABLE).exists()
    records[0].write_bytes(records[0].read_bytes()[:-40])  # as a full disk might leave it
    measured, batch = [], evaluation.Evaluator._run

    def run(self, function, inputs):
        if function is self._importance_weighted:
            measured.append(inputs["images"])
        return batch(self, function, inputs)

    monkeypatch.setattr(evaluation.Evaluator, "_run", run)
    report = _evaluate(model, images, tmp_path / "out")
    # The damaged batch and the one that was missing.
    np.testing.assert_array_equal(np.concatenate(measured), np.delete(images.images, np.s_[8:16], axis=0))
    assert {**report, "seconds": 0} == {**at_once, "seconds": 0}
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
        _evaluate(model, images, tmp_path, weights={"fingerprint": "of another"})
    with pytest.raises(ValueError, match=refusal + "seed 0 instead of 1"):
        _evaluate(model, images, tmp_path, seed=1)
    with pytest.raises(ValueError, match=refusal + "other files"):
        _evaluate(model, images.first(20), tmp_path)


def test_a_table_of_something_else_stays(model, images, tmp_path):
    (tmp_path / evaluation_files.TABLE).write_text("mine")
    with pytest.raises(ValueError, match=r"output must not have a bounds\.csv of something else"):
        _evaluate(model, images, tmp_path)
    assert (tmp_path / evaluation_files.TABLE).read_text() == "mine"


def test_a_report_that_is_not_finite_leaves_no_table(images, tmp_path):
    diverged = runs.build(small_config())
    diverged.trainable_variables[0].assign(np.full(diverged.trainable_variables[0].shape, math.nan))
    with pytest.raises(ValueError, match="every value must be finite; the weights diverged"):
        _evaluate(diverged, images, tmp_path)
    assert not (tmp_path / evaluation_files.TABLE).exists() and not (tmp_path / evaluation_files.REPORT).exists()
