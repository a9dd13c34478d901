"""Atomic file writes, locks and the cache folder."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from resnetkit.errors import InputError

try:
    from fcntl import LOCK_EX, LOCK_NB
    from fcntl import flock as _flock

    _POSIX = True
except ImportError:
    _POSIX = False

#: How the ``Path`` of an address begins; one letter is a drive of Windows.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write to the yielded temporary path; on success rename it to ``path``, else remove it.

    The file is flushed to disk (fsync) before it is renamed. Raises ``InputError`` if ``path``
    cannot be written or the disk fills up. A folder or a device (``/dev/null``) is not replaced.
    """
    target = Path(path)
    check_target(target)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from None
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        # Opened after the body, which may have replaced the file, as safetensors does.
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Raise ``InputError`` if ``path`` exists and is not a regular file, its folder is missing, or
    it is an address; called before long computations."""
    check_local(path)
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a device or a pipe"
        raise InputError(f"cannot write {path}: it is {what}; give a file name")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}; create it first")


def check_local(path: Path) -> None:
    """Raise ``InputError`` for an address such as ``s3://bucket/run``, whose ``Path`` would be the
    folder ``s3:`` here."""
    if match := _ADDRESS.match(str(path)):
        raise InputError(
            f"cannot write to an address ({match[0]}/...); give a path on this machine"
        )


def utf8(name: str) -> str:
    """A file name with invalid UTF-8 bytes escaped as ``\\udcff``, so that it can be written."""
    return name.encode("utf-8", "backslashreplace").decode()


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 atomically. Raises ``InputError`` as ``atomic`` does."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    if path.is_dir() and not _POSIX:
        return  # Windows does not open folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flock(file: int | IO[bytes]) -> None:
    """Lock an open file or folder until it is closed, or the process ends in any way.

    Raises ``BlockingIOError`` where another process has the lock. Nothing is locked on Windows and
    on network file systems without locks.
    """
    if not _POSIX:
        return
    try:
        _flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``; see ``flock``."""
    if not _POSIX:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        flock(handle)
        yield
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """``RESNETKIT_CACHE``, else ``resnetkit`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("RESNETKIT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnetkit"
