"""Images of a Parquet file, labelled or not: paths or encoded bytes, read row by row.

Nothing is kept in memory but one batch of rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnetkit.data.datasets.arrow import is_image, opened, pyarrow_for
from resnetkit.data.datasets.tables import PATHS
from resnetkit.data.storage import is_address, open_file
from resnetkit.data.storage_access import shown_address
from resnetkit.errors import InputError

#: Rows in memory at a time.
_ROWS = 64


def row_count(path: str) -> int:
    """The number of rows. Raises ``ValueError`` for a file that is damaged or has no images."""
    file = _open(path)
    _column(path, file.schema_arrow)
    return int(file.metadata.num_rows)


def image_rows(
    path: str, start: int = 0, stop: int | None = None
) -> Iterator[tuple[str, bytes | str | None]]:
    """Name and image of the rows from ``start`` to before ``stop``, in order: encoded bytes, or a
    path. ``path`` may be an address.

    The column of images is one of structs of ``bytes`` and ``path``, as ``datasets`` writes them;
    or of bytes; or of paths or addresses, called ``path``, ``file`` or ``image``, relative to the
    folder of the file. Bytes are named ``FILE/000017`` by their row. An empty row has the image
    None. Raises ``ValueError`` as ``row_count``.
    """
    file = _open(path)
    column = _column(path, file.schema_arrow)
    number = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if number + rows <= start or (stop is not None and number >= stop):
            number += rows
            continue
        batches = file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[column])
        while (batch := opened(_shown(path), lambda: next(batches, None))) is not None:  # noqa: B023
            if start < number + len(batch) and (stop is None or number < stop):
                for place, value in enumerate(batch.column(0).to_pylist(), number):
                    if start <= place and (stop is None or place < stop):
                        yield _named(path, place, value)
            number += len(batch)


def _named(path: str, number: int, value: Any) -> tuple[str, bytes | str | None]:
    name = f"{_shown(path)}/{number:06}"
    if isinstance(value, dict):
        beside = value.get("path")
        if value.get("bytes") is None:
            return (name, None) if beside is None else _file(path, beside)
        name += f"/{Path(beside).name}" if beside else ""
        value = value["bytes"]
    if isinstance(value, str):
        return _file(path, value)
    return name, value


def _file(path: str, name: str) -> tuple[str, str]:
    """A picture beside the file, or anywhere by its address or absolute path."""
    if not is_address(name):
        folder = path.rpartition("/")[0] if is_address(path) else None
        name = os.path.join(os.path.dirname(path), name) if folder is None else f"{folder}/{name}"
    return name, name


def _open(path: str) -> Any:
    """The file, in which only what is needed is read."""
    _, parquet = pyarrow_for(_shown(path))
    file = open_file(path) if is_address(path) else path
    return opened(_shown(path), lambda: parquet.ParquetFile(file))


def _shown(path: str) -> str:
    return shown_address(path) if is_address(path) else path


def _column(path: str, schema: Any) -> str:
    """The column with the images."""
    import pyarrow

    kinds = pyarrow.types
    fields: dict[str, Any] = {field.name: field.type for field in schema}
    structs = [name for name, kind in fields.items() if is_image(kind)]
    binary = [
        n for n, kind in fields.items() if kinds.is_binary(kind) or kinds.is_large_binary(kind)
    ]
    text = {n for n, kind in fields.items() if kinds.is_string(kind) or kinds.is_large_string(kind)}
    by_name = {name.lower(): name for name in text}
    paths = [by_name[name] for name in PATHS if name in by_name]
    for found in (structs, binary):
        if len(found) > 1:
            raise InputError(
                f"{_shown(path)} has {len(found)} columns of images ({', '.join(found)}); keep one"
            )
    if found := [*structs, *binary, *paths]:
        return found[0]
    raise InputError(
        f"{_shown(path)} has no column of images; its columns are {', '.join(fields)}; name the "
        f"one with the paths {' or '.join(PATHS[:3])}, or store the encoded images as bytes"
    )
