"""Images in Arrow and Parquet files, located and read by pyarrow.

For an Arrow stream only the offsets of the images are kept; an image is read from the file when it
is needed. Compressed Parquet is converted to Arrow in the cache folder once, some rows at a time.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resnetkit.data.datasets.packed_samples import Packed
from resnetkit.errors import InputError, require
from resnetkit.files import atomic, cache_folder

#: The last bytes of a complete Arrow stream.
_END = b"\xff\xff\xff\xff\0\0\0\0"
#: Parquet rows in memory at a time.
_ROWS = 256
#: The length of an image that is not in the file.
_ABSENT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns to read; ``names`` are the label's class names, if it has any."""

    image: str
    label: str | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ArrowRow:
    """An image and its label: a number, a string, or None."""

    name: str
    image: Packed | Path
    label: int | str | None


def pyarrow_for(path: Path | str) -> tuple[Any, Any]:
    """pyarrow and its ``parquet``. Raises ``ValueError`` where they are not installed."""
    pyarrow = require("pyarrow", str(path))
    from pyarrow import parquet

    return pyarrow, parquet


def opened(path: Path | str, read: Callable[[], Any]) -> Any:
    """The result of ``read``. Raises ``ValueError`` for any error of pyarrow."""
    arrow, _ = pyarrow_for(path)
    try:
        return read()
    except (OSError, arrow.ArrowException) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path} cannot be read ({reason}); get it again") from None


def schema_of(path: Path) -> Any:
    """The schema of a Parquet file or an Arrow stream."""
    arrow, parquet = pyarrow_for(path)
    if path.suffix == ".parquet":
        return opened(path, lambda: parquet.read_schema(path))
    return opened(path, lambda: arrow.ipc.open_stream(arrow.memory_map(str(path))).schema)


def is_image(kind: Any) -> bool:
    """Whether a column's type is that of the feature ``Image``: a struct of bytes and path."""
    import pyarrow

    kinds = {field.name: field.type for field in kind} if pyarrow.types.is_struct(kind) else {}
    path = kinds.get("path")
    return "bytes" in kinds and path in (pyarrow.string(), pyarrow.large_string(), pyarrow.null())


def rows(path: Path, files: Iterable[Path], columns: Columns) -> Iterator[ArrowRow]:
    """The rows of files, named by file path relative to the folder ``path`` and row number.

    Raises ``ValueError`` for a file that is damaged or lacks one of ``columns``.
    """
    root = path if path.is_dir() else path.parent
    for file in files:
        name = file.relative_to(root).as_posix()
        place = _unpacked(file, columns) if file.suffix == ".parquet" else file
        yield from _of_file(root, name, place, columns)


def _unpacked(file: Path, columns: Columns) -> Path:
    """The Parquet file as Arrow in the cache folder, written once per content."""
    arrow, parquet = pyarrow_for(file)
    wanted = [columns.image, *([] if columns.label is None else [columns.label])]
    about = file.stat()
    key = f"{file.resolve()}\0{about.st_size}\0{about.st_mtime_ns}\0{wanted}"
    folder = cache_folder() / "parquet"
    target = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.arrow"
    if target.is_file():
        return target
    source = opened(file, lambda: parquet.ParquetFile(file))
    _check_columns(file, source.schema_arrow, columns)
    batches = source.iter_batches(batch_size=_ROWS, columns=wanted)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror}") from None
    with atomic(target) as temporary:
        schema = arrow.schema([source.schema_arrow.field(name) for name in wanted])
        with arrow.ipc.new_stream(str(temporary), schema) as sink:
            while (batch := opened(file, lambda: next(batches, None))) is not None:
                sink.write_batch(batch.select(wanted))
    return target


def _check_columns(file: Path, schema: Any, columns: Columns) -> None:
    for column in (columns.image, columns.label):
        if column is not None and column not in schema.names:
            raise InputError(
                f"{file} has no column {column}, as the first file has; its columns are "
                f"{', '.join(schema.names)}"
            )
    kind = schema.field(columns.image).type
    if not is_image(kind):
        raise InputError(f"the column {columns.image} of {file} has no images, but {kind}")


def _of_file(root: Path, name: str, file: Path, columns: Columns) -> Iterator[ArrowRow]:
    """The rows of an Arrow stream, with the offset of each image in the file."""
    arrow, _ = pyarrow_for(file)
    with file.open("rb") as handle:
        size = file.stat().st_size
        if size < len(_END):
            raise InputError(f"{file} is truncated; get it again")
        mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    if mapped[-len(_END) :] != _END:
        raise InputError(f"{file} is truncated; get it again")
    buffer = arrow.py_buffer(mapped)
    stream = opened(file, lambda: arrow.ipc.open_stream(buffer))
    _check_columns(file, stream.schema, columns)
    number = 0
    while True:
        try:
            batch = opened(file, stream.read_next_batch)
        except StopIteration:
            return
        opened(file, lambda: batch.validate(full=True))  # noqa: B023
        images = batch.column(columns.image)
        places = _places(file, images, buffer)
        paths = _paths(images)
        labels = _labels(file, batch, columns)
        for (offset, length), path, label in zip(places, paths, labels, strict=True):
            called = f"{name}/{number:06}" + (f"/{Path(path).name}" if path else "")
            number += 1
            if length == _ABSENT and path:
                yield ArrowRow(called, root / path, label)
            else:
                image = Packed(name=called, label=0, file=file, offset=offset, size=max(0, length))
                yield ArrowRow(called, image, label)


def _places(file: Path, images: Any, whole: Any) -> Iterator[tuple[int, int]]:
    """Offset in the file and length of each image; length -1 if it has no bytes."""
    import pyarrow

    data = _child(images, "bytes")
    wide = pyarrow.types.is_large_binary(data.type)
    if not wide and not pyarrow.types.is_binary(data.type):
        raise InputError(f"the images of {file} are {data.type}, not bytes; save it again")
    _, offsets, values = data.buffers()
    if values is None or not len(data):
        return iter([(0, _ABSENT)] * len(data))
    first = values.address - whole.address
    if not 0 <= first <= whole.size - values.size:
        raise InputError(f"{file} has compressed data; save it again with datasets or as Parquet")
    edges: npt.NDArray[Any] = np.frombuffer(offsets, np.int64 if wide else np.int32)
    edges = edges[data.offset : data.offset + len(data) + 1].astype(np.int64)
    lengths = np.where(data.is_valid().to_numpy(zero_copy_only=False), np.diff(edges), _ABSENT)
    return zip((edges[:-1] + first).tolist(), lengths.tolist(), strict=True)


def _paths(images: Any) -> list[str | None]:
    found: list[str | None] = _child(images, "path").to_pylist()
    return found


def _child(images: Any, name: str) -> Any:
    return images.flatten()[[field.name for field in images.type].index(name)]


def _labels(file: Path, batch: Any, columns: Columns) -> list[Any]:
    import pyarrow

    if columns.label is None:
        return [None] * len(batch)
    labels = batch.column(columns.label)
    kind = pyarrow.types
    if not (kind.is_integer(labels.type) or kind.is_string(labels.type)):
        raise InputError(
            f"the column {columns.label} of {file} is {labels.type}; labels are whole numbers or "
            "words"
        )
    found: list[Any] = labels.to_pylist()
    return found
