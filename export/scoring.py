"""Anomaly scores of a folder's images by a SavedModel, as a table and as pictures of where they are unlikely.

OUTPUT/scores.csv      one line per image: its file, its scores and, of a reference, their percentiles in it
OUTPUT/maps.png        the oddest and the most ordinary images with their maps
OUTPUT/scores.json     what they come from; written last
OUTPUT/.unfinished/    what a run that was interrupted goes on from
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pixelvae_tf import heat_maps, pictures, scores
from pixelvae_tf.data import folder as folder_lib
from pixelvae_tf.data import resumable
from pixelvae_tf.data.resumable import crc32_of, read_json
from pixelvae_tf.data.walk import walk_images
from pixelvae_tf.export.scorer import Scorer
from pixelvae_tf.files import as_csv, local_path, require_outside, write_atomically
from pixelvae_tf.model_card import CARD

TABLE, MAPS, SUMMARY = "scores.csv", "maps.png", "scores.json"
# The version of how images are scored: a run cannot resume what another version began.
VERSION = 1
SCORES = ("bound", "kl", "likelihood_ratio", *(f"input_complexity_{coder}" for coder in scores.CODERS), "typicality")


@dataclasses.dataclass(frozen=True)
class Request:
    """What to score; a resumed run must have the same request.

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
    if "reference" in paths:
        _check_reference(len(paths["reference"]))
    models = {"saved_model": scorer.model, "background": scorer.background}
    identity = {
        "version": VERSION,
        "label": scorer.label,
        "rank_by": _ranking(scorer, request),
        "num_shown": request.num_shown,
        **{name: None if model is None else crc32_of(model.path / CARD) for name, model in models.items()},
        "files": {name: resumable.fingerprint(folders[name], {name: paths[name]}) for name in sorted(folders)},
    }
    summary = resumable.finished(output, (SUMMARY, TABLE, MAPS), identity, "scored by the same models")
    if summary is not None:
        return summary
    with resumable.writing(output, identity, "pixelvae-score") as records:
        return _score(scorer, folders, paths, records, identity, progress)


def _ranking(scorer: Scorer, request: Request) -> str:
    """The score that says what is oddest."""
    possible = {"kl": bool(scorer.model.config.model.levels), "likelihood_ratio": scorer.background is not None}
    possible["typicality"] = request.reference is not None
    rank_by = request.rank_by or ("likelihood_ratio" if scorer.background is not None else "bound")
    names = [name for name in SCORES if possible.get(name, True)]
    if rank_by not in names:
        raise ValueError(f"rank_by must be one of the scores there are, {', '.join(names)}. Received: {rank_by!r}")
    return rank_by


def list_files(folder: pathlib.Path, name: str) -> list[str]:
    """The image files of a folder and its subfolders, sorted.

    Args:
      folder: searched recursively.
      name: what the messages call it.

    Raises:
      ValueError: if there is no such folder, or no image in it.
    """
    return sorted(walk_images(folder, name).paths)


def _check_reference(number: int) -> None:
    if number < scores.MIN_REFERENCE:
        raise ValueError(
            f"reference must hold at least {scores.MIN_REFERENCE} images that can be read: fewer say nothing of a mean "
            f"or a percentile. Received: {number}"
        )


def _score(
    scorer: Scorer,
    folders: dict[str, pathlib.Path],
    paths: dict[str, list[str]],
    records: pathlib.Path,
    identity: dict[str, Any],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    total, done, measured = sum(map(len, paths.values())), 0, {}
    for name, folder in folders.items():

        def show(number: int, done: int = done) -> None:
            progress(done + number, total)

        measured[name] = _measure_folder(scorer, folder, paths[name], records / name, show)
        done += len(paths[name])
        if name == "reference":
            _check_reference(len(measured[name].files))
    images, reference, output = measured["images"], measured.get("reference"), records.parent
    if not images.files:
        path, reason = next(iter(images.unreadable.items()))
        raise ValueError(f"images must hold an image that can be read. Received: {path!a}: {reason}, and no other")
    summary: dict[str, Any] = {"num_images": len(images.files), "unreadable": images.unreadable}
    if reference is not None:
        mean = float(reference.columns["bound_nats"].mean())
        for each in (images, reference):
            each.columns["typicality_nats"] = scores.typicality(each.columns["bound_nats"], mean)
        summary |= {"num_reference": len(reference.files), "mean_bound_nats": mean}
        # Two folders may have files of one name.
        of_reference = {f"reference: {path}": reason for path, reason in reference.unreadable.items()}
        summary["unreadable"] = {**images.unreadable, **of_reference}
    write_atomically(output / TABLE, _as_csv(images, reference))
    order = np.argsort(-images.columns[f"{identity['rank_by']}_nats"], kind="stable")
    pictures.write_png(output / MAPS, _draw(scorer, folders["images"], images, order, identity))
    summary |= {"rank_by": identity["rank_by"], "oddest": [images.files[place] for place in order[:10]]}
    write_atomically(output / SUMMARY, json.dumps({**summary, "identity": identity}, indent=2) + "\n")
    return summary


def _measure_folder(
    scorer: Scorer, folder: pathlib.Path, paths: Sequence[str], records: pathlib.Path, progress: Callable[[int], None]
) -> _Folder:
    """Measures all images, a record on disk a batch; those that are there already are taken from there."""
    records.mkdir(exist_ok=True)
    parts: list[dict[str, Any]] = []
    for start in range(0, len(paths), scorer.batch_size):
        record, batch = records / f"{start:09d}.json", paths[start : start + scorer.batch_size]
        part = read_json(record)
        if part is None:
            reads = list(folder_lib.in_parallel(lambda path: scorer.read(folder, path), batch))
            pixels = [read.pixels for read in reads if read.pixels is not None]
            columns = scorer.table(np.stack(pixels)) if pixels else {}
            part = {
                "files": [read.path for read in reads if read.pixels is not None],
                "columns": {name: values.tolist() for name, values in columns.items()},
                "unreadable": {read.path: read.note for read in reads if read.pixels is None},
            }
            write_atomically(record, json.dumps(part))
        parts.append(part)
        progress(start + len(batch))
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
    # Names that are no UTF-8 are written as they can be.
    return as_csv({"file": [file.encode(errors="backslashreplace").decode() for file in images.files], **columns})


def _draw(scorer: Scorer, folder: pathlib.Path, images: _Folder, order: np.ndarray, identity: dict) -> np.ndarray:
    rank_by, number = identity["rank_by"], identity["num_shown"]
    rows = []
    for title, places in (("oddest", order[:number]), ("most ordinary", order[::-1][:number])):
        values = images.columns[f"{rank_by}_nats"]
        reads = {place: scorer.read(folder, images.files[place]).pixels for place in places}
        reads = {place: pixels for place, pixels in reads.items() if pixels is not None}  # else damaged meanwhile
        shown = np.stack(list(reads.values()))
        captions = [f"{values[place]:.1f} {images.files[place]}" for place in reads]
        maps = "nats of each pixel" + (", and less those of the background" if scorer.background else "")
        rows.append(heat_maps.Row(f"{title} by {rank_by}: image, {maps}", captions, shown, scorer.maps(shown)))
    return heat_maps.draw(rows, scorer.num_values)
