"""Where an image comes from, as text: all that is needed to make it again, and short enough for a link.

7_0.8            the sample of seed 7 at temperature 0.8
7.7.9_0.8*3      the noise of z2, of z1 and of the pixels by a seed each; class 3
*eJxjYGBg...*3   pixel values that were given, deflated, in base 64 for links; class 3
"""

import base64
import dataclasses
import re
import zlib

import numpy as np

# JavaScript's numbers hold integers of this size exactly.
MAX_SEED = 2**53 - 1
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.1, 2.0


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A sample.

    Attributes:
      seeds: of the noise of each level of latents, the top first, and of the pixels.
      temperature: of all of them.
      label: its class, for a model with classes.
    """

    seeds: tuple[int, ...]
    temperature: float = 1.0
    label: int | None = None

    @property
    def seed(self) -> int:
        """That of the pixels."""
        return self.seeds[-1]

    def __str__(self) -> str:
        seeds = self.seeds if len(set(self.seeds)) > 1 else self.seeds[-1:]
        return f"{'.'.join(map(str, seeds))}_{self.temperature!r}{_class(self.label)}"

    @property
    def description(self) -> str:
        """For people."""
        of = f"seed {self.seed}" if len(set(self.seeds)) == 1 else f"seeds {', '.join(map(str, self.seeds))}"
        return f"sample of {of}, temperature {self.temperature:g}" + _of_class(self.label)


@dataclasses.dataclass(frozen=True)
class Given:
    """An image that was uploaded, completed, or made from latents that were moved.

    Attributes:
      content: its pixel values, uint8, row by row.
      label: its class, for a model with classes.
    """

    content: bytes
    label: int | None = None
    # What its reconstruction is drawn with.
    seed = 0
    temperature = 1.0

    @property
    def deflated(self) -> str:
        """The pixel values as text."""
        return base64.urlsafe_b64encode(zlib.compress(self.content, 9)).decode()

    def __str__(self) -> str:
        return f"*{self.deflated}{_class(self.label)}"

    @property
    def description(self) -> str:
        """For people."""
        return "image that was given" + _of_class(self.label)


Origin = Drawn | Given


def _class(label: int | None) -> str:
    return "" if label is None else f"*{label}"


def _of_class(label: int | None) -> str:
    return "" if label is None else f", class {label}"


def given(pixels: np.ndarray, label: int | None = None) -> Given:
    """The origin of pixel values, uint8 [H, W, C]."""
    return Given(np.ascontiguousarray(pixels, np.uint8).tobytes(), label)


def parse(text: str, num_seeds: int, num_bytes: int) -> Origin:
    """Reads what `str` wrote; it may have come by a link that anybody wrote.

    Args:
      text: of an origin.
      num_seeds: of a sample of the model: its levels of latents and the pixels.
      num_bytes: of its images.

    Raises:
      ValueError: for any other text.
    """
    number, label = r"-?\d{1,16}", r"(?:\*(\d{1,9}))?"
    if match := re.fullmatch(rf"({number}(?:\.{number})*)_(\d\.\d{{1,17}}){label}", text):
        seeds = tuple(map(int, match[1].split(".")))
        drawn = Drawn(seeds * num_seeds if len(seeds) == 1 else seeds, float(match[2]), _number(match[3]))
        in_range = LOWEST_TEMPERATURE <= drawn.temperature <= HIGHEST_TEMPERATURE
        if len(drawn.seeds) == num_seeds and all(abs(seed) <= MAX_SEED for seed in seeds) and in_range:
            return drawn
    elif match := re.fullmatch(rf"\*([\w=-]+?){label}", text, re.ASCII):
        try:
            # No more than an image: a few bytes can be deflated from gigabytes.
            content = zlib.decompressobj().decompress(base64.urlsafe_b64decode(match[1]), num_bytes + 1)
        except (ValueError, zlib.error):
            content = b""
        if len(content) == num_bytes:
            return Given(content, _number(match[2]))
    raise ValueError(f"image must be one that this page made a link of. Received: {text[:80]!r}")


def _number(digits: str | None) -> int | None:
    return None if digits is None else int(digits)
