"""The nearest images of a picture, by their embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnetkit.bundle.prediction import embed
from resnetkit.data.decoding.decode import Image
from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import EngineName
from resnetkit.inspect.embeddings import Array, Embeddings, open_embeddings
from resnetkit.inspect.layer_outputs import engine_for
from resnetkit.inspect.models import Model, as_bundle, check_count


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
    ``embeddings``, a folder of ``.parquet`` files, or the names and the array ``(images,
    features)`` that ``embed`` returned for them; it must be of the same ``model``. Rows of
    unreadable images are passed over. Files are read a part at a time. ``image`` and ``engine`` are
    as in ``predict``.

    Raises ``ValueError`` for a file of another kind, vectors of another length, an unreadable
    image, and an unusable model or engine.

    >>> nearest(model, "seven.png", (["seven"], resnetkit.embed(model, "seven.png")))[0].name
    'seven'
    """
    check_count("count", count)
    table = open_embeddings(embeddings)
    (vector,) = embed(as_bundle(model), [image], engine=engine_for(model, engine))
    if table.features != len(vector):
        raise InputError(
            f"the embeddings have {table.features} features, and the model's {len(vector)}; give "
            "those of the same model",
            field="embeddings",
        )
    found: list[Neighbour] = []
    for names, vectors in table.batches():
        similar = _similarities(vectors, vector)
        best = np.argsort(-np.nan_to_num(similar, nan=-np.inf), kind="stable")[:count].tolist()
        found += [
            Neighbour(name=str(names[row]), similarity=float(similar[row]))
            for row in best
            if not np.isnan(similar[row])
        ]
        # Stable, so that the first of equal ones stays the first.
        found = sorted(found, key=lambda one: -one.similarity)[:count]
    return tuple(found)


def _similarities(vectors: Array, vector: Array) -> Array:
    """The cosine of each row; NaN for one that is not finite, 0 for one without a direction."""
    wanted, rows = vector.astype(np.float64), vectors.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(wanted)
    dots = rows @ wanted
    found: Array = np.where(np.isnan(dots), np.nan, 0)
    np.divide(dots, lengths, out=found, where=lengths > 0)
    return found
