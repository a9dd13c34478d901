"""Folders written by Hugging Face's ``datasets``: Arrow by ``save_to_disk``, and Parquet.

Read by pyarrow alone, so nothing in the folder is run and ``datasets`` is not required.
Formats: huggingface.co/docs/datasets, "Save" and "Structure your repository"; an image is a struct
of ``bytes`` and ``path``, a label's names are in the features (``dataset_info.json``, and in the
schema of each file under ``huggingface``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from resnetkit.data.datasets.arrow import ArrowRow, Columns, is_image, rows, schema_of
from resnetkit.data.datasets.class_names import listed_names, numbered_names
from resnetkit.data.datasets.dataset import PART_OF, PARTS, Dataset, Part, Sample
from resnetkit.data.datasets.packed_samples import Packed
from resnetkit.errors import InputError, parsed

#: The names of splits that ``datasets`` recognises in files and folders.
_PART_OF: dict[str, Part] = {
    **PART_OF,
    **{"training": "train", "valid": "validation", "dev": "validation"},
    **{"testing": "test", "eval": "test", "evaluation": "test"},
}
_DICT, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"
#: Column names, used if the features do not determine them.
_IMAGES, _LABELS = ("image", "img", "pixel_values"), ("label", "labels", "class", "target")
#: The label of unlabelled images in ``datasets``.
_MISSING = -1


def is_dataset(path: Path) -> bool:
    """Whether ``path`` is a folder written by ``datasets``."""
    if not path.is_dir():
        return False
    if (path / _DICT).is_file() or ((path / _STATE).is_file() and (path / _INFO).is_file()):
        return True
    return bool(_parquet_files(path))


def has_images(path: Path) -> bool:
    """Whether a Parquet file contains images, not paths."""
    schema = schema_of(path)
    return any(is_image(schema.field(name).type) for name in schema.names)


def dataset(path: Path, *, least: int = 2) -> Dataset:
    """The labelled images of a ``datasets`` folder, or of one Parquet file with images.

    A ``Dataset`` without splits is flat. Classes are the names of the label's ``ClassLabel``; else
    the lines of ``classes.txt`` beside it, else the numbers from 0 to the highest label, or the
    sorted strings. A split without labels (-1 in ``datasets``) is skipped. Raises ``ValueError``
    for damaged data, a missing column, and a label outside the class list.
    """
    files = _files(path)
    if not any(files.values()):
        raise InputError(f"{path} has no rows; add some")
    columns = _columns_of(path, files)
    if columns.label is None:
        raise InputError(
            f"{path} has no column of labels; its columns are {_named(files)}: call one label"
        )
    found = {part: list(rows(path, paths, columns)) for part, paths in files.items()}
    for part, there in found.items():
        if not there:
            split = "" if part is None else f" in its {part} split"
            raise InputError(f"{path} has no rows{split}; add some, or remove it")
    found = {part: rows for part, rows in found.items() if any(_is_labelled(r) for r in rows)}
    if not found:
        raise InputError(f"{path} has no image with a label; add labels, or use predict")
    classes = _classes(path, columns, found, least)
    numbers: dict[int | str | None, int] = {name: number for number, name in enumerate(classes)}
    examples = {
        part: tuple(_example(path, row, classes, numbers) for row in rows)
        for part, rows in found.items()
    }
    return Dataset(
        name=str(path),
        classes=classes,
        flat=examples.get(None, ()),
        parts={part: examples[part] for part in PARTS if part in examples},
    )


def images_of(path: Path) -> Iterator[tuple[str, Packed | Path]]:
    """Name and image of each row, labelled or not, in order. Raises as ``dataset`` does."""
    files = _files(path)
    if not any(files.values()):
        return
    columns = _columns_of(path, files)
    for paths in files.values():
        for row in rows(path, paths, columns):
            yield row.name, row.image


def _example(
    path: Path, row: ArrowRow, classes: tuple[str, ...], numbers: Mapping[int | str | None, int]
) -> Sample:
    label = row.label if isinstance(row.label, int) else numbers.get(row.label, _MISSING)
    if not 0 <= label < len(classes):
        known = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
        raise InputError(
            f"{row.name} of {path} has the label {row.label}, which is not in the class list; it "
            f"has {len(classes)} from 0: {known}"
        )
    if isinstance(row.image, Path):
        return Sample(name=row.name, label=label, image=row.image)
    place = row.image
    return Packed(name=row.name, label=label, file=place.file, offset=place.offset, size=place.size)


def _is_labelled(row: ArrowRow) -> bool:
    return row.label is not None and row.label != _MISSING


def _classes(
    path: Path, columns: Columns, found: Mapping[Part | None, list[ArrowRow]], least: int
) -> tuple[str, ...]:
    trained = found.get(None) or found.get("train") or list(chain(*found.values()))
    folder = path if path.is_dir() else path.parent
    classes = columns.names or listed_names(folder) or ()
    if not columns.names and not any(isinstance(row.label, str) for row in trained):
        highest = max(row.label for row in trained if isinstance(row.label, int))
        classes = numbered_names(folder, highest, str(path))
    elif not classes:
        classes = tuple(sorted({str(row.label) for row in trained if row.label is not None}))
    if len(classes) < least:
        raise InputError(f"{path} has one class; training requires at least {least} classes")
    return classes


def _files(path: Path) -> dict[Part | None, list[Path]]:
    """The files of each split, those of a flat dataset under None."""
    if not path.is_dir():
        return {None: [path]}
    if (path / _DICT).is_file():
        names = _json(path / _DICT).get("splits")
        if not isinstance(names, list) or not names or not all(map(_is_name, names)):
            raise InputError(f"{path / _DICT} names no splits; save the dataset again")
        found: dict[Part | None, list[Path]] = {}
        for name in names:
            found.setdefault(_part(path, name), []).extend(_arrow_files(path / name))
        return found
    if (path / _STATE).is_file():
        return {None: _arrow_files(path)}
    return _by_part(path, _parquet_files(path))


def _arrow_files(folder: Path) -> list[Path]:
    """The files of a ``Dataset.save_to_disk``, in order."""
    state = folder / _STATE
    if not state.is_file():
        raise InputError(f"{folder} has no {_STATE}; save the dataset again")
    document = _json(state)
    if document.get("_indices_data_files"):
        raise InputError(f"{folder} was saved by an old datasets version; save it again")
    entries = document.get("_data_files")
    names = [str(e.get("filename")) for e in entries or [] if isinstance(e, dict)]
    if entries is None or not all(map(_is_name, names)):
        raise InputError(f"{state} names no data files; save the dataset again")
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"{folder} lacks {name}, which {_STATE} names; get it again")
    return [folder / name for name in names]


def _is_name(value: object) -> bool:
    """Whether it is a plain name of a file or folder, without a path."""
    return (
        isinstance(value, str) and value not in ("", ".", "..") and not re.search(r"[/\\]", value)
    )


def _parquet_files(path: Path) -> list[Path]:
    """Parquet files of the folder, its ``data`` folder, and folders named like a split."""
    places = [path, path / "data", *(path / name for name in _PART_OF)]
    return [file for place in places if place.is_dir() for file in sorted(place.glob("*.parquet"))]


def _by_part(path: Path, files: Iterable[Path]) -> dict[Part | None, list[Path]]:
    found: dict[Part | None, list[Path]] = {}
    for file in files:
        inside = file.parent.name if file.parent != path else ""
        part = _PART_OF.get(inside) or _PART_OF.get(re.split(r"[-_.]", file.name)[0])
        found.setdefault(part, []).append(file)
    if None in found and len(found) > 1:
        raise InputError(
            f"some files of {path} begin with train, validation or test, and "
            f"{found[None][0].name} does not; rename it, or remove it"
        )
    return found


def _part(path: Path, name: str) -> Part:
    if name not in _PART_OF:
        raise InputError(
            f"{path} has the split {name}; allowed are train, validation and test: save it without "
            "that split, or under another name"
        )
    return _PART_OF[name]


def _json(path: Path) -> dict[str, Any]:
    try:
        return parsed(path.read_bytes(), "its JSON")
    except (OSError, InputError) as error:
        raise InputError(f"{path} is invalid ({error}); get it again") from None


def _first(files: Mapping[Part | None, list[Path]]) -> Path:
    return next(file for found in files.values() for file in found)


def _named(files: Mapping[Part | None, list[Path]]) -> str:
    return ", ".join(schema_of(_first(files)).names)


def _columns_of(path: Path, files: Mapping[Part | None, list[Path]]) -> Columns:
    """The image and label columns, by the features or by their types and names."""
    first = _first(files)
    schema = schema_of(first)
    features = _features(first, schema)
    names = schema.names
    images = [n for n in names if _kind(features, n) == "Image"] or [
        n for n in names if is_image(schema.field(n).type)
    ]
    if not images:
        raise InputError(
            f"{path} has no image column; its columns are {', '.join(names)}: give one of them "
            "the feature Image"
        )
    labels = [n for n in names if _kind(features, n) == "ClassLabel"]
    usual = [n for n in names if n in _LABELS]
    label = _only(path, "labels", labels, _LABELS) if labels else usual[0] if usual else None
    listed = features.get(label, {}).get("names") if label is not None else None
    return Columns(
        image=_only(path, "images", images, _IMAGES),
        label=label,
        names=tuple(map(str, listed)) if isinstance(listed, list) else (),
    )


def _only(path: Path, what: str, names: list[str], usual: tuple[str, ...]) -> str:
    known = [name for name in usual if name in names] or names
    if len(known) > 1 and known[0] not in usual:
        raise InputError(
            f"{path} has several columns of {what}: {', '.join(names)}; rename one of them "
            f"{usual[0]}"
        )
    return known[0]


def _features(file: Path, schema: Any) -> dict[str, dict[str, Any]]:
    """The features in the file's schema, or else in ``dataset_info.json`` beside it."""
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        found = parsed(text)["info"]["features"] if text else None
    except (ValueError, KeyError, TypeError):
        found = None
    if found is None and (file.parent / _INFO).is_file():
        found = _json(file.parent / _INFO).get("features")
    if not isinstance(found, dict):
        return {}
    return {name: feature for name, feature in found.items() if isinstance(feature, dict)}


def _kind(features: Mapping[str, Mapping[str, Any]], name: str) -> object:
    return features.get(name, {}).get("_type")
