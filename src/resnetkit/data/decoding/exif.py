"""Reads the orientation and the number of scans of a JPEG file without decoding it."""

from __future__ import annotations

import re
import struct
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Pixels = TypeVar("Pixels", bound=npt.NDArray[np.uint8])
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_ORIENTATION, _SHORT = 0x0112, 3
#: Bytes per value of each type (TIFF 6.0, section 2).
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
#: Start of scan, after which come no marker segments.
_SCAN = 0xDA
SCAN = bytes((0xFF, _SCAN))
#: Maximum number of scans, each of which covers the whole image: encoders make up to about 12, and
#: a file of a few hundred kilobytes may have thousands.
MAX_SCANS = 100
#: Maximum number of segments of a JPEG file; encoders make a few dozen.
MAX_SEGMENTS = 10_000
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def orientation(data: bytes) -> int | None:
    """The EXIF orientation of a JPEG file, 1 to 8 (JEITA CP-3451, tag 0x0112); 1 without one.

    None for an unusual file, or one that stores it differently (XMP, two segments), which is left
    to Pillow.
    """
    exif: bytes | None = None
    place = 2
    for _ in range(MAX_SEGMENTS):
        head = data[place : place + 4]
        if len(head) < 4 or head[0] != 0xFF or not 0xC0 <= head[1] <= 0xFE:
            return None
        marker, length = head[1], int.from_bytes(head[2:], "big")
        if marker == _SCAN:
            break
        if 0xD0 <= marker <= 0xD9 or length < 2:
            return None
        if marker == 0xE1:
            segment = data[place + 4 : place + 2 + length]
            if segment.startswith(_EXIF):
                if exif is not None:
                    return None
                exif = segment[len(_EXIF) :]
            elif segment.startswith(_XMP) and b"Orientation" in segment:
                return None
        place += 2 + length
    else:
        return None
    return 1 if exif is None else _in_exif(exif)


def _in_exif(exif: bytes) -> int | None:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "L", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        if len(exif) < start + 2 + 12 * count + 4:  # entries, and the offset of the next table
            return None
        found = 1
        for number in range(count):
            entry = start + 2 + 12 * number
            tag, kind, size, value = struct.unpack_from(order + "HHLH", exif, entry)
            length = size * _BYTES.get(kind, 0)
            if length > 4:  # longer values are stored elsewhere; Pillow stops if they are missing
                (place,) = struct.unpack_from(order + "L", exif, entry + 8)
                if place + length > len(exif):
                    return None
            if tag == _ORIENTATION:
                if kind != _SHORT or size != 1 or not 1 <= value <= 8:
                    return None
                found = value
    except struct.error:
        return None
    return found


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an orientation to pixels ``(H, W, ...)``; a view."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = np.flip(pixels, 0)
    if orientation in (2, 3, 6, 7):
        pixels = np.flip(pixels, 1)
    return pixels


def jpeg_problem(data: bytes) -> str | None:
    """Why a JPEG file must not be decoded: too many scans of its first image; else None.

    Segments before a scan, such as a thumbnail, and data after the image, such as the video of a
    phone's motion photo, do not count.
    """
    # Almost all files have fewer of these bytes.
    if data.count(SCAN) <= MAX_SCANS:
        return None
    count, place = 0, 0
    # Within a scan, 0xff is followed by 0, a restart or more of itself.
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(data, place)
        kind = 0xD9 if marker is None else data[marker.end() - 1]
        if marker is None or kind == 0xD9:
            break
        place = marker.end()
        if kind in (0x01, 0xD8):
            continue
        count += kind == _SCAN
        if count > MAX_SCANS:
            return f"a JPEG file of more than {MAX_SCANS} scans"
        place += max(2, int.from_bytes(data[place : place + 2], "big"))
    else:
        return f"a JPEG file of more than {MAX_SEGMENTS:,} segments"
    return None
