"""A folder of pictures in object storage, listed once, with the questions that ``image_folder``
asks of a local one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from resnetkit.data import storage
from resnetkit.data.storage_access import shown_address


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of ``size`` bytes at ``address``; ``name`` is below the listed folder."""

    address: str
    name: str
    size: int

    def open(self, mode: Literal["rb"] = "rb") -> io.BytesIO:
        """Read all of it."""
        return io.BytesIO(storage.read(self.address, size=self.size))


@dataclass(frozen=True, slots=True, eq=False)
class StoredFolder:
    """A folder: its ``folders`` and ``files`` by name; ``str(folder)`` is its address in
    messages."""

    address: str
    folders: dict[str, StoredFolder] = field(default_factory=dict)
    files: dict[str, StoredFile] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]

    def __str__(self) -> str:
        return shown_address(self.address)

    def __truediv__(self, name: str) -> StoredFolder:
        return self.folders.get(name) or StoredFolder(f"{self.address}/{name}")

    def every(self, skip: Callable[[str], bool]) -> Iterator[StoredFile]:
        """The files in it and its subfolders, without the names to ``skip``."""
        yield from (file for name, file in self.files.items() if not skip(name))
        for name, folder in self.folders.items():
            if not skip(name):
                yield from folder.every(skip)


def listed_folder(address: str) -> StoredFolder:
    """The folder at an address. Raises ``NoSuchFileError`` if there is none."""
    root = StoredFolder(address.rstrip("/"))
    for one in storage.files(root.address):
        *above, name = one.name.split("/")
        place = root
        for part in above:
            if part not in place.folders:
                place.folders[part] = place / part
            place = place.folders[part]
        place.files[name] = StoredFile(one.address, one.name, one.size)
    return root
