"""Anomaly scores: each formula against numbers worked out by hand, and higher is odder."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from pixelvae_tf import scores


def _images(num_values=256, channels=1):
    """A flat image and a noisy one."""
    images = np.zeros((2, 8, 8, channels), np.uint8)
    images[1] = np.random.default_rng(0).integers(0, num_values, images.shape[1:])
    return images


def test_scores_are_as_their_papers_define_them():
    log_prob, background = np.array([-80.0, -95.0]), np.array([-100.0, -90.0])
    np.testing.assert_array_equal(scores.bound(log_prob), [80, 95])
    np.testing.assert_array_equal(scores.kl(np.array([[1.0, 2.0], [0.5, 0.0]])), [3, 0.5])
    # Likelier to the model than to the background: less odd.
    np.testing.assert_array_equal(scores.likelihood_ratio(log_prob, background), [-20, 5])
    np.testing.assert_array_equal(scores.typicality(scores.bound(log_prob), 90.0), [10, 5])
    bits = scores.coded_nats(_images(), 256) / np.log(2)
    np.testing.assert_allclose(scores.input_complexity(log_prob, _images(), 256), [80, 95] - bits * np.log(2))


@pytest.mark.parametrize("coder", scores.CODERS)
@pytest.mark.parametrize(("num_values", "channels"), [(2, 1), (256, 1), (256, 3), (16, 3)])
def test_a_code_is_a_file_without_loss(coder, num_values, channels, monkeypatch):
    images, files = _images(num_values, channels), []

    class Kept(io.BytesIO):
        def __init__(self, *content):
            super().__init__(*content)
            if not content:
                files.append(self)

    monkeypatch.setattr(scores.io, "BytesIO", Kept)
    flat, noisy = scores.coded_nats(images, num_values, coder)
    for image, file, nats in zip(images, files, (flat, noisy), strict=True):
        assert nats == pytest.approx(8 * len(file.getvalue()) * np.log(2))
        read = np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB" if channels == 3 else "L"))
        scale = 255 if num_values == 2 else 1
        np.testing.assert_array_equal(read.reshape(image.shape), image * scale)
    assert noisy > flat, "what is smooth has a short code"


def test_an_unknown_coder_is_refused():
    with pytest.raises(ValueError, match=r"coder must be one of png, webp\. Received: 'gif'"):
        scores.coded_nats(_images(), 256, "gif")


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_images_of_other_channels_have_no_file_to_be_compared_with(channels):
    """Pillow would take some for transparency, and leave it out."""
    images = _images(256, channels)
    assert list(scores.table(np.array([-80.0, -95.0]), None, images, 256)) == ["bound_nats"]
    with pytest.raises(ValueError, match=rf"images must have 1 or 3 channels, as files have\. Received: {channels}"):
        scores.coded_nats(images, 256)


def test_percentiles_are_those_of_scipy():
    generator = np.random.default_rng(0)
    reference, values = generator.integers(0, 30, 50), np.arange(-1, 32)
    expected = [stats.percentileofscore(reference, value, "mean") for value in values]
    np.testing.assert_allclose(scores.percentiles(values, reference), expected)


def test_the_table_has_what_can_be_had():
    log_prob, images = np.array([-80.0, -95.0]), _images()
    plain = scores.table(log_prob, None, images, 256)
    assert list(plain) == ["bound_nats", "input_complexity_png_nats", "input_complexity_webp_nats"]
    everything = scores.table(log_prob, np.ones((2, 3)), images, 256, log_prob + 1, 85.0)
    assert set(everything) - set(plain) == {"kl_nats", "likelihood_ratio_nats", "typicality_nats"}
    assert everything["typicality_nats"].tolist() == [5, 10] and everything["kl_nats"].tolist() == [3, 3]
    assert everything["likelihood_ratio_nats"].tolist() == [1, 1]
