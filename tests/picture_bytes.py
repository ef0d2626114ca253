"""PNG and JPEG files byte by byte, with what Pillow does not write."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    """A PNG chunk; with another CRC than its own, a damaged one."""
    return (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) if crc is None else crc)
    )


def png(depth: int, colour_type: int, row: bytes, *chunks: bytes, size: int = 4) -> bytes:
    """A square PNG whose rows are all the same, with chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, depth, colour_type, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * size))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def packed(samples: list[int], depth: int) -> bytes:
    """A row of grey samples or palette indices."""
    bits = "".join(f"{sample:0{depth}b}" for sample in samples)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def jpeg(*segments: bytes) -> bytes:
    """A grey JPEG of 8x8 pixels that is brighter to the right, 30 a column, with segments at its start."""
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.arange(8, dtype=np.uint8) * 30, (8, 1))).save(buffer, "JPEG", quality=95)
    content = buffer.getvalue()
    return content[:2] + b"".join(segments) + content[2:]


def app(number: int, body: bytes) -> bytes:
    """A JPEG's APPn segment."""
    return bytes([0xFF, 0xE0 + number]) + struct.pack(">H", len(body) + 2) + body


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """An EXIF block with an orientation, and a resolution as text, which Pillow reads and cannot write."""
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I", 6: "b3x", 8: "h2x", 9: "i"}[kind], orientation)
    entries = struct.pack(f"{order}HHI", 0x0112, kind, 1) + value + struct.pack(f"{order}HHI4s", 0x011A, 2, 3, b"72\0")
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return b"Exif\0\0" + start + struct.pack(f"{order}H", 2) + entries + bytes(4)
