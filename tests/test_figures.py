"""The script that redraws the paper's figures."""

import functools
import importlib.util
import pathlib

import numpy as np
import pytest
from absl import flags
from PIL import Image

_PATH = pathlib.Path(__file__).parents[1] / "benchmarks" / "figures.py"


@pytest.fixture(scope="module")
def figures():
    """benchmarks/figures.py as a module."""
    spec = importlib.util.spec_from_file_location("figures", _PATH)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # Its flags are its own, whatever commands this process has imported.
        patch.setattr(flags, "FLAGS", flags.FlagValues())
        for define in ("DEFINE_string", "DEFINE_list"):
            patch.setattr(flags, define, functools.partial(getattr(flags, define), flag_values=flags.FLAGS))
        spec.loader.exec_module(module)
    return module


def _point(figures, has_latents, num_layers, bound, budget="10 steps"):
    kl = [5.0] if has_latents else []
    report = {"data": "digits/test", "binarization": "none", "bound_nats": bound, "kl_nats": kl}
    return figures.Point(has_latents, num_layers, {**report, "reconstruction_nats": bound - sum(kl)}, budget)


def test_layers_are_drawn(figures, tmp_path):
    points = [_point(figures, latents, layers, 90.0 - layers) for latents in (True, False) for layers in (1, 2)]
    figures.draw_layers(points, tmp_path)
    for name in ("figure_4.png", "figure_5.png"):
        picture = Image.open(tmp_path / name)
        assert picture.size == (720, 540) and len(picture.convert("RGB").getcolors(1 << 20)) > 10


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
