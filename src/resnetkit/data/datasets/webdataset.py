"""WebDataset tar shards with random access.

A sample is the files with the same name up to the first dot: ``000017.jpg`` with ``000017.cls``,
its class index as text, or ``000017.json`` with a ``label``. Format: github.com/webdataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from resnetkit.data.datasets import tar
from resnetkit.data.datasets.class_names import CLASSES, names_in, numbered
from resnetkit.data.datasets.dataset import PART_OF, PARTS, SUFFIXES, Dataset, Part
from resnetkit.data.datasets.packed_samples import Packed
from resnetkit.data.datasets.shard_cache import RemoteShard
from resnetkit.data.datasets.shard_folder import shard_folder
from resnetkit.errors import InputError, parsed


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in a shard."""

    shard: Path | RemoteShard
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def shards(paths: Iterable[Path | RemoteShard], name: str, *, least: int = 2) -> Dataset:
    """The images of shards; ``name`` is the user's name for them.

    Shards whose names begin with train, val or test are those splits. Classes are the lines of
    ``classes.txt`` beside them, else the numbers from 0 to the highest label. Raises ``ValueError``
    for a truncated shard or one that is not a tar file, a sample without image or label, and a
    label outside the class list.
    """
    files = sorted(paths, key=str)
    samples: dict[Part | None, list[tuple[str, _Member, int]]] = {}
    for path in files:
        part = PART_OF.get(path.name.partition("-")[0].lower())
        samples.setdefault(part, []).extend(_samples(path))
    if None in samples and len(samples) > 1:
        raise InputError(f"only some shards of {name} begin with train, val or test; rename them")
    first = files[0]
    folder = first.parent if isinstance(first, Path) else first.address.rpartition("/")[0]
    classes = _classes(folder, samples, name)
    if len(classes) < least:
        raise InputError(f"{name} has one class; training requires at least {least} classes")
    examples = {
        part: tuple(
            Packed(name=key, label=label, file=image.shard, offset=image.offset, size=image.size)
            for key, image, label in found
        )
        for part, found in samples.items()
    }
    return Dataset(
        name=name,
        classes=classes,
        flat=examples.get(None, ()),
        parts={part: examples[part] for part in PARTS if part in examples},
    )


def _classes(
    folder: Path | str, samples: Mapping[Part | None, list[tuple[str, _Member, int]]], name: str
) -> tuple[str, ...]:
    highest, key = max((label, key) for found in samples.values() for key, _, label in found)
    place = shard_folder(folder)
    content = place.read(CLASSES)
    names = None if content is None else names_in(content, place.place(CLASSES))
    return numbered(names, highest, f"{key} of {name}")


def _samples(path: Path | RemoteShard) -> list[tuple[str, _Member, int]]:
    """Name, image and label of each sample of a shard."""
    found: dict[str, dict[str, _Member]] = {}
    for member in _members(path):
        folder, _, last = member.name.rpartition("/")
        stem, _, ending = last.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        found.setdefault(key, {})[f".{ending.lower()}"] = member
    if not found:
        raise InputError(f"the shard {path} has no files; remove it")
    samples = []
    for key, files in found.items():
        images = [member for ending, member in files.items() if ending in SUFFIXES]
        if len(images) != 1:
            raise InputError(
                f"the sample {key} of {path} has {len(images)} images; a sample has one, "
                f"as {key}.jpg"
            )
        samples.append((f"{path.name}/{images[0].name}", images[0], _label(path, key, files)))
    return samples


def _label(path: Path | RemoteShard, key: str, files: Mapping[str, _Member]) -> int:
    try:
        if ".cls" in files:
            label = int(files[".cls"].read())
        elif ".json" in files:
            label = parsed(files[".json"].read())["label"]
        else:
            raise KeyError(".cls")
        if type(label) is not int or label < 0:
            raise ValueError(label)
    except (KeyError, ValueError, TypeError):
        raise InputError(
            f"the sample {key} of {path} has no label; add {key}.cls with the index of its "
            "class, from 0"
        ) from None
    return label


def _members(path: Path | RemoteShard) -> list[_Member]:
    """The files of an uncompressed shard, which are read in place."""
    try:
        with path.open("rb") as file:
            if file.read(6).startswith(tuple(sign for sign, _ in tar.PACKED)):
                raise InputError(f"the shard {path} is compressed; unpack it to a .tar first")
        found = list(tar.members(path))
    except (tar.TarError, OSError) as error:
        if "ends in the middle" in str(error):
            raise InputError(f"the shard {path} {error}; get it again") from None
        raise InputError(f"the shard {path} is damaged or not a tar file: it {error}") from None
    links = [member for member in found if member.link is not None]
    if links:
        raise InputError(
            f"the shard {path} has {links[0].name!a}, which is a link to {links[0].link!a}; pack "
            "the files themselves"
        )
    return [_Member(path, member.name, member.offset, member.size) for member in found]
