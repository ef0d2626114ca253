"""The model behind the page: a SavedModel, weights of the package, or a served model, asked for what the tabs show.

Legend: B batch, H height, W width, C channels, D dimensions of a latent, L levels.
"""

import collections
import contextlib
import dataclasses
import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pixelvae_tf.export import client, local
from pixelvae_tf.export.batches import predict_in_batches
from pixelvae_tf.export.explore import origins
from pixelvae_tf.models.config import COMPLETION_ROUNDS

# Images a call: small enough that a grid appears in parts, and that a newer choice need not wait long.
BATCH = 16
# That a tab shows.
MOST_IMAGES = 64
# Samples that the KL of units is an average over.
NUM_MEASURED = 32
# Images that are kept, so that a click on one costs nothing.
NUM_KEPT = 512
LABEL = "label"


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the page has to know of a model before it asks it anything.

    Attributes:
      image_shape: (H, W, C).
      num_values: that a channel can take.
      latent_shape: of z1, (D,) or (h, w, D); () for a model without latents.
      num_levels: L.
      num_classes: 0 for none; None where there are some, and the server does not tell how many.
      classes: their names, where they have names.
      max_batch: the largest that it takes.
      rounds: of completion where nobody chooses; None where nobody can.
    """

    image_shape: tuple[int, int, int]
    num_values: int
    latent_shape: tuple[int, ...]
    num_levels: int
    num_classes: int | None = 0
    classes: tuple[str, ...] = ()
    max_batch: int = BATCH
    rounds: int | None = None

    @property
    def seed_names(self) -> list[str]:
        """Of the inputs of `sample_by_level`, in the order of `Drawn.seeds`."""
        return [*(f"seed_z{level}" for level in range(self.num_levels, 0, -1)), "seed_pixels"]

    @property
    def completion(self) -> str:
        """The signature that completes, in chosen rounds where it can."""
        return "complete" if self.rounds is None else "complete_in_rounds"

    def parse(self, text: str) -> origins.Origin:
        """`origins.parse` for images of this model."""
        return origins.parse(text, self.num_levels + 1, math.prod(self.image_shape))


def facts_of_local(model: local.Local) -> Facts:
    """Of a model of this machine."""
    config = model.config.model
    height, width, channels = config.image_shape
    return Facts(
        (height, width, channels),
        config.num_values,
        tuple(config.levels[0].shape) if config.levels else (),
        len(config.levels),
        config.num_classes,
        tuple(model.classes),
        model.max_batch,
        model.completion_rounds,
    )


def facts_of_server(server: client.Model) -> Facts:
    """Of a served model, by its signatures and what it refuses.

    Raises:
      ServerError: if they are not those of an export.
    """
    sample, shape, levels, rounds = server.signature("sample"), (), 0, None
    with contextlib.suppress(client.ServerError):  # a model without latents has none of them
        shape = server.signature("decode").inputs["z1"].shape[1:]
        levels = sum(name.startswith("seed_z") for name in server.signature("sample_by_level").inputs)
        server.signature("complete_in_rounds")  # nor has an export of an earlier version this one
        rounds = COMPLETION_ROUNDS
    number = None if LABEL in sample.inputs else 0
    try:
        _, height, width, channels = sample.outputs["images"].shape
    except (KeyError, ValueError) as error:
        raise client.ServerError(
            f"model must be one that pixelvae-export wrote. Received: one whose `sample` gives {list(sample.outputs)}"
        ) from error
    num_values, max_batch = server.limits(BATCH)
    return Facts(
        (height, width, channels),
        num_values,
        shape,
        levels,
        number,
        max_batch=max_batch,
        rounds=rounds,
    )


class Noise(NamedTuple):
    """What images are drawn with.

    Attributes:
      seed: of the first; the next ones count on where there are several.
      temperature: of all.
    """

    seed: int
    temperature: float


class Image(NamedTuple):
    """An image with what it was made from.

    Attributes:
      origin: see `origins`.
      pixels: values uint8 [H, W, C].
      z1: float32, what `decode` makes it from: a sample's own latents, the posterior's mean of a given one; empty for a
        model without latents.
    """

    origin: origins.Origin
    pixels: np.ndarray
    z1: np.ndarray


class Units(NamedTuple):
    """The units of z1, measured on samples; all float [*latent_shape].

    Attributes:
      mean, stddev: of the prior. Exactly 0 and 1 where z1 is the top level, else over samples.
      nats: KL divergence of the posteriors from a Gaussian of that mean and deviation, the mean over samples.
    """

    mean: np.ndarray
    stddev: np.ndarray
    nats: np.ndarray


class ExploredModel:
    """Calls of a model that several threads may make.

    Args:
      model: what is called.
      facts: of it.
      name: what the page calls it.
      code: a module of pixelvae_tf.export, and the expression of Python that makes `model` with it.
      card: Markdown, or empty.
    """

    def __init__(self, model: client.Model, facts: Facts, name: str, code: tuple[str, str], card: str = ""):
        self.model, self.facts, self.name, self.code, self.card = model, facts, name, code, card
        self._first_call = threading.Lock()
        self._called: set[str] = set()
        self._kept: collections.OrderedDict[origins.Origin, Image] = collections.OrderedDict()
        self._units: Units | None = None

    def predict(self, name: str, inputs: client.Arrays) -> client.Arrays:
        """Calls a signature, in batches; see `client.Model.predict`. A first call, which may trace, is alone."""
        with contextlib.nullcontext() if name in self._called else self._first_call:
            outputs = predict_in_batches(self.model, name, inputs, min(BATCH, self.facts.max_batch))
            self._called.add(name)
        return outputs

    def noise(self, seeds: Sequence[int], temperature: float, label: int | None) -> client.Arrays:
        """What a signature that draws takes beside its own inputs: one temperature and class for all seeds."""
        number = len(seeds)
        inputs = {"seed": np.array(seeds, np.int64), "temperature": np.full(number, temperature, np.float32)}
        return inputs | self.labels([label] * number)

    def labels(self, labels: Sequence[int | None]) -> client.Arrays:
        """The input of classes, for a model that has them; what nobody chose is class 0."""
        return {} if self.facts.num_classes == 0 else {LABEL: np.array([label or 0 for label in labels], np.int64)}

    def draw(self, drawn: Sequence[origins.Drawn]) -> list[Image]:
        """Samples."""
        new = [origin for origin in dict.fromkeys(drawn) if origin not in self._kept]
        # A signature has one input of seeds, or one a level.
        for by_level in (False, True):
            if some := [origin for origin in new if (len(set(origin.seeds)) > 1) == by_level]:
                self._draw("sample_by_level" if by_level else "sample", some)
        return [self._kept.get(origin) or self.draw([origin])[0] for origin in drawn]

    def _draw(self, name: str, drawn: list[origins.Drawn]) -> None:
        inputs = {"temperature": np.array([origin.temperature for origin in drawn], np.float32)}
        inputs |= self.labels([origin.label for origin in drawn])
        names = ["seed"] if name == "sample" else self.facts.seed_names
        columns = [[origin.seed] if name == "sample" else origin.seeds for origin in drawn]
        inputs |= {
            key: np.array(column, np.int64) for key, column in zip(names, zip(*columns, strict=True), strict=True)
        }
        outputs = self.predict(name, inputs)
        if self.facts.num_levels and "z1" not in outputs:
            raise client.ServerError(
                "the signature sample must give z1, as exports of this version do: export it again"
            )
        latents = outputs.get("z1", np.zeros((len(drawn), 0), np.float32))
        for origin, pixels, z1 in zip(drawn, outputs["images"], latents, strict=True):
            self._keep(Image(origin, pixels, z1))

    def _keep(self, image: Image) -> Image:
        self._kept[image.origin] = image
        while len(self._kept) > NUM_KEPT:
            self._kept.popitem(last=False)
        return image

    def image(self, origin: origins.Origin) -> Image:
        """The image of an origin."""
        if isinstance(origin, origins.Drawn):
            return self.draw([origin])[0]
        if kept := self._kept.get(origin):  # at once: another thread may remove it
            return kept
        pixels = np.frombuffer(origin.content, np.uint8).reshape(self.facts.image_shape)
        z1 = self.encode([pixels])[0] if self.facts.num_levels else np.zeros(0, np.float32)
        return self._keep(Image(origin, pixels, z1))

    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The posterior means of z1, [B, *latent_shape]."""
        return self.predict("encode", {"images": np.stack(images)})["z1_mean"]

    def decode(self, z1: np.ndarray, seeds: Sequence[int], temperature: float, label: int | None) -> np.ndarray:
        """Images uint8 [B, H, W, C] of latents [B, *latent_shape], or of one [*latent_shape] with each seed."""
        z1 = np.broadcast_to(z1, (len(seeds), *self.facts.latent_shape))
        return self.predict("decode", {"z1": z1, **self.noise(seeds, temperature, label)})["images"]

    def units(self) -> Units:
        """The units of z1; see `Units`."""
        if self._units is None:
            samples = self.draw([origins.Drawn((seed,) * (self.facts.num_levels + 1)) for seed in range(NUM_MEASURED)])
            posterior = self.predict("encode", {"images": np.stack([image.pixels for image in samples])})
            mean, stddev = np.zeros(self.facts.latent_shape), np.ones(self.facts.latent_shape)
            if self.facts.num_levels > 1:
                drawn = np.stack([image.z1 for image in samples])
                mean, stddev = (
                    drawn.mean(axis=0, dtype=np.float64),
                    np.maximum(drawn.std(axis=0, dtype=np.float64), 1e-3),
                )
            nats = kl_nats(posterior["z1_mean"], posterior["z1_stddev"], mean, stddev).mean(axis=0)
            self._units = Units(mean, stddev, nats)
        return self._units


def kl_nats(mean: np.ndarray, stddev: np.ndarray, prior_mean: np.ndarray, prior_stddev: np.ndarray) -> np.ndarray:
    """KL divergence of Gaussians, unit by unit.

    Args:
      mean, stddev: of the first, [..., *latent_shape].
      prior_mean, prior_stddev: of the second, [*latent_shape].

    Returns:
      Nats, [..., *latent_shape].
    """
    ratio = np.asarray(stddev, np.float64) / prior_stddev
    return (((mean - prior_mean) / prior_stddev) ** 2 + ratio**2 - 1) / 2 - np.log(ratio)
