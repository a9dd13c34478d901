"""Zip files of torch and Keras, with uncompressed entries.

The layout is that of PKWARE's APPNOTE; the directory is read by Python's ``zipfile``.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from resnetkit.formats.container import MOST_ARRAYS, MOST_TEXT, UnfitError, short
from resnetkit.formats.file_window import TRUNCATED, Window

#: Bytes of a directory entry without its name.
_ENTRY = 46
_LOCAL = 30
_DAMAGED = (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, RuntimeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The offset, length and CRC of an entry (0 if there is none)."""

    offset: int
    length: int
    crc: int


def is_zip(head: bytes) -> bool:
    return head[:4] == b"PK\x03\x04"


def entries(path: Path) -> dict[str, Entry]:
    """All entries by name. Raises ``UnfitError`` for compressed entries and false sizes."""
    with path.open("rb") as file:
        _check_directory(Window(file))
        try:
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
        except (*_DAMAGED, EOFError, IndexError):
            raise UnfitError(TRUNCATED) from None
        names = {info.filename for info in infos}
        if len(names) != len(infos):
            raise UnfitError("is a zip file with two entries of the same name, which is rejected")
        return {
            info.filename: _entry(file, info)
            for info in infos
            if info.compress_type == zipfile.ZIP_STORED or not _is_code(info.filename)
        }


def text(path: Path, entry: Entry, what: str) -> bytes:
    """The bytes of a small entry. Raises ``UnfitError`` for a long or damaged one."""
    if entry.length > MOST_TEXT:
        raise UnfitError(f"has {entry.length} bytes of {what}; {MOST_TEXT} are allowed")
    with path.open("rb") as file:
        data = Window(file, entry.offset, entry.length).take(entry.length)
    check(entry, zlib.crc32(data), what)
    return data


def check(entry: Entry, crc: int, what: str) -> None:
    """Check a CRC. torch writes 0 with ``set_crc32_options(False)``."""
    if entry.crc not in (0, crc):
        raise UnfitError(f"is damaged: the checksum of {short(what)} differs; get it again")


def _check_directory(window: Window) -> None:
    """Limit the directory before ``zipfile`` reads it, which creates an object per entry."""
    tail = min(window.left, (1 << 16) + 22)
    start = window.position + window.left - tail
    window.skip(window.left - tail)
    data = window.take(tail)
    at = data.rfind(b"PK\x05\x06")
    if at < 0 or len(data) < at + 22:
        raise UnfitError(TRUNCATED)
    count, size = struct.unpack("<HI", data[at + 10 : at + 16])
    if count == 0xFFFF or size == 0xFFFFFFFF:
        # The zip64 record precedes its locator, which precedes the end record.
        record = data.rfind(b"PK\x06\x06", 0, at)
        if record < 0 or len(data) < record + 48:
            raise UnfitError(TRUNCATED)
        count, size = struct.unpack("<QQ", data[record + 32 : record + 48])
    if count > MOST_ARRAYS or size > MOST_TEXT or size > start + at:
        raise UnfitError(f"is a zip file of {count} entries, too many for a checkpoint")


def _is_code(name: str) -> bool:
    """Whether it is part of a TorchScript program, which torch compresses and is not read here."""
    return "/code/" in name


def _entry(file: BinaryIO, info: zipfile.ZipInfo) -> Entry:
    packed = info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size
    if packed:
        raise UnfitError(
            f"has the compressed entry {short(info.filename)} of {info.file_size} bytes; "
            "repack it without compression, as torch and Keras write it"
        )
    if info.flag_bits & 1:
        raise UnfitError("is an encrypted zip file; decrypt it first")
    local = Window(file, info.header_offset, _LOCAL).take(_LOCAL)
    if not is_zip(local):
        raise UnfitError(TRUNCATED)
    names = sum(struct.unpack("<HH", local[26:30]))
    offset = info.header_offset + _LOCAL + names
    Window(file, offset, info.file_size)
    return Entry(offset=offset, length=info.file_size, crc=info.CRC)
