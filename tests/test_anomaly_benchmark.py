"""benchmarks/anomaly.py: areas with their intervals, other sets of images, patches."""

import numpy as np
import pytest
from PIL import Image
from scripts import load_script

from pixelvae_tf.config import ModelConfig

anomaly = load_script("benchmarks/anomaly.py")
BINARY, COLOUR = ModelConfig((28, 28, 1), 2, []), ModelConfig((32, 32, 3), 256, [])


def test_the_area_is_a_probability_and_its_interval_that_of_a_bootstrap():
    generator = np.random.default_rng(0)
    odd, own = np.round(generator.normal(0.8, 1, 150), 1), np.round(generator.normal(0, 1, 100), 1)  # with ties
    above = (odd[:, None] > own) + 0.5 * (odd[:, None] == own)
    area, low, high = anomaly.auroc(odd, own)
    assert area == pytest.approx(above.mean())
    draws = [
        above[np.ix_(generator.integers(0, 150, 150), generator.integers(0, 100, 100))].mean() for _ in range(2000)
    ]
    # A standard deviation from 2,000 draws is within 8% (five standard errors).
    assert (high - low) / 2 / 1.96 == pytest.approx(np.std(draws), rel=0.12)
    assert anomaly.auroc(own, own + 100.0)[0] == 0 and anomaly.auroc(own + 100.0, own) == (1, 1, 1)


@pytest.mark.parametrize("name", ["inverted", "shifted", "rotated", "noise", "letters", "textures", "digits", "folder"])
@pytest.mark.parametrize("model", [BINARY, COLOUR], ids=["binary", "colour"])
def test_other_sets_are_images_of_the_model(name, model, tmp_path):
    own = np.zeros((6, *model.image_shape), np.uint8)
    own[:, 3:9, 4:6] = 1
    if name == "folder":
        for number in range(6):
            Image.fromarray(np.full((40, 50), 40 * number, np.uint8)).save(tmp_path / f"{number}.png")
        name = f"folder:{tmp_path}"
    images = anomaly.other_set(name, own, model, 6)
    assert images.shape == own.shape and images.dtype == np.uint8
    assert 0 < images.max() < model.num_values
    differ = len(np.unique(images.reshape(6, -1), axis=0)) > 1
    assert differ == (name not in ("inverted", "shifted", "rotated")), "those are the same images in another way"


def test_an_unknown_set_is_refused():
    with pytest.raises(SystemExit, match=r"against must be one of those that --help lists\. Received: 'cats'"):
        anomaly.other_set("cats", np.zeros((1, 28, 28, 1), np.uint8), BINARY, 1)


def test_patches_are_squares_of_the_other_image():
    generator = np.random.default_rng(0)
    images, others = generator.integers(0, 2, (2, 30, 28, 28, 1)).astype(np.uint8)
    others[0] = images[0]  # nothing can differ
    before, after, masks = anomaly.patched(images, others)
    assert len(before) == 29
    np.testing.assert_array_equal(before, images[1:])
    for place in range(29):
        rows, columns = np.nonzero(masks[place])
        side = np.ptp(rows) + 1
        assert 4 <= side <= 8 and masks[place].sum() == side**2 == (np.ptp(columns) + 1) ** 2
        np.testing.assert_array_equal(after[place][masks[place]], others[1 + place][masks[place]])
        np.testing.assert_array_equal(after[place][~masks[place]], images[1 + place][~masks[place]])
        assert (after[place] != before[place]).sum() >= side**2 / 4
