"""Shards of object storage, in a folder of limited size on this machine."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Literal

from resnetkit.data import storage
from resnetkit.data.storage_access import setting, shown_address
from resnetkit.errors import InputError
from resnetkit.files import cache_folder, flock

#: Gigabytes of the cache, if ``RESNETKIT_SHARD_CACHE`` does not say.
_GIGABYTES = 16.0
#: The environment variables that the cache depends on.
_SETTINGS = ("RESNETKIT_CACHE", "RESNETKIT_SHARD_CACHE", "XDG_CACHE_HOME", "HOME")
#: Shards fetched ahead at the same time.
_FETCHERS = 4
#: Seconds after which the partial file of a killed process is removed.
_LEFT = 3600.0


def cache_limit() -> int:
    """``RESNETKIT_SHARD_CACHE`` in gigabytes, as bytes; 16 GB by default."""
    return round(setting("RESNETKIT_SHARD_CACHE", _GIGABYTES, 1e9, "gigabytes") * 1e9)


@dataclass(frozen=True, slots=True)
class RemoteShard:
    """A shard of ``size`` bytes at ``address``; ``sha256`` is its checksum, if it is known."""

    address: str
    size: int
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Its file name."""
        return self.address.rpartition("/")[2]

    def open(self, mode: Literal["rb"] = "rb") -> BufferedReader:
        """Open it for reading, fetched first if it is not in the cache."""
        while True:
            with suppress(FileNotFoundError):  # another process made room
                return cached_shards().path(self).open(mode)


class ShardCache:
    """Up to ``limit`` bytes of shards in ``folder``, which processes of this machine share.

    Each is fetched once and verified; the least recently needed make room.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._needed: frozenset[str] = frozenset()
        self._coming = 0
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._locks: dict[str, threading.Lock] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: dict[str, Future[Path]] = {}
        self._create()

    def path(self, shard: RemoteShard) -> Path:
        """The file of a shard. Raises ``StorageError`` if it cannot be fetched or is damaged."""
        path = self.folder / _file_name(shard)
        if self._is_there(path, shard):
            return path
        with self._lock:
            lock = self._locks.setdefault(path.name, threading.Lock())
        with lock, self._lock_file(path.name) as held:
            while not self._is_there(path, shard):
                try:
                    flock(held)
                except BlockingIOError:  # another process fetches it
                    time.sleep(0.05)
                    continue
                if not self._is_there(path, shard):
                    self._fetch(shard, path)
        return path

    def ahead(self, shards: Iterable[RemoteShard]) -> None:
        """Fetch these in the background, and remove them last to make room for others."""
        wanted = {_file_name(shard): shard for shard in shards}
        with self._lock:
            self._needed = frozenset(wanted)
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="shards")
            for key, future in list(self._ahead.items()):
                if future.done() or (key not in wanted and future.cancel()):
                    del self._ahead[key]
            for key, shard in wanted.items():
                if key not in self._ahead:
                    # Its error is raised again where it is read.
                    self._ahead[key] = self._pool.submit(self.path, shard)
        now = time.time()
        for key in wanted:
            with suppress(OSError):
                os.utime(self.folder / key, (now, now))

    def _create(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot create the folder {self.folder}: {error.strerror}") from None

    def _lock_file(self, name: str) -> BufferedWriter:
        self._create()  # it may have been removed meanwhile
        try:
            return (self.folder / f".{name}.lock").open("wb")
        except OSError as error:
            raise InputError(
                f"cannot write in {self.folder}: {error.strerror}; RESNETKIT_CACHE names another "
                "folder for caches"
            ) from None

    @staticmethod
    def _is_there(path: Path, shard: RemoteShard) -> bool:
        try:
            return path.stat().st_size == shard.size
        except OSError:
            return False

    def _fetch(self, shard: RemoteShard, path: Path) -> None:
        with self._room:
            while self._coming and self._coming + shard.size > self.limit:
                self._room.wait()
            self._make_room(shard.size)
            self._coming += shard.size
        try:
            storage.fetch(shard.address, path, size=shard.size, sha256=shard.sha256)
        finally:
            with self._room:
                self._coming -= shard.size
                self._room.notify_all()

    def _make_room(self, size: int) -> None:
        found: list[tuple[bool, float, int, str]] = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                status = entry.stat()
                if not entry.name.startswith("."):
                    needed = entry.name in self._needed
                    found.append((needed, status.st_mtime, status.st_size, entry.path))
                elif status.st_mtime < time.time() - _LEFT:
                    os.unlink(entry.path)
        used = self._coming + size + sum(freed for _, _, freed, _ in found)
        for _, _, freed, path in sorted(found):
            if used <= self.limit:
                return
            with suppress(FileNotFoundError):
                os.unlink(path)
            used -= freed


def cached_shards() -> ShardCache:
    """The cache of this process: ``shards`` in the cache folder, limited by ``cache_limit``."""
    return _cache(*map(os.environ.get, _SETTINGS))


@cache
def _cache(*_: str | None) -> ShardCache:
    return ShardCache(cache_folder() / "shards", cache_limit())


@cache
def _file_name(shard: RemoteShard) -> str:
    unique = shard.sha256 or f"{shown_address(shard.address)} {shard.size}"
    return f"{hashlib.sha256(unique.encode()).hexdigest()[:32]}-{shard.name}"
