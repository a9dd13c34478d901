"""Lists the images of paths, patterns, shards and lists of names.

Only the names of one folder are in memory, so there may be any number of images.
"""

from __future__ import annotations

import glob
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import urlsplit

from resnetkit.data import storage
from resnetkit.data.brace_patterns import braces
from resnetkit.data.datasets import tar
from resnetkit.data.datasets.dataset import SUFFIXES
from resnetkit.data.datasets.huggingface import images_of, is_dataset
from resnetkit.data.datasets.image_folder import ending_of, is_litter, is_picture
from resnetkit.data.datasets.image_rows import image_rows
from resnetkit.data.datasets.shard_cache import RemoteShard, cached_shards
from resnetkit.data.datasets.shard_folder import LocalFolder, RemoteFolder, shard_folder
from resnetkit.data.datasets.shard_index import INDEX, Index, is_index, read_index
from resnetkit.data.decoding.decode import Image
from resnetkit.data.storage_access import is_web, shown_address
from resnetkit.errors import InputError

#: The path that stands for names on standard input.
STANDARD_INPUT = "-"
SHARDS = (".tar", ".tar.gz", ".tgz")
PARQUET = ".parquet"
#: Maximum bytes of a shard member, which is read as a whole.
MAX_MEMBER = 256 << 20
#: Maximum bytes of a name on standard input.
_MAX_NAME = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageEntry:
    """An image to read; if ``image`` is None, ``problem`` says why. One in object storage has an
    ``address`` instead, until ``loaded``, and its ``size`` in bytes if it is known."""

    name: str
    image: Image | None = None
    problem: str | None = None
    address: str | None = None
    size: int | None = None

    def loaded(self) -> ImageEntry:
        """The same image, read if it has an ``address``."""
        if self.address is None:
            return self
        try:
            data = storage.read(self.address, size=self.size)
        except InputError as error:
            return ImageEntry(name=self.name, problem=str(error))
        return ImageEntry(name=self.name, image=data)


def listed(
    paths: Iterable[str],
    *,
    names: BinaryIO | None = None,
    null: bool = False,
    endings: Counter[str] | None = None,
) -> Iterator[ImageEntry]:
    """The images of ``paths``, in order; see ``expanded`` for patterns.

    A folder stands for the images in it and its subfolders, sorted by name, without litter
    (``image_folder.is_litter``); links to folders are followed, except loops, and the ``endings``
    of other files are counted. A ``datasets`` folder stands for its rows; a shard (``.tar``,
    ``.tar.gz``) for its image members, named ``SHARD/MEMBER``; a folder with ``index.json`` for its
    shards; a ``.parquet`` file for its rows, see ``image_rows``; ``-`` for the names in ``names``,
    one per line, or NUL-terminated with ``null``. Addresses stand for the same in object storage.
    What cannot be listed has a ``problem``.
    """
    for path in paths:
        if path == STANDARD_INPUT:
            if names is None:
                raise InputError("there is no standard input to read names from")
            yield from (_file(name) for name in _names(names, b"\0" if null else b"\n"))
        elif (shards := shards_in(path)) is not None:
            yield from _shard_members(shards)
        elif path.lower().endswith(PARQUET) and (storage.is_address(path) or os.path.isfile(path)):
            yield from parquet_rows(path)
        elif storage.is_address(path):
            yield from stored(path, endings)
        elif is_dataset(Path(path)):
            yield from dataset_rows(path)
        elif os.path.isdir(path):
            yield from walk(path, endings)
        elif path.lower().endswith(SHARDS) and os.path.isfile(path):
            yield from members(path)
        else:
            yield _file(path)


class ImageSource:
    """The images of paths, patterns, shards and a list of names, to be iterated once.

    ``names`` is the file for ``-``; see ``listed`` and ``expanded``. ``paths`` are the given ones,
    ``endings`` counts skipped files of folders by suffix.

    Raises ``ValueError`` for a path or pattern that matches nothing, and for a folder without
    images.
    """

    def __init__(
        self, paths: Sequence[str], *, names: BinaryIO | None = None, null: bool = False
    ) -> None:
        self.paths = list(paths)
        self.endings: Counter[str] = Counter()
        self._expanded = expanded(paths)
        self._images = listed(self._expanded, names=names, null=null, endings=self.endings)
        self._first: list[ImageEntry] = []
        self._total: list[int] = []

    def __iter__(self) -> Iterator[ImageEntry]:
        return chain(self._first, self._images)

    def has(self, count: int) -> bool:
        """Whether there are at least that many images; assumed for a list of names."""
        if STANDARD_INPUT in self._expanded:
            return True
        self._first += islice(self._images, count - len(self._first))
        return len(self._first) >= count

    def start_counting(self) -> None:
        """Count the images in another thread, as listing millions is slow; see ``total``."""

        def count() -> None:
            folders = (sum(1 for _ in walk(p)) if os.path.isdir(p) else 1 for p in self._expanded)
            self._total.append(sum(folders))

        def is_slow(path: str) -> bool:
            return (
                path == STANDARD_INPUT
                or path.lower().endswith((*SHARDS, PARQUET))
                or storage.is_address(path)
                or shards_in(path) is not None
            )

        if not any(map(is_slow, self._expanded)):
            threading.Thread(target=count, name="counter", daemon=True).start()

    def total(self) -> int | None:
        """The number of images once it is known; never for shards, addresses and names, which are
        read only once."""
        return self._total[0] if self._total else None


