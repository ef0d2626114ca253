"""An evaluation that leaves every image's bound, and that the same command resumes after an interruption.

OUTPUT/bounds.csv     each image's bound and its parts, in nats
OUTPUT/report.json    the report, and what it comes from; written last
OUTPUT/.unfinished/   what an evaluation that was interrupted goes on from
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from pixelvae_tf import data
from pixelvae_tf.data import resumable
from pixelvae_tf.files import as_csv, write_atomically
from pixelvae_tf.train.evaluation import Evaluator

TABLE, REPORT = "bounds.csv", "report.json"
# The version of how images are evaluated: a run cannot resume what another version began.
VERSION = 1


def evaluate(
    evaluator: Evaluator,
    images: data.ImageSet,
    output: pathlib.Path,
    about: dict[str, Any],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """The report on a split; its table and the report are left in a folder.

    Args:
      evaluator: of the model.
      images: the split, which fits the model.
      output: the folder; made if need be.
      about: what tells the model's weights and precision from others; added to the report.
      progress: called with (images done, images in all).

    Returns:
      The report.

    Raises:
      ValueError: if the output cannot be read or written, another process writes it, or it is of something else; or if
        the report is not finite.
      OSError: if images on disk cannot be read, or were changed.
    """
    identity = {
        "version": VERSION,
        "data": images.name,
        **about,
        "seed": evaluator.seed,
        "importance_samples": evaluator.importance_samples,
        "batch_size": evaluator.batch_size_for(images),
        "files": images.fingerprint(),
    }
    report = resumable.finished(output, (REPORT, TABLE), identity, "evaluated in the same way")
    if report is None:
        with resumable.writing(output, identity, "pixelvae-evaluate") as records:
            per_image = evaluator.measure(images, progress, records)
            report = {**evaluator.report(images, per_image), **about}
            content = to_json({**report, "identity": identity})
            write_atomically(output / TABLE, as_csv(per_image.table()))
            write_atomically(output / REPORT, content + "\n")
    return report


def to_json(report: dict[str, Any]) -> str:
    """A report as a line of JSON.

    Raises:
      ValueError: if a number is not finite.
    """
    try:
        return json.dumps(report, allow_nan=False)
    except ValueError as error:  # NaN and infinity: JSON does not have them.
        raise ValueError(f"every value must be finite; the weights diverged. Received: {report}") from error
