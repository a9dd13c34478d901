"""The folder of shards: local, or in object storage."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from resnetkit.data import storage
from resnetkit.data.datasets.shard_cache import RemoteShard
from resnetkit.data.datasets.shard_index import IndexedShard
from resnetkit.data.storage_access import NoSuchFileError, shown_address
from resnetkit.errors import InputError
from resnetkit.files import atomic


class LocalFolder:
    """A folder of this machine; ``str(folder)`` is its name in messages."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def place(self, name: str) -> str:
        """The path or address of a file, for messages."""
        return str(self.path / name)

    def sizes(self) -> dict[str, int]:
        """The bytes of each file, without hidden ones, by name; none if there is no folder yet."""
        if not self.path.exists():
            return {}
        found = (entry for entry in self.path.iterdir() if not entry.name.startswith("."))
        return {entry.name: entry.stat().st_size for entry in found}

    def read(self, name: str) -> bytes | None:
        """A small file; None if it does not exist."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{self.place(name)} cannot be read: {error.strerror}") from None

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which appears once it is whole."""
        with atomic(self.path / name) as temporary:
            temporary.write_bytes(content)

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A local file to write, which appears in the folder at the end."""
        return atomic(self.path / name)

    def file(self, shard: IndexedShard) -> Path:
        """What opens a shard of the folder's index."""
        return self.path / shard.name

    def claim(self) -> None:
        """Create it, without what a killed process left."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot create the folder {self}: {error.strerror}") from None
        for entry in self.path.glob(".*.tar.*"):
            entry.unlink(missing_ok=True)


class RemoteFolder:
    """The same in object storage; a file is written on this machine first, then copied."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def __str__(self) -> str:
        return shown_address(self.address)

    def place(self, name: str) -> str:
        return shown_address(f"{self.address}/{name}")

    def sizes(self) -> dict[str, int]:
        try:
            found = list(storage.files(f"{self.address}/*"))
        except NoSuchFileError:
            return {}
        return {one.name: one.size for one in found if not one.name.startswith(".")}

    def read(self, name: str) -> bytes | None:
        try:
            return storage.read(f"{self.address}/{name}")
        except NoSuchFileError:
            return None

    def write(self, name: str, content: bytes) -> None:
        storage.put(f"{self.address}/{name}", content)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        try:
            with tempfile.TemporaryDirectory(prefix="resnetkit-") as place:
                temporary = Path(place, name)
                yield temporary
                storage.put(f"{self.address}/{name}", temporary)
        except OSError as error:
            raise InputError(
                f"{name} cannot be written in {tempfile.gettempdir()}: {error.strerror or error}; "
                "the environment variable TMPDIR names another folder"
            ) from None

    def file(self, shard: IndexedShard) -> RemoteShard:
        """What opens a shard of the folder's index."""
        return RemoteShard(f"{self.address}/{shard.name}", shard.size, shard.sha256)

    def claim(self) -> None:
        """Nothing to create."""


def shard_folder(place: str | Path) -> LocalFolder | RemoteFolder:
    """The folder at a path or address."""
    if storage.is_address(place):
        return RemoteFolder(str(place))
    return LocalFolder(Path(place))
