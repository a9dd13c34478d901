"""Reads embeddings that ``predict`` wrote, some rows at a time."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from resnetkit.data import storage
from resnetkit.data.storage_access import shown_address
from resnetkit.errors import AssumptionWarning, InputError, require

Array = npt.NDArray[Any]
#: Names and their vectors ``(images, features)``.
Vectors = tuple[Sequence[str], Array]
#: A ``.npy`` or ``.parquet`` file of embeddings, a folder of ``.parquet`` files, also by address,
#: or names and vectors.
Embeddings: TypeAlias = "str | Path | Vectors"
#: Rows read at a time.
ROWS = 1 << 12


class EmbeddingTable:
    """The rows of ``count`` images with ``features`` numbers each; NaN for an unreadable one.

    Raises ``InputError`` for a file of another kind.
    """

    def __init__(self, count: int, features: int, read: Callable[[], Iterator[Vectors]]) -> None:
        self.count, self.features, self._read = count, features, read

    def batches(self) -> Iterator[Vectors]:
        """Names and float32 vectors of the rows, in order, at most ``ROWS`` at a time."""
        for names, vectors in self._read():
            for first in range(0, len(vectors), ROWS):
                part = slice(first, first + ROWS)
                yield names[part], np.asarray(vectors[part], np.float32)


def open_embeddings(embeddings: Embeddings) -> EmbeddingTable:
    """The table of a file, a folder, or names and an array. Raises as ``EmbeddingTable``."""
    if not isinstance(embeddings, str | Path):
        return _of_arrays(*embeddings)
    if storage.is_address(embeddings):
        return _of_parquet(_stored(str(embeddings)))
    path = Path(embeddings)
    if path.is_dir():
        return _of_parquet(_in_folder(path))
    if not path.exists():
        raise InputError(f"{path} does not exist; give a file or folder of embeddings")
    if path.suffix.lower() not in (".npy", ".parquet"):
        raise InputError(
            f"{path} is not a .npy or .parquet file; write one by predict with embeddings",
        )
    return _of_npy(path) if path.suffix.lower() == ".npy" else _of_parquet([str(path)])


def _of_arrays(names: Sequence[str], vectors: Array) -> EmbeddingTable:
    vectors = np.asarray(vectors)
    _check_shape(len(names), vectors)
    return EmbeddingTable(len(vectors), vectors.shape[1], lambda: iter([(names, vectors)]))


def _check_shape(names: int, vectors: Array) -> None:
    if vectors.ndim != 2 or names != len(vectors) or vectors.dtype.kind not in "fiu":
        shape = "x".join(map(str, vectors.shape))
        raise InputError(
            f"the embeddings are {names} names and {vectors.dtype} numbers {shape}; they must be "
            "(images, features), with a name for each"
        )


def _of_npy(path: Path) -> EmbeddingTable:
    lines = path.with_name(path.name + ".jsonl")
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        with lines.open(encoding="utf-8") as file:
            count = sum(1 for _ in file)
    except FileNotFoundError:
        raise InputError(
            f"{path} has no {lines.name} with its names beside it; copy both, or give names and "
            "the array",
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(str(path), error) from None
    _check_shape(count, vectors)

    def read() -> Iterator[Vectors]:
        try:
            with lines.open(encoding="utf-8") as file:
                for first in range(0, count, ROWS):
                    names = [json.loads(line)["image"] for line in islice(file, ROWS)]
                    yield names, vectors[first : first + ROWS]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(str(path), error) from None

    return EmbeddingTable(count, vectors.shape[1], read)


def _in_folder(folder: Path) -> list[str]:
    names = {one.name for one in folder.iterdir()}
    files = [str(folder / name) for name in sorted(names) if _is_part(name)]
    _check_folder(str(folder), files, names)
    return files


def _stored(address: str) -> list[str]:
    there = list(storage.files(address))
    files = [one.address for one in there if _is_part(one.name)]
    _check_folder(shown_address(address), files, {one.name for one in there})
    return files


def _is_part(name: str) -> bool:
    return name.endswith(".parquet") and not name.startswith(("_", "."))


def _check_folder(shown: str, files: Sequence[str], names: Container[str]) -> None:
    if not files:
        raise InputError(f"{shown} has no .parquet files; give the folder that predict wrote")
    if "_plan.json" in names and "_SUCCESS" not in names:
        warnings.warn(
            f"{shown} is not complete: only what is there is read; the same call of predict "
            "finishes it",
            AssumptionWarning,
            stacklevel=5,
        )


def _of_parquet(files: Sequence[str]) -> EmbeddingTable:
    parquet = require("pyarrow.parquet", "Parquet")
    arrow = require("pyarrow", "Parquet")

    def opened(name: str) -> AbstractContextManager[str | BinaryIO]:
        return storage.open_file(name) if storage.is_address(name) else nullcontext(name)

    count, size = 0, None
    for name in files:
        try:
            with opened(name) as file, parquet.ParquetFile(file) as found:
                length = _length(found.schema_arrow, _shown(name))
                count += found.metadata.num_rows
        except (OSError, arrow.ArrowException) as error:
            raise _unreadable(_shown(name), error) from None
        if size not in (None, length):
            raise InputError(
                f"{_shown(name)} has embeddings of {length} numbers, and {_shown(files[0])} of "
                f"{size}; give those of one network"
            )
        size = length

    def read() -> Iterator[Vectors]:
        for name in files:
            with opened(name) as file, parquet.ParquetFile(file) as found:
                batches = found.iter_batches(batch_size=ROWS, columns=["image", "embedding"])
                try:
                    for batch in batches:
                        yield batch.column("image").to_pylist(), _rows(batch.column("embedding"))
                except (OSError, ValueError, arrow.ArrowException) as error:
                    raise _unreadable(_shown(name), error) from None

    return EmbeddingTable(count, size or 0, read)


def _shown(name: str) -> str:
    return shown_address(name) if storage.is_address(name) else name


def _length(schema: Any, name: str) -> int:
    """The length of the embeddings of a file with this Arrow schema."""
    for column in ("image", "embedding"):
        if column not in schema.names:
            raise InputError(
                f"{name} has no column {column}, but {', '.join(schema.names)}; write it by "
                "predict with embeddings"
            )
    kind = schema.field("embedding").type
    if not hasattr(kind, "list_size"):
        raise InputError(
            f"the column embedding of {name} is {kind}; it must be fixed_size_list, as predict "
            "writes it"
        )
    return int(kind.list_size)


def _rows(column: Any) -> Array:
    size = column.type.list_size
    filled = column.fill_null([float("nan")] * size)
    return np.asarray(filled.flatten().to_numpy(zero_copy_only=False)).reshape(-1, size)


def _unreadable(name: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:80]
    return InputError(
        f"{name} has no embeddings that can be read ({reason}); write it again by "
        "predict with embeddings",
    )
