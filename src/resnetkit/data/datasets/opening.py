"""Opens a dataset by name or path."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from resnetkit.data.datasets import image_folder
from resnetkit.data.datasets.dataset import DIGITS, IN_MEMORY, Dataset
from resnetkit.data.datasets.digits import digits
from resnetkit.data.datasets.huggingface import dataset, has_images, is_dataset
from resnetkit.data.datasets.idx import idx, idx_files
from resnetkit.data.datasets.indexed_shards import open_indexed
from resnetkit.data.datasets.label_pattern import is_pattern, patterned
from resnetkit.data.datasets.shard_cache import RemoteShard, cache_limit, cached_shards
from resnetkit.data.datasets.shard_index import INDEX
from resnetkit.data.datasets.stored_folder import listed_folder
from resnetkit.data.datasets.tables import SUFFIXES, table
from resnetkit.data.datasets.webdataset import shards
from resnetkit.data.prefetch import ordered
from resnetkit.data.storage import Stored, files, is_address
from resnetkit.data.storage_access import NoSuchFileError, shown_address
from resnetkit.errors import InputError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def open_dataset(data: str | Path, *, least: int = 2, loose: bool = False) -> Dataset:
    """Open the labelled images ``data``, with at least ``least`` classes.

    ``digits``; a folder of class folders, of IDX files, of tar shards, or written by Hugging Face's
    ``datasets``; a name pattern such as ``pictures/{label}_*``; a table ``.csv``, ``.tsv`` or
    ``.parquet``; shards such as ``train-{000..009}.tar``, also by address; or the address of a
    folder that ``pack`` wrote; with ``loose``, which is slow to read twice, also of class folders.
    Raises ``ValueError`` for missing or unusable data.
    """
    name, path = str(data), Path(data)
    if name == DIGITS:
        return digits()
    if name == IN_MEMORY:
        raise InputError("the run's images were in memory, so it cannot be resumed; fit again")
    if is_pattern(name):
        return patterned(name, least=least)
    if is_address(name):
        return _remote(name, least, loose=loose)
    if name.endswith(".tar"):
        found = _there(name)
        indexed = open_indexed(path.parent, name, names=[p.name for p in found], least=least)
        return indexed or shards(found, name, least=least)
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        if not path.is_file():
            raise InputError(f"{path} does not exist; give a table, or a folder of class folders")
        packed = path.suffix.lower() == ".parquet" and has_images(path)
        return dataset(path, least=least) if packed else table(path, least=least)
    if is_dataset(path):
        return dataset(path, least=least)
    if idx_files(path):
        return idx(path, least=least)
    archives = sorted(path.glob("*.tar"))
    if archives:
        return open_indexed(path, name, least=least) or shards(archives, name, least=least)
    return image_folder.folder(path, least=least)


def _spelled(pattern: str) -> list[str]:
    """Expand ``a-{08..10}.tar`` to a-08.tar, a-09.tar and a-10.tar."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    if int(last) < int(first):
        raise InputError(f"{pattern} has the range {first}..{last}; give the lower number first")
    before, after = pattern[: match.start()], pattern[match.end() :]
    numbers = (f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1))
    return [name for number in numbers for name in _spelled(f"{before}{number}{after}")]


def _there(pattern: str) -> list[Path]:
    paths = [Path(name) for name in _spelled(pattern)]
    for path in paths:
        if not path.is_file():
            raise InputError(f"the shard {path} does not exist; give existing shards")
    return paths


def _shards_of(folder: str) -> list[Stored]:
    try:
        return [one for one in files(f"{folder}/*") if one.name.endswith(".tar")]
    except NoSuchFileError:
        return []


def _remote(address: str, least: int, *, loose: bool) -> Dataset:
    """The shards at an address: all of a folder, or those of a pattern."""
    fetched = address.endswith(".tar")
    folder, pattern = address.rpartition("/")[::2] if fetched else (address.rstrip("/"), "")
    names = _spelled(pattern) if fetched else None
    found = open_indexed(folder, shown_address(address), names=names, least=least)
    if found is not None:
        return found
    if names is None:
        stored = _shards_of(folder)
        if not stored and loose:
            return image_folder.folder(listed_folder(folder), least=least)
        if not stored:
            next(files(folder), None)  # says so if there is nothing
            raise InputError(
                f"{shown_address(address)} has no {INDEX} and no .tar shards; give a folder of "
                "shards, or shards such as train-{000..009}.tar; class folders in a storage are "
                "written into shards first"
            )
    else:
        stored = [one for name in names for one in files(f"{folder}/{name}")]
    remote = [RemoteShard(one.address, one.size) for one in stored]
    total, limit = sum(one.size for one in stored), cache_limit()
    if total > limit:
        raise InputError(
            f"{shown_address(address)} has {total / 1e9:.3g} GB in shards without {INDEX}, and the "
            f"cache has {limit / 1e9:g} GB; pack them again, which writes it, or increase "
            "RESNETKIT_SHARD_CACHE"
        )
    for _ in ordered(cached_shards().path, remote, threads=4):
        pass
    opened = shards(remote, shown_address(address), least=least)
    note = f"{opened.name} has no {INDEX}, so the shards' checksums are not verified"
    return replace(opened, notes=(*opened.notes, note))
