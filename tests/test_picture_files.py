"""Picture files of all kinds, whole and damaged: pixels decide, metadata does not."""

import errno
import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from picture_bytes import app, chunk, exif, jpeg, packed, png
from PIL import Image, ImageFile

from pixelvae_tf.data import decoding, metadata

RGB_ROW = bytes([10, 20, 30] * 4)
TWO_MEGABYTES = zlib.compress(bytes(2_000_000))


@pytest.fixture
def read(tmp_path):
    """Reads the bytes of a file; a square of 4x4 grey pixels unless it is said otherwise."""

    def of(content, side=4, channels=1):
        (tmp_path / "x").write_bytes(content)
        try:
            return decoding.read(tmp_path, "x", side, channels)
        finally:
            (tmp_path / "x").unlink()  # To write over a file takes some file systems milliseconds.

    return of


def _saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "ancillary",
    [
        chunk(b"zTXt", b"Comment\0\0" + TWO_MEGABYTES),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + TWO_MEGABYTES),
        chunk(b"iCCP", b"profile\0\0" + TWO_MEGABYTES),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + TWO_MEGABYTES),
        chunk(b"tEXt", b"Comment\0text", crc=0),
        chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x05"),
        *(chunk(kind, b"\1") for kind in (b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tRNS", b"acTL", b"eXIf", b"tIME")),
        *(chunk(b"iTXt", b"XML:com.adobe.xmp" + rest) for rest in (b"\0", b"\0\1", b"\0\1\0\0\0x")),
        *(chunk(kind, b"") for kind in (b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tRNS", b"iCCP", b"zTXt", b"iTXt")),
        chunk(b"tRNS", struct.pack(">3H", 10, 20, 30), crc=0),
    ],
)
def test_no_chunk_that_pixels_do_not_need_loses_a_png(read, ancillary):
    result = read(png(8, 2, RGB_ROW, ancillary), channels=3)
    assert (result.pixels == (10, 20, 30)).all() and result.warnings == ()


@pytest.mark.parametrize("number", range(16))
def test_no_application_segment_loses_a_jpeg(read, number):
    expected = read(jpeg(), 8).pixels
    first = bytes.fromhex("ffe0") + b"\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    assert jpeg().startswith(b"\xff\xd8" + first)
    names = (b"", b"JFIF", b"JFIF\0", b"JFXX\0", b"Exif\0\0", b"MPF\0", b"ICC_PROFILE\0", b"Adobe", b"Photoshop 3.0\0")
    bodies = (b"", b"\1", b"\2\1abc", b"II*\0\x08\0\0\0\1\0", b"MM\0*\xff\xff\xff\xff", b"8BIM\4\4\0\0\0\0\xff\xff")
    for body in (name + rest for name in names for rest in bodies):
        content = jpeg(app(number, body))
        # At the start, and behind the first segment, where cameras put it.
        for place in (content, jpeg(first, app(number, body))):
            result = read(place, 8)
            assert result.pixels is not None, (body, result.note)
            assert (result.pixels == expected).all() and not result.warnings


def test_what_lies_between_segments_is_passed_over(read):
    content = jpeg(app(15, b"x"), b"\x12\x34", b"\xff\xff\xff", app(15, b"y"))
    assert (read(content, 8).pixels == read(jpeg(), 8).pixels).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(read, orientation):
    # No two ways of turning it are the same.
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    expected = {
        1: picture, 2: picture[:, ::-1], 3: picture[::-1, ::-1], 4: picture[::-1],
        5: picture.T, 6: np.rot90(picture, -1), 7: picture.T[::-1, ::-1], 8: np.rot90(picture),
    }[orientation]  # fmt: skip
    image = Image.fromarray(picture)
    plain = image.getexif()
    plain[0x0112] = orientation
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        np.testing.assert_array_equal(read(_saved(image, kind, exif=plain, **options), 8).pixels[..., 0], expected)
    block = exif(orientation)
    for holder in (
        chunk(b"eXIf", block[6:]),
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n      38\n" + block.hex().encode()),
        chunk(b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(b"\nexif\n 38\n" + block.hex().encode())),
        chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0en\0XMP\0<x tiff:Orientation="%d"/>' % orientation),
        chunk(
            b"iTXt",
            b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b'<x tiff:Orientation="%d"/>' % orientation),
        ),
    ):
        rows = b"".join(b"\0" + row.tobytes() for row in picture)
        content = png(8, 0, b"", holder, size=8).replace(
            chunk(b"IDAT", zlib.compress(b"\0" * 8)), chunk(b"IDAT", zlib.compress(rows))
        )
        np.testing.assert_array_equal(read(content, 8).pixels[..., 0], expected)


@pytest.mark.parametrize(
    "block",
    [
        *(exif(6, order, kind) for order in "<>" for kind in (1, 3, 4, 6, 8, 9)),
        exif(6)[:-12],
        b"Exif\0\xff" + exif(6)[6:],
    ],
)
def test_an_orientation_is_read_beside_tags_that_cannot_be_written_or_are_cut_off(read, block):
    pixels = read(jpeg(app(1, block)), 8).pixels[..., 0].astype(int)
    assert (np.diff(pixels, axis=0) > 20).all() and (np.diff(pixels, axis=1) == 0).all()


@pytest.mark.parametrize("block", [exif(0), exif(9), exif(6)[:20], exif(6)[:8], b"Exif\0\0", b"XX" + exif(6)[8:]])
def test_no_orientation_is_upright(block):
    assert metadata.split(jpeg(app(1, block))).orientation == 1
    assert metadata.split(jpeg(app(1, block), app(1, exif(6)))).orientation == 6


def test_xmp_says_the_orientation_where_exif_does_not():
    for text in (
        b"<tiff:Orientation>8</tiff:Orientation>",
        b"<tiff:Orientation>\n 8\n</tiff:Orientation>",
        b"<x tiff:Orientation='8'/>",
        b'<x tiff:Orientation = "8"/>',
    ):
        packet = metadata.XMP + text
        assert metadata.split(jpeg(app(1, packet))).orientation == 8
        assert metadata.split(jpeg(app(1, packet), app(1, exif(3)))).orientation == 3
    for text in (b"<tiff:Orientation>0</tiff:Orientation>", b"<x tiff:Orientation='81'/>", b"tiff:Orientation"):
        assert metadata.split(jpeg(app(1, metadata.XMP + text))).orientation == 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("transparent", ["lowest", "highest", "other"])
def test_a_transparent_grey_is_white_at_every_depth(read, depth, transparent):
    highest = 2**depth - 1
    sample = {"lowest": 0, "highest": highest, "other": highest * 2 // 3}[transparent]
    opaque = [0 if sample else highest, highest if sample != highest else 0]
    content = png(depth, 0, packed([sample, sample, *opaque], depth), chunk(b"tRNS", struct.pack(">H", sample)))
    for channels in (1, 3):
        expected = np.array([255, 255, *(255 if value else 0 for value in opaque)])[None, :, None]
        assert (read(content, channels=channels).pixels == expected).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_stray_bits_of_a_transparent_grey_are_none_of_it(read, depth):
    highest = 2**depth - 1
    for sample in (0, highest):
        row = packed([sample, highest - sample] * 2, depth)
        contents = (
            png(depth, 0, row, chunk(b"tRNS", struct.pack(">H", sample | stray))) for stray in (0, 0xFF00, 1 << depth)
        )
        expected, *others = (read(content).pixels for content in contents)
        assert (expected[:, 0] == 255).all() and all((other == expected).all() for other in others)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_white_and_its_neighbours_are_not(read, depth):
    scale = 1 if depth == 8 else 257
    colour = np.array((195, 7, 31)) * scale - (depth == 16)
    row = np.array([colour, colour, colour + np.eye(3, dtype=int)[2], colour - np.eye(3, dtype=int)[0]]).astype(
        ">u2" if depth == 16 else np.uint8
    )
    content = png(depth, 2, row.tobytes(), chunk(b"tRNS", struct.pack(">3H", *map(int, colour))))
    pixels = read(content, channels=3).pixels
    assert (pixels[:, :2] == 255).all()
    assert (np.abs(pixels[:, 2:].astype(int) - (195, 7, 31)) <= 1).all()  # Pillow cuts 16 bits to 8


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_transparent_colours_of_a_palette_are_white(read, depth):
    palette = chunk(b"PLTE", bytes([50, 60, 70, 80, 90, 100]))
    content = png(depth, 3, packed([0, 1, 0, 1], depth), palette, chunk(b"tRNS", bytes([0])))
    assert (read(content, channels=3).pixels[:, 0] == 255).all()
    assert (read(content, channels=3).pixels[:, 1] == (80, 90, 100)).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA"])
def test_still_images_of_all_formats_are_read(read, kind):
    image = Image.new("RGB", (6, 5), (200, 100, 50))
    assert (np.abs(read(_saved(image, kind), channels=3).pixels.astype(int) - (200, 100, 50)) <= 2).all()


def test_several_pictures_are_not_one(read):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue", "lime")]
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        result = read(_saved(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert result.pixels is None and "not one still image, but 3" in result.note
    # The previews that cameras add are no pictures of their own.
    result = read(_saved(frames[0], "MPO", save_all=True, append_images=frames[1:]), channels=3)
    assert (np.abs(result.pixels.astype(int) - (255, 0, 0)) <= 2).all()
    preview = Image.new("RGB", (3, 3))
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    assert (
        read(_saved(frames[0], "TIFF", save_all=True, append_images=[preview]), channels=3).pixels == (255, 0, 0)
    ).all()


@pytest.mark.parametrize("place", [1, 4, 8, 150, 2**32 - 1])
def test_rubbish_behind_the_only_page_of_a_tiff_file_does_not_matter(read, place):
    content = bytearray(_saved(Image.new("L", (4, 4), 77), "TIFF"))
    (start,) = struct.unpack_from("<I", content, 4)
    (number,) = struct.unpack_from("<H", content, start)
    struct.pack_into("<I", content, start + 2 + 12 * number, place)  # of the next page
    assert (read(bytes(content)).pixels == 77).all()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_samples_without_a_known_range_are_not_guessed(read, mode):
    assert "which do not say their range" in read(_saved(Image.new(mode, (4, 4)), "TIFF")).note


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a picture",
        png(8, 2, RGB_ROW)[:50],
        jpeg()[:-300],
        jpeg()[:2],
        jpeg(b"\xff\xe1\xff\xff"),  # longer than the file
        png(8, 2, RGB_ROW, chunk(b"tEXt", b"a\0b")).replace(struct.pack(">I", 3) + b"tEXt", b"\0\1\0\3tEXt"),
        png(8, 2, RGB_ROW).replace(b"IDAT", b"IDAX"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n",
    ],
)
def test_what_is_really_damaged_is_named_the_same_way_every_time(read, content):
    first, second = read(content), read(content)
    assert first.pixels is None and first.note and first == second and " at 0x" not in first.note


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"quality": 95}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_is_whole_or_damaged_by_its_pixels(read, mode, options):
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8))
    smooth, flat = coarse.resize((24, 24), Image.Resampling.BICUBIC), Image.new("RGB", (24, 24), (200, 100, 50))
    # The pixels of the flat one end in zeros: behind it nobody can tell more of them from pixels.
    for image, tails in ((smooth, (b"", b"\xff", bytes(500))), (flat, (b"", b"\xff"))):
        content = _saved(image.convert(mode), "JPEG", **options)
        expected = read(content, 24, 3).pixels
        for tail in tails:
            for cut in (*range(1, 40), *range(40, len(content), 23)):
                pixels = read(content[:-cut] + tail, 24, 3).pixels
                assert pixels is not None if cut < 3 else pixels is None or (pixels == expected).all(), cut


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("tail", [b"", bytes(9), b"junk junk junk"])
def test_a_webp_file_may_be_of_another_size_than_it_says(read, lossless, tail):
    content = _saved(Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)), "WEBP", lossless=lossless)
    expected = read(content).pixels
    for size in (0, len(content) - 9, len(content) - 7, len(content) + 1000, 2**32 - 1):
        changed = content[:4] + struct.pack("<I", size) + content[8:] + tail
        assert (read(changed).pixels == expected).all()
    assert read(content[:-4]).pixels is None


