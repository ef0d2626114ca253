"""The script that redraws the paper's figures."""

import shutil

import numpy as np
import pytest
from PIL import Image
from scripts import load_script


@pytest.fixture(scope="module")
def figures():
    return load_script("benchmarks/figures.py")


def _point(figures, has_latents, num_layers, bound, budget="10 steps"):
    kl = [5.0] if has_latents else []
    report = {"data": "digits/test", "binarization": "none", "bound_nats": bound, "kl_nats": kl}
    return figures.Point(has_latents, num_layers, {**report, "reconstruction_nats": bound - sum(kl)}, budget)


def test_layers_are_drawn(figures, tmp_path):
    points = [_point(figures, latents, layers, 90.0 - layers) for latents in (True, False) for layers in (1, 2)]
    figures.draw_layers(points, tmp_path)
    for name in ("figure_4.png", "figure_5.png"):
        picture = Image.open(tmp_path / name)
        assert picture.size == (720, 540)
        # Axes and text are grey; curves have a colour.
        drawn = np.asarray(picture.convert("RGB"), int)
        assert (np.ptp(drawn, axis=-1) > 100).sum() > 200


def test_unlike_budgets_are_not_put_into_one_figure(figures, tmp_path):
    points = [_point(figures, True, 1, 90.0), _point(figures, True, 2, 89.0, "20 steps")]
    with pytest.raises(SystemExit, match="one data set and one budget"):
        figures.draw_layers(points, tmp_path)
    assert not list(tmp_path.iterdir())


def test_completions_keep_what_they_are_given(figures, trained_run, tmp_path):
    figures.draw_completions(str(trained_run), tmp_path)
    side, across = 3 * 9, 2 + figures.COMPLETIONS
    picture = np.asarray(Image.open(tmp_path / "completions.png"))
    assert picture.shape == (figures.NUM_COMPLETED * side, across * side)
    image, *completions = (picture[:12, column * side : column * side + 24] for column in (0, *range(2, across)))
    # The upper half of the first image is kept.
    assert all((completed == image).all() for completed in completions)


def test_samples_of_runs_and_of_trained_weights_stand_side_by_side(figures, trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")  # its report is kept there
    figures.draw_samples([str(run), "digits/gated_pixel_vae"], tmp_path)
    picture = np.asarray(Image.open(tmp_path / "samples.png").convert("L"), int)
    for half in np.array_split(picture, 2, axis=1):
        # Samples are light and dark, the page beside them is white.
        assert (half < 60).mean() > 0.05 and ((half > 60) & (half < 250)).mean() > 0.05


def test_a_name_gives_the_weights_and_the_bound_of_their_card(figures):
    model, config, report = figures.load_trained("digits/gated_pixel_vae")
    assert (report["data"], report["num_images"]) == ("digits/test", 400)
    assert model.config == config.model
    with pytest.raises(ValueError, match="digits/no_such"):
        figures.load_trained("digits/no_such")
