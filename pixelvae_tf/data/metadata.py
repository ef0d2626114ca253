"""The metadata of picture files, of which only the orientation matters here.

Text, colour profiles, thumbnails and camera data are often damaged, very large, or of a kind that Pillow refuses,
around pixels that every browser shows. So they are cut out before Pillow sees the file. What the pixels need stays: of
PNG, critical chunks and tRNS; of JPEG, all segments but comments and APPn, and the two APPn on how colours are stored.
"""

import dataclasses
import itertools
import re
import struct
import zlib
from collections.abc import Iterator

PNG, JPEG, JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd9"
EXIF, XMP = b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"
# Orientations are 16 bits wide by the standard; the other types of integers are read too.
INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
# What a TIFF header starts with, and struct's sign for the order of its bytes.
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
ORIENTATION, RESOLUTION = 0x0112, (0x011A, 0x011B, 0x0128)
# An orientation is in the first bytes of a text, however long it is.
MAX_TEXT = 1 << 20
# Bytes of a PNG transparency chunk by colour type: one grey value, one colour, one alpha for each palette entry.
TRANSPARENCY_BYTES = {0: (2, 2), 2: (6, 6), 3: (1, 256)}


@dataclasses.dataclass
class Split:
    """A file, split into pixels and metadata.

    Attributes:
      content: the file without its metadata; all of it, if it is neither PNG nor JPEG.
      exif: an EXIF block, with an orientation where one has it; empty if there is none.
      xmp: its XMP block; empty if there is none.
      num_pictures: the frames of an animated PNG; 1 for any other file.
      pixels_start: where the first scan of a JPEG is in `content`; 0 for any other file.
    """

    content: bytes
    exif: bytes = b""
    xmp: bytes = b""
    num_pictures: int = 1
    pixels_start: int = 0

    @property
    def bit_depth(self) -> int:
        """Bits per sample of a PNG file."""
        return self.content[24]

    @property
    def orientation(self) -> int:
        """1 to 8, as EXIF counts them; 1 (upright) if none can be read."""
        in_xmp = re.search(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([1-8])\b", self.xmp)
        return exif_orientation(self.exif) or (int(in_xmp[1]) if in_xmp else 1)


def split(content: bytes) -> Split:
    """Separates the pixels of a file from its metadata."""
    if content.startswith(PNG):
        return _split_png(content)
    if content.startswith(JPEG):
        return _split_jpeg(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return Split(_with_its_size(content))
    return _split_tiff(content) if content[:4] in BYTE_ORDERS else Split(content)


def exif_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block, 1 to 8; 0 if there is none. No other tag is looked at."""
    # A padding byte follows the name; some cameras write another value than zero.
    tiff = exif[len(EXIF) + 1 :] if exif.startswith(EXIF) else exif
    for place, order, tag, kind in _tags(tiff):
        if tag == ORIENTATION and place + 12 <= len(tiff):
            (value,) = struct.unpack_from(order + INTEGERS.get(kind, "H"), tiff, place + 8)
            return value if 1 <= value <= 8 else 0
    return 0


def _tags(tiff: bytes) -> Iterator[tuple[int, str, int, int]]:
    """(place, byte order, tag, type) of the tags of the first directory, up to where it is cut off."""
    order = BYTE_ORDERS.get(tiff[:4])
    try:
        if order is not None:
            (start,) = struct.unpack_from(f"{order}I", tiff, 4)
            (number,) = struct.unpack_from(f"{order}H", tiff, start)
            for place in range(start + 2, start + 2 + 12 * number, 12):
                yield place, order, *struct.unpack_from(f"{order}HH", tiff, place)
    except struct.error:
        pass


def _split_tiff(content: bytes) -> Split:
    """A TIFF file is all tags and stays whole, except resolutions: Pillow refuses files with one of zero."""
    changed = bytearray(content)
    for place, order, tag, _ in _tags(content):
        if tag in RESOLUTION and place + 12 <= len(content):
            struct.pack_into(f"{order}HHII", changed, place, tag, 1, 1, 0)  # One byte, 0: unknown.
    return Split(bytes(changed))


def _with_its_size(riff: bytes) -> bytes:
    """A RIFF file with the header size of its complete chunks."""
    place = 12
    while place + 8 <= len(riff):
        end = place + 8 + int.from_bytes(riff[place + 4 : place + 8], "little")
        if end > len(riff):
            break
        place = end + end % 2
    return riff[:4] + struct.pack("<I", place - 8) + riff[8:place].ljust(place - 8, b"\0")


def _split_png(content: bytes) -> Split:
    result, kept, place = Split(content), [PNG], len(PNG)
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        chunk = content[place : place + 12 + length]
        place += 12 + length
        if not kind[0] & 0x20:  # Critical; whether it is whole is for the decoder to find.
            kept.append(chunk)
        elif len(chunk) == 12 + length and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:]):
            if kind == b"tRNS" and _is_transparency(content, length):
                kept.append(_without_stray_bits(chunk, content))
            _note_chunk(result, kind, chunk[8:-4])
        if kind == b"IEND":
            break
    result.content = b"".join(kept)
    return result


def _is_transparency(png: bytes, length: int) -> bool:
    """Whether a tRNS chunk has the length that the colour type asks for; PNG decoders ignore others."""
    shortest, longest = TRANSPARENCY_BYTES.get(png[25], (1, 0))
    return shortest <= length <= longest


def _without_stray_bits(transparency: bytes, png: bytes) -> bytes:
    """A tRNS chunk whose samples have no bits above the file's bit depth: PNG decoders ignore those."""
    if png[25] == 3:  # of a palette, a byte for each entry
        return transparency
    samples = struct.iter_unpack(">H", transparency[8:-4])
    body = b"tRNS" + b"".join(struct.pack(">H", sample & (2 ** png[24] - 1)) for (sample,) in samples)
    return transparency[:4] + body + struct.pack(">I", zlib.crc32(body))


def _note_chunk(result: Split, kind: bytes, body: bytes) -> None:
    """Reads orientation and number of frames from an ancillary chunk."""
    if kind == b"eXIf":
        result.exif = result.exif or body
    elif kind == b"acTL" and len(body) == 8:
        result.num_pictures = int.from_bytes(body[:4])
    elif kind == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0"):
        result.xmp = _international_text(body)
    elif kind in (b"tEXt", b"zTXt"):
        keyword, _, text = body.partition(b"\0")
        if keyword in (b"Raw profile type exif", b"Raw profile type APP1"):  # as ImageMagick writes them
            result.exif = result.exif or _raw_profile(text if kind == b"tEXt" else _inflate(text[1:]))


def _international_text(body: bytes) -> bytes:
    """The text of an iTXt chunk: after keyword, whether it is compressed and how, language and translated keyword."""
    _, _, rest = body.partition(b"\0")
    text = rest[2:].split(b"\0", 2)[-1]
    return _inflate(text) if rest[:1] == b"\1" else text[:MAX_TEXT]


def _inflate(text: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(text, MAX_TEXT)
    except zlib.error:
        return b""


def _raw_profile(text: bytes) -> bytes:
    """The bytes of "name, length, hexadecimal digits"."""
    try:
        return bytes.fromhex(b"".join(text[:MAX_TEXT].split()[2:]).decode("ascii"))
    except ValueError:
        return b""


def _split_jpeg(content: bytes) -> Split:
    result, kept, place = Split(content), [JPEG], len(JPEG)
    while (place := content.find(b"\xff", place)) >= 0 and place + 4 <= len(content):
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4])
        if marker == 0xFF:  # Fill bytes may stand before any marker.
            place += 1
            continue
        if marker in (0x00, 0x01, *range(0xD0, 0xD9)):  # Markers without a body, here without a meaning.
            place += 2
            continue
        if marker in (0xD9, 0xDA):  # The pixels follow; 0xD9: there are none.
            result.content, result.pixels_start = b"".join([*kept, content[place:]]), sum(map(len, kept))
            break
        end = place + 2 + length
        if length < 2 or end > len(content):
            break
        body = content[place + 4 : end]
        if _is_needed(marker, body):
            kept.append(content[place:end])
        elif marker == 0xE1 and body.startswith(EXIF):
            result.exif = result.exif if exif_orientation(result.exif) else body
        elif marker == 0xE1 and body.startswith(XMP):
            result.xmp = result.xmp or body
        place = end
    return result


def has_all_scans(scans: bytes, num_components: int, progressive: bool) -> bool:
    """Whether the scans of a JPEG are all there, each by its header: every coefficient with every bit of it."""
    complete = set()
    for header in re.finditer(rb"\xff\xda..(.)", scans, re.DOTALL):
        end = header.end() + 2 * header[1][0]
        components, parameters = scans[header.end() : end : 2], scans[end : end + 3]
        if len(parameters) == 3 and not parameters[2] & 15:
            coefficients = range(parameters[0], parameters[1] + 1) if progressive else range(64)
            complete.update(itertools.product(components, coefficients))
    return len(complete) == 64 * num_components


def _is_needed(marker: int, body: bytes) -> bool:
    """Whether the pixels need a segment: of comments and APPn, only those on how colours are stored."""
    if marker != 0xFE and not 0xE0 <= marker <= 0xEF:
        return True
    jfif = marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14
    return jfif or (marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12)
