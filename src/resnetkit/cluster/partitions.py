"""Divides images into partitions: what a worker predicts at a time, and writes as one file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from resnetkit.data import listing, storage
from resnetkit.data.datasets.huggingface import images_of, is_dataset
from resnetkit.data.datasets.image_rows import row_count
from resnetkit.data.listing import ImageEntry
from resnetkit.errors import InputError

T = TypeVar("T")
#: Images of a partition, except those of a shard, which is one partition.
IMAGES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Some of the images, in order.

    ``kind`` says what they are: ``files`` with their names and the problems of those that cannot
    be listed; a ``shard``; or the rows from ``start`` to before ``stop`` of a ``parquet`` file or a
    folder of ``datasets``, whose name is the only one.
    """

    number: int
    kind: Literal["files", "shard", "parquet", "dataset"]
    names: tuple[str, ...]
    problems: tuple[str | None, ...] = ()
    start: int = 0
    stop: int | None = None

    @property
    def count(self) -> int | None:
        """The number of images; None for a shard, which is only read once."""
        if self.kind == "files":
            return len(self.names)
        return None if self.stop is None else self.stop - self.start

    def images(self) -> Iterator[ImageEntry]:
        """The images, in order."""
        if self.kind == "files":
            problems = self.problems or (None,) * len(self.names)
            for name, problem in zip(self.names, problems, strict=True):
                if storage.is_address(name):
                    yield from listing.listed([name])
                else:
                    image = None if problem else Path(name)
                    yield ImageEntry(name=name, image=image, problem=problem)
        elif self.kind == "shard":
            yield from listing.listed(self.names)
        elif self.kind == "parquet":
            yield from listing.parquet_rows(self.names[0], self.start, self.stop)
        else:
            yield from listing.dataset_rows(self.names[0], self.start, self.stop)

    def to_json(self) -> str:
        """The partition as text; ``from_json`` restores it."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> Partition:
        """The inverse of ``to_json``."""
        found: dict[str, Any] = json.loads(text)
        lists = {name: tuple(found[name]) for name in ("names", "problems")}
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
        for group in _groups(waiting, size):
            problems = tuple(one.problem for one in group)
            found.append(
                Partition(
                    number=len(found),
                    kind="files",
                    names=tuple(one.name for one in group),
                    problems=problems if any(problems) else (),
                )
            )
        waiting.clear()

    for path in listing.expanded(paths):
        if path == listing.STANDARD_INPUT:
            raise InputError("names on standard input are not for a cluster; give their folder")
        if not _is_packed(path):
            waiting += listing.listed([path])
            continue
        flush()
        if path.lower().endswith(listing.SHARDS):
            found.append(Partition(number=len(found), kind="shard", names=(path,)))
            continue
        parquet = not os.path.isdir(path)
        count = row_count(Path(path)) if parquet else sum(1 for _ in images_of(Path(path)))
        for start in range(0, count, size):
            found.append(
                Partition(
                    number=len(found),
                    kind="parquet" if parquet else "dataset",
                    names=(path,),
                    start=start,
                    stop=min(count, start + size),
                )
            )
    flush()
    if not found:
        raise InputError(f"there are no images in {', '.join(paths)}; give others")
    return found


def _is_packed(path: str) -> bool:
    """Whether it is a file or folder with many images in its files."""
    endings = (*listing.SHARDS, listing.PARQUET)
    return is_dataset(Path(path)) or (path.lower().endswith(endings) and os.path.isfile(path))


def identity(found: Iterable[Partition]) -> str:
    """A digest of the partitions: their images by name."""
    digest = hashlib.sha256()
    for one in found:
        digest.update(one.to_json().encode())
    return digest.hexdigest()


def _groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
