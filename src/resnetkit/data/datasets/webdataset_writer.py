"""Writes tar shards of labelled images, in parallel and resumable."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from resnetkit.data.datasets.class_names import CLASSES
from resnetkit.data.datasets.dataset import SUFFIXES, Dataset, Sample
from resnetkit.data.datasets.packed_samples import Packed
from resnetkit.data.datasets.shard_folder import LocalFolder, RemoteFolder, shard_folder
from resnetkit.data.datasets.shard_index import (
    INDEX,
    RECORD,
    Index,
    IndexedShard,
    Table,
    decoded,
    table_name,
)
from resnetkit.data.datasets.stored_folder import StoredFile
from resnetkit.data.decoding.decode import UnreadableImageError, open_picture
from resnetkit.data.prefetch import ordered, readers
from resnetkit.data.storage_access import NoSuchFileError
from resnetkit.errors import InputError
from resnetkit.files import sha256_of, utf8

#: The file with the plan of the shards, in their folder.
PLAN = "shards.json"
#: Shuffling seed; each shard gets images of all classes.
_SEED = 0


#: Shards written at the same time to object storage, which answers late, not slowly.
_UPLOADS = 4
#: Pictures of a storage read at the same time for each shard.
_READERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """The result: ``shards`` files with ``images`` images; ``kept`` shards already existed."""

    folder: str
    shards: int
    kept: int
    images: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One shard to write; ``size`` is that of the file of its name, if there is one."""

    folder: LocalFolder | RemoteFolder
    name: str
    members: list[Sample]
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    shard: IndexedShard
    labels: npt.NDArray[np.int64]
    kept: bool
    missing: list[str]


def pack(
    source: Dataset,
    folder: str | Path,
    *,
    megabytes: float = 256.0,
    done: Callable[[int], None] = lambda _: None,
) -> Packing:
    """Write all images of ``source`` into shards of about ``megabytes`` in ``folder``, a path or an
    address such as ``s3://bucket/name``.

    Names are ``train-000000.tar`` and so on by split, ``data-000000.tar`` without splits, and
    ``classes.txt``; at last ``index.json`` (see ``shard_index``). Files are copied byte by byte;
    arrays become PNG. Each shard appears once it is whole, and a second call keeps those of the
    right size. ``done`` is called with the number of images of each shard. A missing file is
    skipped, and listed in ``missing``.

    Raises ``ValueError`` for a ``folder`` with other shards, and if it cannot be written.
    """
    if megabytes <= 0:
        raise InputError(f"megabytes is {megabytes:g}; it must be above 0", field="megabytes")
    groups: dict[str, Sequence[Sample]] = {p: e for p, e in source.parts.items() if e}
    if source.flat:
        groups["data"] = source.flat
    sizes = {name: [_size(e) for e in found] for name, found in groups.items()}
    make_recipe = {
        "images": {name: _identity(found, sizes[name]) for name, found in groups.items()},
        "classes": list(source.classes),
        "megabytes": megabytes,
    }
    place = shard_folder(folder)
    there = _claim(place, json.dumps(make_recipe, indent=1) + "\n")
    names = "".join(f"{utf8(name)}\n" for name in source.classes)
    place.write(CLASSES, names.encode())
    work = []
    for part, found in groups.items():
        stem = "val" if part == "validation" else part
        for number, members in enumerate(_divided(found, sizes[part], megabytes * 1e6)):
            name = f"{stem}-{number:06}.tar"
            work.append(_Work(folder=place, name=name, members=members, size=there.get(name)))
    shards: list[IndexedShard] = []
    missing: list[str] = []
    kept, counts = 0, np.zeros(len(source.classes), np.int64)
    threads = None if isinstance(place, LocalFolder) else max(_UPLOADS, readers())
    for one, written in zip(work, ordered(_write_unless_there, work, threads=threads), strict=True):
        shards.append(written.shard)
        counts += np.bincount(written.labels, minlength=len(counts))
        kept += written.kept
        missing += written.missing
        done(len(one.members))
    shards.sort(key=lambda shard: shard.name)
    index = Index(classes=tuple(map(utf8, source.classes)), shards=tuple(shards))
    place.write(INDEX, index.encoded(counts.tolist()))
    return Packing(
        folder=str(place),
        shards=len(work),
        kept=kept,
        images=int(counts.sum()),
        missing=tuple(missing),
    )


def _claim(folder: LocalFolder | RemoteFolder, make_recipe: str) -> dict[str, int]:
    """The files that are there, of the same images."""
    folder.claim()
    there = folder.sizes()
    if PLAN in there:
        if folder.read(PLAN) != make_recipe.encode():
            raise InputError(
                f"{folder} has shards of other images, or of another size; give another folder"
            )
    elif there:
        raise InputError(f"{folder} is not empty and has no {PLAN}; give another folder")
    else:
        folder.write(PLAN, make_recipe.encode())
    return there


