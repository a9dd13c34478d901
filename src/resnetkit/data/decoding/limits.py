"""Limits on the decoding cost of image files."""

from __future__ import annotations

from typing import Any, BinaryIO

import PIL.Image

#: Files that Pillow decodes in Python, at 1 to 2 MB a second, may have so many bytes: PPM as text
#: or with other maxima than 255, BMP with runs.
MAX_SLOW = 16 << 20
#: So many comments may stand among the numbers of a PPM file: each costs a copy of what is read.
MAX_COMMENTS = 100
#: An icon's side may be so long; what says that it is 256 at most is a byte of the file.
MAX_ICON = 2048
#: Pillow may read from a file so often, and once more for each 256 bytes of it: segments, chunks
#: and comments are read one by one, in Python, and some are kept.
MOST_READS = 10_000
_ICON = b"\x00\x00\x01\x00"
_PLAIN = (b"P1", b"P2", b"P3")


class Bounded:
    """A file that may be read from so often, by its size; it raises ``ValueError`` then."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = MOST_READS + size // 256

    def read(self, size: int = -1) -> bytes:
        """As the file's own."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("its header has too many parts to be read")
        return self._file.read(size)

    def allow(self, reads: int) -> None:
        """Let it be read from so many times more: a decoder in Python reads pixel by pixel."""
        self._left += reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def is_slow(picture: PIL.Image.Image) -> bool:
    """Whether an opened file is decoded in Python."""
    return any(tile[0] in PIL.Image.DECODERS for tile in getattr(picture, "tile", None) or ())


def slow_problem(data: bytes, size: int) -> str | None:
    """Why a file of ``size`` bytes, ``data`` at its beginning, is not decoded in Python."""
    if size > MAX_SLOW:
        return (
            f"a kind of {size:,} bytes that is decoded slowly; at most {MAX_SLOW:,} are read: "
            "save it as PNG"
        )
    if data.startswith(_PLAIN) and data.count(b"#") > MAX_COMMENTS:
        return f"a PPM file of more than {MAX_COMMENTS} comments; save it as PNG"
    return None


def icon_problem(data: bytes) -> str | None:
    """Why an ICO file is not opened, for then Pillow decodes its largest picture; else None.

    An entry of 16 bytes has its picture's place at byte 12: a PNG file, or a BMP of twice the
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
            return f"an icon of {width}x{height} pixels; at most {MAX_ICON} a side are read"
    return None
