"""The order of the images in an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from resnetkit.data.datasets.dataset import Sample
from resnetkit.data.datasets.packed_samples import Group, PackedSamples, fetch_ahead
from resnetkit.training.data.rng import generator_of

#: The index of an image, and of its copy.
Place = tuple[int, int]
#: Maximum number of images that threads are reading.
_WAITING = 64


class EpochOrder:
    """Every image once, in the order of the numbers in ``seed``, or sorted without.

    If the shards of a storage do not fit in ``PackedSamples.window``, the shards are shuffled and
    divided into groups that do, and the images of each group are shuffled; otherwise all are. An
    epoch with ``repeats`` has the first images of that order, each that many times in a row.
    """

    def __init__(
        self, samples: Sequence[Sample], seed: tuple[int, int] | None, repeats: int
    ) -> None:
        self._repeats = repeats if seed else 1
        self._groups: list[Group] = []
        self._starts = np.empty(0, np.int64)
        generator = generator_of(*seed) if seed else None
        if isinstance(samples, PackedSamples) and samples.streams:
            shuffled = None
            if generator is not None:
                shuffled = torch.randperm(samples.used(), generator=generator).tolist()
            self._groups = samples.groups(shuffled)
            counts = [len(group.numbers) for group in self._groups]
            self._starts = np.cumsum([0, *counts[:-1]])
            within = [
                group.numbers
                if generator is None
                else group.numbers[torch.randperm(len(group.numbers), generator=generator).numpy()]
                for group in self._groups
            ]
            self.numbers = np.concatenate(within)
        elif generator is not None:
            self.numbers = torch.randperm(len(samples), generator=generator).numpy()
        else:
            self.numbers = np.arange(len(samples))

    def places(self, positions: range) -> list[Place]:
        """The indices of image and copy at these positions."""
        found = np.arange(positions.start, positions.stop)
        numbers = self.numbers[found // self._repeats].tolist()
        return list(zip(numbers, (found % self._repeats).tolist(), strict=True))

    def reading(
        self, batches: Sequence[range], share: Callable[[Sequence[Place]], Sequence[Place]]
    ) -> Iterator[Place]:
        """The ``places`` of the ``share`` of each batch; the shards of the group that is read and
        of the next one are fetched meanwhile."""
        fetched, waited = -1, 0
        for positions in batches:
            first = positions.start // self._repeats
            group = int(np.searchsorted(self._starts, first, side="right")) - 1
            for place in share(self.places(positions)):
                if group > fetched:
                    # Images of the group before may still be waiting to be read.
                    if fetched < 0 or waited == _WAITING:
                        fetch_ahead(self._groups, group)
                        fetched, waited = group, 0
                    else:
                        waited += 1
                yield place