def _identity(examples: Sequence[Sample], sizes: Sequence[int]) -> str:
    digest = hashlib.sha256()
    for example, size in zip(examples, sizes, strict=True):
        digest.update(f"{example.name}\0{example.label}\0{size}\0".encode())
    return f"{len(examples)} images {digest.hexdigest()}"


def _size(example: Sample) -> int:
    if isinstance(example, Packed):  # its image is only read when it is packed
        return example.size
    image = example.image
    if isinstance(image, Path):
        return image.stat().st_size if image.is_file() else 0
    return len(image) if isinstance(image, bytes) else np.asarray(image).nbytes


def _divided(
    examples: Sequence[Sample], sizes: Sequence[int], most: float
) -> Iterator[list[Sample]]:
    members: list[Sample] = []
    filled = 0.0
    for place in np.random.default_rng(_SEED).permutation(len(examples)):
        if members and filled + sizes[place] > most:
            yield members
            members, filled = [], 0.0
        members.append(examples[place])
        # A tar file has a 512-byte header per file, and the label is another block.
        filled += sizes[place] + 2048
    yield members


def _write_unless_there(work: _Work) -> _Written:
    folder, name = work.folder, work.name
    if work.size is not None and (content := folder.read(table_name(name))) is not None:
        table = decoded(content, folder.place(table_name(name)))
        if table.size == work.size:
            return _written(name, table, content, kept=True)
    missing: list[str] = []
    rows: list[tuple[int, int, int, int, int]] = []
    suffixes: dict[str, int] = {}
    with folder.writing(name) as temporary:
        with tarfile.open(temporary, "w") as tar:
            threads = _READERS if _is_stored(work.members[0]) else 1
            read = ordered(_encoded, work.members, threads=threads)
            for number, (example, encoded) in enumerate(zip(work.members, read, strict=True)):
                if encoded is None:
                    missing.append(example.name)
                    continue
                data, suffix = encoded
                code = suffixes.setdefault(suffix, len(suffixes))
                _add(tar, f"{number:08}{suffix}", data)
                padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                start = tar.offset - padded
                rows.append((start, len(data), example.label, number, code))
                _add(tar, f"{number:08}.cls", str(example.label).encode())
        if not rows:
            raise InputError(
                f"none of the images of {folder.place(name)} can be read, e.g. {missing[0]}"
            )
        table = Table(
            size=temporary.stat().st_size,
            sha256=sha256_of(temporary),
            suffixes=tuple(suffixes),
            records=np.array(rows, RECORD),
        )
        # Before the shard: what has no table is written again.
        folder.write(table_name(name), table.encoded())
    return _written(name, table, table.encoded(), missing=missing)


def _written(
    name: str, table: Table, content: bytes, *, kept: bool = False, missing: Sequence[str] = ()
) -> _Written:
    shard = IndexedShard(
        name=name,
        images=len(table.records),
        size=table.size,
        sha256=table.sha256,
        table=hashlib.sha256(content).hexdigest(),
    )
    labels = table.records["label"].astype(np.int64)
    return _Written(shard=shard, labels=labels, kept=kept, missing=list(missing))


def _is_stored(example: Sample) -> bool:
    return isinstance(example, Packed) and isinstance(example.file, StoredFile)


def _encoded(example: Sample) -> tuple[bytes, str] | None:
    """The bytes of an image and their suffix; None if it cannot be read."""
    try:
        return _read(example)
    except (OSError, NoSuchFileError, UnreadableImageError):
        return None


def _read(example: Sample) -> tuple[bytes, str]:
    image = example.image
    if isinstance(image, Path):
        return image.read_bytes(), image.suffix.lower()
    if isinstance(image, bytes):
        suffix = Path(example.name).suffix.lower()
        return image, suffix if suffix in SUFFIXES else _suffix_of(image)
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.asarray(image)).save(buffer, "PNG")
    return buffer.getvalue(), ".png"


def _suffix_of(image: bytes) -> str:
    """The suffix for a file. Raises ``OSError`` if it is not an image."""
    with open_picture(io.BytesIO(image), "bytes", len(image)) as picture:
        kind = (picture.format or "").lower()
    # MPO is JPEG with further images after the first.
    found = ".jpg" if kind in ("jpeg", "mpo") else f".{kind}"
    if found not in SUFFIXES:
        raise OSError(f"shards do not support {kind} images")
    return found


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # Without times and owners, for reproducible files.
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
