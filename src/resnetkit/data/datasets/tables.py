"""Tables of paths and labels: CSV, and Parquet if pyarrow is installed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from resnetkit.data.datasets.class_names import CLASSES, listed_names
from resnetkit.data.datasets.dataset import PART_OF, PARTS, Dataset, Part, Sample
from resnetkit.errors import InputError, require

SUFFIXES = (".csv", ".tsv", ".parquet")
#: Names of the column with the paths, in any case.
PATHS = ("path", "file", "filename", "file_name", "image", "image_path")
#: Column names, in any case.
_NAMES = {
    "path": PATHS,
    "label": ("label", "class", "target", "class_name"),
    "part": ("split", "part", "set", "subset"),
}

_Row = Mapping[str, object]


def table(path: Path, *, least: int = 2) -> Dataset:
    """The images of a table with the columns ``path`` and ``label``, and optionally ``split``.

    Paths are relative to the table's folder. A column ``split`` says train, val or test. Classes
    are the labels of the training images in order, or the lines of ``classes.txt`` beside the
    table. Raises ``ValueError`` for a missing column, an empty cell, and a label outside the class
    list.
    """
    rows = list(_parquet(path) if path.suffix.lower() == ".parquet" else _csv(path))
    if not rows:
        raise InputError(f"{path} has no rows; give one per image")
    columns = _columns(path, rows[0])
    found: dict[Part | None, list[tuple[str, str]]] = {}
    # The first line of a CSV file is its header.
    for number, row in enumerate(rows, start=2):
        file, label = (_cell(path, row, columns[name], number) for name in ("path", "label"))
        found.setdefault(_part(path, row, columns.get("part"), number), []).append((file, label))
    classes = _classes(path, found, least)
    numbers = {name: number for number, name in enumerate(classes)}
    examples = {
        part: tuple(
            Sample(name=file, label=numbers[label], image=path.parent / file)
            for file, label in pairs
        )
        for part, pairs in found.items()
    }
    return Dataset(
        name=str(path),
        classes=classes,
        flat=examples.get(None, ()),
        parts={part: examples[part] for part in PARTS if part in examples},
    )


def _csv(path: Path) -> Iterable[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); give a table in UTF-8") from None


def _parquet(path: Path) -> Iterable[_Row]:
    arrow = require("pyarrow", str(path))
    from pyarrow import parquet

    try:
        rows: list[_Row] = parquet.read_table(path).to_pylist()
    except (OSError, arrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}); get it again") from None
    return rows


def _columns(path: Path, row: _Row) -> dict[str, str]:
    by_name = {str(name).strip().lower(): str(name) for name in row if name is not None}
    found = {}
    for kind, names in _NAMES.items():
        known = [by_name[name] for name in names if name in by_name]
        if known:
            found[kind] = known[0]
        elif kind != "part":
            raise InputError(
                f"{path} has no column {kind}; its columns are {', '.join(by_name.values())}; "
                f"name one of them {' or '.join(names[:3])}"
            )
    return found


def _cell(path: Path, row: _Row, column: str, number: int) -> str:
    value = row.get(column)
    text = "" if value is None else str(value).strip()
    if not text:
        raise InputError(f"{path}, line {number}, has no {column}; fill it in")
    return text


def _part(path: Path, row: _Row, column: str | None, number: int) -> Part | None:
    if column is None:
        return None
    text = _cell(path, row, column, number).lower()
    if text.lower() not in PART_OF:
        raise InputError(
            f"{path}, line {number}, has the {column} {text}; it must be one of "
            f"{', '.join(PART_OF)}"
        )
    return PART_OF[text.lower()]


def _classes(
    path: Path, found: Mapping[Part | None, list[tuple[str, str]]], least: int
) -> tuple[str, ...]:
    everything = [pair for pairs in found.values() for pair in pairs]
    trained = found.get(None) or found.get("train") or everything
    classes, known = listed_names(path.parent), CLASSES
    if classes is None:
        classes, known = tuple(sorted({label for _, label in trained}, key=_in_order)), "train"
    for image, label in everything:
        if label not in classes:
            raise InputError(
                f"{path} gives {image} the label {label}, which is not in {known}; it has "
                f"{', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}"
            )
    if len(classes) < least:
        raise InputError(f"{path} has one class; training requires at least {least} classes")
    return classes


def _in_order(label: str) -> tuple[int, str]:
    """Sort key: numbers by value, before words."""
    return (int(label), "") if label.isdecimal() else (1 << 62, label)
