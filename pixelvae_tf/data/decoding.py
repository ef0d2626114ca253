"""One picture file -> a square of pixels of the size of the model."""

import contextlib
import dataclasses
import errno
import io
import itertools
import os
import pathlib
import re
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from pixelvae_tf.data import metadata

# Pillow's mode by the number of channels.
MODES = {1: "L", 3: "RGB"}
# Pillow's formats that are read, whatever a file is called. (Some of the others start programs, such as Ghostscript.)
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "QOI", "ICO", "PCX")
Image.init()  # Now: where no file can be opened, Pillow would take a missing plugin for a damaged picture.
FORMATS = tuple(name for name in _FORMATS if name in Image.OPEN)
# The extensions of image files.
EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".tga", ".qoi"),
)
MAX_FILE_BYTES = 2**31
# More than the blocks that a JPEG interleaves can take: at most 10, each of 64 coefficients of at most 4 bytes.
MAX_BLOCKS_BYTES = 2**13
# Errors of the path or the file itself. Others come from the machine, and may not occur the next time.
ERRORS_OF_THE_FILE = (
    None,  # Pillow's own
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
)
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImagesError(OSError):
    """Images cannot be read from disk, or are no longer what they were."""


class MachineError(ImagesError):
    """A file or folder could not be read for a reason that is not its own: permissions, memory, a failing disk."""

    def __init__(self, path: str | pathlib.Path, error: BaseException):
        reason = getattr(error, "strerror", None) or f"{error or 'out of memory'}"
        super().__init__(
            f"every image must be readable. Received: {str(path)!a}: {type(error).__name__}: {reason}. "
            "It is not counted as damaged: remove the cause and start the same command again (without the file they "
            "would be other images)"
        )


@dataclasses.dataclass(frozen=True)
class Read:
    """The result of reading a file.

    Attributes:
      path: relative to the folder.
      pixels: uint8 [side, side, C], or None if it could not be read.
      note: Pillow's mode where it was converted from another than the model's; the reason where it could not be read.
      enlarged: whether it was smaller than asked for.
      warnings: what Pillow warned of.
    """

    path: str
    pixels: np.ndarray | None
    note: str = ""
    enlarged: bool = False
    warnings: tuple[str, ...] = ()


def read(folder: str | pathlib.Path, path: str, side: int, channels: int) -> Read:
    """Reads an image: its largest centred square, averaged over areas to the requested size.

    Args:
      folder, path: where it is.
      side: height and width of the result.
      channels: 1 (grey) or 3 (RGB); other kinds are converted.

    Returns:
      The pixels, or why there are none.

    Raises:
      MachineError: if the reason is not the file's.
    """
    try:
        content = _content(pathlib.Path(folder, path))
        with _warnings.collected() as warned:
            square, mode = _square(content)
            small = square.convert(MODES[channels]).resize((side, side), Image.Resampling.BOX)
    except MachineError:
        raise
    except UnidentifiedImageError:
        # Pillow's own message has an address in memory, which differs from run to run.
        return Read(path, None, "UnidentifiedImageError: no picture of a known format")
    except Exception as error:  # Pillow's plugins raise anything on damaged files.
        if is_of_the_machine(error):
            raise MachineError(pathlib.Path(folder, path), error) from error
        return Read(path, None, f"{type(error).__name__}: {error}")
    pixels = np.asarray(small, np.uint8).reshape(side, side, channels)
    note = "" if mode == MODES[channels] else mode
    return Read(path, pixels, note, square.width < side, tuple(dict.fromkeys(warned)))


def readable(image_shape: Sequence[int] | None, name: str) -> tuple[int, int]:
    """The side and the channels, as for `read`, of a model's images.

    Args:
      image_shape: (H, W, C).
      name: of the files, for the message.

    Raises:
      ValueError: unless files can be brought to them: squares of 1 or 3 channels.
    """
    if image_shape is None:
        raise ValueError(f"image_shape must be given, (H, W, C), to read {name} from files. Received: None")
    if image_shape[0] != image_shape[1] or image_shape[2] not in MODES:
        raise ValueError(
            f"{name} can be read from files only for models of square images with 1 or 3 channels. "
            f"Received: {'x'.join(map(str, image_shape))}"
        )
    return image_shape[0], image_shape[2]


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error comes from the machine, not from the file."""
    if not isinstance(error, OSError):
        return isinstance(error, MemoryError)
    # The last is the wording of Pillow's decoders.
    return error.errno not in ERRORS_OF_THE_FILE or str(error).startswith("out of memory")


def _content(path: pathlib.Path) -> bytes:
    """All bytes of a file: so no decoder touches the disk, and every error of the disk comes from here."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():  # It may have led nowhere when the folder was listed.
            raise
        raise MachineError(path, error) from error  # The drive, say, has been taken away.
    if not stat.S_ISREG(status.st_mode):  # A named pipe may never get a writer.
        raise ValueError("not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise ValueError(f"{status.st_size} bytes, more than {MAX_FILE_BYTES}")
    # Those of /proc have no size, and reading one may wait for ever.
    return path.read_bytes() if status.st_size else b""


def _square(content: bytes) -> tuple[Image.Image, str]:
    """The largest centred square of an image, upright, on white where it is transparent; and the image's mode."""
    parts = metadata.split(content)
    parts.content = _with_its_end(parts.content, parts.pixels_start)
    with Image.open(io.BytesIO(parts.content), formats=FORMATS) as opened:
        mode, format_ = opened.mode, opened.format
        number = max(parts.num_pictures, _num_pictures(opened, parts.content))
        if number > 1:
            raise ValueError(f"not one still image, but {number}")
        if mode == "F" or (mode == "I" and format_ == "TIFF"):
            raise ValueError(f"samples of mode {mode}, which do not say their range")
        image = _with_alpha(opened, parts) if format_ == "PNG" else opened
        image.load()  # TIFF files are turned upright by this.
    orientation = parts.orientation if format_ in ("PNG", "JPEG", "MPO") else _pillows_orientation(image)
    image = _on_white(_to_8_bits(image))
    if orientation in TRANSPOSITIONS:
        image = image.transpose(TRANSPOSITIONS[orientation])
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)), mode


