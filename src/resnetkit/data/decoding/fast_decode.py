"""Fast decoding: libjpeg-turbo if installed, and torch's vectorised resize, else Pillow's.

Accepts and rejects the same images as ``decode``. JPEG files are decoded to the same pixels, except
that large ones are decoded at 1/2, 1/4 or 1/8 of their size (by the discrete cosine transform), as
long as at least ``GAP`` times the target size remains. Only the cropped part is resized. Other
files are decoded by Pillow, by the same rules. ``benchmarks/pixels.py`` measures the effect on
predictions. torch, if installed, is imported with the first image.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from resnetkit.data.decoding import decode
from resnetkit.data.decoding.crop import Frame, frame
from resnetkit.data.decoding.decode import (
    MAX_PIXELS,
    Cut,
    Image,
    UnreadableImageError,
    check_shape,
    in_turn,
    name_of,
    scaled_upright,
)
from resnetkit.data.decoding.exif import jpeg_problem, orientation, turned
from resnetkit.preprocess import Preprocess

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

#: Minimum size of a scaled-down decode, as a multiple of the resize target; as in Pillow's
#: ``thumbnail`` (``reducing_gap``).
GAP = 2.0
#: Larger files are left to Pillow instead of being read as a whole.
MAX_BYTES = 64 << 20
#: Maximum shift of the crop, in pixels, to resize less.
SHIFT = 0.03

#: Whether torch resizes; else Pillow, in more time.
_TORCH = find_spec("torch") is not None

Pixels = npt.NDArray[np.uint8]


def pixels_of(image: Image, preprocess: Preprocess, *, torch: bool | None = None) -> Cut:
    """Decode, orient, resize and crop: uint8 ``(size, size, C)``, RGB or L.

    ``torch`` says whether torch resizes, by default if it is installed. Raises
    ``UnreadableImageError`` as ``decode.pixels_of`` does, with the same reason.
    """
    preprocess.check_pictures()
    if preprocess.interpolation == "nearest":  # nearest picks pixels, so it cannot be approximated
        return decode.pixels_of(image, preprocess)
    try:
        decoded = _jpeg(image, preprocess) or _any(image, preprocess)
        return _square(decoded, preprocess, torch=_TORCH if torch is None else torch)
    except UnreadableImageError as error:
        raise UnreadableImageError(name_of(image), error.reason) from None


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Upright pixels ``(H, W)`` or ``(H, W, 3)`` of an image of full size ``width`` x ``height``,
    which spans ``across`` x ``down`` of them from ``left``, ``top``; the rest is padding."""

    pixels: Pixels
    width: int
    height: int
    across: float
    down: float
    left: float = 0.0
    top: float = 0.0


def _any(image: Image, preprocess: Preprocess) -> _Decoded:
    picture, width, height = scaled_upright(
        image, preprocess.channels, lambda width, height: _factor(width, height, preprocess)
    )
    return _Decoded(np.asarray(picture), width, height, *picture.size)


