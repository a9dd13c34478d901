"""Limits on the decoding cost of image files."""

from __future__ import annotations

from typing import Any, BinaryIO

import PIL.Image

#: Maximum bytes of files that Pillow decodes in Python, at 1 to 2 MB per second: PPM as text or
#: with maxima other than 255, run-length encoded BMP.
MAX_SLOW = 16 << 20
#: Maximum comments among the numbers of a PPM file: each copies the data read.
MAX_COMMENTS = 100
#: Maximum side of an icon, whose declared size (at most 256) is not trusted.
MAX_ICON = 2048
#: Maximum number of reads by Pillow, plus one per 256 bytes of the file: segments, chunks and
#: comments are read one by one, in Python, and some are kept.
MOST_READS = 10_000
_ICON = b"\x00\x00\x01\x00"
_PLAIN = (b"P1", b"P2", b"P3")


class Bounded:
    """A file with a limited number of reads by its size; raises ``ValueError`` above it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = MOST_READS + size // 256

    def read(self, size: int = -1) -> bytes:
        """As the file's own."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("its header has too many parts")
        return self._file.read(size)

    def allow(self, reads: int) -> None:
        """Allow that many more reads: a decoder in Python reads pixel by pixel."""
        self._left += reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def is_slow(picture: PIL.Image.Image) -> bool:
    """Whether Pillow decodes an opened file in Python."""
    return any(tile[0] in PIL.Image.DECODERS for tile in getattr(picture, "tile", None) or ())


def slow_problem(data: bytes, size: int) -> str | None:
    """Why a file of ``size`` bytes, starting with ``data``, must not be decoded in Python."""
    if size > MAX_SLOW:
        return (
            f"a kind of {size:,} bytes that is decoded slowly; at most {MAX_SLOW:,} are read: "
            "save it as PNG"
        )
    if data.startswith(_PLAIN) and data.count(b"#") > MAX_COMMENTS:
        return f"a PPM file of more than {MAX_COMMENTS} comments; save it as PNG"
    return None


def icon_problem(data: bytes) -> str | None:
    """Why an ICO file must not be opened, which decodes its largest image; else None.

    An entry of 16 bytes has its image's offset at byte 12: a PNG file, or a BMP of twice the
    height.
    """
    if not data.startswith(_ICON):
        return None
    for entry in range(int.from_bytes(data[4:6], "little")):
        place = int.from_bytes(data[18 + 16 * entry : 22 + 16 * entry], "little")
        inner = data[place : place + 24]
        if inner.startswith(b"\x89PNG"):
            width, height = (int.from_bytes(inner[i : i + 4], "big") for i in (16, 20))
        else:
            width, height = (int.from_bytes(inner[i : i + 4], "little") for i in (4, 8))
        if max(width, height) > MAX_ICON:
            return f"an icon of {width}x{height} pixels; at most {MAX_ICON} per side are read"
    return None
