"""In-memory cache of decoded images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from resnetkit.data.datasets.dataset import Sample, Samples
from resnetkit.data.decoding.crop import Frame, frame
from resnetkit.preprocess import Preprocess


class ImageCache:
    """Up to ``memory`` bytes of ``count`` images, uint8 ``(C, H, W)``, by index.

    If all have one ``shape``, they are in one array, from which a batch is copied at once; the
    first that fit are kept. Threads may put different images concurrently.
    """

    def __init__(self, count: int, memory: int, shape: tuple[int, int, int] | None) -> None:
        self._memory, self._bytes = memory, 0
        self._apart: dict[int, Tensor] = {}
        room = 0 if shape is None else min(count, memory // int(np.prod(shape)))
        self._alike = shape is not None
        # Pages are only allocated when written.
        self._pixels = torch.empty(room, *(shape or ()), dtype=torch.uint8)
        self._known = np.zeros(room, bool)

    def get(self, number: int) -> Tensor | None:
        """The image, or None if it is not cached."""
        if not self._alike:
            return self._apart.get(number)
        return self._pixels[number] if number < len(self._known) and self._known[number] else None

    def put(self, number: int, picture: Tensor) -> None:
        """Cache it if there is room."""
        if self._alike:
            if number < len(self._known):
                self._pixels[number] = picture
                self._known[number] = True
        elif self._bytes + picture.numel() <= self._memory:
            self._bytes += picture.numel()
            self._apart[number] = picture

    def put_arrays(self, examples: Sequence[Sample], preprocess: Preprocess) -> None:
        """Cache all images that are arrays and need no preprocessing, at once."""
        if isinstance(examples, Samples):
            return  # they are in files
        numbers = [n for n in range(len(self._known)) if _as_it_is(examples[n], preprocess)]
        # In contiguous runs, as one copy is far faster than one per image.
        for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
            found = [number for _, number in run]
            pixels = np.stack([np.asarray(examples[number].image) for number in found])
            images = torch.from_numpy(pixels if pixels.ndim == 4 else pixels[..., None])
            self._pixels[found[0] : found[-1] + 1] = images.movedim(-1, -3)
            self._known[found] = True

    def whole(self, numbers: Sequence[int]) -> bool:
        """Whether all of these are in the array."""
        if not (self._alike and numbers):
            return False
        return max(numbers) < len(self._known) and bool(self._known[numbers].all())

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """A copy of these, ``(N, C, H, W)``; requires ``whole``."""
        return self._pixels[torch.tensor(numbers, dtype=torch.int64)]


def _as_it_is(example: Sample, preprocess: Preprocess) -> bool:
    """Whether decoding, resizing and cropping change nothing."""
    image, size = example.image, preprocess.size
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        return False
    wanted = (size, size) if preprocess.channels == "L" else (size, size, 3)
    unchanged = Frame(width=size, height=size, left=0, top=0, size=size)
    return image.shape == wanted and frame(size, size, preprocess) == unchanged
