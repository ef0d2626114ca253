"""pixelvae-prepare: ten thousand generated images of many sizes, a twentieth of them near-duplicates.

    python benchmarks/prepare.py [--num_images=10000] [--size=64]

The images are smooth noise as JPEG, 128 to 320 pixels wide. A near-duplicate is another image at another size and
quality. Beside the rate of the whole: that of reading the files' bytes alone, and of decoding and resizing without
hashing, by the same threads.
"""

import pathlib
import tempfile
import time

import numpy as np
from absl import app, flags
from PIL import Image

from pixelvae_tf.data import folder, prepare, prepared
from pixelvae_tf.train import progress

_NUM_IMAGES = flags.DEFINE_integer("num_images", 10_000, "How many.", lower_bound=20)
_SIZE = flags.DEFINE_integer("size", 64, "Height and width of what is made.", lower_bound=8)
DUPLICATE_EVERY = 20


def generate(root: pathlib.Path, number: int) -> int:
    """Writes the images; returns how many are near-duplicates."""

    def write(index: int) -> None:
        duplicate = index % DUPLICATE_EVERY == DUPLICATE_EVERY - 1
        generator = np.random.default_rng(index - 1 if duplicate else index)
        picture = Image.fromarray(generator.integers(0, 256, (8, 8, 3)).astype(np.uint8))
        side = int(np.random.default_rng(10**9 + index).integers(128, 321))
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        picture.save(root / f"{index:06d}.jpg", quality=70 if duplicate else 92)

    for _ in folder.in_parallel(write, range(number)):
        pass
    return number // DUPLICATE_EVERY


def timed(function, paths: list[str]) -> float:
    """Images a second of a function of a path."""
    start = time.perf_counter()
    for _ in folder.in_parallel(function, paths):
        pass
    return len(paths) / (time.perf_counter() - start)


def main(argv: list[str]) -> None:
    """Generates, measures and prints."""
    del argv
    number, side = _NUM_IMAGES.value, _SIZE.value
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name, "images")
        root.mkdir()
        near = generate(root, number)
        paths = [path for split in folder.find(root).values() for path in split]
        read = timed(lambda path: (root / path).read_bytes(), paths)
        decoded = timed(lambda path: folder.read(root, path, side, 3), paths)
        bar = progress.Progress(number, unit="image")
        start = time.perf_counter()
        options = prepare.Preparation(side)
        manifest = prepare.prepare(root, pathlib.Path(name, "out"), options, lambda done, _: bar.update(done))
        seconds = time.perf_counter() - start
        bar.close()
        start = time.perf_counter()
        for split in folder.SPLITS:
            prepared.load(pathlib.Path(name, "out"), split, side, 3)
        opened = time.perf_counter() - start
    print(f"{number} images, of which {near} near-duplicates; {manifest['num_duplicates']} dropped")
    print(f"reading bytes: {read:.0f} images/s; decoding and resizing: {decoded:.0f} images/s")
    print(f"pixelvae-prepare: {number / seconds:.0f} images/s, {seconds:.1f} s in all")
    print(f"opening and checking what it made: {opened:.2f} s")


if __name__ == "__main__":
    app.run(main)
