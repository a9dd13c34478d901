"""Numbers as colours, and small pictures put together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

Floats = npt.NDArray[np.floating]
Bytes = npt.NDArray[np.uint8]
#: Pixels between small pictures, and the height of a line of text.
GAP, LINE = 2, 14
_PAPER = (255, 255, 255)


@cache
def table() -> Bytes:
    """256 colours, uint8 ``(256, 3)``, from black to white through violet, red and yellow.

    Cubehelix (Green 2011, "A colour scheme for the display of astronomical intensity images"):
    the brightness rises steadily, so that it is read in grey too.
    """
    share = np.linspace(0, 1, 256)
    angle = 2 * np.pi * (1 + 0.55 * share)
    amplitude = 1.8 * share * (1 - share) / 2
    mixed = np.stack([np.cos(angle), np.sin(angle)])
    weights = np.array([[-0.14861, 1.78277], [-0.29227, -0.90649], [1.97294, 0.0]])
    rgb = share + amplitude * (weights @ mixed)
    colours: Bytes = np.rint(255 * rgb.clip(0, 1)).astype(np.uint8).T
    return colours


def scaled(values: Floats, low: float, high: float) -> Bytes:
    """Values as uint8: ``low`` is 0, ``high`` 255; what is not finite is 0."""
    span = high - low
    if not np.isfinite(span) or span <= 0:
        return np.zeros(values.shape, np.uint8)
    share = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / span
    levels: Bytes = np.rint(255 * share.clip(0, 1)).astype(np.uint8)
    return levels


def coloured(values: Floats, low: float | None = None, high: float | None = None) -> Bytes:
    """A map ``(h, w)`` as colours ``(h, w, 3)``, by default from its lowest to its highest."""
    lowest, highest = limits(values)
    found = scaled(values, lowest if low is None else low, highest if high is None else high)
    return table()[found]


def limits(values: Floats) -> tuple[float, float]:
    """The lowest and highest finite value; 0 and 0 without any."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def resized(values: Floats, width: int, height: int) -> npt.NDArray[np.float32]:
    """A map ``(h, w)`` enlarged bilinearly to ``(height, width)``, edges at the pixels' edges."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(values, np.float32))
    found = picture.resize((width, height), PIL.Image.Resampling.BILINEAR)
    return np.asarray(found).copy()


def enlarged(pixels: Bytes, side: int) -> PIL.Image.Image:
    """Pixels as a picture whose longer side is ``side`` or a little less, each pixel a square."""
    picture = PIL.Image.fromarray(pixels)
    times = max(1, side // max(picture.size))
    size = (picture.width * times, picture.height * times)
    return picture.resize(size, PIL.Image.Resampling.NEAREST).convert("RGB")


def grid(tiles: Sequence[PIL.Image.Image], columns: int) -> PIL.Image.Image:
    """Pictures in rows of ``columns``, on white."""
    width, height = (max(sides) for sides in zip(*(tile.size for tile in tiles), strict=True))
    rows = -(-len(tiles) // columns)
    columns = min(columns, len(tiles))
    size = (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP)
    sheet = PIL.Image.new("RGB", size, _PAPER)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (column * (width + GAP), row * (height + GAP)))
    return sheet


def captioned(rows: Sequence[tuple[str, PIL.Image.Image]]) -> PIL.Image.Image:
    """Pictures below each other, each below its line of text."""
    width = max(picture.width for _, picture in rows)
    height = sum(picture.height + LINE + GAP for _, picture in rows)
    sheet = PIL.Image.new("RGB", (width, height), _PAPER)
    draw, top = PIL.ImageDraw.Draw(sheet), 0
    for text, picture in rows:
        # The built-in font has Latin letters only.
        draw.text((1, top), text.encode("ascii", "replace").decode(), fill=(0, 0, 0))
        sheet.paste(picture, (0, top + LINE))
        top += picture.height + LINE + GAP
    return sheet
