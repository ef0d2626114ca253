"""Anomaly scores of a folder's images by a SavedModel, as a table and as pictures of where they are unlikely.

    OUTPUT/scores.csv      a line an image: its file, its scores and, of a reference, their percentiles in it
    OUTPUT/maps.png        the oddest and the most ordinary images with their maps
    OUTPUT/scores.json     what they come from; written last
    OUTPUT/.unfinished/    what a run that was interrupted goes on from

Legend: B batch, H height, W width, C channels.
"""

import csv
import dataclasses
import io
import json
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pixelvae_tf import heat_maps, pictures, scores
from pixelvae_tf.config import ModelConfig
from pixelvae_tf.data import folder as folder_lib
from pixelvae_tf.data import prepare
from pixelvae_tf.data.shards import IDENTITY, UNFINISHED, crc32_of, read_json
from pixelvae_tf.data.walk import Walk
from pixelvae_tf.export.local import SavedModel
from pixelvae_tf.export.page import CARD
from pixelvae_tf.files import local_path, require_outside, write_atomically

TABLE, MAPS, SUMMARY = "scores.csv", "maps.png", "scores.json"
# Of how images are scored: what another version has begun, this one cannot go on with.
VERSION = 1
SCORES = ("bound", "kl", "likelihood_ratio", *(f"input_complexity_{coder}" for coder in scores.CODERS), "typicality")


