"""Scoring a folder: what stands in its table, how it goes on, and what it refuses."""

import csv
import json
import shutil
import types

import numpy as np
import pytest
from commands import run_command
from PIL import Image

from pixelvae_tf import bounds, config, noise, scores
from pixelvae_tf.export import scoring
from pixelvae_tf.model_card import CARD

SIDE = 4


class FakeModel:
    """What `local.SavedModel` offers: an image costs the sum of its pixel values, times a factor."""

    def __init__(self, path, factor=1.0, max_batch=8, outputs=("log_prob", "pixel_nats"), **parts):
        model = {"image_shape": (SIDE, SIDE, 1), "num_values": 256, "levels": [], **parts.pop("model", {})}
        self.config = config.Config(data=config.DataConfig("numbers", **parts), model=config.ModelConfig(**model))
        self.path, self.factor, self.max_batch, self.outputs = path, factor, max_batch, outputs
        self.seen, self.fail_after = [], None
        (path / CARD).parent.mkdir(parents=True)
        (path / CARD).write_text(str(factor))

    def signature(self, name):
        """Its outputs' names alone."""
        return types.SimpleNamespace(outputs=dict.fromkeys(self.outputs))

    def predict(self, name, inputs):
        """Sums."""
        if self.fail_after is not None and len(self.seen) >= self.fail_after:
            raise KeyboardInterrupt
        self.seen.append(inputs["images"])
        nats = self.factor * inputs["images"][..., 0].astype(np.float32)
        return {"log_prob": -nats.sum(axis=(1, 2)), "pixel_nats": nats}


@pytest.fixture
def photos(tmp_path):
    """A folder of 30 flat images, the one called 07.png of the value 7."""
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for value in range(30):
        where = folder / "deeper" if value % 2 else folder
        Image.fromarray(np.full((SIDE, SIDE), value, np.uint8)).save(where / f"{value:02d}.png")
    return folder


def _scorer(tmp_path, background=None, **options):
    model = FakeModel(tmp_path / "model", **options)
    return scoring.Scorer(model, background)


def _read(output):
    with (output / scoring.TABLE).open() as file:
        return {row.pop("file"): {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)}


def _contents(output):
    return {path.name: path.read_bytes() for path in output.iterdir()}


def test_a_line_an_image(tmp_path, photos):
    (photos / "torn.png").write_bytes((photos / "00.png").read_bytes()[:40])
    scorer = _scorer(tmp_path, FakeModel(tmp_path / "background", 0.25))
    shown = []
    summary = scoring.score(scorer, scoring.Request(photos), tmp_path / "out", lambda *done: shown.append(done))
    table = _read(tmp_path / "out")
    assert list(table) == sorted(table) and len(table) == summary["num_images"] == 30
    for value in (0, 7, 29):
        path = f"deeper/{value:02d}.png" if value % 2 else f"{value:02d}.png"
        row, image = table[path], np.full((1, SIDE, SIDE, 1), value, np.uint8)
        assert row["bound_nats"] == 16 * value and row["likelihood_ratio_nats"] == 12 * value
        expected = 16 * value - scores.coded_nats(image, 256, "webp")[0]
        assert row["input_complexity_webp_nats"] == pytest.approx(expected, rel=1e-6)
    assert list(summary["unreadable"]) == ["torn.png"] and shown[-1] == (31, 31)
    assert summary["rank_by"] == "likelihood_ratio" and summary["oddest"][0] == "deeper/29.png"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {scoring.TABLE, scoring.MAPS, scoring.SUMMARY}
    assert max(len(images) for images in scorer.model.seen) == 8, "no batch is larger than the export takes"


def test_a_reference_gives_typicality_and_percentiles(tmp_path, photos):
    images = tmp_path / "new"
    images.mkdir()
    for name, source in (("low.png", "00.png"), ("middle.png", "14.png"), ("high.png", "deeper/29.png")):
        shutil.copy(photos / source, images / name)
    request = scoring.Request(images, reference=photos, rank_by="typicality", num_shown=1)
    summary = scoring.score(_scorer(tmp_path), request, tmp_path / "out")
    mean = 16 * np.arange(30).mean()
    table = _read(tmp_path / "out")
    assert summary["mean_bound_nats"] == mean and summary["num_reference"] == 30
    assert {name: row["typicality_nats"] for name, row in table.items()} == {
        "low.png": mean,
        "middle.png": abs(16 * 14 - mean),
        "high.png": 16 * 29 - mean,
    }
    # 14 of 30 lie below the value 14, which is there itself.
    assert table["middle.png"]["bound_percentile"] == pytest.approx(100 * 14.5 / 30, rel=1e-6)
    assert table["high.png"]["typicality_percentile"] == pytest.approx(100 * 29 / 30, rel=1e-6)