def expanded(paths: Iterable[str]) -> list[str]:
    """Expand patterns in paths.

    A path that does not exist may have ``{000..099}`` or ``{a,b}``, and ``*``, ``?`` and ``[...]``
    for existing files, also in addresses. Raises ``ValueError`` for a path or pattern that matches
    nothing, and for a folder without images.
    """
    found: list[str] = []
    for path in paths:
        if path == STANDARD_INPUT or os.path.lexists(path):
            found.append(path)
            continue
        if storage.is_address(path):
            found += _expanded_address(path)
            continue
        for choice in braces(path):
            matches = sorted(glob.glob(choice)) if glob.has_magic(choice) else [choice]
            there = [match for match in matches if os.path.lexists(match)]
            if not there:
                raise InputError(f"{choice} does not exist; give images, folders or shards")
            found += there
    for path in found:
        if not os.path.isdir(path) or is_dataset(Path(path)) or shards_in(path) is not None:
            continue
        if next(walk(path), None) is None:
            kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
            raise InputError(f"{path} has no images ({kinds}); give another folder")
    return found


def _expanded_address(address: str) -> Iterator[str]:
    for choice in [address] if is_web(address) else braces(address):
        if storage.is_pattern(choice):
            yield from (one.address for one in storage.files(choice))
        elif next(storage.files(choice), None) is None:
            raise InputError(f"{shown_address(choice)} has no files; give another folder")
        else:
            yield choice


def index_of(path: str) -> tuple[LocalFolder | RemoteFolder, Index] | None:
    """A folder with ``index.json``, and its index; None for anything else."""
    if storage.is_address(path):
        if path.lower().endswith(SHARDS) or is_picture(path):
            return None
    elif not os.path.isfile(os.path.join(path, INDEX)):
        return None
    folder = shard_folder(path)
    content = folder.read(INDEX)
    if content is None or not is_index(content):
        return None
    return folder, read_index(content, folder.place(INDEX))


def shards_in(path: str) -> list[Path | RemoteShard] | None:
    """The shards of a folder with ``index.json``, in order; None for anything else."""
    found = index_of(path)
    if found is None:
        return None
    folder, index = found
    return [folder.file(shard) for shard in sorted(index.shards, key=lambda one: one.name)]


def _shard_members(shards: Sequence[Path | RemoteShard]) -> Iterator[ImageEntry]:
    for number, shard in enumerate(shards):
        if isinstance(shard, Path):
            yield from members(str(shard))
        else:
            # Fetched whole, as its checksum is verified; the next one meanwhile.
            pair = shards[number : number + 2]
            cached_shards().ahead(one for one in pair if isinstance(one, RemoteShard))
            yield from members(shown_address(shard.address), shard)


def stored(address: str, endings: Counter[str] | None = None) -> Iterator[ImageEntry]:
    """The images of a file, folder or shard in object storage, in order; see ``listed``."""
    try:
        if urlsplit(address).path.lower().endswith(SHARDS):
            yield from members(shown_address(address), StoredArchive(address))
            return
        for one in storage.files(address):
            name, base = shown_address(one.address), one.name.rpartition("/")[2]
            alone = one.address == address
            if not alone and any(map(is_litter, one.name.split("/"))):
                continue
            if not alone and not is_picture(base):
                if endings is not None:
                    endings[ending_of(base)] += 1
            elif one.size > MAX_MEMBER:
                yield ImageEntry(name=name, problem=_too_large(one.size))
            else:
                yield ImageEntry(name=name, address=one.address, size=one.size or None)
    except InputError as error:
        yield ImageEntry(name=shown_address(address), problem=str(error))


def _too_large(size: int) -> str:
    return f"{size:,} bytes are more than the {MAX_MEMBER:,} that are read"


