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
import PIL.Image

from resnetkit.data.datasets.class_names import CLASSES
from resnetkit.data.datasets.dataset import SUFFIXES, Dataset, Sample
from resnetkit.data.datasets.webdataset import Packed
from resnetkit.data.decoding.decode import UnreadableImageError, open_picture
from resnetkit.data.prefetch import ordered
from resnetkit.errors import InputError
from resnetkit.files import atomic, utf8, write_text

#: The file with the plan of the shards, in their folder.
PLAN = "shards.json"
#: Shuffling seed; each shard gets images of all classes.
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """The result: ``shards`` files with ``images`` images; ``kept`` shards already existed."""

    folder: Path
    shards: int
    kept: int
    images: int
    missing: tuple[str, ...]


def pack(
    source: Dataset,
    folder: Path,
    *,
    megabytes: float = 256.0,
    done: Callable[[int], None] = lambda _: None,
) -> Packing:
    """Write all images of ``source`` into shards of about ``megabytes`` in ``folder``.

    Names are ``train-000000.tar`` and so on by split, ``data-000000.tar`` without splits, and
    ``classes.txt``. Files are copied byte by byte; arrays become PNG. Each shard is written
    atomically, and a second call keeps existing ones. ``done`` is called with the number of images
    of each shard. A missing file is skipped, and listed in ``missing``.

    Raises ``ValueError`` for a ``folder`` with other shards, and if it cannot be written.
    """
    if megabytes <= 0:
        raise InputError(f"megabytes is {megabytes:g}; it must be above 0", field="megabytes")
    groups: dict[str, tuple[Sample, ...]] = {p: e for p, e in source.parts.items() if e}
    if source.flat:
        groups["data"] = source.flat
    sizes = {name: [_size(e) for e in found] for name, found in groups.items()}
    make_recipe = {
        "images": {name: _identity(found, sizes[name]) for name, found in groups.items()},
        "classes": list(source.classes),
        "megabytes": megabytes,
    }
    _claim(folder, json.dumps(make_recipe, indent=1) + "\n")
    write_text(folder / CLASSES, "".join(f"{utf8(name)}\n" for name in source.classes))
    work = [
        (folder / f"{'val' if name == 'validation' else name}-{number:06}.tar", members)
        for name, found in groups.items()
        for number, members in enumerate(_divided(found, sizes[name], megabytes * 1e6))
    ]
    kept, missing = 0, list[str]()
    for (path, members), written in zip(work, ordered(_write_unless_there, work), strict=True):
        kept += written is None
        missing += written or []
        done(len(members))
        if written and len(written) == len(members):
            raise InputError(f"none of the images of {path} can be read, e.g. {written[0]}")
    images = sum(len(members) for _, members in work) - len(missing)
    return Packing(
        folder=folder, shards=len(work), kept=kept, images=images, missing=tuple(missing)
    )


def _claim(folder: Path, make_recipe: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror}") from None
    path = folder / PLAN
    if path.exists():
        if path.read_text(encoding="utf-8") != make_recipe:
            raise InputError(
                f"{folder} has shards of other images, or of another size; give another folder"
            )
    elif any(entry for entry in folder.iterdir() if not entry.name.startswith(".")):
        raise InputError(f"{folder} is not empty and has no {PLAN}; give another folder")
    else:
        write_text(path, make_recipe)
    for entry in folder.glob(".*.tar.*"):
        # Left by a process that was killed.
        entry.unlink(missing_ok=True)


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


def _write_unless_there(work: tuple[Path, list[Sample]]) -> list[str] | None:
    """The names of unreadable images; None if the shard already existed."""
    path, members = work
    if path.exists():
        return None
    missing = []
    with atomic(path) as temporary, tarfile.open(temporary, "w") as tar:
        for number, example in enumerate(members):
            try:
                data, suffix = _encoded(example)
            except (OSError, UnreadableImageError):
                missing.append(example.name)
                continue
            _add(tar, f"{number:08}{suffix}", data)
            _add(tar, f"{number:08}.cls", str(example.label).encode())
    return missing


def _encoded(example: Sample) -> tuple[bytes, str]:
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
