"""The nearest images of a picture, by their embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from resnetkit.bundle.prediction import embed
from resnetkit.data.decoding.decode import Image
from resnetkit.errors import InputError, require
from resnetkit.inference.engines.engine import EngineName
from resnetkit.inspect.layer_outputs import engine_for
from resnetkit.inspect.models import Model, as_bundle, check_count

Array = npt.NDArray[Any]
#: Names and their vectors ``(images, features)``.
Vectors = tuple[Sequence[str], Array]
#: A ``.npy`` or ``.parquet`` file of embeddings, or names and vectors.
Embeddings: TypeAlias = "str | Path | Vectors"
#: Vectors compared at a time.
_ROWS = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """An image and the cosine similarity of its embedding, -1 to 1."""

    name: str
    similarity: float


def nearest(
    model: Model,
    image: Image,
    embeddings: Embeddings,
    count: int = 5,
    *,
    engine: EngineName = "auto",
) -> tuple[Neighbour, ...]:
    """The ``count`` images with the most similar embeddings, the most similar first.

    ``embeddings`` is a ``.npy`` or ``.parquet`` file written by ``predict_to_file`` with
    ``embeddings``, or the names and the array ``(images, features)`` that ``embed`` returned for
    them; it must be of the same ``model``. Rows of unreadable images are passed over. The rows of a
    ``.npy`` file are read a part at a time. ``image`` and ``engine`` are as in ``predict``.

    Raises ``ValueError`` for a file of another kind, vectors of another length, an unreadable
    image, and an unusable model or engine.

    >>> nearest(model, "seven.png", (["seven"], resnetkit.embed(model, "seven.png")))[0].name
    'seven'
    """
    check_count("count", count)
    names, vectors = _read(embeddings)
    (vector,) = embed(as_bundle(model), [image], engine=engine_for(model, engine))
    if vectors.shape[1] != len(vector):
        raise InputError(
            f"the embeddings have {vectors.shape[1]} features, and the model's {len(vector)}; give "
            "those of the same model",
            field="embeddings",
        )
    found = np.concatenate([*_similarities(vectors, vector), np.empty(0)])
    best = np.argsort(-np.nan_to_num(found, nan=-np.inf), kind="stable")[:count].tolist()
    return tuple(
        Neighbour(name=str(names[row]), similarity=float(found[row]))
        for row in best
        if not np.isnan(found[row])
    )


def _similarities(vectors: Array, vector: Array) -> Iterator[Array]:
    """The cosine of each row; NaN for one that is not finite, 0 for one without a direction."""
    wanted = vector.astype(np.float64)
    length = np.linalg.norm(wanted)
    for first in range(0, len(vectors), _ROWS):
        rows = np.asarray(vectors[first : first + _ROWS], np.float64)
        lengths = np.linalg.norm(rows, axis=1) * length
        dots = rows @ wanted
        yield np.divide(dots, lengths, out=np.where(np.isnan(dots), np.nan, 0), where=lengths > 0)


def _read(embeddings: Embeddings) -> Vectors:
    """Names and vectors. Raises ``InputError`` unless there is one name for each row."""
    if isinstance(embeddings, str | Path):
        path = Path(embeddings)
        readers = {".npy": _of_npy, ".parquet": _of_parquet}
        if path.suffix.lower() not in readers:
            raise InputError(
                f"{path} is not a {' or '.join(readers)} file; write one by "
                "resnetkit.predict_to_file with embeddings",
                field="embeddings",
            )
        if not path.is_file():
            raise InputError(f"{path} does not exist; give a file", field="embeddings")
        names, vectors = readers[path.suffix.lower()](path)
    else:
        names, vectors = embeddings
        vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(names) != len(vectors) or vectors.dtype.kind not in "fiu":
        shape = "x".join(map(str, vectors.shape))
        raise InputError(
            f"the embeddings are {len(names)} names and {vectors.dtype} numbers {shape}; they must "
            "be (images, features), with a name for each",
            field="embeddings",
        )
    return names, vectors


def _of_npy(path: Path) -> Vectors:
    lines = path.with_name(path.name + ".jsonl")
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        texts = lines.read_text(encoding="utf-8").splitlines()
        return [json.loads(text)["image"] for text in texts], vectors
    except FileNotFoundError:
        raise InputError(
            f"{path} has no {lines.name} with its names beside it; copy both, or give names and "
            "the array",
            field="embeddings",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None


def _of_parquet(path: Path) -> Vectors:
    parquet = require("pyarrow.parquet", "Parquet")
    try:
        found = parquet.read_table(path, columns=["image", "embedding"])
        column = found.column("embedding").combine_chunks()
        size = column.type.list_size
        rows = column.fill_null([float("nan")] * size).flatten().to_numpy(zero_copy_only=False)
        return found.column("image").to_pylist(), rows.reshape(-1, size)
    except (OSError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:80]
    return InputError(
        f"{path} has no embeddings that can be read ({reason}); write it again by "
        "resnetkit.predict_to_file with embeddings",
        field="embeddings",
    )
