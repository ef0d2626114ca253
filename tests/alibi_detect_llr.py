"""Runs alibi-detect's likelihood ratio on log-probabilities of each pixel; by path, in an environment of its own."""

import sys

import numpy as np
from alibi_detect.od import LLR


class Model:
    """What LLR asks of a model: log p of images it knows, a number each, or each pixel's."""

    def __init__(self, images: np.ndarray, pixel_log_prob: np.ndarray):
        self.known = {image.tobytes(): values for image, values in zip(images, pixel_log_prob, strict=True)}

    def log_prob(self, images, return_per_feature: bool = False) -> np.ndarray:
        """[B], or of each pixel [B, H, W, C]."""
        found = np.stack([self.known[np.asarray(image).tobytes()] for image in images])[..., None]
        return found if return_per_feature else found.sum(axis=(1, 2, 3))


def main(inputs: str, outputs: str) -> None:
    """Reads images and the log-probabilities of two models, writes LLR's scores and what it flags."""
    with np.load(inputs) as file:
        arrays = dict(file)
    images = arrays["images"]
    model, background = (Model(images, arrays[name]) for name in ("pixel_log_prob", "background_pixel_log_prob"))
    detector = LLR(threshold=float(arrays["threshold"]), model=model, model_background=background)
    found = detector.predict(images, outlier_type="instance", return_feature_score=True, return_instance_score=True)
    np.savez(outputs, **{name: found["data"][name] for name in ("feature_score", "instance_score", "is_outlier")})


if __name__ == "__main__":
    main(*sys.argv[1:])
