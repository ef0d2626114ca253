"""Evaluation is of the split: it depends on neither batches nor replicas."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from family import leave_the_start
from small_run import CPUS, small_config

from pixelvae_tf import bounds, data, runs
from pixelvae_tf.train import evaluation, reports


@pytest.mark.parametrize(("preset", "latents"), [("digits/vae", True), ("digits/gated_pixel_cnn", False)])
def test_evaluation_does_not_depend_on_batches_or_replicas(preset, latents):
    config = small_config(preset)
    validation = data.load(config.data, "validation")
    reports = []
    for strategy, batch_size in ((None, 200), (None, 33), (tf.distribute.MirroredStrategy(CPUS), 45)):
        with strategy.scope() if strategy else tf.name_scope("one"):
            model = runs.build(config)
        reports.append(evaluation.Evaluator(model, strategy, batch_size, importance_samples=4)(validation))
    for report in reports[1:]:
        for key in ("bound_nats", "reconstruction_nats", "importance_weighted_nats", "kl_nats"):
            # The same float32 sums an image, by kernels that may split them another way for another batch.
            np.testing.assert_allclose(report[key], reports[0][key], rtol=1e-6)
        assert report["num_images"] == 200 and report["active_units"] == reports[0]["active_units"]
    assert reports[0]["exact"] is not latents
    if not latents:
        assert reports[0]["importance_weighted_nats"] == pytest.approx(reports[0]["bound_nats"], rel=1e-6)


def test_a_single_image_has_no_standard_error():
    config = small_config("digits/vae")
    image = data.load(config.data, "test").first(1)
    report = evaluation.Evaluator(runs.build(config), importance_samples=2)(image)
    assert report["bound_standard_error"] is report["importance_weighted_standard_error"] is None
    assert np.isfinite(report["bound_nats"])


def test_the_report_is_of_the_bounds_of_all_images():
    """With labels, each image its own; in batches of which the last is filled up."""
    config = small_config("digits/gated_pixel_cnn_class_conditional")
    model, images = runs.build(config), data.load(config.data, "test").first(31)
    evaluator = evaluation.Evaluator(model, batch_size=20)
    report = evaluator(images)
    (batch,) = data.evaluation_batches(images, 31, 0)
    expected = -bounds.elbo(model, batch["images"], batch["seeds"], labels=batch["labels"]).log_prob.numpy()
    # Means of float32 numbers, in another order.
    assert report["bound_nats"] == pytest.approx(expected.mean(), rel=1e-6)
    assert report["bound_standard_error"] == pytest.approx(expected.std(ddof=1) / 31**0.5, rel=1e-5)
    shifted = dataclasses.replace(images, labels=(images.labels + 1) % 10)
    assert evaluator(shifted)["bound_nats"] != report["bound_nats"]


def test_variances_over_batches_are_those_of_all_values():
    # Far from 0, and sorted: the batches' means differ by more than the values of a batch.
    values = 1e6 + np.sort(np.random.default_rng(0).normal(size=(50, 3)), axis=0)
    moments = evaluation.Moments((3,))
    for batch in np.split(values, [7, 8, 30]):
        moments.add(batch)
    # Float64 holds a value of 1e6 to 1e-10 and its variance, about 1, to twice that.
    np.testing.assert_allclose(moments.variances(), values.var(axis=0), rtol=1e-8)


def test_a_standard_error_is_that_of_the_mean():
    # Their variance is 7/3, by n - 1.
    assert evaluation._standard_error(np.array([1.0, 2.0, 4.0])) == pytest.approx((7 / 3 / 3) ** 0.5)


@pytest.mark.parametrize(
    ("preset", "replicas", "batch_size", "groups"),
    [("digits/hierarchical", 1, 20, [8]), ("digits/gated_pixel_vae", 2, 8, [4, 4])],
)
def test_usage_is_of_images_from_all_parts_of_a_split(monkeypatch, preset, replicas, batch_size, groups):
    """See `bounds.usage`: in pairs of one batch and replica. What fills up a batch does not count."""
    monkeypatch.setattr(evaluation, "USAGE_IMAGES", 8)
    config = small_config(preset)
    config.model.num_classes = 10
    strategy = tf.distribute.MirroredStrategy(CPUS) if replicas > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        model = runs.build(config)
    leave_the_start(model)
    images = data.load(config.data, "test").first(30)
    images.images[:10] = 0  # a split may be sorted: its first images are alike
    report = evaluation.Evaluator(model, strategy, batch_size)(images)

    places = np.array([0, 4, 8, 12, 16, 20, 24, 29])
    some = dataclasses.replace(images, images=images.images[places], labels=images.labels[places])
    (batch,) = data.evaluation_batches(some, 8, 0)
    usages, start = [], 0
    for size in groups:
        group = slice(start, start + size)
        arguments = (batch[name][group] for name in ("images", "seeds", "labels"))
        usages.append(bounds.usage(model, *arguments))
        start += size
    preceding, latents = (np.concatenate(parts).mean(axis=0) for parts in zip(*usages, strict=True))
    # Differences of sums of 64 float32 terms of a few nats.
    np.testing.assert_allclose(report["usage_preceding_nats"], preceding, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(report["usage_latents_nats"], latents, rtol=1e-4, atol=1e-3)
    assert np.abs([preceding, *latents]).min() > 0.1


def test_a_report_in_words():
    report = {"data": "photos/test", "of": "log p(x)", "exact": False, "bound_nats": 81.7212, "bound_bpd": 1.8421}
    report |= {"bound_standard_error": 0.5484, "kl_nats": [18.18, 0.5]}
    assert evaluation.in_words(report) == (
        "photos/test: -log p(x) <= 81.72 ± 0.55 nats, 1.842 bits/dim (KL 18.18 + 0.50)"
    )
    weighted = {"importance_samples": 50, "importance_weighted_nats": 78.66}
    assert evaluation.in_words(report | weighted).endswith("(KL 18.18 + 0.50; 50 importance samples: 78.66 nats)")
    exact = {"exact": True, "kl_nats": [], "bound_standard_error": None}
    assert evaluation.in_words(report | exact) == "photos/test: -log p(x) = 81.72 nats, 1.842 bits/dim"


@pytest.mark.parametrize(("number", "replicas", "known"), [(3, 1, True), (2, 2, True), (1, 2, False)])
def test_usage_is_of_pairs_alone(number, replicas, known):
    """With a batch of one image too, and not at all of an image that is alone."""
    strategy = tf.distribute.MirroredStrategy(CPUS) if replicas > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        model = runs.build(small_config())
    leave_the_start(model)
    images = data.load(small_config().data, "test").first(number)
    report = evaluation.Evaluator(model, strategy, batch_size=1)(images)
    assert ("usage_preceding_nats" in report) == ("usage_latents_nats" in report) == known
    if known:  # of the first two; the third has no other
        assert report["usage_preceding_nats"] > 0.1
        two = evaluation.Evaluator(model, strategy, batch_size=2)(images.first(2))
        assert report["usage_preceding_nats"] == pytest.approx(two["usage_preceding_nats"], rel=1e-4)
    scalars = reports.validation_scalars(report)
    assert ("usage_preceding_nats" in scalars) == known
    assert reports.ignored_latents(small_config(), 100_000, report.get("usage_latents_nats", ())) == [] or known
