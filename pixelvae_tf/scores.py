"""How odd an image is to a model: anomaly scores from its likelihood. Higher is odder, for all, in nats.

Plain likelihood is a poor alarm: it prefers smooth images, whatever they show (Nalisnick et al. 2019a, "Do deep
generative models know what they don't know?"). The other scores correct that, each in its way:

- `bound`: minus the ELBO, or minus the exact log-likelihood (Bishop 1994, "Novelty detection and neural network
  validation").
- `kl`: what the latents cost (Zimmerer et al. 2019, "Unsupervised anomaly localization using variational
  auto-encoders").
- `likelihood_ratio`: less the bound of a background model, which was trained on images with noise in their pixels and
  knows what all images have in common (Ren et al. 2019, "Likelihood ratios for out-of-distribution detection").
- `input_complexity`: less the length of the image as a lossless coder writes it (Serra et al. 2020, "Input complexity
  and out-of-distribution detection with likelihood-based generative models").
- `typicality`: how far the bound is from its mean over images of the model's kind, on either side (Nalisnick et al.
  2019b, "Detecting out-of-distribution inputs to deep generative models using typicality").

    scores.table(-bound_nats, kl_nats, images, num_values=256)["input_complexity_png_nats"]

Legend: B batch, H height, W width, C channels, L levels, R images of a reference.
"""

import io
import math
from typing import Any, Literal

import numpy as np
from PIL import Image

__all__ = ["bound", "coded_nats", "input_complexity", "kl", "likelihood_ratio", "percentiles", "table", "typicality"]

Coder = Literal["png", "webp"]
CODERS: tuple[Coder, ...] = ("png", "webp")
# Fewer say little of a mean, and nothing of a percentile.
MIN_REFERENCE = 20


def bound(log_prob: np.ndarray) -> np.ndarray:
    """Minus the log-likelihood or its bound.

    Args:
      log_prob: [B].

    Returns:
      [B].
    """
    return -np.asarray(log_prob, np.float64)


def kl(kl_nats: np.ndarray) -> np.ndarray:
    """What all levels of latents cost.

    Args:
      kl_nats: [B, L].

    Returns:
      [B].
    """
    return np.asarray(kl_nats, np.float64).sum(axis=-1)


def likelihood_ratio(log_prob: np.ndarray, background_log_prob: np.ndarray) -> np.ndarray:
    """How much likelier an image is to the background model: minus equation (2) of Ren et al.

    Args:
      log_prob, background_log_prob: [B], or of locations [B, H, W].

    Returns:
      The same shape.
    """
    return np.asarray(background_log_prob, np.float64) - log_prob


def input_complexity(log_prob: np.ndarray, images: np.ndarray, num_values: int, coder: Coder = "png") -> np.ndarray:
    """The bound less the length of a code: equation (2) of Serra et al., in nats.

    Args:
      log_prob: [B].
      images, num_values, coder: as for `coded_nats`.

    Returns:
      [B].
    """
    return bound(log_prob) - coded_nats(images, num_values, coder)


def coded_nats(images: np.ndarray, num_values: int, coder: Coder = "png") -> np.ndarray:
    """The lengths of images as files of Pillow's, headers included.

    Args:
      images: integer pixel values [B, H, W, C], C 1 or 3.
      num_values: how many values a channel can take; PNG writes two in a bit.
      coder: which format; WebP without loss.

    Returns:
      [B], nats.
    """
    if coder not in CODERS:
        raise ValueError(f"coder must be one of {', '.join(CODERS)}. Received: {coder!r}")
    if np.shape(images)[-1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels, as files have. Received: {np.shape(images)[-1]}")
    options: dict[str, Any] = {"optimize": True}
    if coder == "webp":
        options = {"lossless": True, "quality": 100, "exact": True}
    lengths = []
    for values in np.asarray(images, np.uint8):
        grey = values[..., 0] if values.shape[-1] == 1 else values
        picture = Image.fromarray(grey.astype(bool) if num_values == 2 and grey.ndim == 2 else grey)
        file = io.BytesIO()
        picture.convert("RGB" if coder == "webp" else picture.mode).save(file, coder, **options)
        lengths.append(len(file.getvalue()))
    return np.array(lengths) * 8 * math.log(2.0)


def typicality(bound_nats: np.ndarray, mean_bound_nats: float) -> np.ndarray:
    """The distance of bounds from their mean over images of the model's kind.

    Args:
      bound_nats: [B].
      mean_bound_nats: of images that the model was trained on, or others like them.

    Returns:
      [B].
    """
    return np.abs(np.asarray(bound_nats, np.float64) - mean_bound_nats)


def percentiles(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Which share of a reference is less odd; of what is equal, half.

    Args:
      values: a score [B].
      reference: the same score [R].

    Returns:
      [B], 0 to 100.
    """
    ordered = np.sort(reference)
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return 50.0 * (below + up_to) / len(ordered)


def table(
    log_prob: np.ndarray,
    kl_nats: np.ndarray | None,
    images: np.ndarray,
    num_values: int,
    background_log_prob: np.ndarray | None = None,
    mean_bound_nats: float | None = None,
) -> dict[str, np.ndarray]:
    """All scores that can be had.

    Args:
      log_prob: [B].
      kl_nats: [B, L]; None, or L = 0, for a model without latents.
      images: integer pixel values [B, H, W, C]; files have 1 or 3 channels, others no complexity.
      num_values: how many values a channel can take.
      background_log_prob: [B], of a background model.
      mean_bound_nats: for `typicality`.

    Returns:
      By name, [B] each.
    """
    values = {"bound_nats": bound(log_prob)}
    if kl_nats is not None and np.shape(kl_nats)[-1]:
        values["kl_nats"] = kl(kl_nats)
    if background_log_prob is not None:
        values["likelihood_ratio_nats"] = likelihood_ratio(log_prob, background_log_prob)
    for coder in CODERS if np.shape(images)[-1] in (1, 3) else ():
        values[f"input_complexity_{coder}_nats"] = input_complexity(log_prob, images, num_values, coder)
    if mean_bound_nats is not None:
        values["typicality_nats"] = typicality(values["bound_nats"], mean_bound_nats)
    return values
