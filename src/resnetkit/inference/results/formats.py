"""Predictions as text: CSV, JSON, JSON lines and FiftyOne's labels."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Protocol

from resnetkit.errors import InputError
from resnetkit.files import utf8
from resnetkit.inference.engines.engine import Output
from resnetkit.inference.prediction import Prediction

_NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?")
TEXTS = ("csv", "json", "jsonl", "fiftyone")
#: File name suffixes and their formats.
ENDINGS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".npy": "npy",
}


class Format(Protocol):
    """Writes predictions to a file: ``head``, then chunks of rows, then ``finish``."""

    head: bytes

    def chunk(self, rows: Sequence[Prediction], *, first: bool) -> bytes:
        """The rows as bytes to append; ``first`` if there are none before them."""
        ...

    def tail(self, *, empty: bool) -> bytes:
        """The bytes after the last row; ``empty`` if there are no rows."""
        ...

    def convert(self, part: Path, target: Path) -> bool:
        """Write ``target`` from the chunks in ``part``; False if they already are the file."""
        ...


class _Text:
    head = b""

    def tail(self, *, empty: bool) -> bytes:
        return b""

    def convert(self, part: Path, target: Path) -> bool:
        return False


class JsonLines(_Text):
    """One object per line: ``image``, ``predictions`` or ``embedding``, optionally ``problem``."""

    def chunk(self, rows: Sequence[Prediction], *, first: bool) -> bytes:
        return "".join(_json(row) + "\n" for row in rows).encode()


class Json(_Text):
    """An array with one object per line."""

    head = b"["

    def chunk(self, rows: Sequence[Prediction], *, first: bool) -> bytes:
        text = ",\n".join(_json(row) for row in rows)
        return (("\n" if first else ",\n") + text).encode() if rows else b""

    def tail(self, *, empty: bool) -> bytes:
        return b"]\n" if empty else b"\n]\n"


class FiftyOne(_Text):
    """``labels.json`` of FiftyOne's ``FiftyOneImageClassificationDataset``.

    ``{"labels": {path: {"label": ..., "confidence": ...}}}`` with the most probable class of each
    image, and null for an unreadable one. Paths are absolute: FiftyOne drops the suffix of a
    relative one, so that ``a.jpg`` and ``a.png`` would be one image.
    """

    head = b'{"labels": {'

    def chunk(self, rows: Sequence[Prediction], *, first: bool) -> bytes:
        text = ",\n".join(
            f"{json.dumps(str(Path(row.name).absolute()))}: {json.dumps(_classification(row))}"
            for row in rows
        )
        return (("\n" if first else ",\n") + text).encode() if rows else b""

    def tail(self, *, empty: bool) -> bytes:
        return b"}}\n" if empty else b"\n}}\n"


def _classification(row: Prediction) -> dict[str, object] | None:
    if row.problem is not None:
        return None
    return {"label": utf8(row.label), "confidence": row.probability}


class Csv(_Text):
    """``image,rank,class,probability,problem``, one line per class, or ``image,problem,0,1,...``.

    An unreadable image has one line with its problem.
    """

    def __init__(self, output: Output, features: int) -> None:
        self._features = features if output == "embeddings" else None
        if self._features is None:
            names = ["image", "rank", "class", "probability", "problem"]
        else:
            names = ["image", "problem", *map(str, range(features))]
        self.head = _lines([names])

    def chunk(self, rows: Sequence[Prediction], *, first: bool) -> bytes:
        return _lines([line for row in rows for line in self._of(row)])

    def _of(self, row: Prediction) -> list[list[object]]:
        name = utf8(row.name)
        if self._features is not None:
            values = [""] * self._features if row.embedding is None else row.embedding.astype(str)
            return [[name, row.problem or "", *values]]
        if row.problem is not None:
            return [[name, "", "", "", utf8(row.problem)]]
        return [
            [name, rank, utf8(guess.label), f"{guess.probability:.6f}", ""]
            for rank, guess in enumerate(row.scores, start=1)
        ]


def _lines(lines: Sequence[Sequence[object]]) -> bytes:
    text = StringIO()
    cells = ([_cell(cell) for cell in line] for line in lines)
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    """Prefix text that a spreadsheet would evaluate as a formula with an apostrophe."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value if _NUMBER.fullmatch(value) else f"'{value}"
    return value


def _json(row: Prediction) -> str:
    document = row.to_dict()
    text = json.dumps(document, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a name with invalid UTF-8
        return json.dumps(document)
    return text


def format_of(name: str | None, out: Path | None, *, embeddings: bool) -> str:
    """The given format, else the one of the suffix of ``out``, else a table.

    Raises ``InputError`` for a format that cannot be printed or does not support this output.
    """
    if name is None:
        name = "table" if out is None else ENDINGS.get(out.suffix.lower(), "table")
    if out is None and name not in ("table", *TEXTS):
        raise InputError(f"{name} is binary and cannot be printed; give out, a file", field="out")
    if name == "fiftyone" and embeddings:
        raise InputError("fiftyone stores classes, not embeddings; give another format",
                         field="format")  # fmt: skip
    if name == "npy" and not embeddings:
        raise InputError(
            "npy only stores numbers; give embeddings, or another format", field="embeddings"
        )
    return name


def open_format(name: str, output: Output, features: int) -> Format:
    """The format ``name``; ``features`` is the length of an embedding.

    Raises ``InputError`` if its package is not installed.
    """
    if name == "csv":
        return Csv(output, features)
    if name == "json":
        return Json()
    if name == "jsonl":
        return JsonLines()
    if name == "fiftyone":
        return FiftyOne()
    if name == "parquet":
        from resnetkit.inference.results.parquet import Parquet

        return Parquet(output, features)
    from resnetkit.inference.results.npy import Numbers

    return Numbers(features)
