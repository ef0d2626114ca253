"""docs/beam_scores.py: Beam's results are those of pixelvae-score."""

import csv
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pixelvae_tf.export import local, scoring

pytest.importorskip("apache_beam")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("tensorflow_hub")
SCRIPT = pathlib.Path(__file__).parents[1] / "docs" / "beam_scores.py"
TWO_WORKERS = ("--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2")


def _run(*arguments):
    outcome = subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr[-4000:]


def _rows(folder):
    rows = parquet.read_table(folder).to_pylist()
    return {row.pop("file"): row for row in rows}


@pytest.fixture
def images(tmp_path):
    """40 pictures of a model of 4 values, in a folder, with one that is torn."""
    images = np.random.default_rng(0).integers(0, 4, (40, 7, 7, 1)).astype(np.uint8)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0] * 85).save(folder / f"{number:02d}.png")
    (folder / "torn.png").write_bytes(b"torn")
    return images, folder


@pytest.mark.slow
def test_a_folder_is_scored_as_by_the_command(export, images, tmp_path):
    exported, (_, folder) = export("gated_pixel_vae"), images
    model = local.SavedModel(exported.path)
    scorer = scoring.Scorer(model, model)
    scoring.score(scorer, scoring.Request(folder), tmp_path / "command")
    with (tmp_path / "command" / scoring.TABLE).open() as file:
        expected = {row.pop("file"): row for row in csv.DictReader(file)}
    models = (f"--saved_model={exported.path}", f"--background={exported.path}")
    _run(*models, f"--images={folder}", f"--output={tmp_path}/beam/part", "--mean_bound_nats=60", *TWO_WORKERS)
    found = _rows(tmp_path / "beam")
    assert found.pop("torn.png")["error"].startswith("UnidentifiedImageError")
    assert set(found) == set(expected) and len(found) == 40
    for file, row in found.items():
        assert row["error"] is None and row["typicality_nats"] == pytest.approx(abs(row["bound_nats"] - 60))
        for name, value in expected[file].items():
            # Other batches, other orders of sums in float32; the ratio is a difference of equals.
            assert row[name] == pytest.approx(float(value), rel=1e-4, abs=1e-3)
        assert len(row["pixel_nats"]) == 49 and len(row["z1_mean"]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_records_are_scored_as_files_are(export, images, tmp_path, form):
    exported, (pixels, _) = export("gated_pixel_vae"), images
    scorer = scoring.Scorer(local.SavedModel(exported.path))
    records = []
    for image in pixels:
        value = tf.train.BytesList(value=[tf.io.encode_png(image).numpy()])
        features = tf.train.Features(feature={"image": tf.train.Feature(bytes_list=value)})
        records.append(tf.train.Example(features=features).SerializeToString())
    path = str(tmp_path / f"set.{form}")
    if form == "tfrecord":
        with tf.io.TFRecordWriter(path) as writer:
            for record in records:
                writer.write(record)
    else:
        from array_record.python import array_record_module

        writer = array_record_module.ArrayRecordWriter(path, "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
    _run(f"--saved_model={exported.path}", f"--images={tmp_path}/set.*", f"--output={tmp_path}/beam/part", *TWO_WORKERS)
    found = _rows(tmp_path / "beam")
    expected = scorer.table(pixels)
    assert len(found) == 40
    for place in range(40):
        row = found[f"{path}:{place}"]
        for name, values in expected.items():
            assert row[name] == pytest.approx(values[place], rel=1e-4, abs=1e-3)
