"""Reports of a run: means over loops, warnings, pictures, and what TensorBoard makes of them."""

import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tiny_run import tiny_report, tiny_totals

from pixelvae_tf import data, runs
from pixelvae_tf.config import Config, LevelConfig, ModelConfig, TrainConfig
from pixelvae_tf.train import reports, steps


def _shown(workdir, name, tag):
    """What TensorBoard shows of a tag: {step: value}."""
    accumulator = EventAccumulator(str(workdir / runs.TENSORBOARD / name)).Reload()
    events = accumulator.Tensors(tag)
    assert len({event.step for event in events}) == len(events), "a step is shown once"
    return {event.step: tf.make_ndarray(event.tensor_proto) for event in events}


def _put_back_an_hour(workdir):
    """Dates TensorBoard's files back: it reads them in the order of their names, which begin with the second."""
    for path in (workdir / runs.TENSORBOARD).rglob("events.out.tfevents.*"):
        *front, second, rest = path.name.split(".", 4)
        path.rename(path.with_name(".".join([*front, str(int(second) - 3600), rest])))


def test_means_are_over_all_steps_of_all_loops():
    def totals(loss, reconstruction, kl, norm, norm_of_pixels, clipped):
        numbers = map(np.float32, (loss, reconstruction, kl, norm))
        return steps.Totals(*numbers, {"pixels": np.float32(norm_of_pixels)}, np.float32(clipped), None, None)

    first = totals(10.0, 8.0, [2.0, 0.0], 3.0, 2.0, 1.0)
    second = totals(30.0, 20.0, [6.0, 4.0], 5.0, 4.0, 2.0)
    assert reports.training_scalars([(1, first), (3, second)]) == {
        "loss_nats": 10.0,
        "reconstruction_nats": 7.0,
        "gradient_norm": 2.0,
        "clipped_steps": 3.0,
        "clipped_share": 0.75,
        "kl_nats_level_1": 2.0,
        "kl_nats_level_2": 1.0,
        "gradient_norm_pixels": 1.5,
    }


def test_a_model_without_latents_has_no_kl():
    totals = tiny_totals(2)._replace(kl_nats=np.zeros(0, np.float32))
    assert not any("kl" in name for name in reports.training_scalars([(2, totals)]))
    report = {**tiny_report(9.0), "kl_nats": [], "active_units": [], "usage_latents_nats": []}
    scalars = {"bound_nats": 9.0, "bound_bpd": 0.9, "reconstruction_nats": 8.0, "usage_preceding_nats": 20.0}
    assert reports.validation_scalars(report) == scalars
    assert reports.validation_scalars(tiny_report(9.0)) == {
        **scalars,
        "kl_nats_level_1": 1.0,
        "active_units_level_1": 3,
        "usage_latents_nats_level_1": 4.0,
    }


def test_ignored_latents_are_reported_after_the_warm_up():
    levels = [LevelConfig(4, (8,)), LevelConfig(3, (8,), grid=(2, 2))]
    train = TrainConfig(kl_warmup_steps=(4, 6), free_nats=(0.5,))
    config = Config(model=ModelConfig(levels=levels), train=train)
    assert reports.ignored_latents(config, 5, [0.0, 0.0]) == [], "the KL has not its full weight yet"
    assert reports.ignored_latents(config, 6, [1.01, 9.0]) == []
    (lower,), (upper,) = (reports.ignored_latents(config, 6, usage) for usage in ([0.99, 9.0], [9.0, -0.2]))
    assert lower.startswith("The latents of level 1 are all but ignored (posterior collapse)")
    assert "costs 0.99 nats more" in lower and "train.kl_warmup_steps (now 4)" in lower
    assert "level 2" in upper and "train.kl_warmup_steps (now 6) or train.free_nats (now 0.5)" in upper
    assert len(reports.ignored_latents(config, 8, [0.0, 0.0])) == 2


