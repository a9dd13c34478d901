"""How training images are varied: crops and flips of photographs, small shifts of digits."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from resnetkit.errors import InputError
from resnetkit.images.pixels import INTERPOLATIONS
from resnetkit.preprocess import Preprocess

#: Random numbers that one image takes.
DRAWS = 5
_ASPECT = math.log(4 / 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """What may happen to a training image.

    ``flip``: mirrored left to right, every second one. ``crop``: the smallest share of the area
    that a crop keeps, with sides up to 4:3 (Szegedy et al. 2014, arXiv:1409.4842); 1 means no
    crop. ``shift``: moved by up to so many pixels each way, the border repeated.

    Raises ``ValueError`` for a value that is not allowed.
    """

    flip: bool = False
    crop: float = 1.0
    shift: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1 or self.shift < 0:
            raise InputError(
                f"augment crop is {self.crop!r} and shift {self.shift!r}; "
                "crop takes a share up to 1, shift whole pixels from 0"
            )

    def to_dict(self) -> dict[str, Any]:
        """The choices as JSON types."""
        return asdict(self)


def cropped(
    picture: PIL.Image.Image, preprocess: Preprocess, least: float, draws: Tensor
) -> Tensor:
    """A crop that keeps ``least`` of the area or more, as uint8 ``(C, size, size)``.

    ``draws`` are ``DRAWS`` numbers from 0 to 1 that decide it: the same ones make the same crop.
    """
    area, aspect, left, top, _ = draws.tolist()
    wanted = picture.width * picture.height * (least + (1 - least) * area)
    ratio = math.exp(_ASPECT * (2 * aspect - 1))
    width = min(picture.width, max(1, round(math.sqrt(wanted * ratio))))
    height = min(picture.height, max(1, round(math.sqrt(wanted / ratio))))
    resized = functional.resized_crop(
        picture,
        top=round(top * (picture.height - height)),
        left=round(left * (picture.width - width)),
        height=height,
        width=width,
        size=[preprocess.size, preprocess.size],
        interpolation=INTERPOLATIONS[preprocess.interpolation],
        antialias=True,
    )
    return cast(Tensor, functional.pil_to_tensor(resized))


def moved(pixels: Tensor, augment: Augment, draws: Tensor) -> Tensor:
    """Pixels ``(C, size, size)`` shifted and flipped as ``draws`` decide."""
    _, _, left, top, flip = draws.tolist()
    if augment.shift:
        size, reach = pixels.shape[-1], augment.shift
        columns, rows = (
            (torch.arange(size) + int(draw * (2 * reach + 1)) - reach).clamp(0, size - 1)
            for draw in (left, top)
        )
        pixels = pixels[:, rows[:, None], columns]
    return pixels.flip(-1) if augment.flip and flip < 0.5 else pixels
