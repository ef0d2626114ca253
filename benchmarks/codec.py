"""The lossless codec: sizes beside the bound and other codecs, speed, and what decodes where.

    python benchmarks/codec.py sizes --saved_model=models/digits --images=digits/test --output=digits.pvc
    python benchmarks/codec.py environments --saved_model=models/digits --images=digits/test --output=digits.pvc
    python benchmarks/codec.py speed --saved_model=models/digits --images=digits/test
    python benchmarks/codec.py dump --saved_model=models/digits --images=digits/test --output=chunk.npz

`sizes` writes the file, and prints its size as the file system has it; the bound of the same images by the signature
log_prob; where the bytes above it went; and what other codecs make of the images, one file an image and all in one
picture (Pillow; with imagecodecs JPEG XL and zstd too). `environments` decodes that file in processes of other
settings: threads, oneDNN, the variant of `pixelvae-export --xla`, another TensorFlow (`--other_tensorflow=DIR`, of
`pip install --target`). `speed` times a wave both ways, and a pass of the whole network, of which a decoder without
caches runs one for every sub-pixel. `dump` writes a chunk for constriction alone (docs/codec.md).
"""

import gzip
import io
import json
import lzma
import math
import os
import pathlib
import subprocess
import sys
import time

import machine
import numpy as np
from absl import app, flags
from PIL import Image

from pixelvae_tf import codec, pictures
from pixelvae_tf.codec import chunks, files, waves
from pixelvae_tf.codec import images as images_lib
from pixelvae_tf.codec.rounding import Decoder, Encoder, Table
from pixelvae_tf.codec.stack import Stack
from pixelvae_tf.export import local

