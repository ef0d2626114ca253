"""pixelvae-prepare: ten thousand generated images of many sizes, a twentieth of them near-duplicates.

    python benchmarks/prepare.py [--num_images=10000] [--size=64]

The images are smooth noise as JPEG, 128 to 320 pixels wide. A near-duplicate is another image at another size and
quality. Beside the rate of the whole: that of reading the files' bytes alone, and of decoding and resizing without
hashing, by the same threads. And why what is prepared is not ArrayRecord, which TFDS writes: batches at random places
of the shards, and of an ArrayRecord file of the same pixels.
"""

import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags
from array_record.python import array_record_data_source, array_record_module
from PIL import Image

from pixelvae_tf import progress
from pixelvae_tf.data import folder, prepare, prepared

_NUM_IMAGES = flags.DEFINE_integer("num_images", 10_000, "How many.", lower_bound=20)
_SIZE = flags.DEFINE_integer("size", 64, "Height and width of what is made.", lower_bound=8)
DUPLICATE_EVERY = 20
BATCH, SECONDS = 100, 3  # of the reading of prepared images


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


def read_rate(images: Callable[[np.ndarray], np.ndarray], number: int) -> float:
    """Images a second, in batches from places at random."""
    rng, start, done = np.random.default_rng(0), time.perf_counter(), 0
    while time.perf_counter() < start + SECONDS:
        done += len(images(rng.integers(0, number, BATCH)))
    return done / (time.perf_counter() - start)


def as_array_record(images: np.ndarray, path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """Writes each image's pixels as a record; returns what reads those at some places."""
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for image in images:
        writer.write(image.tobytes())
    writer.close()
    source = array_record_data_source.ArrayRecordDataSource(str(path))

    def read(places: np.ndarray) -> np.ndarray:
        records = source.__getitems__(places.tolist())
        return np.stack([np.frombuffer(record, np.uint8) for record in records]).reshape(-1, *images.shape[1:])

    return read


def main(argv: list[str]) -> None:
    """Generates, measures and prints."""
    del argv
    number, side = _NUM_IMAGES.value, _SIZE.value
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name, "images")
        root.mkdir()
        near = generate(root, number)
        paths = [path for split in folder.list_images(root).splits.values() for path in split]
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
        train = prepared.load(pathlib.Path(name, "out"), "train", side, 3)[0]
        records = as_array_record(train[np.arange(len(train))], pathlib.Path(name, "train.array_record"))
        places = np.arange(BATCH)
        np.testing.assert_array_equal(train[places], records(places))
        shards_rate, records_rate = (read_rate(read, len(train)) for read in (train.__getitem__, records))
    print(f"{number} images, of which {near} near-duplicates; {manifest['num_duplicates']} dropped")
    print(f"reading bytes: {read:.0f} images/s; decoding and resizing: {decoded:.0f} images/s")
    print(f"pixelvae-prepare: {number / seconds:.0f} images/s, {seconds:.1f} s in all")
    print(f"opening and checking what it made: {opened:.2f} s")
    print(f"batches at random places: {shards_rate:.0f} images/s; of an ArrayRecord file: {records_rate:.0f}")


if __name__ == "__main__":
    app.run(main)