def _with_its_end(jpeg: bytes, scans_start: int) -> bytes:
    """A JPEG file with an end marker, if that alone is missing: then whatever stands before the marker is passed over.

    Where pixels are missing it is decoded as if it were they.
    """
    scans = jpeg[scans_start:]
    if not scans_start or metadata.JPEG_END in scans:
        return jpeg
    # A half of the marker may be there, and zeros to the end of a disk's block.
    jpeg, pictures = re.sub(rb"\xff*(\0{16,})?\Z", b"", jpeg), []
    # As data, and after restart markers, which a decoder may look for.
    for number in (0x00, 0xAA):
        filling = b"".join(bytes([number]) * MAX_BLOCKS_BYTES + bytes([0xFF, 0xD0 + index % 8]) for index in range(16))
        ended = jpeg + filling + metadata.JPEG_END
        with Image.open(io.BytesIO(ended), formats=("JPEG",)) as image:
            pictures.append(np.asarray(image))
            whole = metadata.has_all_scans(scans, image.layers, "progressive" in image.info)
    if not whole or (pictures[0] != pictures[1]).any():
        raise ValueError("JPEG file is truncated")
    return ended


def _num_pictures(image: Image.Image, content: bytes) -> int:
    """Pictures in a file, without the previews that cameras add to photographs (MPO, and small pages of TIFF files)."""
    if image.format == "MPO":
        return 1
    return _num_pages(content) if image.format == "TIFF" else getattr(image, "n_frames", 1)


def _num_pages(tiff: bytes) -> int:
    """The pages of a TIFF file that are no previews; where the place of a next one is rubbish, those before it."""
    number = 1
    with Image.open(io.BytesIO(tiff), formats=("TIFF",)) as image:
        try:
            for page in itertools.count(1):
                image.seek(page)
                number += not image.tag_v2.get(254, 0) & 1  # NewSubfileType: a reduced version of another page.
        except Exception as error:  # EOFError at the end, and what Pillow raises for rubbish.
            if is_of_the_machine(error):
                raise
    return number


def _pillows_orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(metadata.ORIENTATION, 1)
    except Exception:  # A damaged block says nothing of the pixels.
        return 1


def _with_alpha(image: Image.Image, parts: metadata.Split) -> Image.Image:
    """A PNG image whose transparent colour, if it has one, is in the scale of Pillow's samples.

    The file has the colour in its own depth; Pillow stretches samples of 1, 2 and 4 bits to 8, and cuts colours of 16.
    """
    depth, transparent = parts.bit_depth, image.info.get("transparency")
    if transparent is None or image.mode == "P":
        return image
    if depth == 16:
        samples = np.asarray(image, np.int64)
        if image.mode == "RGB":
            low = Image.open(io.BytesIO(parts.content), formats=("PNG",))
            low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]  # Takes the other byte of every sample.
            samples = samples * 256 + np.asarray(low, np.int64)
        seen = samples != transparent
        result = _to_8_bits(image)
        result.info.pop("transparency", None)
        result.putalpha(
            Image.fromarray(np.where(seen if seen.ndim == 2 else seen.any(axis=2), 255, 0).astype(np.uint8))
        )
        return result
    if image.mode == "L":
        image.info["transparency"] = transparent * (255 // (2**depth - 1))
    return image


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8; Pillow's own conversion would clip it at 255."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray(((np.asarray(image, np.int64) + 128) // 257).clip(0, 255).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    """Draws an image on white: transparent pixels would otherwise show the colour stored in them, often black."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


class _Warnings:
    """Collects Pillow's warnings, which do not name the file, for the thread that reads it.

    Python's filters belong to the process: the first thread that comes in changes them, the last one restores them.
    """

    def __init__(self):
        self._lock, self._inside, self._restore = threading.Lock(), 0, contextlib.ExitStack()
        self._thread, self._show = threading.local(), warnings.showwarning

    @contextlib.contextmanager
    def collected(self) -> Iterator[list[str]]:
        """The list that receives this thread's warnings."""
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._restore.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("always", module=r"PIL\.")
                self._show = warnings.showwarning
                warnings.showwarning = self._take  # type: ignore[assignment]
        self._thread.messages = messages = []
        try:
            yield messages
        finally:
            del self._thread.messages
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._restore.close()

    def _take(self, message, category, *where) -> None:
        messages = getattr(self._thread, "messages", None)
        if messages is None:
            self._show(message, category, *where)
        else:
            messages.append(str(message))


_warnings = _Warnings()