_SAVED_MODEL = flags.DEFINE_string("saved_model", None, "An export.", required=True)
_IMAGES = flags.DEFINE_string("images", None, "As of pixelvae-compress.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The file.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Of TensorFlow Datasets.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 2**20, "The first so many.", lower_bound=1)
_TOLERANCE = flags.DEFINE_float("tolerance", files.Options.tolerance, "As of pixelvae-compress.")
_CHECKSUMS = flags.DEFINE_bool("checksums", None, "As of pixelvae-compress.")
_XLA = flags.DEFINE_string("xla", "", "The variant of the export that XLA compiles.")
_OTHER_TENSORFLOW = flags.DEFINE_string("other_tensorflow", "", "Folder of another TensorFlow, put before this one.")
# What a process of `environments` runs: images that are equal, or why it refuses.
DECODE = """
import json, pathlib, sys
import numpy as np
from pixelvae_tf import codec
from pixelvae_tf.export import local
saved_model, file, images = sys.argv[1:]
content, expected = pathlib.Path(file).read_bytes(), np.load(images)
try:
    decoded, _ = codec.decompress(local.SavedModel(saved_model).networks, content)
    outcome = {"wrong": int((decoded != expected).any(axis=(1, 2, 3)).sum()), "refused": ""}
except ValueError as error:
    outcome = {"wrong": 0, "refused": str(error)}
import tensorflow as tf
print(json.dumps({**outcome, "tensorflow": tf.__version__}))
"""


def main(argv: list[str]) -> None:
    """Runs what the first argument names."""
    verbs = {"sizes": sizes, "environments": environments, "speed": speed, "dump": dump}
    if len(argv) != 2 or argv[1] not in verbs:
        raise app.UsageError(f"one of {', '.join(verbs)} is expected")
    model = local.SavedModel(_SAVED_MODEL.value)
    images, labels = images_lib.read(_IMAGES.value, model.config.model, _DATA_DIR.value)
    some = slice(_NUM_IMAGES.value)
    verbs[argv[1]](model, images[some], None if labels is None else labels[some])


def bound_bits(model: local.SavedModel, images: np.ndarray, labels: np.ndarray | None) -> float:
    """The bound of all images, or their exact cost, in bits."""
    from pixelvae_tf import noise

    total = 0.0
    for start in range(0, len(images), model.max_batch):
        batch = slice(start, start + model.max_batch)
        inputs = {"images": images[batch], "seed": noise.image_seeds(images[batch]).numpy()}
        if labels is not None:
            inputs["label"] = labels[batch]
        total -= model.predict("log_prob", inputs)["log_prob"].astype(np.float64).sum()
    return total / math.log(2.0)


def sizes(model: local.SavedModel, images: np.ndarray, labels: np.ndarray | None) -> None:
    """Prints the table of sizes."""
    options = codec.Options(tolerance=_TOLERANCE.value, checksums=_CHECKSUMS.value, verify=False)
    made = codec.compress(model.networks, images, labels, options)
    path = pathlib.Path(_OUTPUT.value)
    path.write_bytes(made.content)
    print(machine.describe())
    spent, size = made.statistics, path.stat().st_size
    bound = bound_bits(model, images, labels) / 8
    print(
        f"{len(images)} images, {spent.raw} of them raw; bound {bound:.0f} bytes, file {size}: {size / bound - 1:+.2%}"
    )
    net = spent.pixels + spent.priors - spent.posteriors
    parts = {
        "bits back: one draw of latents in bins, instead of the mean": spent.exact / 8 - bound,
        "rounding of probabilities": (net - spent.exact) / 8,
        "table of what lies near a boundary": spent.table / 8,
        "initial bits, the digests": spent.digest / 8,
        "checksums, labels, raw images, layout": spent.payload - (net + spent.table + spent.digest) / 8,
        "header, index": float(made.overhead),
    }
    for name, part in parts.items():
        print(f"  {name}: {part:.0f} bytes, {part / bound:+.3%}")
    subpixels = images.size
    print(f"{'':34}{'an image':>12}{'all in one':>12}{'bits/dim':>10}")
    rows = {"this codec": (math.nan, size)} | other_codecs(images, model.config.model.num_values)
    for name, (alone, together) in rows.items():
        best = np.nanmin([alone, together])
        print(f"{name:34}{alone:12.0f}{together:12.0f}{8 * best / subpixels:10.4f}")


def other_codecs(images: np.ndarray, num_values: int) -> dict[str, tuple[float, float]]:
    """Bytes of the images by other codecs: the sum of a file an image, and of all in one."""
    binary = num_values == 2
    number, height, width, channels = images.shape
    # Side by side in about a square, the last row filled up with zeros.
    columns = math.isqrt(number)
    rows = -(-number // columns)
    filled = np.zeros((rows * columns, height, width, channels), np.uint8)
    filled[:number] = images
    together = filled.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    together = together.reshape(rows * height, columns * width, channels)

    def picture(values: np.ndarray) -> Image.Image:
        shown = pictures.to_uint8_picture(values, num_values)
        image = Image.fromarray(shown[..., 0] if channels == 1 else shown)
        return image.convert("1") if binary else image

    def pillow(kind: str, **options):
        def size(values: np.ndarray) -> int:
            buffer = io.BytesIO()
            image = picture(values)
            (image.convert("RGB") if kind == "WEBP" else image).save(buffer, kind, **options)
            return len(buffer.getvalue())

        return size

    def packed(values: np.ndarray) -> bytes:
        return np.packbits(values).tobytes() if binary else values.tobytes()

    codecs = {
        f"raw, {max(num_values - 1, 1).bit_length()} bits a value": lambda values: len(packed(values)),
        "PNG": pillow("PNG", optimize=True),
        "WebP, lossless": pillow("WEBP", lossless=True, quality=100, method=6),
        "gzip -9": lambda values: len(gzip.compress(packed(values), 9)),
        "xz -9e": lambda values: len(lzma.compress(packed(values), preset=9 | lzma.PRESET_EXTREME)),
    }
    if binary:
        codecs["TIFF, CCITT G4"] = pillow("TIFF", compression="group4")
    try:
        import imagecodecs

        codecs["JPEG XL, lossless"] = lambda values: len(
            imagecodecs.jpegxl_encode(pictures.to_uint8_picture(values, num_values), lossless=True, effort=9)
        )
        codecs["zstd -22"] = lambda values: len(imagecodecs.zstd_encode(packed(values), 22))
    except ImportError:
        print("JPEG XL and zstd are left out: pip install imagecodecs")
    # Of many images some stand for all: their files are the same size but for the pixels.
    some = images[np.linspace(0, number - 1, min(number, 500)).astype(np.int64)]
    return {name: (sum(map(code, some)) * number / len(some), float(code(together))) for name, code in codecs.items()}


def environments(model: local.SavedModel, images: np.ndarray, labels: np.ndarray | None) -> None:
    """Prints what decodes to the same images where."""
    del labels
    path = pathlib.Path(_OUTPUT.value)
    np.save(path.with_suffix(".npy"), images)
    cases = {
        "1 thread": (model.path, {"TF_NUM_INTRAOP_THREADS": "1"}),
        "2 threads": (model.path, {"TF_NUM_INTRAOP_THREADS": "2"}),
        "oneDNN off": (model.path, {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    }
    if _XLA.value:
        cases["XLA"] = local.newest_version(pathlib.Path(_XLA.value)), {}
    if _OTHER_TENSORFLOW.value:
        cases["another TensorFlow"] = model.path, {"PYTHONPATH": _OTHER_TENSORFLOW.value}
    for name, (saved_model, variables) in cases.items():
        command = [sys.executable, "-c", DECODE, str(saved_model), str(path), str(path.with_suffix(".npy"))]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
        start = time.time()
        done = subprocess.run(
            command, env={**os.environ, **quiet, **variables}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        outcome = json.loads(done.stdout.splitlines()[-1])
        refused = outcome["refused"] or "nothing refused"
        seconds = time.time() - start
        wrong = f"{outcome['wrong']} wrong of {len(images)}"
        print(f"{name}, TensorFlow {outcome['tensorflow']}: {wrong}; {refused}; {seconds:.0f} s")


def speed(model: local.SavedModel, images: np.ndarray, labels: np.ndarray | None) -> None:
    """Prints images per CPU second both ways, and of a pass for every sub-pixel."""
    networks = model.networks
    number = min(model.max_batch, 128, len(images))
    images = images[:number]
    labels = np.zeros(0, np.int64) if labels is None else labels[:number]
    bits = files._latent_bits(networks, images, number)
    settings = waves.Settings(number, _TOLERANCE.value, bits, False)
    print(machine.describe())

    def wave_seconds() -> tuple[float, float]:
        stack, rounding = Stack(np.random.default_rng(0).integers(1, 2**32, 2**18, np.uint32)), Encoder()
        start = time.process_time()
        waves.push(waves.Wave(networks, settings, 0, number, rounding), stack, images, labels)
        pushed = time.process_time()
        decoder = Decoder(Table.of(rounding.bits))
        decoded, _ = waves.pop(waves.Wave(networks, settings, 0, number, decoder), stack)
        assert np.array_equal(decoded, images)
        return pushed - start, time.process_time() - pushed

    wave_seconds()
    encoded, decoded = np.min([wave_seconds() for _ in range(3)], axis=0)
    inputs = {"images": images, "seed": np.arange(number)} | ({"label": labels} if len(labels) else {})
    model.predict("log_prob", inputs)
    start = time.process_time()
    model.predict("log_prob", inputs)
    one_pass = (time.process_time() - start) * math.prod(images.shape[1:])
    print(f"waves of {number} images, by CPU seconds of all threads:")
    print(f"  encoded: {number / encoded:.1f} images a second, decoded: {number / decoded:.1f}")
    print(
        f"  a pass for every sub-pixel (extrapolated): {number / one_pass:.2f}, {one_pass / decoded:.0f} times slower"
    )


class _Recorder(Stack):
    """A stack that keeps what is popped and pushed."""

    segments: list[tuple[np.ndarray, np.ndarray, bool]] = []  # noqa: RUF012 - of one run
    start: np.ndarray | None = None

    def pop_bits(self, counts):
        self._begin()
        choices = super().pop_bits(counts)
        self.segments.append((choices, counts, False))
        return choices

    def push_bits(self, bits, counts):
        self.segments.append((bits, counts, True))
        super().push_bits(bits, counts)

    def _begin(self) -> None:
        if _Recorder.start is None:
            _Recorder.start = self.words()


def dump(model: local.SavedModel, images: np.ndarray, labels: np.ndarray | None) -> None:
    """Writes what constriction needs to go through a chunk by itself."""
    options = codec.Options(tolerance=_TOLERANCE.value, checksums=False, verify=False)
    if labels is not None:
        raise SystemExit("a model without classes is expected: a dump has binary choices alone")
    content = codec.compress(model.networks, images[: options.images_per_chunk], None, options).content
    chunks.Stack = _Recorder
    codec.decompress(model.networks, content)
    segments = _Recorder.segments
    ends = np.cumsum([len(counts) for _, counts, _ in segments])
    starts = ends - [len(counts) for _, counts, _ in segments]
    np.savez_compressed(
        _OUTPUT.value,
        words=_Recorder.start,
        choices=np.concatenate([choices for choices, _, _ in segments]).astype(np.int32),
        counts=np.concatenate([counts for _, counts, _ in segments]).astype(np.int32),
        segments=np.stack([starts, ends, [is_push for _, _, is_push in segments]], axis=1),
    )
    print(f"{_OUTPUT.value}: {ends[-1]} choices of {min(len(images), options.images_per_chunk)} images")


if __name__ == "__main__":
    app.run(main)
