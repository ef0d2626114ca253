"""Pictures of maps: the colours are viridis, and everything is where it should be."""

import matplotlib
import numpy as np

from pixelvae_tf import heat_maps


def test_the_colours_are_matplotlibs_viridis():
    expected = np.array(matplotlib.colormaps["viridis"].colors)
    found = heat_maps.colours(np.linspace(-3.0, 5.0, 256), -3.0, 5.0) / 255
    assert found.shape == (256, 3)
    np.testing.assert_allclose(found, expected, atol=0.02)  # of the polynomials, and of rounding
    # Perceptually uniform: lightness rises all the way.
    assert (np.diff(found @ [0.2126, 0.7152, 0.0722]) > -1 / 255).all()
    np.testing.assert_array_equal(heat_maps.colours([-9.0, 9.0], -3.0, 5.0), heat_maps.colours([-3.0, 5.0], -3.0, 5.0))


def _row(nats, num=2):
    images = np.zeros((num, 6, 5, 1), np.uint8)
    images[0, 1, 2] = 1
    return heat_maps.Row("title", ["a caption"] * num, images, [np.full((num, 6, 5), nats, np.float32)] * 2)


def test_images_have_their_maps_beside_them():
    rows = [_row(0.0), _row(2.0)]
    rows[1].maps[0][0, 4, 3] = 10.0
    rows[1].maps[1][1] = 1.0
    low, high = heat_maps.limits(rows)
    assert low == 0 and 2 < high <= 10
    picture = heat_maps.draw(rows, 2, scale=3)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    top, left = heat_maps._GAP + heat_maps._TEXT + heat_maps._GAP, heat_maps._GAP
    deep = 3 * 6 + 2 * heat_maps._TEXT + 3 * heat_maps._GAP
    image = picture[top : top + 18, left : left + 15]
    assert (image[3:6, 6:9] == 255).all() and not image[:3].any()
    ordinary = picture[top : top + 18, left + 16 : left + 31]
    assert (ordinary == heat_maps.colours(0.0, low, high)).all()
    odd = picture[top + deep : top + deep + 18, left + 16 : left + 31]
    assert (odd[12:15, 9:12] == heat_maps.colours(10.0, low, high)).all()
    assert (odd[:3] == heat_maps.colours(2.0, low, high)).all()
    last = left + 3 * 16 + 3 * heat_maps._GAP + 2 * 16  # behind the first image and its two maps, an image and a map
    second = picture[top + deep : top + deep + 18, last : last + 15]
    assert (second == heat_maps.colours(1.0, low, high)).all()


def test_a_scale_reaches_below_zero_where_maps_do():
    assert heat_maps.limits([_row(-0.37)])[0] <= -0.37
    assert heat_maps.limits([_row(0.0)]) == (0.0, heat_maps.limits([_row(0.0)])[1])