@dataclass(frozen=True, slots=True)
class StoredArchive:
    """A shard in object storage, read in blocks."""

    address: str

    def open(self, mode: Literal["rb"] = "rb") -> BufferedReader:
        """Open it for reading."""
        return storage.open_file(self.address)


def parquet_rows(path: str, start: int = 0, stop: int | None = None) -> Iterator[ImageEntry]:
    """The images of a Parquet file, or those of some of its rows."""
    try:
        for name, image in image_rows(path, start, stop):
            if isinstance(image, str):
                yield _file(image)
            else:
                problem = None if image else "the row is empty"
                yield ImageEntry(name=name, image=image, problem=problem)
    except InputError as error:
        yield ImageEntry(name=_file(path).name, problem=str(error))


def dataset_rows(path: str, start: int = 0, stop: int | None = None) -> Iterator[ImageEntry]:
    """The images of a folder of ``datasets``, or those of some of its rows."""
    try:
        for called, image in islice(images_of(Path(path)), start, stop):
            file = image if isinstance(image, Path) else image.image
            yield ImageEntry(name=os.path.join(path, called), image=file)
    except InputError as error:
        yield ImageEntry(name=path, problem=str(error))


def walk(folder: str, endings: Counter[str] | None = None) -> Iterator[ImageEntry]:
    """The images in a folder and its subfolders; an unlistable one has a ``problem``."""
    linked: set[str] = set()
    waiting = [("", [os.path.join(folder, "")])]
    while waiting:
        place, names = waiting[-1]
        if not names:
            waiting.pop()
            continue
        path = os.path.join(place, names.pop())
        if not path.endswith(os.sep):
            yield _file(path)
            continue
        if os.path.islink(path.rstrip(os.sep)) and path != os.path.join(folder, ""):
            real = os.path.realpath(path)
            around = (os.path.realpath(name) for name, _ in waiting if name)
            if real in linked or any(_is_inside(outer, real) for outer in around):
                continue
            linked.add(real)
        try:
            waiting.append((path, _inside(path, endings)))
        except OSError as error:
            yield ImageEntry(name=path, problem=f"the folder cannot be listed: {error.strerror}")


def _is_inside(path: str, folder: str) -> bool:
    return os.path.join(path, "").startswith(os.path.join(folder, ""))


def _inside(folder: str, endings: Counter[str] | None) -> list[str]:
    """The images and folders in a folder, last name first; folders end with a slash."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_litter(entry.name):
                continue
            if _is_folder(entry):
                names.append(entry.name + os.sep)
            elif is_picture(entry.name):
                names.append(entry.name)
            elif endings is not None:
                endings[ending_of(entry.name)] += 1
    # Sorted without the slash, i.e. by the parts of the paths.
    names.sort(key=lambda name: name.rstrip(os.sep), reverse=True)
    return names


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links; reading it raises the error
        return False


def members(shard: str, archive: tar.Archive | None = None) -> Iterator[ImageEntry]:
    """The images in a ``.tar`` file, or in an ``archive`` of that name, in order, read
    sequentially."""
    try:
        for member in tar.members(archive or Path(shard)):
            base = os.path.basename(member.name)
            if is_litter(base) or not is_picture(base):
                continue
            name = os.path.join(shard, member.name)
            if member.link is not None:
                problem = f"it is a link to {member.link!a}; pack the file itself"
                yield ImageEntry(name=name, problem=problem)
            elif member.size > MAX_MEMBER:
                yield ImageEntry(name=name, problem=_too_large(member.size))
            else:
                yield ImageEntry(name=name, image=member.read())
    except tar.TarError as error:
        yield ImageEntry(name=shard, problem=f"the shard cannot be read on: it {error}")
    except InputError as error:
        yield ImageEntry(name=shard, problem=str(error))
    except OSError as error:
        yield ImageEntry(name=shard, problem=f"the shard cannot be read: {error.strerror}")


def _names(file: BinaryIO, end: bytes) -> Iterator[str]:
    """The names in a file, each terminated by ``end``, optional for the last."""
    rest = b""
    while chunk := file.read1(1 << 16) if hasattr(file, "read1") else file.read(1 << 16):
        *whole, rest = (rest + chunk).split(end)
        yield from map(os.fsdecode, filter(None, whole))
        if len(rest) > _MAX_NAME:
            raise InputError(
                f"a name from standard input is longer than {_MAX_NAME:,} bytes; give one name per "
                "line, or NUL-terminated names with -0"
            )
    if rest:
        yield os.fsdecode(rest)


def _file(path: str) -> ImageEntry:
    if storage.is_address(path):
        return ImageEntry(name=shown_address(path), address=path)
    place = Path(path)
    return ImageEntry(name=str(place), image=place)
