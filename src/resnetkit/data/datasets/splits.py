"""Splits into training, validation and test images, and their record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from resnetkit.data.datasets.dataset import (
    BRIEF,
    PARTS,
    WHOLE,
    Dataset,
    Part,
    Sample,
    Samples,
    labels_of,
    taken,
)
from resnetkit.errors import InputError, check, listed, mapping, optional, parsed, text, whole
from resnetkit.files import write_text

#: The file in a run folder that lists the images of each split.
FILE = "split.json"


def stratified(
    labels: Sequence[int] | npt.NDArray[np.int64], *, validation: float, test: float, seed: int
) -> list[Part]:
    """The split of each image, stratified by class, drawn with ``seed``.

    Each split gets at least one image of each class; a share of 0 gets none. Raises ``ValueError``
    for shares that leave nothing to train on, and for a class with fewer images than splits.
    """
    if not 0 <= validation < 1 or not 0 <= test < 1 or validation + test >= 1:
        raise InputError(
            f"the shares are {validation:g} for validation and {test:g} for test; "
            "give numbers from 0 that leave some for training"
        )
    numbers = np.asarray(labels)
    places: list[Part] = ["train"] * len(numbers)
    for label in np.unique(numbers):
        members = np.flatnonzero(numbers == label)
        members = np.random.default_rng([seed, int(label)]).permutation(members)
        for_validation, for_test = _counts(len(members), validation, test)
        for member in members[:for_validation]:
            places[member] = "validation"
        for member in members[for_validation : for_validation + for_test]:
            places[member] = "test"
    return places


def _counts(images: int, validation: float, test: float) -> tuple[int, int]:
    least = 1 + sum(share > 0 for share in (validation, test))
    if images < least:
        raise InputError(f"a class has {images} image(s), and {least} splits need one each")
    return held_back(images, validation, test)


def held_back(images: int, validation: float, test: float) -> tuple[int, int]:
    """The number of images of a class in each held-out split, at least one."""
    shares = (validation, test)
    counts = [max(1, round(images * share)) if share > 0 else 0 for share in shares]
    while sum(counts) >= images and max(counts) > 1:
        counts[int(np.argmax(counts))] -= 1
    return counts[0], counts[1]


def split(
    source: Dataset, *, validation: float, test: float, seed: int
) -> dict[Part, Sequence[Sample]]:
    """The images of every split. The source's own splits are kept.

    A flat source is split by ``stratified``; if only validation images are missing, they are drawn
    from the training images. Raises ``ValueError`` for too few images of a class.
    """
    if source.parts and "train" not in source.parts:
        raise InputError(f"{source.name} has no train folder; add one, or give a flat folder")
    pool = source.flat or source.parts["train"]
    shares = {
        "validation": 0.0 if "validation" in source.parts else validation,
        "test": test if source.flat else 0.0,
    }
    _check_sizes(source, pool, 1 + sum(share > 0 for share in shares.values()))
    labels = labels_of(pool)
    places = stratified(labels, validation=shares["validation"], test=shares["test"], seed=seed)
    drawn = {part: taken(pool, np.array([place == part for place in places])) for part in PARTS}
    given: dict[Part, Sequence[Sample]] = {
        part: found for part, found in source.parts.items() if part != "train"
    }
    return {**drawn, **given}


def _check_sizes(source: Dataset, pool: Sequence[Sample], least: int) -> None:
    counts = np.bincount(labels_of(pool), minlength=len(source.classes))
    for name, count in zip(source.classes, counts, strict=True):
        if count >= least:
            continue
        has = f"class {name} of {source.name} has {count} usable image(s)"
        if least == 1:
            raise InputError(f"{has} to train on; add images or remove the class")
        raise InputError(
            f"{has} to train on and to hold out, and needs at least {least}; add images, "
            "remove the class, or disable hold-out with validation=none test=none",
            field=("validation", "test"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRecord:
    """The contents of ``split.json``: image digests by name, for every split of ``data``; of many
    images in shards, their ``membership``. If the order of the training images depends on them,
    ``window`` is that of ``PackedSamples`` and ``machines`` the number that the run began with;
    else they are 0."""

    data: str
    classes: tuple[str, ...]
    parts: Mapping[Part, Mapping[str, str]]
    window: int = 0
    machines: int = 0

    def to_dict(self) -> dict[str, object]:
        """The record as JSON types."""
        parts = {part: dict(names) for part, names in self.parts.items()}
        order = {"window": self.window, "machines": self.machines} if self.window else {}
        return {"data": self.data, "classes": list(self.classes), "parts": parts, **order}

    def save(self, folder: Path) -> None:
        """Write ``split.json`` into a run folder."""
        write_text(folder / FILE, json.dumps(self.to_dict(), indent=1) + "\n")

    def trained_on(self, examples: Sequence[Sample]) -> list[str]:
        """The names of the examples whose content was trained on, under any name."""
        seen = self.parts["train"]
        if self._is_brief:
            # Sizes alone are weak evidence; the name must match as well.
            return [example.name for example in self.part_of(examples, "train")]
        known = set(seen.values())
        return [example.name for example in examples if self._content(example) in known]

    def copies(self, part: Part) -> list[str]:
        """The names of a split's images with identical bytes in the training split.

        Empty if only sizes are known.
        """
        trained = {d for d in self.parts["train"].values() if not d.startswith((BRIEF, WHOLE))}
        return [name for name, digest in self.parts[part].items() if digest in trained]

    def part_of(self, examples: Sequence[Sample], part: Part) -> Sequence[Sample]:
        """The examples that are in a split with the same name and content."""
        names = self.parts[part]
        if isinstance(examples, Samples) and self._first.startswith(WHOLE):
            return examples.take(examples.among(names))
        return tuple(e for e in examples if e.name in names and names[e.name] == self._content(e))

    @property
    def _first(self) -> str:
        return next(iter(self.parts["train"].values()), "")

    @property
    def _is_brief(self) -> bool:
        return self._first.startswith((BRIEF, WHOLE))

    def _content(self, example: Sample) -> str | None:
        """The digest, or None for an unreadable file; evaluation reports why."""
        try:
            return example.brief() if self._is_brief else example.digest()
        except OSError:
            return None


#: Maximum length of a digest or membership.
_LONGEST = 1 << 28
_RULES = {
    "data": text(),
    "classes": listed(text(), 1_000_000),
    "parts": mapping(),
    "window": optional(whole(0, 1 << 62)),
    "machines": optional(whole(0, 1 << 20)),
}


def load_record(folder: Path) -> SplitRecord | None:
    """The record of a run folder, or None if it has none.

    Raises ``ValueError`` for an invalid file.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        document = parsed(path.read_bytes())
        check(document, _RULES, "its")
        check(document["parts"], dict.fromkeys(PARTS, mapping(text(_LONGEST))), "its part")
        return SplitRecord(
            data=document["data"],
            classes=tuple(document["classes"]),
            parts={part: dict(document["parts"][part]) for part in PARTS},
            window=document.get("window") or 0,
            machines=document.get("machines") or 0,
        )
    except (OSError, InputError) as error:
        raise InputError(f"{path} is invalid ({error}); remove it") from None
