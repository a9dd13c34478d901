"""Labelled images, and where they come from first of all: folders of class folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from resnetkit.errors import InputError
from resnetkit.images.pixels import Image

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
#: The file name endings of the images in a folder.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
DIGITS = "digits"
#: What ``Example.brief`` begins with.
BRIEF = "size:"

#: What the parts are called in folders, columns and the names of shards.
PART_OF: dict[str, Part] = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One image and the number of its class. ``name`` is its path inside the source."""

    name: str
    label: int
    image: Image

    @property
    def encoded(self) -> bool:
        """Whether the image has to be decoded; it is not read to tell."""
        return isinstance(self.image, Path | bytes)

    def digest(self) -> str:
        """SHA-256 of the file, or of the pixels where there is no file."""
        if isinstance(self.image, Path):
            with self.image.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(np.asarray(self.image).tobytes()).hexdigest()

    def brief(self) -> str:
        """The size of the file, where a digest of very many would take long."""
        if isinstance(self.image, Path):
            return f"{BRIEF}{self.image.stat().st_size}"
        return self.digest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """The images of one place by class.

    ``parts`` are those that the folder itself has; a flat folder has all images in ``flat``.
    ``shape`` is ``(C, H, W)`` where all images are arrays of that shape.
    """

    name: str
    classes: tuple[str, ...]
    flat: tuple[Example, ...] = ()
    parts: Mapping[Part, tuple[Example, ...]]
    shape: tuple[int, int, int] | None = None

    @property
    def examples(self) -> tuple[Example, ...]:
        """All images."""
        return (*self.flat, *(example for part in self.parts.values() for example in part))


def folder(path: Path, *, least: int = 2) -> Source:
    """``path/CLASS/*.jpg`` (a flat folder) or ``path/train/CLASS/*.jpg`` with ``val`` and ``test``.

    Images may lie deeper below the class folder; hidden files and other suffixes are left out.
    Raises ``ValueError`` where there is no such folder, and for one without class folders, with
    fewer than ``least`` of them, or with an empty one.
    """
    if not path.is_dir():
        what = "is no folder" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}; give a folder of class folders, or {DIGITS}")
    inside = _folders(path)
    if inside and all(name in PART_OF for name in inside) and any(map(_folders, inside.values())):
        return _divided(path, inside, least)
    classes = _classes(path, inside, least)
    flat = tuple(_examples(path, inside, classes))
    return Source(name=str(path), classes=classes, flat=flat, parts={})


def files_in(path: Path) -> list[Path]:
    """The images in a folder and below, sorted by path; hidden ones are left out."""
    found = []
    for place, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(place, name)
            for name in files
            if not name.startswith(".") and name.lower().endswith(SUFFIXES)
        ]
    return sorted(found)


def _folders(path: Path) -> dict[str, Path]:
    found = (entry for entry in path.iterdir() if not entry.name.startswith("."))
    return {entry.name: entry for entry in sorted(found) if entry.is_dir()}


def _classes(path: Path, inside: Mapping[str, Path], least: int) -> tuple[str, ...]:
    if not inside:
        raise InputError(f"{path} has no class folders; put the images of each class into its own")
    if len(inside) < least:
        raise InputError(
            f"{path} has one class folder, {next(iter(inside))}; "
            f"training takes at least {least} classes"
        )
    return tuple(inside)


def _examples(root: Path, inside: Mapping[str, Path], classes: tuple[str, ...]) -> list[Example]:
    numbers = {name: number for number, name in enumerate(classes)}
    found = []
    for name, place in inside.items():
        files = files_in(place)
        if not files:
            raise InputError(
                f"the class folder {place} has no images ({', '.join(s[1:] for s in SUFFIXES)}); "
                "add some, or remove it"
            )
        found += [
            Example(name=file.relative_to(root).as_posix(), label=numbers[name], image=file)
            for file in files
        ]
    return found


def _divided(root: Path, inside: Mapping[str, Path], least: int) -> Source:
    by_part: dict[Part, Path] = {}
    for name, place in inside.items():
        if PART_OF[name] in by_part:
            raise InputError(f"{root} has both val and validation; keep one of them")
        by_part[PART_OF[name]] = place
    first = by_part.get("train")
    for place in by_part.values():
        if not _folders(place):
            raise InputError(f"{place} has no class folders; put images into it, or remove it")
    folders = {part: _folders(place) for part, place in by_part.items()}
    if first is not None:
        classes = _classes(first, folders["train"], least)
    else:
        classes = tuple(sorted({name for found in folders.values() for name in found}))
    for part, found in folders.items():
        extra = sorted(set(found) - set(classes))
        if extra:
            raise InputError(
                f"{by_part[part]} has the class folder(s) {', '.join(extra)}, which {first} "
                "has not; add them there, or remove them"
            )
    parts = {
        part: tuple(_examples(root, folders[part], classes)) for part in PARTS if part in folders
    }
    return Source(name=str(root), classes=classes, parts=parts)