def _jpeg(image: Image, preprocess: Preprocess) -> _Decoded | None:
    """A JPEG file's pixels, possibly scaled down.

    None for any other or unusual file, which is left to Pillow.
    """
    if simplejpeg is None:
        return None
    data = _bytes(image)
    turn = None if data is None else orientation(data)
    if data is None or turn is None:
        return None
    if problem := jpeg_problem(data):
        raise UnreadableImageError(name_of(image), problem)
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=True)
        if space not in ("YCbCr", "Gray") or width * height > MAX_PIXELS:
            return None
        tall, wide = (width, height) if turn >= 5 else (height, width)
        factor = _factor(wide, tall, preprocess)
        with in_turn(width, height):
            found = simplejpeg.decode_jpeg(
                data,
                "GRAY" if space == "Gray" else "RGB",
                min_height=-(-height // factor),
                min_width=-(-width // factor),
                min_factor=factor,
            )
    except ValueError:
        return None
    found = turned(found[..., 0] if space == "Gray" else found, turn)
    if space != "Gray" and preprocess.channels == "L":
        found = np.asarray(PIL.Image.fromarray(found).convert("L"))
    # Each side is padded to a whole pixel at its end, which a turn may bring to the beginning.
    across, down = wide / factor, tall / factor
    left = found.shape[1] - across if turn in (2, 3, 6, 7) else 0.0
    top = found.shape[0] - down if turn in (3, 4, 7, 8) else 0.0
    return _Decoded(found, wide, tall, across, down, left, top)


def _bytes(image: Image) -> bytes | None:
    """The bytes of a potential JPEG file."""
    if isinstance(image, bytes):
        return image if image[:2] == b"\xff\xd8" and len(image) <= MAX_BYTES else None
    if not isinstance(image, str | Path):
        return None
    try:
        path = Path(image)
        if not path.is_file():  # opening a pipe would block
            return None
        with path.open("rb", buffering=0) as file:
            head = file.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        return None
    return head if head[:2] == b"\xff\xd8" and len(head) <= MAX_BYTES else None


def _factor(width: int, height: int, preprocess: Preprocess) -> int:
    """The factor by which an image may be scaled down when decoded."""
    where = frame(width, height, preprocess)
    ratio = min(width / where.width, height / where.height) / GAP
    return next((factor for factor in (8, 4, 2) if factor <= ratio), 1)


def _square(image: _Decoded, preprocess: Preprocess, *, torch: bool) -> Cut:
    check_shape(image.width, image.height, preprocess)
    where = frame(image.width, image.height, preprocess)
    across, down = image.across / where.width, image.down / where.height
    if min(across, down) < 1:  # a small image: nothing to gain
        picture = PIL.Image.fromarray(np.ascontiguousarray(image.pixels))
        square = decode.cut(picture, preprocess)
    elif torch and not (image.left or image.top):  # torch's resize starts at a whole pixel
        square = _resized_by_torch(image.pixels, where, across, down, preprocess)
    else:
        square = _resized_by_pillow(image, where, across, down, preprocess)
    return square.repeat(3, -1) if square.shape[-1] < preprocess.channel_count else square


def _resized_by_pillow(
    image: _Decoded, where: Frame, across: float, down: float, preprocess: Preprocess
) -> Cut:
    """The crop of the image that is ``across`` and ``down`` times smaller, antialiased."""
    height, width = image.pixels.shape[:2]
    left, top = image.left + where.left * across, image.top + where.top * down
    right, bottom = left + where.size * across, top + where.size * down
    box = (left, top, min(right, width), min(bottom, height))
    picture = PIL.Image.fromarray(np.ascontiguousarray(image.pixels))
    resample = decode.FILTERS[preprocess.interpolation]
    return decode.as_cut(picture.resize((where.size, where.size), resample, box))


def _resized_by_torch(
    pixels: Pixels, where: Frame, across: float, down: float, preprocess: Preprocess
) -> Cut:
    """As ``_resized_by_pillow``; torch's filters for channels-last uint8 are vectorised."""
    import torch

    x, left = _skipped(where.left, across, pixels.shape[1])
    y, top = _skipped(where.top, down, pixels.shape[0])
    # The last pixels of the crop depend on at most two source pixels after it.
    right = x + ceil((left + where.size + 2) * across) + 2
    bottom = y + ceil((top + where.size + 2) * down) + 2
    part = np.array(pixels[y:bottom, x:right])
    source = torch.from_numpy(part[..., None] if part.ndim == 2 else part).permute(2, 0, 1)[None]
    # Not torch.nn.functional.interpolate, which derives the scale from the part's size.
    bilinear = preprocess.interpolation == "bilinear"
    aten = torch.ops.aten
    resize = aten._upsample_bilinear2d_aa if bilinear else aten._upsample_bicubic2d_aa
    size = (top + where.size, left + where.size)
    found = resize(source, size, False, 1 / down, 1 / across)[0, :, top:, left:]
    square: Cut = found.permute(1, 2, 0).contiguous().numpy()
    return square


def _skipped(margin: int, scale: float, side: int) -> tuple[int, int]:
    """The number of edge pixels to skip in the resize, and the remaining margin.

    ``margin`` pixels of the result are cropped, each ``scale`` pixels of the image wide. Only a
    (nearly) whole number of both can be skipped; two are kept for the filter's support.
    """
    for count in range(margin - 2, 0, -1):
        whole = round(count * scale)
        if abs(count * scale - whole) <= SHIFT and 0 < whole < side:
            return whole, margin - count
    return 0, margin
