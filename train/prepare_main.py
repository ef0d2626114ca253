"""pixelvae-prepare: turns a folder of images into shards of pixels, which train fast, without near-duplicates.

pixelvae-prepare photos --size=64 --output=photos_64
pixelvae-train --config=lsun_64/hierarchical_small --config.data.folder=photos_64 --workdir=runs/photos

Images of any size are found recursively, cropped to their largest centred square and resized by averaging over areas.
Subfolders train, validation (or val) and test are the splits; without any, one image in 20 is for validation and one
for test. With --labels=folders the next subfolder is the class. Interrupted, the same command goes on.
"""

from absl import app, flags
from absl import logging as absl_logging

from pixelvae_tf import console, limits
from pixelvae_tf.config import FOLDERS

_SIZE = flags.DEFINE_integer("size", None, "Height and width of the images.", 1, limits.MAX_SIDE, required=True)
_OUTPUT = console.define_path("output", None, "Directory to write.", required=True)
_CHANNELS = flags.DEFINE_enum("channels", "3", ["1", "3"], "1: grey, 3: RGB.")
_DUPLICATE_DISTANCE = flags.DEFINE_integer(
    "duplicate_distance",
    4,
    "An image is dropped if its perceptual hash differs in so many of 64 bits, or fewer, from that of one that is "
    "kept; -1 keeps them all.",
    lower_bound=-1,
    upper_bound=63,
)
_SHARD_SIZE = flags.DEFINE_integer("shard_size", 4096, "Files that make a shard.", 1, limits.MAX_COUNT)
_LABELS = flags.DEFINE_enum("labels", None, [FOLDERS], "folders: the subfolders are classes.")


def main(argv: list[str]) -> None:
    """Parses the flags and prepares."""
    if len(argv) != 2 or not argv[1]:  # "": a variable of the shell that is not set
        raise app.UsageError(f"one folder of images is expected. Received: {' '.join(argv[1:]) or 'none'}")
    absl_logging.set_verbosity(absl_logging.WARNING)
    from pixelvae_tf import progress
    from pixelvae_tf.data import folder, prepare, prepared

    prepares = False
    try:
        how = prepare.Preparation(
            _SIZE.value,
            int(_CHANNELS.value),
            _DUPLICATE_DISTANCE.value,
            _SHARD_SIZE.value,
            labels=_LABELS.value == FOLDERS,
        )
        with progress.shown("image") as show:

            def count(done: int, total: int) -> None:
                nonlocal prepares
                prepares = True
                show(done, total)

            manifest = prepare.prepare(argv[1], _OUTPUT.value, how, count)
    except (OSError, ValueError) as error:
        raise SystemExit(f"pixelvae-prepare: {error}") from error
    print(f"{'prepared' if prepares else 'already prepared'}: {_OUTPUT.value}, {how.side}x{how.side}")
    for split, content in manifest["splits"].items():
        print(f"  {split}: {content['num_images']} images in {len(content['shards'])} shards")
    for split in ("train", "validation"):
        if not manifest["splits"][split]["num_images"]:
            print(f"  Nothing can be trained on it: no image is in the split {split!r}")
    if "classes" in manifest:
        print(f"  classes: {', '.join(f'{number} {name!a}' for number, name in enumerate(manifest['classes']))}")
    print(f"  dropped as near-duplicates: {manifest['num_duplicates']}")
    print(f"  converted to {folder.MODES[how.channels]}: {manifest['num_converted']}")
    print(f"  enlarged: {manifest['num_enlarged']}")
    for path, warning in list(manifest["warnings"].items())[:1]:
        print(f"  warned of by Pillow: {len(manifest['warnings'])}, such as {path!a}: {warning}")
    console.print_unreadable(manifest["unreadable"], prepared.MANIFEST)


def run() -> None:
    """The console script."""
    console.run(main)


if __name__ == "__main__":
    run()