def test_what_is_interrupted_goes_on(tmp_path, photos):
    whole = _scorer(tmp_path / "whole")
    request = scoring.Request(photos, reference=photos)
    scoring.score(whole, request, tmp_path / "at_once")
    scorer = _scorer(tmp_path / "parts")
    scorer.model.fail_after = 6  # the reference's four batches, and two
    with pytest.raises(KeyboardInterrupt):
        scoring.score(scorer, request, tmp_path / "out")
    assert not (tmp_path / "out" / scoring.TABLE).exists()
    scorer.model.fail_after = None
    scoring.score(scorer, request, tmp_path / "out")
    # Two batches were missing, and the picture takes two; eight and two were needed at once.
    assert len(scorer.model.seen) == len(whole.model.seen) == 10
    assert _contents(tmp_path / "out") == _contents(tmp_path / "at_once")
    scoring.score(scorer, request, tmp_path / "out")
    assert len(scorer.model.seen) == 10, "what is finished is not done again"


def test_an_output_belongs_to_its_images_and_models(tmp_path, photos):
    scorer, output = _scorer(tmp_path), tmp_path / "out"
    scoring.score(scorer, scoring.Request(photos), output)
    before = _contents(output)
    (photos / "00.png").unlink()
    with pytest.raises(
        ValueError, match=r"output must be new, or hold what was scored by the same models.*other files"
    ):
        scoring.score(scorer, scoring.Request(photos), output)
    with pytest.raises(ValueError, match=r"output must be new, .*num_shown 8 instead of 3"):
        scoring.score(scorer, scoring.Request(photos, num_shown=3), output)
    assert _contents(output) == before


def test_other_files_of_its_names_are_not_replaced(tmp_path, photos):
    output = tmp_path / "out"
    output.mkdir()
    (output / scoring.TABLE).write_text("of somebody else")
    with pytest.raises(ValueError, match=r"output must not have a scores\.csv of something else"):
        scoring.score(_scorer(tmp_path), scoring.Request(photos), output)
    assert [path.read_text() for path in output.iterdir()] == ["of somebody else"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": {"image_shape": (8, 8, 1)}},
            r"Received: model\.image_shape \(8, 8, 1\) in background and \(4, 4, 1\) in saved_model",
        ),
        ({"model": {"num_values": 2}}, r"Received: model\.num_values 2 in background and 256 in saved_model"),
        ({"model": {"num_classes": 3}}, r"Received: model\.num_classes 3 in background and 0 in saved_model"),
        ({"folder": "elsewhere"}, r"Received: data 'elsewhere' in background and 'numbers' in saved_model"),
        (
            {"exclude_labels": (4,)},
            r"Received: data 'numbers without the classes 4' in background and 'numbers' in saved_model",
        ),
        ({"outputs": ("log_prob",)}, r"background must have pixel_nats in its signature log_prob: export it again"),
    ],
)
def test_a_background_model_must_be_of_the_same_images(tmp_path, options, message):
    background = FakeModel(tmp_path / "background", **options)
    with pytest.raises(ValueError, match=message):
        _scorer(tmp_path, background)
    _scorer(tmp_path / "good", FakeModel(tmp_path / "mutated", mutation=0.2))
    with pytest.raises(ValueError, match=r"more data\.mutation\. Received: 0\.0 in background and 0\.2"):
        scoring.Scorer(FakeModel(tmp_path / "swapped", mutation=0.2), FakeModel(tmp_path / "plain"))


def test_maps_come_in_batches(tmp_path):
    scorer = _scorer(tmp_path, max_batch=2)
    images = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 1)).astype(np.uint8)
    (maps,) = scorer.maps(images)
    np.testing.assert_array_equal(maps, images[..., 0])
    assert [len(seen) for seen in scorer.model.seen] == [2, 2, 1]


