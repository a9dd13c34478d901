"""``.pth``, ``.pt``, ``.ckpt``, ``.bin``: zip files of ``torch.save`` since torch 1.6, and of
``torch.jit.save``, whose program is ignored.

``NAME/data.pkl`` describes the tensors, each ``NAME/data/KEY`` is a storage
(``torch/serialization.py``). torch is not imported: tensors are read in place, one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resnetkit.formats import zip_archive
from resnetkit.formats.container import Container, UnfitError, short
from resnetkit.formats.file_window import Window
from resnetkit.formats.unpickler.allowlist import ALLOWED, STORAGES
from resnetkit.formats.unpickler.arrays import Storage
from resnetkit.formats.unpickler.machine import Name
from resnetkit.formats.unpickler.opcodes import unpickle
from resnetkit.formats.unpickler.tree import Tree
from resnetkit.formats.zip_archive import Entry


def claims(head: bytes, path: Path) -> bool:
    return zip_archive.is_zip(head) and any(
        name.endswith(("/data.pkl", "/constants.pkl")) for name in zip_archive.entries(path)
    )


def open_file(path: Path) -> Container:
    entries = zip_archive.entries(path)
    root = next(iter(entries)).split("/")[0]
    compiled = f"{root}/constants.pkl" in entries
    description = entries.get(f"{root}/data.pkl")
    if description is None:
        raise UnfitError("is a zip file without the data.pkl of torch.save; save a state_dict()")
    order = entries.get(f"{root}/byteorder")
    if order is not None and zip_archive.text(path, order, "byteorder") != b"little":
        raise UnfitError(
            "was written on a big-endian machine; save it again on a little-endian one"
        )
    zip_archive.text(path, description, "data.pkl")

    def persistent(asked: object) -> Storage:
        return _storage(asked, entries, root)

    with path.open("rb") as file:
        window = Window(file, description.offset, description.length)
        return Tree(unpickle(window, ALLOWED, persistent)).container(
            path, "torchscript" if compiled else "torch"
        )


def _storage(asked: object, entries: Mapping[str, Entry], root: str) -> Storage:
    match asked:
        case ("storage", Name(name=kind), str() as key, str(), int() as count) if kind in STORAGES:
            pass
        case _:
            raise UnfitError(f"refers to {short(asked)}, which is not a storage; get it again")
    entry = entries.get(f"{root}/data/{key}")
    made = Storage(key=key, dtype=STORAGES[kind], count=count)
    if entry is None or not 0 <= made.nbytes <= entry.length:
        have = 0 if entry is None else entry.length
        raise UnfitError(
            f"declares {count} numbers of {made.dtype} for the storage {short(key)} and holds "
            f"{have} bytes; get it again"
        )
    made.offset = entry.offset
    made.crc = entry.crc if made.nbytes == entry.length else 0
    return made
