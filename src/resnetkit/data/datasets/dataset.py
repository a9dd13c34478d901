"""Labelled images: samples, datasets and their splits."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

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
#: The prefix of a whole shard in ``Samples.membership``.
WHOLE = "shard:"

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


class Samples(Sequence[Sample]):
    """Images that are not one Python object each, such as those of shards with an index."""

    @abstractmethod
    def labels(self) -> npt.NDArray[np.int64]:
        """The class of each image."""

    @abstractmethod
    def take(self, chosen: npt.NDArray[np.bool_]) -> Samples:
        """The chosen images, in order."""

    @abstractmethod
    def relabelled(self, numbers: Sequence[int]) -> Samples:
        """The same images, each with the class ``numbers[label]``."""

    @abstractmethod
    def joined(self, others: Sequence[Samples]) -> Samples:
        """These images and those of other parts of the dataset."""

    @abstractmethod
    def membership(self) -> dict[str, str]:
        """These images for a record, in a few bits each; see ``among``."""

    @abstractmethod
    def among(self, membership: Mapping[str, str]) -> npt.NDArray[np.bool_]:
        """Which of these images are those of a ``membership``."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of what determines the images, their order and their classes."""


def labels_of(samples: Sequence[Sample]) -> npt.NDArray[np.int64]:
    """The class of each image."""
    if isinstance(samples, Samples):
        return samples.labels()
    return np.fromiter((sample.label for sample in samples), np.int64, len(samples))


def taken(samples: Sequence[Sample], chosen: npt.NDArray[np.bool_]) -> Sequence[Sample]:
    """The chosen images, in order."""
    if isinstance(samples, Samples):
        return samples.take(chosen)
    return tuple(samples[int(number)] for number in np.flatnonzero(chosen))


def joined(parts: Iterable[Sequence[Sample]]) -> Sequence[Sample]:
    """All images of several parts of one dataset."""
    found = [part for part in parts if len(part)]
    if len(found) == 1:
        return found[0]
    tables = [part for part in found if isinstance(part, Samples)]
    if tables and len(tables) == len(found):
        return tables[0].joined(tables[1:])
    return tuple(sample for part in found for sample in part)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """The images of one place by class.

    ``parts`` are the folder's own splits; a flat folder has all images in ``flat``. ``shape`` is
    ``(C, H, W)`` if all images are arrays of that shape. ``notes`` are messages about skipped files
    and assumptions.
    """

    name: str
    classes: tuple[str, ...]
    flat: Sequence[Sample] = ()
    parts: Mapping[Part, Sequence[Sample]]
    shape: tuple[int, int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def examples(self) -> Sequence[Sample]:
        """All images."""
        return joined((self.flat, *self.parts.values()))
