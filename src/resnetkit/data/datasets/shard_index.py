"""The index of a folder of shards: ``index.json``, and beside each shard a table of its images.

``index.json`` has the numbers of images and bytes, the classes, and of each shard its name, images,
bytes, SHA-256 and the SHA-256 of its table. The table of ``train-000000.tar``, in
``train-000000.table``, is a line of JSON and 21 bytes an image, so that a million images are opened
without reading a shard or keeping a Python object for each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from resnetkit.data.datasets.dataset import SUFFIXES
from resnetkit.errors import InputError, check, listed, mapping, one_of, parsed, text, whole

#: The file with the index of the shards, written last.
INDEX = "index.json"
_FORMAT = "resnetkit shards 1"
#: An image: the place of its bytes in the shard, its class, and the number and suffix of its name.
RECORD = np.dtype(
    [
        ("offset", "<u8"),
        ("size", "<u4"),
        ("label", "<u4"),
        ("number", "<u4"),
        ("suffix", "u1"),
    ]
)
Records = npt.NDArray[np.void]

_MOST = 1 << 62
_HEX = text(64)
_HEADER = {
    "bytes": whole(0, _MOST),
    "sha256": _HEX,
    "suffixes": listed(one_of(*SUFFIXES), 255),
}
_SHARD = {"name": text(255), "bytes": whole(1, _MOST), "sha256": _HEX, "table": _HEX}
_RULES = {
    "format": one_of(_FORMAT),
    "classes": listed(text(), 1_000_000, 1),
    "shards": listed(mapping(), 10_000_000, 1),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """The images of one shard, of ``size`` bytes with the checksum ``sha256``."""

    size: int
    sha256: str
    suffixes: tuple[str, ...]
    records: Records

    def encoded(self) -> bytes:
        """The contents of the table's file."""
        head = {"bytes": self.size, "sha256": self.sha256, "suffixes": self.suffixes}
        return json.dumps(head).encode() + b"\n" + self.records.tobytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedShard:
    """A shard of ``size`` bytes in the index; ``table`` is the SHA-256 of its table."""

    name: str
    images: int
    size: int
    sha256: str
    table: str

    def read_table(self, content: bytes, where: str) -> Table:
        """Its table, checked. Raises ``InputError``."""
        if hashlib.sha256(content).hexdigest() != self.table:
            raise InputError(f"{where} is not the one of its index; write the shards again")
        found = decoded(content, where)
        if (found.size, found.sha256) != (self.size, self.sha256):
            raise InputError(f"{where} is of another shard than its index; write the shards again")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The shards of a folder, and their classes."""

    classes: tuple[str, ...]
    shards: tuple[IndexedShard, ...]

    def encoded(self, class_images: Sequence[int]) -> bytes:
        """The contents of ``index.json``; ``class_images`` are the images of each class."""
        document = {
            "format": _FORMAT,
            "images": sum(shard.images for shard in self.shards),
            "bytes": sum(shard.size for shard in self.shards),
            "classes": self.classes,
            "class_images": [int(number) for number in class_images],
            "shards": [
                {
                    "name": shard.name,
                    "images": shard.images,
                    "bytes": shard.size,
                    "sha256": shard.sha256,
                    "table": shard.table,
                }
                for shard in self.shards
            ],
        }
        return json.dumps(document, indent=1).encode() + b"\n"


def table_name(shard: str) -> str:
    """The name of a shard's table."""
    return shard.removesuffix(".tar") + ".table"


def decoded(content: bytes, where: str) -> Table:
    """Read a table. Raises ``InputError`` for a damaged one."""
    head, _, body = content.partition(b"\n")
    try:
        fields = parsed(head, where)
        check(fields, _HEADER, "its")
        if len(body) % RECORD.itemsize:
            raise InputError("it ends in the middle of an image")
        records: Records = np.frombuffer(body, RECORD)
        ends = records["offset"] + records["size"]
        if len(records) and (
            ends.max() > fields["bytes"]
            or records["offset"].max() > fields["bytes"]
            or records["suffix"].max() >= len(fields["suffixes"])
        ):
            raise InputError("it has an image outside its shard")
    except InputError as error:
        raise InputError(f"{where} is damaged: {error}; write the shards again") from None
    return Table(
        size=fields["bytes"],
        sha256=fields["sha256"],
        suffixes=tuple(fields["suffixes"]),
        records=records,
    )


def is_index(content: bytes | None) -> bool:
    """Whether a file named ``index.json`` is one of ours."""
    return content is not None and b'"format": "resnetkit shards' in content[:64]


def read_index(content: bytes, where: str) -> Index:
    """Read ``index.json``. Raises ``InputError`` for an invalid one."""
    try:
        document = parsed(content)
        check(document, _RULES, "its")
        shards = [_shard(entry) for entry in document["shards"]]
        if len({shard.name for shard in shards}) < len(shards):
            raise InputError("it has a shard twice")
    except InputError as error:
        raise InputError(f"{where} is invalid ({error}); write the shards again") from None
    return Index(classes=tuple(document["classes"]), shards=tuple(shards))


def _shard(entry: dict[str, Any]) -> IndexedShard:
    check(entry, {**_SHARD, "images": whole(1, _MOST)}, "its shard's")
    name = entry["name"]
    if "/" in name or "\\" in name or name.startswith(".") or not name.endswith(".tar"):
        raise InputError(f"its shard {name!a} is not the name of a .tar file")
    return IndexedShard(
        name=name,
        images=entry["images"],
        size=entry["bytes"],
        sha256=entry["sha256"],
        table=entry["table"],
    )
