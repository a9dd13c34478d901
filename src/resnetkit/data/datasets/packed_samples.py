"""Images inside shards: one, and any number of them in a few bytes each."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from resnetkit.data.datasets.dataset import BRIEF, WHOLE, Sample, Samples
from resnetkit.data.datasets.shard_cache import RemoteShard, cached_shards
from resnetkit.data.datasets.shard_index import RECORD, Table
from resnetkit.data.datasets.stored_folder import StoredFile
from resnetkit.data.decoding.decode import Image

#: An image of ``PackedSamples``: its record, and its shard.
_ROW = np.dtype([*((name, RECORD[name].str) for name in RECORD.names or ()), ("shard", "<u4")])
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed(Sample):
    """An image inside a larger file, or in a storage; ``image`` reads its bytes on each access."""

    file: Path | RemoteShard | StoredFile
    offset: int
    size: int
    # Never set, so that `__getattr__` handles it.
    image: Image = field(init=False, repr=False)

    def __getattr__(self, name: str) -> Image:
        if name != "image":
            raise AttributeError(name)
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    @property
    def encoded(self) -> bool:
        """Always true."""
        return True

    def digest(self) -> str:
        """SHA-256 of the encoded image."""
        data = self.image
        assert isinstance(data, bytes)
        return hashlib.sha256(data).hexdigest()

    def brief(self) -> str:
        """The size of the encoded image."""
        return f"{BRIEF}{self.size}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shard:
    """A shard of an index: its ``file``, checksum, and the suffixes of its images."""

    name: str
    file: Path | RemoteShard
    size: int
    images: int
    sha256: str
    suffixes: tuple[str, ...]


class PackedSamples(Samples):
    """Images of the shards of an index: 25 bytes each; a ``Packed`` is made on each access.

    ``window`` is how many bytes of remote shards are read at random: half of the cache, as those
    of the next group are fetched meanwhile.
    """

    def __init__(self, shards: Sequence[Shard], rows: npt.NDArray[np.void], window: int) -> None:
        self.shards, self.rows, self.window = tuple(shards), rows, window

    @classmethod
    def of(cls, shards: Sequence[Shard], tables: Mapping[int, Table], window: int) -> PackedSamples:
        """All images of the shards with the given positions."""
        rows = np.empty(sum(len(table.records) for table in tables.values()), _ROW)
        at = 0
        for number, table in tables.items():
            part = rows[at : at + len(table.records)]
            for name in RECORD.names or ():
                part[name] = table.records[name]
            part["shard"] = number
            at += len(part)
        return cls(shards, rows, window)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> PackedSamples: ...
    def __getitem__(self, index: int | slice) -> Sample | PackedSamples:
        if isinstance(index, slice):
            return PackedSamples(self.shards, self.rows[index], self.window)
        row = self.rows[index]
        shard = self.shards[row["shard"]]
        return Packed(
            name=f"{shard.name}/{row['number']:08}{shard.suffixes[row['suffix']]}",
            label=int(row["label"]),
            file=shard.file,
            offset=int(row["offset"]),
            size=int(row["size"]),
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[number] for number in range(len(self)))

    def labels(self) -> Numbers:
        """The class of each image."""
        return self.rows["label"].astype(np.int64)

    def take(self, chosen: npt.NDArray[np.bool_]) -> PackedSamples:
        """The chosen images, in order."""
        return PackedSamples(self.shards, self.rows[chosen], self.window)

    def relabelled(self, numbers: Sequence[int]) -> PackedSamples:
        """The same images with the label ``numbers[label]``."""
        rows = self.rows.copy()
        rows["label"] = np.asarray(numbers)[rows["label"]]
        return PackedSamples(self.shards, rows, self.window)

    def joined(self, others: Sequence[Samples]) -> PackedSamples:
        """These images and those of other parts of the dataset, which have the same shards."""
        rows = [part.rows for part in others if isinstance(part, PackedSamples)]
        return PackedSamples(self.shards, np.concatenate([self.rows, *rows]), self.window)

    def digest(self) -> str:
        """SHA-256 of the images' places and labels, and of the checksums of their shards."""
        found = hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode())
        found.update(self.rows.tobytes())
        return found.hexdigest()

    def membership(self) -> dict[str, str]:
        """The shards that have these images, each with its checksum, and with a bit for each number
        if it also has others."""
        found = {}
        for number, rows in self._by_shard():
            shard = self.shards[number]
            found[shard.name] = f"{WHOLE}{shard.sha256}"
            if len(rows) < shard.images:
                bits = np.zeros(int(rows["number"].max()) + 1, bool)
                bits[rows["number"]] = True
                found[shard.name] += f":{base64.b64encode(np.packbits(bits).tobytes()).decode()}"
        return found

    def among(self, membership: Mapping[str, str]) -> npt.NDArray[np.bool_]:
        """Which of these images are those of a ``membership``."""
        chosen = np.zeros(len(self), bool)
        for number in np.unique(self.rows["shard"]).tolist():
            shard = self.shards[number]
            whole, _, encoded = membership.get(shard.name, "").removeprefix(WHOLE).partition(":")
            if whole != shard.sha256:
                continue
            mine = np.flatnonzero(self.rows["shard"] == number)
            if encoded:
                bits = np.unpackbits(np.frombuffer(base64.b64decode(encoded), np.uint8))
                numbers = self.rows["number"][mine]
                known = numbers < len(bits)
                mine = mine[known][bits[numbers[known]].astype(bool)]
            chosen[mine] = True
        return chosen

    def _by_shard(self) -> Iterator[tuple[int, npt.NDArray[np.void]]]:
        rows = self.rows[np.argsort(self.rows["shard"], kind="stable")]
        used, starts = np.unique(rows["shard"], return_index=True)
        for number, start, end in zip(used, starts, [*starts[1:], len(rows)], strict=False):
            yield int(number), rows[start:end]

    @property
    def streams(self) -> bool:
        """Whether the remote shards of these images are larger than ``window``, so that they are
        read group by group."""
        used = np.unique(self.rows["shard"])
        remote = [self.shards[n].size for n in used if isinstance(self.shards[n].file, RemoteShard)]
        return bool(sum(remote) > self.window)

    def groups(self, order: Sequence[int] | None = None) -> list[Numbers]:
        """The numbers of the images in groups of whole shards, of up to ``window`` bytes or one
        shard; those of a shard are in a row.

        ``order`` is a permutation of the numbers from 0 to the number of shards that have images;
        by default the shards are in the order of the index. Every image is in one group.
        """
        by_shard = np.argsort(self.rows["shard"], kind="stable")
        used, starts = np.unique(self.rows["shard"][by_shard], return_index=True)
        members = np.split(by_shard, starts[1:])
        found: list[list[Numbers]] = []
        filled = self.window + 1
        for member in range(len(used)) if order is None else order:
            size = self.shards[used[member]].size
            if filled + size > self.window:
                found.append([])
                filled = 0
            found[-1].append(members[member])
            filled += size
        return [np.concatenate(group) for group in found]

    def remote(self, numbers: Numbers) -> list[RemoteShard]:
        """The shards in a storage that have these images, in the order of their first images."""
        used, first = np.unique(self.rows["shard"][numbers], return_index=True)
        files = (self.shards[shard].file for shard in used[np.argsort(first)])
        return [file for file in files if isinstance(file, RemoteShard)]

    def used(self) -> int:
        """The number of shards that have images."""
        return len(np.unique(self.rows["shard"]))


def images_in_order(samples: Sequence[Sample], numbers: Sequence[int]) -> Iterator[Image]:
    """The images of these samples, in the given order; a shard of a storage and the next one are
    fetched when its first image is read."""
    shards = samples.remote(np.asarray(numbers)) if isinstance(samples, PackedSamples) else []
    coming = {shard: shards[place : place + 2] for place, shard in enumerate(shards)}
    for number in numbers:
        sample = samples[number]
        if isinstance(sample, Packed) and isinstance(sample.file, RemoteShard):
            pair = coming.pop(sample.file, None)
            if pair:
                cached_shards().ahead(pair)
        yield sample.image
