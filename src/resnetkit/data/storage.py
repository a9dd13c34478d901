"""Files in object storage and on servers, by address: ``s3://bucket/name``, ``https://...``.

Any protocol of fsspec is read and written; the package of a protocol, e.g. s3fs for ``s3://``,
reads its own settings: ``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ``~/.aws``, ``~/.config/fsspec``, ...

- ``is_address(path)``: whether it is one, rather than a local path;
- ``files(address)``: the files below a folder, or matching a pattern, each with its size;
- ``open_file(address)``: a file, read in blocks; ``read(address)``: the bytes of a small one;
- ``exists(address)``; ``put(address, content)``: visible once it is whole;
- ``fetch(address, path)``: a verified local copy.

What fails for a while (no answer, 5xx, a body that ends early) is tried again from where it broke,
until nothing has come for ``patience()`` seconds. What is final (no such file or bucket, refused
credentials, a package that is missing), and a server that has never answered, raises a one-line
``StorageError`` at once, without what may be secret in an address. Threads may call all of them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from resnetkit.data.storage_access import (
    OBJECTS,
    NoSuchFileError,
    StorageError,
    attempted,
    is_web,
    patience,
    shown_address,
    system_of,
)
from resnetkit.errors import InputError

#: Bytes of one request.
BLOCK = 8 << 20
#: Minimum bytes of a request after failures.
_LEAST = 1 << 16
#: Protocols that show a written file only once it is whole; others get a temporary name first.
_ATOMIC = OBJECTS | {"memory"}
#: Times that a file with a false checksum is fetched.
_FETCHES = 3
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Stored:
    """A file: its ``address``, its ``size`` in bytes, and its ``name`` below the listed folder."""

    address: str
    name: str
    size: int


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is an address rather than a local path.

    >>> is_address("s3://bucket/train-000000.tar"), is_address("pictures/a.jpg")
    (True, False)
    """
    return "://" in str(path)


def is_pattern(address: str) -> bool:
    """Whether the last part of an address has ``*``, ``?`` or ``[...]``."""
    return not is_web(address) and bool(_MAGIC.search(address.rpartition("/")[2]))


def files(address: str) -> Iterator[Stored]:
    """The files of a folder and its subfolders, of a pattern, or the one file, sorted by name.

    A pattern has ``*``, ``?`` or ``[...]`` in the last part, is not the name of a file, and matches
    files of that folder. Only the names of one folder are in memory. Raises ``NoSuchFileError`` if
    there is nothing.
    """
    folder, _, last = address.rpartition("/")
    if is_web(address):
        yield Stored(address, last, _size(address) or 0)
        return
    if is_pattern(address):
        there = _inside(folder, "")[1]
        named = [one for one in there if one.name == last]
        found = named or [one for one in there if fnmatch.fnmatchcase(one.name, last)]
        if not found:
            raise NoSuchFileError(f"no file matches {shown_address(address)}")
        yield from found
        return
    waiting = [""]
    empty = True
    while waiting:
        folders, found = _inside(address.rstrip("/"), waiting.pop())
        empty = empty and not found and not folders
        waiting += reversed(folders)
        yield from found
    if empty:
        raise NoSuchFileError(f"{shown_address(address)} does not exist: there is no such folder")


def exists(address: str) -> bool:
    """Whether there is a file of this name."""
    try:
        _size(address)
    except NoSuchFileError:
        return False
    return True


def read(address: str, *, size: int | None = None) -> bytes:
    """The bytes of a small file, in one request if ``size`` is known.

    Raises ``StorageError`` if it is not of that size.
    """
    if size is not None and size <= BLOCK and not is_web(address):
        return _block(address, 0, size) if size else b""
    with open_file(address) as file:
        return file.read()


def open_file(address: str) -> io.BufferedReader:
    """Open a file for reading; it can be sought. At most two blocks of it are in memory."""
    info = _info(address)
    size = info.get("size")
    if size is not None and (info.get("partial") or not is_web(address)):
        return io.BufferedReader(_Ranges(address, int(size)), BLOCK)
    return io.BufferedReader(_Stream(address, size), BLOCK)


