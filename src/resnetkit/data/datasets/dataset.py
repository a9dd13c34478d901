"""Labelled images: samples, datasets and their parts."""

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
#: The file name endings of the images in a folder; of HEIC where its decoder is installed.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp"),
    *(".avif", ".tif", ".tiff", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".pcx"),
    *((".heic", ".heif", ".hif") if HEIC else ()),
)
DIGITS = "digits"
#: What ``Sample.brief`` begins with.
BRIEF = "size:"

#: What the parts are called in folders, columns and the names of shards, in lower case.
PART_OF: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
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
class Dataset:
    """The images of one place by class.

    ``parts`` are those that the folder itself has; a flat folder has all images in ``flat``.
    ``shape`` is ``(C, H, W)`` where all images are arrays of that shape. ``notes`` say, a line
    each, what was passed over or taken for granted.
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
