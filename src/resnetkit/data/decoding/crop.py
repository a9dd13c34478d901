"""Crop geometry: the square of an image that the network gets, without pixels."""

from __future__ import annotations

from dataclasses import dataclass

from resnetkit.preprocess import Preprocess


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Resize to ``width`` x ``height``, then crop the square at ``left``, ``top``."""

    width: int
    height: int
    left: int
    top: int
    size: int


def frame(width: int, height: int, preprocess: Preprocess) -> Frame:
    """The crop of ``preprocess`` for an upright image of ``width`` x ``height`` pixels.

    The longer side is rounded down, as torchvision does (``_compute_resized_output_size``).
    """
    size, shorter = preprocess.size, preprocess.resize_to
    if preprocess.resize == "squash" or shorter is None:
        return Frame(width=size, height=size, left=0, top=0, size=size)
    if width <= height:
        width, height = shorter, int(shorter * height / width)
    else:
        width, height = int(shorter * width / height), shorter
    left, top = (_margin(side - size, preprocess) for side in (width, height))
    return Frame(width=width, height=height, left=left, top=top, size=size)


def _margin(pixels: int, preprocess: Preprocess) -> int:
    """The part of a margin before the centre."""
    return pixels // 2 if preprocess.centre == "floor" else round(pixels / 2)
