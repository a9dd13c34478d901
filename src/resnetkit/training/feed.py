"""From examples to batches: decoded by several threads, the same for the same seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from resnetkit.images.pixels import cut, normalise, upright
from resnetkit.images.reading import ordered
from resnetkit.images.sources import Example
from resnetkit.preprocess import Preprocess
from resnetkit.training.augment import DRAWS, Augment, cropped, moved

#: Bytes of decoded images that one feed keeps, so that not every epoch decodes them again.
MEMORY = 1 << 30

Batch = tuple[Tensor, Tensor]


class Feed:
    """Batches ``(N, C, size, size)`` float32 with labels ``(N,)`` of some examples.

    With ``augment`` the images are shuffled and varied, by random numbers that depend on ``seed``
    and the epoch only; without, they come in order and as ``Preprocess`` says.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        preprocess: Preprocess,
        *,
        batch_size: int,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.examples = examples
        self.preprocess = preprocess
        self.batch_size = batch_size
        self.augment = augment
        self.seed = seed
        self._pictures: dict[int, PIL.Image.Image] = {}
        self._cuts: dict[int, Tensor] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._batches(list(range(len(self.examples)))))

    def batches(self, epoch: int = 0) -> Iterator[Batch]:
        """The batches of an epoch."""
        if self.augment is None:
            order = list(range(len(self.examples)))
            images = ordered(self._plain, order)
        else:
            generator = torch.Generator().manual_seed(_mixed(self.seed, epoch))
            order = torch.randperm(len(self.examples), generator=generator).tolist()
            draws = torch.rand(len(order), DRAWS, generator=generator)
            images = ordered(self._varied, list(zip(order, draws, strict=True)))
        for members in self._batches(order):
            pixels = torch.stack([next(images) for _ in members])
            labels = torch.tensor([self.examples[number].label for number in members])
            yield normalise(pixels, self.preprocess), labels

    def _batches(self, order: list[int]) -> list[list[int]]:
        size = self.batch_size
        found = [order[start : start + size] for start in range(0, len(order), size)]
        if self.augment is not None and len(found) > 1 and len(found[-1]) == 1:
            # A norm cannot be trained on one image alone.
            found[-2:] = [found[-2] + found[-1]]
        return found

    def _plain(self, number: int) -> Tensor:
        if number not in self._cuts:
            pixels = cut(self._upright(number), self.preprocess)
            if not self._room_for(pixels.numel()):
                return pixels
            self._cuts[number] = pixels
        return self._cuts[number]

    def _varied(self, item: tuple[int, Tensor]) -> Tensor:
        number, draws = item
        assert self.augment is not None
        if self.augment.crop == 1:
            return moved(self._plain(number), self.augment, draws)
        picture = self._pictures.get(number)
        if picture is None:
            picture = self._smaller(self._upright(number))
            if self._room_for(picture.width * picture.height * len(picture.getbands())):
                self._pictures[number] = picture
        crop = cropped(picture, self.preprocess, self.augment.crop, draws)
        return moved(crop, self.augment, draws)

    def _upright(self, number: int) -> PIL.Image.Image:
        return upright(self.examples[number].image, self.preprocess.channels)

    def _smaller(self, picture: PIL.Image.Image) -> PIL.Image.Image:
        """Large photographs at twice the network's size: no crop needs more, and it is faster."""
        factor = 2 * self.preprocess.size / min(picture.size)
        if factor >= 1:
            return picture
        size = (round(picture.width * factor), round(picture.height * factor))
        return picture.resize(size, PIL.Image.Resampling.BOX)

    def _room_for(self, count: int) -> bool:
        if self._bytes + count > MEMORY:
            return False
        self._bytes += count
        return True


def _mixed(seed: int, epoch: int) -> int:
    """One seed of two numbers; neighbouring ones have nothing in common."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
