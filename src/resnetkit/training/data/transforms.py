"""Augmentation: per image with torchvision's transforms, and per batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torchvision.transforms import v2

from resnetkit.data.decoding.tensors import INTERPOLATIONS
from resnetkit.preprocess import Preprocess
from resnetkit.training.recipe.augmentation import Augment

#: Random numbers per image for ``moved`` and ``erased``.
DRAWS, ERASING_DRAWS = 3, 23
#: Area and aspect ratio of erased rectangles, as in the paper, and the number of tries to fit one,
#: as in torchvision; if none fits, nothing is erased.
_AREAS, _RATIOS, _TRIES = (0.02, 0.33), (0.3, 3.3), 10
#: From uint8 ``(C, H, W)`` to uint8 ``(C, size, size)``, with torch's random numbers.
Change = Callable[[Tensor], Tensor]

_TURNED = INTERPOLATIONS["bilinear"]
#: Eigenvalues and -vectors of the colours of ImageNet's pixels from 0 to 1 (Krizhevsky et al. 2012;
#: the values of facebookarchive/fb.resnet.torch, datasets/imagenet.lua).
_COLOUR_VALUES = (0.2175, 0.0188, 0.0045)
_COLOUR_VECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def change(augment: Augment, preprocess: Preprocess, size: int) -> Change | None:
    """The augmentation of single images by torchvision's transforms of uint8 images.

    Its input is the whole picture if ``augment.crops``, else the crop of ``Preprocess``. None if
    ``moved`` is enough.
    """
    how = INTERPOLATIONS[preprocess.interpolation]
    colours = preprocess.channel_count
    steps: list[Any] = []
    if augment.shortest:
        low, high = (round(share * size) for share in augment.shortest)
        steps.append(v2.RandomShortestSize(list(range(low, high + 1)), interpolation=how))
        steps.append(v2.RandomCrop(size, pad_if_needed=True))
    elif augment.crops:
        steps.append(v2.RandomResizedCrop(size, (augment.crop, 1.0), interpolation=how))
    if augment.policy == "randaugment":
        # Rotation and shear of tensors do not support bicubic interpolation.
        steps.append(v2.RandAugment(augment.operations, augment.magnitude, interpolation=_TURNED))
    elif augment.policy == "trivialaugment":
        steps.append(v2.TrivialAugmentWide(interpolation=_TURNED))
    if augment.lighting:
        steps.append(Lighting(augment.lighting, colours))
    return cast(Change, v2.Compose(steps)) if steps else None


class Lighting:
    """PCA colour noise for images uint8 ``(C, H, W)``.

    Shifts colours along their principal axes by normal numbers of deviation ``deviation`` times the
    eigenvalues (Krizhevsky et al. 2012, section 4.1); grey images by the mean of the channels.
    """

    def __init__(self, deviation: float, channels: int) -> None:
        self._deviation = deviation
        self._axes = torch.tensor(_COLOUR_VECTORS) * torch.tensor(_COLOUR_VALUES) * 255
        if channels == 1:
            self._axes = self._axes.mean(0, keepdim=True)

    def __call__(self, pixels: Tensor) -> Tensor:
        by = self._axes @ (torch.randn(3) * self._deviation)
        return (pixels + by[:, None, None]).round_().clamp_(0, 255).to(torch.uint8)


def moved(pixels: Tensor, augment: Augment, draws: Tensor) -> Tensor:
    """A batch ``(N, C, size, size)`` shifted and flipped according to ``draws``.

    ``draws`` are ``(N, DRAWS)`` numbers in [0, 1).
    """
    if augment.shift:
        size, reach = pixels.shape[-1], augment.shift
        by = (draws[:, :2] * (2 * reach + 1)).long() - reach
        places = (torch.arange(size) + by[..., None]).clamp(0, size - 1)
        images = torch.arange(len(pixels))[:, None, None]
        # Separated index arrays put their dimensions first: (N, size, size, C).
        pixels = pixels[images, :, places[:, 0, :, None], places[:, 1, None, :]]
        pixels = pixels.permute(0, 3, 1, 2)
    if augment.flip:
        pixels = torch.where(draws[:, 2, None, None, None] < 0.5, pixels.flip(-1), pixels)
    return pixels


def erased(pixels: Tensor, augment: Augment, preprocess: Preprocess, draws: Tensor) -> Tensor:
    """A batch ``(N, C, H, W)`` with a rectangle of the mean colour in some images.

    ``draws`` are ``(N, ERASING_DRAWS)`` numbers in [0, 1). Zhong et al. 2017,
    arXiv:1708.04896; areas, ratios and tries are those of torchvision's ``RandomErasing``, which
    takes one image at a time.
    """
    height, width = pixels.shape[-2:]
    tries = draws[:, 3:].view(len(draws), _TRIES, 2)
    areas = height * width * _between(_AREAS, tries[..., 0])
    ratios = _between((math.log(_RATIOS[0]), math.log(_RATIOS[1])), tries[..., 1]).exp()
    heights, widths = (areas * ratios).sqrt().round(), (areas / ratios).sqrt().round()
    fits = (heights < height) & (widths < width)
    first = fits.byte().argmax(1, keepdim=True)
    chosen = (draws[:, 0] < augment.erase) & fits.any(1)
    rows, columns = (
        _within(side, sides.gather(1, first)[:, 0], draws[:, place])
        for side, sides, place in ((height, heights, 1), (width, widths, 2))
    )
    where = chosen[:, None, None] & rows[:, :, None] & columns[:, None, :]
    return torch.where(where[:, None], _mean(preprocess).view(-1, 1, 1), pixels)


def _between(limits: tuple[float, float], share: Tensor) -> Tensor:
    return limits[0] + share * (limits[1] - limits[0])


def _within(side: int, lengths: Tensor, draws: Tensor) -> Tensor:
    """Masks ``(N, side)`` of randomly placed intervals of each length ``(N,)``."""
    starts = ((side - lengths + 1) * draws).floor()[:, None]
    places = torch.arange(side)
    return (places >= starts) & (places < starts + lengths[:, None])


def _mean(preprocess: Preprocess) -> Tensor:
    """The mean colour uint8 ``(C,)``, in the picture's channel order."""
    mean = [round(value * preprocess.divisor) for value in preprocess.mean]
    return torch.tensor(mean[::-1] if preprocess.channels == "BGR" else mean, dtype=torch.uint8)
