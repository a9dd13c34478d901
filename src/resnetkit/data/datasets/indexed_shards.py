"""Opens the shards of a folder by their index, without reading a shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resnetkit.data.datasets.class_names import CLASSES, names_in, numbered
from resnetkit.data.datasets.dataset import PART_OF, PARTS, Dataset, Part
from resnetkit.data.datasets.packed_samples import PackedSamples, Shard
from resnetkit.data.datasets.shard_cache import cache_limit
from resnetkit.data.datasets.shard_folder import LocalFolder, RemoteFolder, shard_folder
from resnetkit.data.datasets.shard_index import (
    INDEX,
    IndexedShard,
    Table,
    is_index,
    read_index,
    table_name,
)
from resnetkit.data.datasets.webdataset_writer import PLAN
from resnetkit.data.prefetch import ordered
from resnetkit.data.storage_access import is_web
from resnetkit.errors import InputError

#: Tables read at the same time.
_READERS = 16


def open_indexed(
    place: str | Path, name: str, *, names: Sequence[str] | None = None, least: int = 2
) -> Dataset | None:
    """The images of the shards of ``place``, or of those with the given ``names``, by the index;
    None without one. ``name`` is the user's name for them. ``classes.txt`` has the classes, if it
    is there.

    Remote shards are read through ``shard_cache`` and verified there; of local ones the size is
    checked. Raises ``ValueError`` for an invalid index, shards that do not match it, and a folder
    whose shards are not finished.
    """
    folder = shard_folder(place)
    content = folder.read(INDEX)
    if content is None or not is_index(content):
        if names is None and folder.read(PLAN) is not None:
            raise InputError(
                f"{folder} has no {INDEX}, so its shards are not finished; write them again, "
                "which continues"
            )
        return None
    index = read_index(content, folder.place(INDEX))
    names_file = folder.read(CLASSES)
    classes = index.classes if names_file is None else names_in(names_file, folder.place(CLASSES))
    chosen = _chosen(index.shards, names, folder)
    _check_sizes(chosen, folder, every=names is None)
    largest, limit = max(shard.size for shard in chosen), cache_limit()
    if isinstance(folder, RemoteFolder) and 2 * largest > limit:
        raise InputError(
            f"{name} has a shard of {largest / 1e9:.3g} GB, and the cache of {limit / 1e9:.3g} GB "
            "needs room for two; increase RESNETKIT_SHARD_CACHE"
        )

    def table(shard: IndexedShard) -> Table:
        called = table_name(shard.name)
        content = folder.read(called)
        if content is None:
            raise InputError(f"{folder.place(called)} is missing; write the shards again")
        found = shard.read_table(content, folder.place(called))
        numbered(classes, int(found.records["label"].max()), f"{shard.name} of {name}")
        return found

    tables = list(ordered(table, chosen, threads=_READERS))
    if len(classes) < least:
        raise InputError(f"{name} has one class; training requires at least {least} classes")
    files = [
        Shard(
            name=shard.name,
            file=folder.file(shard),
            size=shard.size,
            images=shard.images,
            sha256=shard.sha256,
            suffixes=found.suffixes,
        )
        for shard, found in zip(chosen, tables, strict=True)
    ]
    parts: dict[Part | None, dict[int, Table]] = {}
    for number, (shard, found) in enumerate(zip(chosen, tables, strict=True)):
        part = PART_OF.get(shard.name.partition("-")[0].lower())
        parts.setdefault(part, {})[number] = found
    if None in parts and len(parts) > 1:
        raise InputError(f"only some shards of {name} begin with train, val or test; rename them")
    window = limit // 2
    samples = {part: PackedSamples.of(files, found, window) for part, found in parts.items()}
    return Dataset(
        name=name,
        classes=classes,
        flat=samples.get(None, ()),
        parts={part: samples[part] for part in PARTS if part in samples},
    )


def _chosen(
    shards: Sequence[IndexedShard], names: Sequence[str] | None, folder: LocalFolder | RemoteFolder
) -> list[IndexedShard]:
    if names is None:
        return sorted(shards, key=lambda shard: shard.name)
    known = {shard.name: shard for shard in shards}
    for name in names:
        if name not in known:
            raise InputError(f"{folder.place(name)} is not in {INDEX}; give shards that are in it")
    return [known[name] for name in sorted(set(names))]


def _check_sizes(
    shards: Sequence[IndexedShard], folder: LocalFolder | RemoteFolder, *, every: bool
) -> None:
    """Compare the files with the index; a web server does not list its files."""
    if isinstance(folder, RemoteFolder) and is_web(folder.address):
        return
    there = folder.sizes()
    for shard in shards:
        if (size := there.get(shard.name)) != shard.size:
            has = "is missing" if size is None else f"has {size:,} bytes"
            raise InputError(
                f"the shard {folder.place(shard.name)} {has}, and {INDEX} has {shard.size:,} "
                "bytes; get it again, or write the shards again"
            )
    known = {shard.name for shard in shards}
    more = sorted(name for name in there if name.endswith(".tar") and name not in known)
    if every and more:
        raise InputError(
            f"the shard {folder.place(more[0])} is not in {INDEX}; remove one of them, or write "
            "the shards again"
        )
