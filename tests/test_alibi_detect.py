"""Our likelihood ratio against alibi-detect's `LLR` (Van Looveren et al.), on each pixel and image.

It wants an environment of its own, since it stops at TensorFlow 2.18. It is used for nothing but this test, as its
licence allows:

    python3.11 -m venv alibi
    alibi/bin/pip install alibi-detect 'tensorflow-cpu==2.18.*' 'tensorflow-probability==0.25.*' 'tf-keras==2.18.*'
    ALIBI_DETECT_PYTHON=alibi/bin/python pytest tests/test_alibi_detect.py
"""

import os
import pathlib
import subprocess

import numpy as np
import pytest

from pixelvae_tf import scores
from pixelvae_tf.export import local

PYTHON = os.environ.get("ALIBI_DETECT_PYTHON")
SCRIPT = pathlib.Path(__file__).with_name("alibi_detect_llr.py")


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="ALIBI_DETECT_PYTHON names no interpreter that has alibi-detect")
def test_the_likelihood_ratio_is_alibi_detects(export, tmp_path):
    # Two models of the same images; what they are trained on does not matter here.
    model, background = (local.SavedModel(export(name).path) for name in ("gated_pixel_cnn", "vae"))
    images = np.random.default_rng(0).integers(0, 2, (20, 6, 5, 1)).astype(np.uint8)
    inputs = {"images": images, "seed": np.arange(20)}
    measured, of_background = (each.predict("log_prob", inputs) for each in (model, background))
    ours = scores.likelihood_ratio(-measured["pixel_nats"], -of_background["pixel_nats"])
    threshold = float(np.median(ours.sum(axis=(1, 2))))
    np.savez(
        tmp_path / "in.npz",
        images=images,
        threshold=threshold,
        pixel_log_prob=-measured["pixel_nats"],
        background_pixel_log_prob=-of_background["pixel_nats"],
    )
    # -P: a package that it wants is called as a module beside the script is.
    command = [PYTHON, "-P", str(SCRIPT), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    outcome = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert outcome.returncode == 0, outcome.stderr[-4000:]
    with np.load(tmp_path / "out.npz") as theirs:
        np.testing.assert_allclose(theirs["feature_score"][..., 0], ours, rtol=1e-6)
        np.testing.assert_allclose(theirs["instance_score"], ours.sum(axis=(1, 2)), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(theirs["is_outlier"], theirs["instance_score"] > threshold)
    assert np.ptp(ours) > 0.5, "they differ from pixel to pixel"
