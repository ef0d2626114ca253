"""pixelvae-score: how odd the images of a folder are to a model, and where; needs a SavedModel alone.

pixelvae-score --saved_model=models/parts --images=photos --output=scored
pixelvae-score --saved_model=models/parts --background=models/noisy --reference=held_out --images=photos --output=scored

OUTPUT/scores.csv has one line per image: its file, its scores (`pixelvae_tf.scores` has their papers; higher is odder)
and, with a reference, the share of the reference that is less odd. OUTPUT/maps.png shows the oddest and the most
ordinary images with their maps. Images are read as `--config.data.folder` reads them for training, files that cannot
be read are named and left out. Interrupted, the same command goes on.
"""

from absl import flags
from absl import logging as absl_logging

from pixelvae_tf import console
from pixelvae_tf.export import client, scoring

_SAVED_MODEL = console.define_path(
    "saved_model", None, "An export, or a directory of them (the newest).", required=True
)
_IMAGES = console.define_path("images", None, "The folder of images to score.", required=True)
_OUTPUT = console.define_path("output", None, "Directory to write.", required=True)
_BACKGROUND = console.define_path(
    "background", None, "An export of the same preset trained with --config.data.mutation, for the likelihood ratio."
)
_REFERENCE = console.define_path(
    "reference", None, "A folder of images of the model's kind, for typicality and percentiles."
)
_LABEL = flags.DEFINE_string("label", None, "The class of all images, by its number or name, for a model with classes.")
_RANK_BY = flags.DEFINE_enum(
    "rank_by",
    None,
    list(scoring.SCORES),
    "The score of the picture: by default the likelihood ratio with a background, else the bound.",
)
_NUM_SHOWN = flags.DEFINE_integer(
    "num_shown", scoring.Request.num_shown, "How many of the oddest, and of the most ordinary.", 1, 100
)


def main(argv: list[str]) -> None:
    """Parses the flags and scores."""
    console.refuse_arguments(argv)
    absl_logging.set_verbosity(absl_logging.WARNING)
    console.start_tensorflow()
    from pixelvae_tf import progress
    from pixelvae_tf.export import local
    from pixelvae_tf.export.caller import label_number

    try:
        background = local.SavedModel(_BACKGROUND.value) if _BACKGROUND.value else None
        model = local.SavedModel(_SAVED_MODEL.value)
        label = label_number(_LABEL.value, model.classes, model.config.model.num_classes)
        scorer = scoring.Scorer(model, background, label)
        request = scoring.Request(_IMAGES.value, _REFERENCE.value, _RANK_BY.value, _NUM_SHOWN.value)
        with progress.shown("image") as show:
            summary = scoring.score(scorer, request, _OUTPUT.value, show)
    except (OSError, ValueError, client.ServerError) as error:
        raise SystemExit(f"pixelvae-score: {error}") from error
    print(f"scored: {summary['num_images']} images, {_OUTPUT.value}/{scoring.TABLE} and {scoring.MAPS}")
    print(f"  oddest by {summary['rank_by']}: {', '.join(map(ascii, summary['oddest'][:3]))}")
    console.print_unreadable(summary["unreadable"], scoring.SUMMARY)


def run() -> None:
    """The console script."""
    console.run(main)


if __name__ == "__main__":
    run()
