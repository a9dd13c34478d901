"""``.pth`` of torch before 1.6: five pickles, then the storages.

The layout is that of ``_legacy_save`` in ``torch/serialization.py``: a magic number, the protocol,
the machine's properties, the object, the storages' keys in order; then each storage as an 8-byte
element count and its data.
"""

from __future__ import annotations

from pathlib import Path

from resnetkit.formats.container import Container, UnfitError, short
from resnetkit.formats.dtypes import SIZES
from resnetkit.formats.file_window import TRUNCATED, Window
from resnetkit.formats.unpickler.allowlist import ALLOWED, STORAGES
from resnetkit.formats.unpickler.arrays import Storage
from resnetkit.formats.unpickler.machine import Name
from resnetkit.formats.unpickler.opcodes import unpickle
from resnetkit.formats.unpickler.tree import Tree

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
#: The magic number as pickle's LONG1.
_BEGINS = b"\x8a\x0a" + _MAGIC.to_bytes(10, "little")


def claims(head: bytes, _path: Path) -> bool:
    framed = head[2:3] == b"\x95"  # from protocol 4 on, a frame's 9 bytes come first
    return head[:1] == b"\x80" and head[11 if framed else 2 :].startswith(_BEGINS)


def open_file(path: Path) -> Container:
    parts: list[tuple[Storage, str, int]] = []

    def persistent(asked: object) -> Storage | Name:
        match asked:
            case ("module", Name() as kind, *_):  # a class, with its source code
                return kind
        parts.append(_storage(asked))
        return parts[-1][0]

    with path.open("rb") as file:
        window = Window(file)
        if (unpickle(window, {}), unpickle(window, {})) != (_MAGIC, _PROTOCOL):
            raise UnfitError(TRUNCATED)
        system = unpickle(window, {})
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise UnfitError(
                "was written on a big-endian machine; save it again on a little-endian one"
            )
        tree = Tree(unpickle(window, ALLOWED, persistent))
        _place(parts, unpickle(window, {}), window)
    return tree.container(path, "torch-legacy")


def _storage(asked: object) -> tuple[Storage, str, int]:
    """A storage, the key of the storage it is a view of, and its byte offset in that."""
    match asked:
        case ("storage", Name(name=kind), str() as key, str(), int() as count, None):
            start, length = 0, count
        case (
            "storage",
            Name(name=kind),
            str() as key,
            str(),
            int() as count,
            (str(), int() as start, int() as length),
        ):
            pass
        case _:
            raise UnfitError(f"refers to {short(asked)}, which is not a storage; get it again")
    if kind not in STORAGES or not 0 <= start <= start + length <= count < 1 << 60:
        raise UnfitError(f"refers to {short(asked)}, which is not a storage; get it again")
    storage = Storage(key=key, dtype=STORAGES[kind], count=length)
    return storage, key, start * SIZES[storage.dtype]


def _place(parts: list[tuple[Storage, str, int]], keys: object, window: Window) -> None:
    """Locate each storage. Raises ``UnfitError`` if the file is too short."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UnfitError(TRUNCATED)
    size = {key: SIZES[storage.dtype] for storage, key, _ in parts}
    if len(set(keys)) != len(keys) or set(keys) != set(size):
        raise UnfitError("lists storages that do not match its tensors; get it again")
    begin, end = {}, {}
    for key in keys:
        length = window.number(8) * size[key]
        begin[key] = window.skip(length)
        end[key] = window.position
    if window.left:
        raise UnfitError(f"has {window.left} bytes after its last storage; get it again")
    for storage, key, before in parts:
        storage.offset = begin[key] + before
        if storage.offset + storage.nbytes > end[key]:
            raise UnfitError(TRUNCATED)
