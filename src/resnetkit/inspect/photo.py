"""A picture as the network gets it, and where that lies in the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import PIL.Image

from resnetkit.data.decoding.crop import frame
from resnetkit.data.decoding.decode import (
    Cut,
    Image,
    UnreadableImageError,
    cut,
    name_of,
    upright,
)
from resnetkit.inference.engines.engine import Pixels
from resnetkit.preprocess import Preprocess


class Box(NamedTuple):
    """A rectangle in pixels; the first pixel begins at 0."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Photo:
    """An image: ``original`` is upright RGB, ``pixels`` uint8 ``(size, size, C)`` is its crop after
    the resize, and ``box`` where the crop lies in the original."""

    name: str
    original: PIL.Image.Image
    pixels: Cut
    box: Box

    @property
    def crop(self) -> PIL.Image.Image:
        """The resized crop as a picture."""
        grey = self.pixels.shape[-1] == 1
        return PIL.Image.fromarray(self.pixels[..., 0] if grey else self.pixels)

    @property
    def batch(self) -> Pixels:
        """The crop as a batch of one, writable."""
        return self.pixels[None].copy()


def photo_of(image: Image, preprocess: Preprocess) -> Photo:
    """Read, resize and crop an image as ``predict`` does.

    Raises ``UnreadableImageError``, a ``ValueError``.
    """
    preprocess.check_pictures()
    original = upright(image)
    grey = preprocess.channels == "L"
    try:
        pixels = cut(upright(image, "L") if grey else original, preprocess)
    except UnreadableImageError as error:
        raise UnreadableImageError(name_of(image), error.reason) from None
    return Photo(
        name=name_of(image), original=original, pixels=pixels, box=_box(original, preprocess)
    )


def _box(original: PIL.Image.Image, preprocess: Preprocess) -> Box:
    where = frame(*original.size, preprocess)
    across, down = original.width / where.width, original.height / where.height
    return Box(
        left=where.left * across,
        top=where.top * down,
        width=where.size * across,
        height=where.size * down,
    )
