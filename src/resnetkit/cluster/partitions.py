"""Divides images into partitions: what a worker predicts at a time, and writes as one file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from resnetkit.data import listing, storage
from resnetkit.data.datasets.huggingface import images_of, is_dataset
from resnetkit.data.datasets.image_rows import row_count
from resnetkit.data.datasets.shard_cache import RemoteShard
from resnetkit.data.listing import ImageEntry
from resnetkit.data.storage_access import shown_address
from resnetkit.errors import InputError

#: Images of a partition, except those of a shard, which is one partition.
IMAGES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Some of the images, in order.

    ``kind`` says what they are: ``files``, with their paths or addresses, the ``problems`` of those
    that cannot be listed, and the ``sizes`` of addresses; a ``shard``, with its size, checksum and
    number of images (``stop``) if an index has them; or the rows from ``start`` to before ``stop``
    of a ``parquet`` file or a folder of ``datasets``, whose name is the only one.
    """

    number: int
    kind: Literal["files", "shard", "parquet", "dataset"]
    names: tuple[str, ...]
    problems: tuple[str | None, ...] = ()
    sizes: tuple[int | None, ...] = ()
    sha256: str | None = None
    start: int = 0
    stop: int | None = None

    @property
    def count(self) -> int | None:
        """The number of images; None for a shard without an index, which is only read once."""
        if self.kind == "files":
            return len(self.names)
        return None if self.stop is None else self.stop - self.start

    def images(self) -> Iterator[ImageEntry]:
        """The images, in order."""
        name = self.names[0]
        if self.kind == "files":
            nothing = (None,) * len(self.names)
            for each in zip(
                self.names, self.problems or nothing, self.sizes or nothing, strict=True
            ):
                yield _entry(*each)
        elif self.kind == "parquet":
            yield from listing.parquet_rows(name, self.start, self.stop)
        elif self.kind == "dataset":
            yield from listing.dataset_rows(name, self.start, self.stop)
        elif self.sha256 is not None and self.sizes[0] is not None:
            shard = RemoteShard(name, self.sizes[0], self.sha256)
            yield from listing.members(shown_address(name), shard)
        else:
            yield from listing.listed([name])

    def to_json(self) -> str:
        """The partition as text; ``from_json`` restores it."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> Partition:
        """The inverse of ``to_json``."""
        found: dict[str, Any] = json.loads(text)
        lists = {name: tuple(found[name]) for name in ("names", "problems", "sizes")}
        return cls(**{**found, **lists})


def partitions(paths: Sequence[str], size: int = IMAGES) -> list[Partition]:
    """The partitions of the images of ``paths``, which are as for ``listing.listed``.

    They are of ``size`` images, except that each shard is one. The same paths give the same
    partitions as long as the files stay the same. Raises ``ValueError`` as ``listing.expanded``,
    and for a ``size`` below 1.
    """
    if size < 1:
        raise InputError(f"partition_size is {size}; it must be >= 1", field="partition_size")
    found: list[Partition] = []
    waiting: list[ImageEntry] = []

    def flush() -> None:
        for start in range(0, len(waiting), size):
            found.append(_of_files(len(found), waiting[start : start + size]))
        waiting.clear()

    for path in listing.expanded(paths):
        if path == listing.STANDARD_INPUT:
            raise InputError("names on standard input are not for a cluster; give their folder")
        shards = _shards(path)
        rows = None if shards else _rows(path)
        if not shards and rows is None:
            waiting += listing.listed([path])
            continue
        flush()
        for shard in shards:
            found.append(replace(shard, number=len(found)))
        if rows is not None:
            kind, count = rows
            for start in range(0, count, size):
                stop = min(count, start + size)
                found.append(
                    Partition(number=len(found), kind=kind, names=(path,), start=start, stop=stop)
                )
    flush()
    if not found:
        raise InputError(f"there are no images in {', '.join(paths)}; give others")
    return found


def _of_files(number: int, entries: Sequence[ImageEntry]) -> Partition:
    problems = tuple(one.problem for one in entries)
    sizes = tuple(one.size for one in entries)
    return Partition(
        number=number,
        kind="files",
        names=tuple(one.address or one.name for one in entries),
        problems=problems if any(problems) else (),
        sizes=sizes if any(sizes) else (),
    )


def _entry(name: str, problem: str | None, size: int | None) -> ImageEntry:
    if storage.is_address(name):
        address = None if problem else name
        return ImageEntry(name=shown_address(name), address=address, problem=problem, size=size)
    return ImageEntry(name=name, image=None if problem else Path(name), problem=problem)


def _shards(path: str) -> list[Partition]:
    """The shards that a path stands for: one, or those of a folder with an index."""
    if _ends(path, listing.SHARDS):
        return [Partition(number=0, kind="shard", names=(path,))]
    indexed = listing.index_of(path)
    if indexed is None:
        return []
    folder, index = indexed
    found = []
    for shard in sorted(index.shards, key=lambda one: one.name):
        file = folder.file(shard)
        one = Partition(number=0, kind="shard", names=(str(file),), stop=shard.images)
        if isinstance(file, RemoteShard):
            one = replace(one, names=(file.address,), sizes=(file.size,), sha256=file.sha256)
        found.append(one)
    return found


def _rows(path: str) -> tuple[Literal["parquet", "dataset"], int] | None:
    """The kind and number of the rows of a Parquet file or a folder of ``datasets``."""
    if _ends(path, (listing.PARQUET,)):
        return "parquet", row_count(path)
    if not storage.is_address(path) and is_dataset(Path(path)):
        return "dataset", sum(1 for _ in images_of(Path(path)))
    return None


def _ends(path: str, endings: tuple[str, ...]) -> bool:
    """Whether it is a file with one of the endings."""
    return path.lower().endswith(endings) and (storage.is_address(path) or os.path.isfile(path))


def identity(found: Iterable[Partition]) -> str:
    """A digest of the partitions: their images by name."""
    digest = hashlib.sha256()
    for one in found:
        digest.update(one.to_json().encode())
    return digest.hexdigest()
