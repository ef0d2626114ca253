"""The requests that pixelvae-model makes to a model on this machine or on a server.

Legend: N images, H height, W width, C channels.
"""

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from pixelvae_tf.export import client
from pixelvae_tf.export.batches import predict_in_batches


def check_vary(vary: str | None, num_levels: int) -> None:
    """Raises a ValueError if a model of so many levels has nothing that would vary along a row."""
    if vary is not None and num_levels < {"top": 1, "middle": 2, "pixels": 1}[vary]:
        raise ValueError(
            "vary must be left out for a model without latents, and be top or pixels for one of a "
            f"single level. Received: {vary} for {num_levels} levels"
        )


@dataclasses.dataclass(frozen=True)
class Caller:
    """A model, and what all requests to it share.

    Attributes:
      model: what is called.
      num_values: how many values a channel of its images can take.
      batch_size: images in a call.
      num_classes: None where a server alone knows.
      classes: the names of classes, where they have names.
      seed: the first image's; each next image has the next integer.
      temperature: of all images.
      label: the class of all images, by its number or name; None if it is left out.
    """

    model: client.Model
    num_values: int
    batch_size: int
    num_classes: int | None
    classes: Sequence[str]
    seed: int
    temperature: float
    label: str | None

    def sample(self, number: int, vary: str | None) -> tuple[np.ndarray, int | None]:
        """Draws images.

        Args:
          number: how many.
          vary: what varies along a row, "top", "middle" or "pixels"; None for everything.

        Returns:
          The images [N, H, W, C], and the columns of their grid if they matter.
        """
        columns, index = None, np.arange(number)
        group, name = index, "sample_by_level" if vary else "sample"
        inputs = {"temperature": np.full(number, self.temperature)}
        taken = self.model.signature(name).inputs
        if vary is None:
            inputs["seed"] = self.seed + index
        else:
            num_levels = sum(name.startswith("seed_z") for name in taken)
            check_vary(vary, num_levels)
            columns = math.ceil(math.sqrt(number))
            group = index // columns
            held = self.seed + group
            # Seeds beyond all held ones; the first image of a row has the row's own seed.
            varied = np.where(index % columns == 0, held, self.seed + number + index)
            levels = {"top": [num_levels], "middle": range(1, num_levels), "pixels": []}[vary]
            inputs["seed_pixels"] = varied if vary == "pixels" else held
            inputs |= {f"seed_z{level}": varied if level in levels else held for level in range(1, num_levels + 1)}
        if "label" in taken and self.label is None and self.num_classes:
            inputs["label"] = group % self.num_classes
            # If nothing is held, one column per class.
            columns = columns or min(self.num_classes, number)
        else:
            inputs |= self._labels(name, number)
        return self._images(name, inputs), columns

    def encode(self, images: np.ndarray) -> client.Arrays:
        """The latents of images [N, H, W, C], by name."""
        return self._predict("encode", {"images": images})

    def log_prob(self, images: np.ndarray) -> client.Arrays:
        """The bounds of images [N, H, W, C] in nats, by name, without their maps."""
        number = len(images)
        seeds = self.seed + np.arange(number)
        outputs = self._predict("log_prob", {"images": images, "seed": seeds, **self._labels("log_prob", number)})
        return {name: values for name, values in outputs.items() if values.ndim < 3}

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Images decoded from the posterior mean of the latents of images: [N, H, W, C]."""
        latents = _required(self.encode(images), "z1_mean")
        return self._images("decode", {"z1": latents, **self._noise("decode", len(images))})

    def complete(self, images: np.ndarray, mask: np.ndarray, each: int, rounds: int | None = None) -> np.ndarray:
        """Completions of images.

        Args:
          images: [N, H, W, C].
          mask: [H, W, 1], 1 where they are kept.
          each: how many of each image.
          rounds: of encoding and filling in; those of the model by default.

        Returns:
          [N, each, H, W, C].
        """
        repeated, name = images.repeat(each, axis=0), "complete" if rounds is None else "complete_in_rounds"
        masks = mask[None].repeat(len(repeated), axis=0)
        inputs = {"images": repeated, "mask": masks, **self._noise(name, len(repeated))}
        if rounds is not None:
            inputs["rounds"] = np.full(len(repeated), rounds)
        return self._images(name, inputs).reshape(len(images), each, *images.shape[1:])

    def label_number(self) -> int | None:
        """As the function, of this model."""
        return label_number(self.label, self.classes, self.num_classes)

    def read_images(self, paths: Sequence[str], name: str) -> np.ndarray:
        """Picture files as pixel values of the model, uint8 [N, H, W, C]; for the signature of a name."""
        from pixelvae_tf import pictures

        shape = self.model.image_shape(name)
        images = [read_picture(path, shape, "images") for path in paths]
        return pictures.to_pixel_values(np.stack(images), self.num_values)

    def _labels(self, name: str, number: int) -> dict[str, np.ndarray]:
        """The class of all images, for a signature that takes one."""
        has_classes = "label" in self.model.signature(name).inputs
        if has_classes != (self.label is not None):
            expected = "given: this model has classes" if has_classes else "left out: this model has no classes"
            raise ValueError(f"label must be {expected}. Received: {self.label}")
        return {"label": np.full(number, self.label_number())} if has_classes else {}

    def _noise(self, name: str, number: int) -> dict[str, np.ndarray]:
        """The inputs of a signature that samples, [number] each."""
        inputs = {"seed": self.seed + np.arange(number), "temperature": np.full(number, self.temperature)}
        return inputs | self._labels(name, number)

    def _images(self, name: str, inputs: client.Arrays) -> np.ndarray:
        images = _required(self._predict(name, inputs), "images")
        if images.max() >= self.num_values:
            raise ValueError(
                f"num_values must be the model's. Received: {self.num_values}, and the value {images.max()}"
            )
        return images

    def _predict(self, name: str, inputs: client.Arrays) -> client.Arrays:
        """The outputs of all rows, computed batch by batch."""
        from pixelvae_tf import progress

        number = len(next(iter(inputs.values())))
        with progress.announced(f"{name}: {number} image{'s' if number > 1 else ''}") as count:
            try:
                return predict_in_batches(self.model, name, inputs, self.batch_size, count)
            except client.ServerError as error:
                # Only the server knows the limit; its message names it.
                if "the max_batch of the export" not in str(error):
                    raise
                raise ValueError(
                    f"batch_size must be what the model takes. Received: {self.batch_size}: {error}"
                ) from error


def _required(outputs: client.Arrays, name: str) -> np.ndarray:
    if name not in outputs:
        raise client.ServerError(
            f"model must be one that pixelvae-export wrote, with {name}. Received: {', '.join(sorted(outputs))}"
        )
    return outputs[name]


def read_mask(mask: str, height: int, width: int) -> np.ndarray:
    """A mask, uint8 [H, W, 1], 1 where an image is kept: the name of a half, or the light part of a picture file."""
    from pixelvae_tf import pictures

    halves = pictures.halves(height, width)
    if mask in halves:
        return halves[mask]
    if not pathlib.Path(mask).is_file():
        raise ValueError(f"mask must be one of {', '.join(halves)}, or a picture file. Received: {mask!r}")
    return (read_picture(mask, (height, width, 1), "mask") >= 128).astype(np.uint8)


def label_number(label: str | None, classes: Sequence[str], num_classes: int | None) -> int | None:
    """The number of a class.

    Args:
      label: its name; or its number, unless that is the name of one; or None.
      classes: the names that are known.
      num_classes: how many there are; None where that is not known, as of a server.

    Raises:
      ValueError: if the model has no such class.
    """
    if label is None:
        return None
    if label in classes:
        return list(classes).index(label)
    number = int(label) if label.removeprefix("-").isdecimal() and len(label) < 20 else None
    if num_classes is None and number is not None:
        return number  # the server refuses it, if it must
    if num_classes is None:
        raise ValueError(f"label must be a number: a server does not tell the names of classes. Received: {label}")
    if number is None or not 0 <= number < num_classes:
        names = f" or one of {', '.join(map(ascii, classes))}" if classes else ""
        expected = f"in 0..{num_classes - 1}{names}" if num_classes != 0 else "left out: this model has no classes"
        raise ValueError(f"label must be {expected}. Received: {label}")
    return number


def read_picture(path: str, shape: tuple[int, int, int], name: str) -> np.ndarray:
    """A picture as training reads it, 0..255 [H, W, C].

    Args:
      path: its file.
      shape: (H, W, C).
      name: what the messages call it.

    Raises:
      ValueError: if it cannot be read, or is to be of an image that is no square.
    """
    from pixelvae_tf.data import decoding

    side, channels = decoding.readable(shape, name)
    try:
        read = decoding.read(".", path, side, channels)
    except OSError as error:
        raise ValueError(f"{name} must be picture files. Received: {path!r}: {error.__cause__ or error}") from error
    if read.pixels is None:
        raise ValueError(f"{name} must be picture files. Received: {path!r}, which cannot be read: {read.note}")
    return read.pixels
