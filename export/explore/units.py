"""The units of z1, moved: in standard deviations of the prior, as sliders move them and as links write them."""

from typing import NamedTuple

import numpy as np

from pixelvae_tf.export.explore.explored_model import ExploredModel, Image, Noise

# Sliders, the units of highest KL first; those that tell nothing of an image have none.
MOST_SLIDERS, ACTIVE_NATS = 16, 0.02
REACH = 4.0  # of a slider, in standard deviations of the prior
# From a unit's place in z1 as one row to where it was moved.
Moves = dict[int, float]


class MovedImage(NamedTuple):
    """An image with units of its latents moved.

    Attributes:
      image: as it was.
      moves: of its units.
      noise: of the pixels.
    """

    image: Image
    moves: Moves
    noise: Noise

    @property
    def label(self) -> int | None:
        """The image's class."""
        return self.image.origin.label

    def z1(self, model: ExploredModel, further: Moves | None = None) -> np.ndarray:
        """Its latents, float32 [*latent_shape], with these moves and further ones."""
        z1, units = np.array(self.image.z1, np.float32), model.units()
        for unit, value in (self.moves | (further or {})).items():
            z1.flat[unit] = units.mean.flat[unit] + value * units.stddev.flat[unit]
        return z1


def read_moves(text: str, size: int) -> Moves:
    """Moves of a z1 of so many units from text: "3_1.5*17_-2".

    Raises:
      ValueError: for any other text.
    """
    moves = {}
    for part in text.split("*") if text else []:
        unit, _, value = part.partition("_")
        moves[int(unit)] = float(value)
    if not all(0 <= unit < size and abs(value) <= REACH for unit, value in moves.items()):
        raise ValueError(f"moves must be of units 0..{size - 1}, by at most {REACH}. Received: {text[:80]!r}")
    return moves


def write_moves(moves: Moves) -> str:
    """The inverse."""
    return "*".join(f"{unit}_{value:g}" for unit, value in sorted(moves.items()))


def ranked(model: ExploredModel, place: int) -> list[int]:
    """The units of a location, of z1 as one row, that tell most of an image, first the one that tells most."""
    nats = model.units().nats.reshape(-1, model.facts.latent_shape[-1])[place]
    active = [unit for unit in np.argsort(-nats, kind="stable") if nats[unit] >= ACTIVE_NATS]
    first = int(np.argmax(nats))
    return [place * len(nats) + int(unit) for unit in (active or [first])[:MOST_SLIDERS]]


def unit_name(model: ExploredModel, unit: int) -> str:
    """As "z1[3], 1.8 nats"."""
    return f"z1[{place_of(model, unit)}], {model.units().nats.flat[unit]:.1f} nats"


def place_of(model: ExploredModel, unit: int) -> str:
    """A unit's place in z1 as an index."""
    return ", ".join(map(str, np.unravel_index(unit, model.facts.latent_shape)))


def position(model: ExploredModel, image: Image, unit: int) -> float:
    """Where a slider stands for an image, in standard deviations of the prior."""
    units = model.units()
    place = (image.z1.flat[unit] - units.mean.flat[unit]) / units.stddev.flat[unit]
    return round(float(np.clip(place, -REACH, REACH)), 2)


def with_sliders(model: ExploredModel, moved: MovedImage, units: list[int], values) -> Moves:
    """Moves with those of the sliders, which are of some units; a slider that stands where it stood moves nothing."""
    of_sliders = {unit: float(value) for unit, value in zip(units, values, strict=False)}
    return {
        unit: value
        for unit, value in (moved.moves | of_sliders).items()
        if unit not in of_sliders or value != position(model, moved.image, unit)
    }
