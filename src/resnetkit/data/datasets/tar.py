"""Reads tar archives header by header, and reports damaged or oversized ones.

Python's ``tarfile`` silently stops at a damaged header, and reads long names without limit; only
its ``TarInfo.frombuf`` is used. The format is POSIX.1-2001 (pax), with GNU's long names.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Literal, Protocol

_BLOCK = 512
#: Maximum length of a long name or a pax header.
_MOST_NAME = 1 << 20
#: Bytes skipped at a time if a file is not seekable.
_CHUNK = 1 << 20
#: Magic bytes of compressed archives, and their decompressors.
PACKED: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ", lzma.LZMAFile),
)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_RECORD = re.compile(rb"(\d{1,9}) ([^=\n]{1,200})=")


class TarError(Exception):
    """An archive cannot be read further; the message completes a sentence about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file in an archive, at ``offset`` in the decompressed archive.

    ``link`` is the target of a link, or None. ``read`` returns its bytes, until the next member is
    requested.
    """

    name: str
    size: int
    offset: int
    link: str | None
    read: Callable[[], bytes]


class Archive(Protocol):
    """A file to open for reading, local or not, which may also be a ``Path``."""

    def open(self, mode: Literal["rb"], /) -> BufferedReader: ...


def members(path: Path | Archive) -> Iterator[Member]:
    """The files and links of an archive, in order, optionally compressed by gzip, bzip2 or xz.

    Concatenated archives are read as one. Raises ``TarError`` at a damaged or false header and for
    a truncated file, after yielding the members before it.
    """
    with path.open("rb") as file:
        head = file.peek(6)[:6]
        unpack = next((unpack for sign, unpack in PACKED if head.startswith(sign)), None)
        length = None
        if unpack is None and file.seekable():
            length = file.seek(0, io.SEEK_END)
            file.seek(0)
        try:
            if unpack is None:
                yield from _Walk(file, length).members()
            else:
                with unpack(file) as unpacked:
                    yield from _Walk(unpacked, None).members()
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise TarError(f"is damaged: {text}") from None


class _Walk:
    def __init__(self, file: IO[bytes], length: int | None) -> None:
        self.file, self.length, self.at = file, length, 0

    def members(self) -> Iterator[Member]:
        extended: dict[str, str] = {}
        ended = False
        while block := self.file.read(_BLOCK):
            begin, self.at = self.at, self.at + len(block)
            if len(block) < _BLOCK and not ended:
                raise TarError(f"ends in the middle of a header at byte {begin:,}")
            if not any(block):
                ended = True
                continue
            header = _header(block)
            if header is None:
                if ended:
                    return  # data after the end of an archive is ignored
                raise TarError(f"has a damaged header at byte {begin:,}")
            ended = False
            size = _size(extended.get("size"), header.size, begin)
            self._check(size, header.name)
            if header.type in _PAX or header.type in _LONG:
                body = self._body(size, begin)
                if header.type in _LONG:
                    key = "path" if header.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
                    extended[key] = body.split(b"\0")[0].decode("utf-8", "surrogateescape")
                elif header.type != tarfile.XGLTYPE:
                    extended |= _records(body, begin)
                continue
            name, link = (
                extended.get("path", header.name),
                extended.get("linkpath", header.linkname),
            )
            sparse = any(key.startswith("GNU.sparse") for key in extended)
            extended = {}
            if header.type == tarfile.GNUTYPE_SPARSE or sparse:
                raise TarError(f"has the sparse file {name!a}, which is unsupported; repack it")
            if header.type in _LINKS:
                yield Member(name=name, size=0, offset=self.at, link=link, read=bytes)
                continue
            is_folder = header.type == tarfile.AREGTYPE and name.endswith("/")
            if header.type in _FILES and not is_folder:
                yield from self._file(name, size)
            elif header.type not in tarfile.SUPPORTED_TYPES:
                self._pass(-(-size // _BLOCK) * _BLOCK)
        if not ended:
            raise TarError("ends in the middle, without the end of an archive")

    def _file(self, name: str, size: int) -> Iterator[Member]:
        start, read = self.at, 0

        def content() -> bytes:
            nonlocal read
            data = self.file.read(size - read)
            read += len(data)
            if read < size:
                raise TarError(f"ends in the middle of {name!a}")
            return data

        yield Member(name=name, size=size, offset=start, link=None, read=content)
        self.at += read
        self._pass(-(-size // _BLOCK) * _BLOCK - read, last=size - read)

    def _check(self, size: int, name: str) -> None:
        if self.length is not None and self.at + size > self.length:
            raise TarError(f"ends in the middle of {name!a}")

    def _body(self, size: int, begin: int) -> bytes:
        if size > _MOST_NAME:
            raise TarError(f"has a name or header of {size:,} bytes at byte {begin:,}")
        whole = -(-size // _BLOCK) * _BLOCK
        data = self.file.read(whole)
        self.at += len(data)
        if len(data) < size:
            raise TarError(f"ends in the middle of a header at byte {begin:,}")
        return data[:size]

    def _pass(self, count: int, last: int = 0) -> None:
        """Skip bytes, of which ``last`` belong to a file; final padding may be missing."""
        if self.length is not None:
            self.file.seek(count, 1)
            self.at += count
            return
        done = 0
        while done < count and (data := self.file.read(min(_CHUNK, count - done))):
            done += len(data)
        self.at += done
        if done < last:
            raise TarError("ends in the middle of a file")


def _header(block: bytes) -> tarfile.TarInfo | None:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None


def _size(given: str | None, size: int, begin: int) -> int:
    if given is not None:
        size = int(given) if given.isascii() and given.isdigit() and len(given) < 20 else -1
    if not 0 <= size < 1 << 62:
        raise TarError(f"has a header with a false size at byte {begin:,}")
    return size


def _records(body: bytes, begin: int) -> dict[str, str]:
    """The records ``LENGTH KEY=VALUE`` of a pax header."""
    found, at = {}, 0
    while at < len(body) and body[at]:
        match = _RECORD.match(body, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(body) or body[end - 1 : end] != b"\n":
            raise TarError(f"has a damaged header at byte {begin:,}")
        key = match[2].decode("utf-8", "replace")
        found[key] = body[match.end() : end - 1].decode("utf-8", "surrogateescape")
        at = end
    return found
