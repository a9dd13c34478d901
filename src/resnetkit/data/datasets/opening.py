"""Opens a dataset by name or path."""

from __future__ import annotations

import os
import re
from pathlib import Path

from resnetkit.data.datasets.class_names import CLASSES
from resnetkit.data.datasets.dataset import DIGITS, IN_MEMORY, Dataset
from resnetkit.data.datasets.digits import digits
from resnetkit.data.datasets.huggingface import dataset, has_images, is_dataset
from resnetkit.data.datasets.idx import idx, idx_files
from resnetkit.data.datasets.image_folder import folder
from resnetkit.data.datasets.label_pattern import is_pattern, patterned
from resnetkit.data.datasets.tables import SUFFIXES, table
from resnetkit.data.datasets.webdataset import shards
from resnetkit.errors import InputError, require

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def open_dataset(data: str | Path, *, least: int = 2) -> Dataset:
    """Open the labelled images ``data``, with at least ``least`` classes.

    ``digits``; a folder of class folders, of IDX files, of tar shards, or written by Hugging Face's
    ``datasets``; a name pattern such as ``pictures/{label}_*``; a table ``.csv``, ``.tsv`` or
    ``.parquet``; shards such as ``train-{000..009}.tar``, also by URL. Raises ``ValueError`` for
    missing or unusable data.
    """
    name, path = str(data), Path(data)
    if name == DIGITS:
        return digits()
    if name == IN_MEMORY:
        raise InputError("the run's images were in memory, so it cannot be resumed; fit again")
    if is_pattern(name):
        return patterned(name, least=least)
    if "://" in name:
        return shards(_fetched(name), name, least=least)
    if name.endswith(".tar"):
        return shards(_there(name), name, least=least)
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
        return shards(archives, name, least=least)
    return folder(path, least=least)


def is_address(data: str | Path) -> bool:
    """Whether ``data`` is remote."""
    return "://" in str(data)


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


def _fetched(pattern: str) -> list[Path]:
    """Remote shards, downloaded into the cache folder once."""
    fsspec = require("fsspec", pattern)
    shared = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    root = os.environ.get("RESNETKIT_CACHE") or Path(shared, "resnetkit")
    base = re.sub(r"[^\w.-]+", "_", pattern.rpartition("/")[0])
    place = Path(root, "shards", base)
    place.mkdir(parents=True, exist_ok=True)
    names = _spelled(pattern)
    found = []
    for address in [*names, f"{pattern.rpartition('/')[0]}/{CLASSES}"]:
        target = place / address.rpartition("/")[2]
        if not target.exists():
            partial = target.with_name(f".{target.name}")
            try:
                system, path = fsspec.core.url_to_fs(address)
                system.get_file(path, str(partial))
            except (OSError, ImportError, ValueError) as error:
                partial.unlink(missing_ok=True)
                if target.name == CLASSES:
                    continue
                reason = " ".join(str(error).split()) or type(error).__name__
                raise InputError(f"{address} cannot be downloaded: {reason}") from None
            partial.replace(target)
        if target.name != CLASSES:
            found.append(target)
    return found