def test_damaged_files_never_stop_the_rest(read):
    """Bytes changed in a JPEG with an orientation, and in a PNG, a thousand times."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8))
    wholes = [_saved(noise, kind, exif=exif(6)) for kind in ("JPEG", "PNG")]
    unreadable = 0
    for index in range(1000):
        content = np.frombuffer(wholes[index % 2], np.uint8).copy()
        content[rng.integers(0, len(content) // 2, 3)] ^= rng.integers(1, 256, 3).astype(np.uint8)
        result = read(content.tobytes(), 4, 3)
        unreadable += result.pixels is None
        assert result.note if result.pixels is None else result.pixels.shape == (4, 4, 3)
    assert 0 < unreadable < 1000


def test_warnings_name_no_other_file_and_leave_pythons_filters_alone(read, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15)
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # They are no errors here, whatever Python is told.
        result = read(png(8, 2, RGB_ROW))
    (line,) = result.warnings
    assert "could be decompression bomb" in line and result.pixels is not None
    assert warnings.filters == before
    monkeypatch.undo()
    assert read(png(8, 2, RGB_ROW)).warnings == ()


MACHINE_ERRORS = [
    *(OSError(number, os.strerror(number)) for number in (errno.EACCES, errno.EIO, errno.EMFILE, errno.ENOMEM)),
    OSError(errno.ESTALE, "stale"),
    MemoryError(),
    ImageFile._get_oserror(-9, encoder=False),  # of a decoder
]


@pytest.mark.parametrize("error", MACHINE_ERRORS, ids=repr)
@pytest.mark.parametrize("where", ["read_bytes", "open"])
def test_an_error_of_the_machine_is_no_damage(read, monkeypatch, error, where):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(*((decoding.pathlib.Path, "read_bytes") if where == "read_bytes" else (Image, "open")), fail)
    with pytest.raises(decoding.MachineError, match=r"every image must be readable\. Received: '.*x'.* start the same"):
        read(png(8, 2, RGB_ROW))


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "null.jpg").symlink_to("/dev/null")
    (tmp_path / "kmsg.jpg").symlink_to("/proc/kmsg")  # "regular", and waits for the kernel to say more
    notes = {path.name: decoding.read(tmp_path, path.name, 4, 1).note for path in tmp_path.iterdir()}
    assert len(notes) == 6 and all(notes.values())
    # A link may have led nowhere all along; a file that was listed and is gone has lost its drive, say.
    with pytest.raises(decoding.MachineError, match=r"'.*lost\.jpg': FileNotFoundError: No such file"):
        decoding.read(tmp_path, "lost.jpg", 4, 1)
    with pytest.raises(decoding.MachineError, match="NotADirectoryError"):
        decoding.read(tmp_path, "pipe.jpg/lost.jpg", 4, 1)
    assert notes["pipe.jpg"] == notes["null.jpg"] == "ValueError: not a regular file"


def test_a_jpeg_file_says_in_its_adobe_segment_that_its_colours_are_rgb(read):
    content = bytearray(_saved(Image.new("RGB", (8, 8), (200, 30, 60)), "JPEG", quality=95, keep_rgb=True))
    # Without these letters nothing else says so: components 1, 2 and 3 are taken for luma and chroma.
    for marker, first, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        start = content.index(marker) + first
        assert content[start : start + 3 * step : step] == b"RGB"
        content[start : start + 3 * step : step] = b"\1\2\3"
    # JPEG's quantisation at this quality.
    np.testing.assert_allclose(read(content, channels=3).pixels[0, 0], (200, 30, 60), atol=3)