def test_tensorboard_and_the_workdir_have_what_is_reported(tmp_path):
    run = reports.Reports(tmp_path)
    run.open(0)
    run.write("train", 2, {"loss_nats": 3.0})
    grid = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    run.write("validation", 4, {"bound_nats": 5.0}, {"samples": grid}, ["one", "two"])
    assert _shown(tmp_path, "train", "loss_nats") == {2: 3.0} and _shown(tmp_path, "validation", "bound_nats") == {
        4: 5.0
    }
    assert _shown(tmp_path, "validation", "warning")[4].item() == b"one\n\ntwo"
    width, height, png = _shown(tmp_path, "validation", "samples")[4]
    assert (width, height) == (b"2", b"2")
    np.testing.assert_array_equal(tf.io.decode_png(png), grid)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "samples.png")), grid)


def test_tensorboard_shows_a_step_that_was_done_again_once(tmp_path):
    """The first process was killed at step 8 and had saved step 4; warnings that do not come again go too."""
    for start, end, scale in ((0, 8, 1), (4, 10, 10)):
        _put_back_an_hour(tmp_path)
        run = reports.Reports(tmp_path)
        run.open(start)
        for step in range(start + 1, end + 1):
            run.write("train", step, {"loss_nats": scale * step})
            run.write("validation", step, {"bound_nats": scale * step}, warnings=["collapse"] if scale == 1 else [])
    expected = {**{step: step for step in range(1, 5)}, **{step: 10 * step for step in range(5, 11)}}
    assert _shown(tmp_path, "train", "loss_nats") == _shown(tmp_path, "validation", "bound_nats") == expected
    assert list(_shown(tmp_path, "validation", "warning")) == [1, 2, 3, 4]


def test_an_evaluation_that_is_made_up_for_leaves_the_step_it_is_of(tmp_path):
    """The first process was killed in the evaluation of step 4: it had reported that step's training."""
    for start, evaluates, trained in ((0, False, (2, 4)), (4, True, (6,))):
        _put_back_an_hour(tmp_path)
        run = reports.Reports(tmp_path)
        run.open(start, evaluates)
        if evaluates:
            run.write("validation", start, {"bound_nats": 9.0})
        for step in trained:
            run.write("train", step, {"loss_nats": step})
    assert _shown(tmp_path, "train", "loss_nats") == {2: 2, 4: 4, 6: 6}
    assert _shown(tmp_path, "validation", "bound_nats") == {4: 9}


class _Model:
    """Samples show their seed's place or class, reconstructions are half of the image, and the class more."""

    def __init__(self, num_classes, num_levels):
        self.num_levels = num_levels
        self.config = types.SimpleNamespace(num_classes=num_classes, num_values=256, image_shape=(64, 64, 1))

    def sample(self, seeds, labels):
        values = tf.range(seeds.shape[0]) if labels is None else 10 * labels
        return tf.cast(tf.reshape(values, [-1, 1, 1, 1]) * tf.ones([1, 64, 64, 1], tf.int32), tf.uint8)

    def reconstruct(self, images, seeds, labels):
        tf.debugging.assert_equal(tf.shape(images)[0], tf.shape(seeds)[0])
        extra = 0 if labels is None else tf.cast(labels, tf.float32)[:, None, None, None]
        return tf.cast(tf.cast(images, tf.float32) / 2 + extra, tf.uint8)


@pytest.mark.parametrize("number", [70, 2])
@pytest.mark.parametrize(("num_classes", "num_levels"), [(0, 1), (3, 1), (3, 0)])
def test_pictures_are_samples_and_images_beside_their_reconstructions(num_classes, num_levels, number):
    """As many samples, and of all classes, where there are few images."""
    values = np.full((number, 64, 64, 1), 100, np.uint8)
    image_set = data.ImageSet(values, np.full(number, 7) if num_classes else None, "x", 256, "none")
    grids = reports.Drawing(_Model(num_classes, num_levels), image_set, 0)()
    assert set(grids) == ({"samples", "reconstructions"} if num_levels else {"samples"})
    assert len(np.unique(grids["samples"])) >= (3 if num_classes else reports.NUM_PICTURES)
    if num_classes:  # a column a class
        columns = np.split(grids["samples"], num_classes, axis=1)
        assert [set(np.unique(column)) >= {10 * label} for label, column in enumerate(columns)] == [True] * 3
        assert not (columns[0] == 20).any() and not (columns[1] == 20).any()
    if num_levels:
        expected = 100 // 2 + (7 if num_classes else 0)
        assert {100, expected} <= set(np.unique(grids["reconstructions"]))
