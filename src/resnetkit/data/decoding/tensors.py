"""Converts pixels to the float tensor that a torch network takes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode

from resnetkit.data.decoding.decode import Cut, Image, pixels_of
from resnetkit.preprocess import Preprocess

#: torchvision's filters by their names in ``Preprocess``.
INTERPOLATIONS = {
    "nearest": InterpolationMode.NEAREST_EXACT,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}


def to_tensor(pixels: Cut) -> Tensor:
    """Copy uint8 ``(..., H, W, C)`` into a new tensor ``(..., C, H, W)``."""
    return torch.tensor(pixels).movedim(-1, -3).contiguous()


def normalise(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Convert uint8 ``(..., C, size, size)`` in RGB or L to the network's float32 input."""
    if preprocess.channels == "BGR":
        pixels = pixels.flip(-3)
    mean = torch.tensor(preprocess.mean, device=pixels.device).view(-1, 1, 1)
    std = torch.tensor(preprocess.std, device=pixels.device).view(-1, 1, 1)
    return pixels.float().div_(preprocess.divisor).sub_(mean).div_(std)


def to_input(image: Image, preprocess: Preprocess) -> Tensor:
    """Convert an image to float32 ``(C, size, size)``. Raises ``UnreadableImageError``."""
    return normalise(to_tensor(pixels_of(image, preprocess)), preprocess)
