"""In-memory cache of decoded images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from resnetkit.data.datasets.dataset import Sample
from resnetkit.data.decoding.crop import Frame, frame
from resnetkit.preprocess import Preprocess


class ImageCache:
    """Up to ``memory`` bytes of ``count`` images, uint8 ``(C, H, W)``, by number.

    Where all have one ``shape``, they lie in one array, and a batch is taken out of it at once;
    the first that fit are kept then. Several threads may put images, each its own.
    """

    def __init__(self, count: int, memory: int, shape: tuple[int, int, int] | None) -> None:
        self._memory, self._bytes = memory, 0
        self._apart: dict[int, Tensor] = {}
        room = 0 if shape is None else min(count, memory // int(np.prod(shape)))
        self._alike = shape is not None
        # Memory that is not written to takes no room.
        self._pixels = torch.empty(room, *(shape or ()), dtype=torch.uint8)
        self._known = np.zeros(room, bool)

    def get(self, number: int) -> Tensor | None:
        """The image, or None where it is not kept."""
        if not self._alike:
            return self._apart.get(number)
        return self._pixels[number] if number < len(self._known) and self._known[number] else None

    def put(self, number: int, picture: Tensor) -> None:
        """Keep it where there is room."""
        if self._alike:
            if number < len(self._known):
                self._pixels[number] = picture
                self._known[number] = True
        elif self._bytes + picture.numel() <= self._memory:
            self._bytes += picture.numel()
            self._apart[number] = picture

    def put_arrays(self, examples: Sequence[Sample], preprocess: Preprocess) -> None:
        """Keep all at once that are arrays already and stay as they are, in place of decoding."""
        numbers = [n for n in range(len(self._known)) if _as_it_is(examples[n], preprocess)]
        # In runs of neighbours, for one copy is far faster than as many as there are images.
        for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
            found = [number for _, number in run]
            pixels = np.stack([np.asarray(examples[number].image) for number in found])
            images = torch.from_numpy(pixels if pixels.ndim == 4 else pixels[..., None])
            self._pixels[found[0] : found[-1] + 1] = images.movedim(-1, -3)
            self._known[found] = True

    def whole(self, numbers: Sequence[int]) -> bool:
        """Whether a batch of these can be taken at once."""
        if not (self._alike and numbers):
            return False
        return max(numbers) < len(self._known) and bool(self._known[numbers].all())

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """A copy of these, ``(N, C, H, W)``; they are ``whole``."""
        return self._pixels[torch.tensor(numbers, dtype=torch.int64)]


def _as_it_is(example: Sample, preprocess: Preprocess) -> bool:
    """Whether decoding, resizing and cutting would change nothing."""
    image, size = example.image, preprocess.size
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        return False
    wanted = (size, size) if preprocess.channels == "L" else (size, size, 3)
    unchanged = Frame(width=size, height=size, left=0, top=0, size=size)
    return image.shape == wanted and frame(size, size, preprocess) == unchanged
