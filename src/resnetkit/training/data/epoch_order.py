"""The order of the images in an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from resnetkit.data.datasets.dataset import Sample
from resnetkit.data.datasets.packed_samples import Numbers, PackedSamples
from resnetkit.data.datasets.shard_cache import RemoteShard, cached_shards
from resnetkit.training.data.rng import generator_of

#: The index of an image, and of its copy.
Place = tuple[int, int]
#: Maximum number of images that threads are reading.
_WAITING = 64


class EpochOrder:
    """Every image once, in the order of the numbers in ``seed``, or sorted without.

    If the shards of a storage do not fit in ``PackedSamples.window``, the shards are shuffled and
    divided into groups that do, and the images of each group are shuffled; otherwise all are. With
    several ``machines`` a group is divided into a part for each, shuffled by itself, and the
    places of a batch of ``batch_size`` that a machine has are from its part: it needs no other
    shards. An epoch with ``repeats`` has the first images of that order, each that many times in a
    row.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        seed: tuple[int, int] | None,
        repeats: int = 1,
        *,
        machines: int = 1,
        batch_size: int = 1,
    ) -> None:
        self._samples = samples
        self._repeats = repeats if seed else 1
        self._starts = np.zeros(1, np.int64)
        self._streams = False
        generator = generator_of(*seed) if seed else None
        if isinstance(samples, PackedSamples) and samples.streams:
            self._streams = True
            shuffled = None
            if generator is not None:
                shuffled = torch.randperm(samples.used(), generator=generator).tolist()
            groups = samples.groups(shuffled)
            self._starts = np.cumsum([0, *map(len, groups)])[:-1]
            self.numbers = np.concatenate(groups)
            if generator is not None:
                machine = self._machines(machines, batch_size)
                bounds = [*self._starts.tolist(), len(samples)]
                for group, start, end in zip(groups, bounds, bounds[1:], strict=False):
                    self.numbers[start:end] = _shuffled(group, machine[start:end], generator)
        elif generator is not None:
            self.numbers = torch.randperm(len(samples), generator=generator).numpy()
        else:
            self.numbers = np.arange(len(samples))

    def places(self, positions: Sequence[int]) -> list[Place]:
        """The indices of image and copy at these positions."""
        found = np.asarray(positions, np.int64)
        numbers = self.numbers[found // self._repeats].tolist()
        return list(zip(numbers, (found % self._repeats).tolist(), strict=True))

    def reading(
        self, batches: Sequence[range], share: Callable[[range], Sequence[int]]
    ) -> Iterator[Place]:
        """The ``places`` of the ``share`` of each batch; its shards of the group that is read and
        of the next one are fetched meanwhile."""
        firsts = [positions.start // self._repeats for positions in batches]
        groups = np.searchsorted(self._starts, firsts, side="right") - 1
        fetched, waited = -1, 0
        for group, positions in zip(groups.tolist(), batches, strict=True):
            for place in self.places(share(positions)):
                if self._streams and group > fetched:
                    # Images of the group before may still be waiting to be read.
                    if fetched < 0 or waited == _WAITING:
                        first, end = np.searchsorted(groups, [group, group + 2])
                        cached_shards().ahead(self._shards(map(share, batches[first:end])))
                        fetched, waited = group, 0
                    else:
                        waited += 1
                yield place

    def _shards(self, batches: Iterable[Sequence[int]]) -> list[RemoteShard]:
        """The remote shards of these positions, in the order in which they are needed."""
        assert isinstance(self._samples, PackedSamples)
        found = [self.numbers[np.asarray(one, np.int64) // self._repeats] for one in batches]
        return self._samples.remote(np.concatenate(found))

    def _machines(self, machines: int, batch_size: int) -> Numbers:
        """The machine of each place of the order."""
        copies = len(self._samples)
        position = np.arange(copies) * self._repeats
        begin = position // batch_size * batch_size
        size = np.minimum(batch_size, copies - begin)
        found: Numbers = np.minimum(
            (position - begin) * machines // np.maximum(size, 1), machines - 1
        )
        return found


def _shuffled(group: Numbers, machines: Numbers, generator: torch.Generator) -> Numbers:
    """The images of a group, those of each machine shuffled, at the places that are its."""
    found = np.empty_like(group)
    parts = np.split(group, np.cumsum(np.bincount(machines))[:-1])
    for machine, part in enumerate(parts):
        drawn = torch.randperm(len(part), generator=generator).numpy()
        found[machines == machine] = part[drawn]
    return found