def test_what_cannot_be_scored_is_named(tmp_path, photos):
    scorer, output = _scorer(tmp_path), tmp_path / "out"
    empty, few = tmp_path / "empty", tmp_path / "few"
    for folder in (empty, few):
        folder.mkdir()
    (empty / "notes.txt").write_text("no image")
    for value in range(0, 30, 2):
        shutil.copy(photos / f"{value:02d}.png", few)
    for number in range(5):
        (few / f"torn{number}.png").write_bytes(b"")
    for request, at, message in [
        (scoring.Request(empty), output, "images must hold images .* Received: '.*empty', with none"),
        (scoring.Request(tmp_path / "none"), output, "images must be a directory of images. Received: '.*none'"),
        (
            scoring.Request(photos, few),
            output,
            "reference must hold at least 20 images that can be read.* Received: 15",
        ),
        (scoring.Request(photos, empty), output, "reference must hold images"),
        (scoring.Request(photos), photos / "out", "output must not lie in images"),
        (scoring.Request(photos, rank_by="kl"), output, "rank_by must be one of .*bound, input.*Received: 'kl'"),
        (scoring.Request(photos, rank_by="typicality"), output, "rank_by must be one of the scores there are"),
    ]:
        with pytest.raises(ValueError, match=message):
            scoring.score(scorer, request, at)
        shutil.rmtree(output, ignore_errors=True)
    with pytest.raises(ValueError, match=r"label must be left out: the model has no classes\. Received: 0"):
        scoring.Scorer(scorer.model, label=0)
    with pytest.raises(ValueError, match=r"label must be in 0\.\.2\. Received: None"):
        _scorer(tmp_path / "classes", model={"num_classes": 3})
    with pytest.raises(ValueError, match=r"images can be read from files only for models of square .* Received: 4x5x1"):
        _scorer(tmp_path / "wide", model={"image_shape": (4, 5, 1)})


def test_numbers_that_are_not_finite_are_refused(tmp_path, photos):
    scorer = _scorer(tmp_path, FakeModel(tmp_path / "background", float("nan")))
    with pytest.raises(ValueError, match="background must give finite numbers: its weights diverged"):
        scoring.score(scorer, scoring.Request(photos), tmp_path / "out")


def test_binary_models_see_files_as_black_and_white(tmp_path):
    Image.fromarray(np.array([[0, 127, 128, 255]] * 4, np.uint8)).save(tmp_path / "grey.png")
    read = _scorer(tmp_path, model={"num_values": 2}).read(tmp_path, "grey.png")
    assert read.pixels[..., 0].tolist() == [[0, 0, 1, 1]] * 4


def test_the_command_scores_with_an_export_alone(export, tmp_path):
    """Through a process of its own: as the model itself says, from each image's own noise."""
    exported = export("gated_pixel_vae")
    images = np.random.default_rng(0).integers(0, 4, (20, 7, 7, 1)).astype(np.uint8)
    folder, reference = tmp_path / "photos", tmp_path / "reference"
    for where, some in ((folder, images[:5]), (reference, images)):
        where.mkdir()
        for number, image in enumerate(some):
            Image.fromarray(image[..., 0] * 85).save(where / f"{number}.png")
    (folder / "torn.png").write_bytes(b"torn")
    output = tmp_path / "out"
    arguments = (f"--saved_model={exported.path.parent}", f"--images={folder}", f"--output={output}")
    chosen = (f"--reference={reference}", "--rank_by=kl", "--num_shown=3")
    status, out, errors = run_command("export.score_main", *arguments, *chosen)
    assert status == 0, errors
    assert "scored: 5 images" in out and "skipped, unreadable: 1\n    torn.png: " in out and "image 26/26" in errors
    parts = bounds.elbo(exported.model, images, noise.image_seeds(images))
    rows = list(_read(output).values())
    # Float32, by another graph.
    np.testing.assert_allclose([row["bound_nats"] for row in rows], parts.bound_nats[:5], rtol=1e-4)
    np.testing.assert_allclose([row["kl_nats"] for row in rows], parts.kl_nats[:5, 0], rtol=1e-4)
    ranks = np.argsort(np.argsort(parts.bound_nats))[:5]
    # Each is in the reference itself, as a tie or, by another rounding, just above or below: half a place of twenty.
    np.testing.assert_allclose([row["bound_percentile"] for row in rows], 5 * (ranks + 0.5), atol=2.5 + 1e-6)
    assert Image.open(output / scoring.MAPS).size[0] > 3 * 2 * 7 * 4
    summary = json.loads((output / scoring.SUMMARY).read_text())
    assert summary["rank_by"] == "kl"