def fetch(
    address: str, path: Path, *, size: int | None = None, sha256: str | None = None
) -> tuple[int, str]:
    """Copy a file to ``path``, which appears once it is whole and has the given size and checksum;
    return both.

    Raises ``StorageError`` if they differ, after several attempts, and ``InputError`` if ``path``
    cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        for attempt in count(1):
            digest, length = hashlib.sha256(), 0
            with partial.open("wb") as out, open_file(address) as file:
                while block := file.read(BLOCK):
                    out.write(block)
                    digest.update(block)
                    length += len(block)
            got = length, digest.hexdigest()
            if size in (None, got[0]) and sha256 in (None, got[1]):
                partial.replace(path)
                return got
            if attempt == _FETCHES or size not in (None, got[0]):
                raise StorageError(
                    f"{shown_address(address)} has {got[0]:,} bytes with the SHA-256 {got[1]}, and "
                    f"its index has {size or got[0]:,} bytes with {sha256}; write it again"
                )
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
    raise AssertionError


def put(address: str, content: bytes | Path) -> None:
    """Write a file, which appears once it is whole; one of that name is replaced."""
    protocol = address.partition("://")[0]
    whole = protocol in _ATOMIC
    target = address if whole else _beside(address)

    def write() -> None:
        system, path = system_of(target)
        if not whole:
            system.makedirs(system._parent(path), exist_ok=True)
        if isinstance(content, bytes):
            system.pipe_file(path, content)
        else:
            system.put_file(str(content), path)
        if not whole:
            system.mv(path, system_of(address)[1])

    attempted(address, "written", write)


def _beside(address: str) -> str:
    folder, _, name = address.rpartition("/")
    return f"{folder}/.{name}.{os.getpid()}.{threading.get_ident()}"


def _inside(folder: str, below: str) -> tuple[list[str], list[Stored]]:
    """The subfolders and files of ``folder/below``, sorted; ``below`` ends with a slash."""
    address = f"{folder}/{below}".rstrip("/")

    def listing() -> tuple[str, list[dict[str, Any]]]:
        system, path = system_of(address)
        return path, system.ls(path, detail=True)

    folders, found = [], []
    path, entries = attempted(address, "listed", listing)
    for entry in entries:
        full = str(entry["name"]).rstrip("/")
        name = full[len(path.rstrip("/")) :].lstrip("/")
        if entry["type"] == "directory":
            if name:
                folders.append(f"{below}{name}/")
            elif str(entry["name"]) == f"{path}/":
                warnings.warn(
                    f"{shown_address(address)}// is passed over: two slashes in a name are not "
                    "listed",
                    UserWarning,  # shown by the commands too
                    stacklevel=2,
                )
        elif not name and full == path.rstrip("/"):  # the address is a file, or marks a folder
            if not str(entry["name"]).endswith("/") and (entry["size"] or not below):
                found.append(Stored(address, address.rpartition("/")[2], int(entry["size"] or 0)))
        else:
            size = int(entry["size"] or 0)
            found.append(Stored(f"{address}/{name}", f"{below}{name}", size))
    return sorted(folders), sorted(found, key=lambda one: one.name)


def _info(address: str) -> dict[str, Any]:
    def info() -> dict[str, Any]:
        system, path = system_of(address)
        found: dict[str, Any] = system.info(path)
        return found

    found = attempted(address, "read", info)
    if found.get("type") == "directory":
        raise NoSuchFileError(f"{shown_address(address)} is a folder; give a file")
    return found


def _size(address: str) -> int | None:
    size = _info(address).get("size")
    return None if size is None else int(size)


def _block(address: str, start: int, end: int) -> bytes:
    """The bytes from ``start`` to ``end``; after a failure, in smaller requests."""
    parts: list[bytes] = []
    step = end - start

    def part() -> bytes:
        nonlocal step
        stop = min(start + step, end)
        step = max(step // 2, _LEAST)
        system, path = system_of(address)
        data: bytes
        if system.async_impl:
            from fsspec.asyn import sync

            data = sync(
                system.loop, system._cat_file, path, start=start, end=stop, timeout=patience()
            )
        else:
            data = system.cat_file(path, start=start, end=stop)
        if not 0 < len(data) <= stop - start:
            raise ConnectionError(f"{len(data):,} bytes came instead of {stop - start:,}")
        return data

    while start < end:
        parts.append(attempted(address, "read", part))
        start += len(parts[-1])
        step = end - start
    return b"".join(parts)


class _Blocks(io.RawIOBase):
    """A file whose rest is read in blocks, not in the few kilobytes of ``RawIOBase``."""

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(BLOCK) or b"", b""))


class _Ranges(_Blocks):
    """A file of known size, read by ranges."""

    def __init__(self, address: str, size: int) -> None:
        self._address, self._size, self._at = address, size, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, begin + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + min(len(buffer), BLOCK), self._size)
        if end <= self._at:
            return 0
        data = _block(self._address, self._at, end)
        buffer[: len(data)] = data
        self._at = end
        return len(data)


class _Stream(_Blocks):
    """A file of a server without ranges; where it breaks, it is read again from the beginning."""

    def __init__(self, address: str, size: int | None) -> None:
        self._address, self._size, self._at = address, size, 0
        self._file: Any = None

    def readinto(self, buffer: Any) -> int:
        data = attempted(self._address, "read", lambda: self._next(len(buffer)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()

    def _next(self, most: int) -> bytes:
        try:
            if self._file is None:
                system, path = system_of(self._address)
                self._file = system.open(path, "rb", block_size=0)
                passed = 0
                while passed < self._at:
                    skipped = len(self._file.read(min(BLOCK, self._at - passed)))
                    if not skipped:
                        raise ConnectionError("the file became shorter")
                    passed += skipped
            data: bytes = self._file.read(most)
            if not data and self._size is not None and self._at < self._size:
                raise ConnectionError(f"{self._at:,} of {self._size:,} bytes came")
            return data
        except Exception:  # whatever it is, the next attempt opens the file again
            broken, self._file = self._file, None
            if broken is not None:
                with suppress(Exception):
                    broken.close()
            raise
