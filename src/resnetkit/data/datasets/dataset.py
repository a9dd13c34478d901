"""Labelled images: samples, datasets and their splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from resnetkit.data.decoding.decode import HEIC, Image

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
#: The suffixes of image files; with HEIC if its decoder is installed.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp"),
    *(".avif", ".tif", ".tiff", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".pcx"),
    *((".heic", ".heif", ".hif") if HEIC else ()),
)
DIGITS = "digits"
#: The name of a dataset whose images are in memory.
IN_MEMORY = "images in memory"
#: The prefix of ``Sample.brief``.
BRIEF = "size:"

#: The names of splits in folders, columns and shard names, in lower case.
PART_OF: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One image and its class index. ``name`` is its path inside the source."""

    name: str
    label: int
    image: Image

    @property
    def encoded(self) -> bool:
        """Whether the image has to be decoded; does not read it."""
        return isinstance(self.image, Path | bytes)

    def digest(self) -> str:
        """SHA-256 of the file, or of the pixels if there is no file."""
        if isinstance(self.image, Path):
            with self.image.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(np.asarray(self.image).tobytes()).hexdigest()

    def brief(self) -> str:
        """The size of the file, a cheap substitute for its digest."""
        if isinstance(self.image, Path):
            return f"{BRIEF}{self.image.stat().st_size}"
        return self.digest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """The images of one place by class.

    ``parts`` are the folder's own splits; a flat folder has all images in ``flat``. ``shape`` is
    ``(C, H, W)`` if all images are arrays of that shape. ``notes`` are messages about skipped files
    and assumptions.
    """

    name: str
    classes: tuple[str, ...]
    flat: tuple[Sample, ...] = ()
    parts: Mapping[Part, tuple[Sample, ...]]
    shape: tuple[int, int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def examples(self) -> tuple[Sample, ...]:
        """All images."""
        return (*self.flat, *(example for part in self.parts.values() for example in part))
