"""Damaged images: real files of every usual kind, changed at random places."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from io import BytesIO

import numpy as np
import PIL.Image
import skimage.data

KINDS = {
    "jpg": ("JPEG", {"quality": 85}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "gif": ("GIF", {}),
    "tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
}


@cache
def originals() -> dict[str, bytes]:
    """A small photograph in each kind of file, by ending; two JPEG files have EXIF data."""
    picture = PIL.Image.fromarray(skimage.data.chelsea()).resize((72, 48))
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    found = {}
    for ending, (kind, options) in KINDS.items():
        file = BytesIO()
        extra = {"exif": exif} if kind == "JPEG" else {}
        picture.save(file, kind, **options, **extra)
        found[ending] = file.getvalue()
    file = BytesIO()
    picture.convert("CMYK").save(file, "JPEG")
    found["cmyk.jpg"] = file.getvalue()
    return found


def mutations(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """``count`` damaged files with their endings: bytes changed, cut off, doubled or left out."""
    draw = np.random.default_rng(seed)
    kinds = list(originals().items())
    for number in range(count):
        ending, whole = kinds[number % len(kinds)]
        data = bytearray(whole)
        # Half of the damage is in the head, where sizes and tables are.
        reach = len(data) if draw.random() < 0.5 else min(len(data), 200)
        what = draw.integers(5)
        if what < 2:
            for place in draw.integers(0, reach, size=draw.integers(1, 9)):
                data[place] = draw.integers(256)
        elif what == 2:
            del data[draw.integers(0, len(data)) :]
        else:
            start, length = draw.integers(0, reach), draw.integers(1, 64)
            part = data[start : start + length]
            data[start : start + (length if what == 3 else 0)] = b"" if what == 3 else part
        yield ending, bytes(data)