class Scorer:
    """A model that measures images, and a background model beside it.

    Args:
      model: the model.
      background: of the same images, trained with data.mutation; None for no likelihood ratio.
      label: the class of all images, for a class-conditional model.

    Raises:
      ValueError: if the background model is of other images, the exports are of an earlier version, or the label does
        not fit; or if the images of the models are no squares.
    """

    def __init__(self, model: SavedModel, background: SavedModel | None = None, label: int | None = None):
        self.model, self.background, self.label = model, background, label
        config = model.config.model
        height, width, _ = config.image_shape
        if height != width:
            raise ValueError(
                f"saved_model must be of square images, to which files are cropped. Received: {height}x{width}"
            )
        if (label is not None) != bool(config.num_classes) or not 0 <= (label or 0) < max(config.num_classes, 1):
            expected = f"in 0..{config.num_classes - 1}" if config.num_classes else "left out: the model has no classes"
            raise ValueError(f"label must be {expected}. Received: {label}")
        if background is not None:
            _check_background(model, background)
        for name, each in (("saved_model", model), ("background", background)):
            if each is not None and "pixel_nats" not in each.signature("log_prob").outputs:
                raise ValueError(
                    f"{name} must have pixel_nats in its signature log_prob: export it again. "
                    f"Received: {str(each.path)!r}"
                )
        self.batch_size = min(each.max_batch for each in (model, background) if each is not None)

    @property
    def num_values(self) -> int:
        """How many values a channel can take."""
        return self.model.config.model.num_values

    def measure(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """What the models say of images; each image's noise is its own.

        Args:
          images: uint8 [B, H, W, C], at most `batch_size`.

        Returns:
          The outputs of log_prob; with a background model its own too, as background_log_prob, ...

        Raises:
          ValueError: if they are not finite.
        """
        from pixelvae_tf import noise

        inputs = {"images": images, "seed": noise.image_seeds(images).numpy()}
        if self.label is not None:
            inputs["label"] = np.full(len(images), self.label)
        measured = self.model.predict("log_prob", inputs)
        if self.background is not None:
            of_background = self.background.predict("log_prob", inputs)
            measured |= {f"background_{name}": values for name, values in of_background.items()}
        for name, values in measured.items():
            if not np.isfinite(values).all():
                which = "background" if name.startswith("background_") else "saved_model"
                raise ValueError(
                    f"{which} must give finite numbers: its weights diverged, or are damaged. Received: {name} "
                    f"with {np.sum(~np.isfinite(values))} that are not"
                )
        return measured

    def table(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The scores of images, uint8 [B, H, W, C], that need no reference: `scores.table`."""
        measured = self.measure(images)
        return scores.table(
            measured["log_prob"],
            measured.get("kl_nats"),
            images,
            self.num_values,
            measured.get("background_log_prob"),
        )

    def maps(self, images: np.ndarray) -> list[np.ndarray]:
        """Nats [B, H, W] of each location; with a background model also by how much it finds it likelier."""
        measured = self.measure(images)
        found = [measured["pixel_nats"]]
        if self.background is not None:
            found.append(measured["pixel_nats"] - measured["background_pixel_nats"])
        return found

    def read(self, folder: pathlib.Path, path: str) -> folder_lib.Read:
        """An image file as pixel values of the model; see `scoring.read`."""
        return read(folder, path, self.model.config.model)


def read(folder: str | pathlib.Path, path: str, config: ModelConfig) -> folder_lib.Read:
    """An image file as pixel values of a model: its largest centred square, averaged over areas to the model's size."""
    side, _, channels = config.image_shape
    found = folder_lib.read(folder, path, side, channels)
    if found.pixels is None:
        return found
    return dataclasses.replace(found, pixels=pictures.to_pixel_values(found.pixels, config.num_values))


def _check_background(model: SavedModel, background: SavedModel) -> None:
    """Raises a ValueError that names the first in which the images of two models differ."""
    for part, names in (("model", ("image_shape", "num_values", "num_classes")), ("data", ("name", "folder"))):
        there, here = (getattr(each.config, part) for each in (background, model))
        for name in (*names, *(("exclude_labels",) if part == "data" else ())):
            different = [getattr(config, name) for config in (there, here)]
            if different[0] != different[1]:
                raise ValueError(
                    f"background must be a model of the same images as saved_model, trained with data.mutation. "
                    f"Received: {part}.{name} {different[0]!r} there and {different[1]!r} here"
                )


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for; a run that goes on must have the same.

    Attributes:
      images: the folder to score.
      reference: a folder of images of the model's kind, or None.
      rank_by: which of SCORES says what is oddest; None for the likelihood ratio where there is one, else the bound.
      num_shown: images of each end in the picture.
    """

    images: pathlib.Path
    reference: pathlib.Path | None = None
    rank_by: str | None = None
    num_shown: int = 8


@dataclasses.dataclass
class _Folder:
    """A folder's images as they were measured.

    Attributes:
      files: of those that could be read.
      columns: their scores, by name.
      unreadable: why the others could not.
    """

    files: list[str]
    columns: dict[str, np.ndarray]
    unreadable: dict[str, str]


def score(
    scorer: Scorer,
    request: Request,
    output: str | pathlib.Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Scores the images of a folder, or goes on with that.

    Args:
      scorer: the models.
      request: which images.
      output: the directory to write.
      progress: called with (images done, images in all).

    Returns:
      What `scores.json` holds.

    Raises:
      ValueError: if a folder has no images or too few, the output cannot be written, lies in one of them or holds
        something else, another run is writing it, or the numbers are not finite.
      MachineError: if an image cannot be read for a reason that is not its own; the same call goes on from there.
    """
    output = local_path(output, "output")
    folders = {"images": local_path(request.images, "images")}
    if request.reference is not None:
        # First: what is wrong with it is found early.
        folders = {"reference": local_path(request.reference, "reference"), **folders}
    paths = {}
    for name, folder in folders.items():
        paths[name] = list_files(folder, name)
        require_outside(output, folder, "output", name)
    if len(paths.get("reference", paths["images"])) < scores.MIN_REFERENCE and request.reference is not None:
        _refuse_reference(len(paths["reference"]))
    names = {"kl": bool(scorer.model.config.model.levels), "likelihood_ratio": scorer.background is not None}
    names["typicality"] = request.reference is not None
    rank_by = request.rank_by or ("likelihood_ratio" if scorer.background is not None else "bound")
    if rank_by not in SCORES or not names.get(rank_by, True):
        there = [name for name in SCORES if names.get(name, True)]
        raise ValueError(f"rank_by must be one of the scores there are, {', '.join(there)}. Received: {rank_by!r}")
    identity = {
        "version": VERSION,
        "label": scorer.label,
        "rank_by": rank_by,
        "num_shown": request.num_shown,
        **{
            name: None if model is None else crc32_of(model.path / CARD)
            for name, model in (("saved_model", scorer.model), ("background", scorer.background))
        },
        "files": {name: prepare.fingerprint(folders[name], {name: paths[name]}) for name in sorted(folders)},
    }
    prepare.require_same(output, SUMMARY, identity, "scored by the same models")
    summary = read_json(output / SUMMARY)
    if summary is not None and (output / TABLE).exists() and (output / MAPS).exists():
        return summary
    with prepare.writing(output, "pixelvae-score"):
        write_atomically(output / UNFINISHED / IDENTITY, json.dumps(identity))
        return _score(scorer, folders, paths, output, identity, progress)


def list_files(folder: pathlib.Path, name: str) -> list[str]:
    """The image files of a folder and its subfolders, sorted.

    Args:
      folder: searched recursively.
      name: what the messages call it.

    Raises:
      ValueError: if there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{name} must be a directory of images. Received: {str(folder)!r}")
    walk = Walk(folder)
    walk.say_what_is_passed_over()
    if not walk.paths:
        known = ", ".join(folder_lib.EXTENSIONS)
        raise ValueError(f"{name} must hold images ({known}). Received: {str(folder)!r}, with none")
    return sorted(walk.paths)


def _refuse_reference(number: int) -> None:
    raise ValueError(
        f"reference must hold at least {scores.MIN_REFERENCE} images that can be read: fewer say nothing of a mean or "
        f"a percentile. Received: {number}"
    )


def _score(scorer: Scorer, folders, paths, output: pathlib.Path, identity: dict, progress) -> dict:
    total, done, measured = sum(map(len, paths.values())), 0, {}
    for name, folder in folders.items():

        def show(number: int, done: int = done) -> None:
            progress(done + number, total)

        measured[name] = _measure_folder(
            scorer,
            folder,
            paths[name],
            output / UNFINISHED / name,
            show,
        )
        done += len(paths[name])
        if name == "reference" and len(measured[name].files) < scores.MIN_REFERENCE:
            _refuse_reference(len(measured[name].files))
    images, reference = measured["images"], measured.get("reference")
    if not images.files:
        path, reason = next(iter(images.unreadable.items()))
        raise ValueError(f"images must hold an image that can be read. Received: {path!a}: {reason}, and no other")
    summary = {"num_images": len(images.files), "unreadable": images.unreadable}
    if reference is not None:
        mean = float(reference.columns["bound_nats"].mean())
        for each in (images, reference):
            each.columns["typicality_nats"] = scores.typicality(each.columns["bound_nats"], mean)
        summary |= {"num_reference": len(reference.files), "mean_bound_nats": mean}
        summary["unreadable"] = {**images.unreadable, **reference.unreadable}
    write_atomically(output / TABLE, _as_csv(images, reference))
    order = np.argsort(-images.columns[f"{identity['rank_by']}_nats"], kind="stable")
    pictures.write_png(output / MAPS, _draw(scorer, folders["images"], images, order, identity))
    summary |= {"rank_by": identity["rank_by"], "oddest": [images.files[place] for place in order[:10]]}
    write_atomically(output / SUMMARY, json.dumps({**summary, "identity": identity}, indent=2) + "\n")
    shutil.rmtree(output / UNFINISHED)
    return summary


def _measure_folder(
    scorer: Scorer, folder: pathlib.Path, paths: Sequence[str], records: pathlib.Path, progress: Callable[[int], None]
) -> _Folder:
    """Measures all images, a record on disk a batch; those that are there already are taken from there."""
    records.mkdir(exist_ok=True)
    parts, size = [], scorer.batch_size
    for start in range(0, len(paths), size):
        record, chunk = records / f"{start:09d}.json", paths[start : start + size]
        part: Any = read_json(record)
        if part is None:
            reads = list(folder_lib.in_parallel(lambda path: scorer.read(folder, path), chunk))
            good = [read for read in reads if read.pixels is not None]
            columns = scorer.table(np.stack([read.pixels for read in good])) if good else {}
            part = {
                "files": [read.path for read in good],
                "columns": {name: values.tolist() for name, values in columns.items()},
                "unreadable": {read.path: read.note for read in reads if read.pixels is None},
            }
            write_atomically(record, json.dumps(part))
        parts.append(part)
        progress(start + len(chunk))
    names = next((list(part["columns"]) for part in parts if part["files"]), [])
    return _Folder(
        [file for part in parts for file in part["files"]],
        {name: np.array([value for part in parts for value in part["columns"].get(name, ())]) for name in names},
        {file: reason for part in parts for file, reason in part["unreadable"].items()},
    )


def _as_csv(images: _Folder, reference: _Folder | None) -> str:
    columns = dict(images.columns)
    if reference is not None:
        for name, values in images.columns.items():
            columns[name.replace("_nats", "_percentile")] = scores.percentiles(values, reference.columns[name])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", *columns])
    for row, file in enumerate(images.files):
        # Names that are no UTF-8 are written as they can be.
        shown = file.encode(errors="backslashreplace").decode()
        writer.writerow([shown, *(f"{values[row]:.7g}" for values in columns.values())])
    return text.getvalue()


def _draw(scorer: Scorer, folder: pathlib.Path, images: _Folder, order: np.ndarray, identity: dict) -> np.ndarray:
    rank_by, number = identity["rank_by"], min(identity["num_shown"], scorer.batch_size)
    rows = []
    for title, places in (("oddest", order[:number]), ("most ordinary", order[::-1][:number])):
        reads = [scorer.read(folder, images.files[place]) for place in places]
        shown = np.stack([read.pixels for read in reads if read.pixels is not None])
        values = images.columns[f"{rank_by}_nats"][places]
        captions = [f"{value:.1f} {images.files[place]}" for value, place in zip(values, places, strict=True)]
        maps = "nats of each pixel" + (", and less those of the background" if scorer.background else "")
        rows.append(heat_maps.Row(f"{title} by {rank_by}: image, {maps}", captions, shown, scorer.maps(shown)))
    return heat_maps.draw(rows, scorer.num_values)
