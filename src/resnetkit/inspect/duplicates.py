"""Near-duplicates among any number of images, by their embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from resnetkit.errors import InputError, require
from resnetkit.inspect.embeddings import Array, Embeddings, EmbeddingTable, open_embeddings
from resnetkit.inspect.neighbours import Neighbour

#: Up to so many images each is compared with all that are kept.
EXACT = 50_000
#: Vectors a cell is trained with, and cells that are searched.
_TRAINED, _PROBES = 40, 16
#: Images compared with each other at a time.
_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateGroup:
    """An image, and those that are near-duplicates of it, the most similar first."""

    kept: str
    duplicates: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """The groups, the largest first, among ``images`` images; ``unreadable`` ones had no embedding.

    ``method`` says whether an image was compared with all that are kept.
    """

    groups: tuple[DuplicateGroup, ...]
    images: int
    unreadable: int
    threshold: float
    method: Literal["exact", "approximate"]

    @property
    def count(self) -> int:
        """The number of images that are near-duplicates of another one."""
        return sum(len(group.duplicates) for group in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON types."""
        return {
            "images": self.images,
            "unreadable": self.unreadable,
            "threshold": self.threshold,
            "method": self.method,
            "duplicates": self.count,
            "groups": [
                {
                    "kept": group.kept,
                    "duplicates": [
                        {"image": one.name, "similarity": one.similarity}
                        for one in group.duplicates
                    ],
                }
                for group in self.groups
            ],
        }


def find_duplicates(
    embeddings: Embeddings,
    threshold: float = 0.95,
    *,
    exact: bool | None = None,
    on_images: Callable[[int], None] = lambda _: None,
) -> Duplicates:
    """Find near-duplicates: images whose embeddings have a cosine similarity of ``threshold`` or
    more, 0 to 1.

    ``embeddings`` are as for ``nearest``. Images are taken in order. One that is similar enough to
    a kept image is a duplicate of the most similar of those; any other is kept. So every duplicate
    resembles the kept image of its group, and no chain of resemblances joins unlike ones. With
    ``exact`` it is compared with every kept image, by default up to 50,000 images; beyond, with
    those in the 16 nearest cells of an inverted file (faiss), which may miss a few. ``on_images``
    gets the number of new images after each batch. The vectors of kept images are in memory, 4
    bytes a number.

    Raises ``ValueError`` for a ``threshold`` outside 0 to 1, and as ``nearest``.

    >>> find_duplicates((["a", "b"], [[1.0, 2.0], [2.0, 4.0]])).groups[0].kept
    'a'
    """
    if not 0 < threshold <= 1:
        raise InputError(
            f"threshold is {threshold:g}; it must be above 0, up to 1", field="threshold"
        )
    table = open_embeddings(embeddings)
    exact = table.count <= EXACT if exact is None else exact
    kept = _Kept(table, exact=exact)
    found: dict[str, list[Neighbour]] = {}
    images = unreadable = 0
    for names, vectors in table.batches():
        for first in range(0, len(vectors), _ROWS):
            part = slice(first, first + _ROWS)
            rows, readable = _normalized(vectors[part])
            called = [str(name) for name, good in zip(names[part], readable, strict=True) if good]
            for name, (of, similarity) in zip(
                called, kept.add(called, rows[readable], threshold), strict=True
            ):
                if similarity != _OWN:
                    found.setdefault(of, []).append(Neighbour(name=name, similarity=similarity))
            images += len(readable)
            unreadable += int((~readable).sum())
            on_images(len(readable))
    groups = [
        DuplicateGroup(kept=name, duplicates=tuple(sorted(those, key=lambda one: -one.similarity)))
        for name, those in found.items()
    ]
    return Duplicates(
        groups=tuple(sorted(groups, key=lambda group: -len(group.duplicates))),
        images=images,
        unreadable=unreadable,
        threshold=threshold,
        method="exact" if exact else "approximate",
    )


#: That an image is kept, in place of the similarity to a kept one.
_OWN = -1.0


class _Kept:
    """The kept images: their names, and an index of their vectors."""

    def __init__(self, table: EmbeddingTable, *, exact: bool) -> None:
        faiss = require("faiss", "finding duplicates")
        self._names: list[str] = []
        self._index = faiss.IndexFlatIP(table.features)
        if not exact:
            cells = max(1, round(table.count**0.5))
            sample = _sample(table, _TRAINED * cells)
            cells = min(cells, len(sample))
            self._index = faiss.IndexIVFFlat(
                self._index, table.features, cells, faiss.METRIC_INNER_PRODUCT
            )
            self._index.nprobe = min(_PROBES, cells)
            self._index.cp.min_points_per_centroid = 1
            if len(sample):
                self._index.train(sample)

    def add(self, names: list[str], rows: Array, threshold: float) -> list[tuple[str, float]]:
        """For each image the kept one that it is a duplicate of, and their similarity; or itself,
        now kept, and ``_OWN``."""
        found: list[tuple[str, float]] = []
        if not len(rows):
            return found
        count, new, fresh = len(self._names), np.empty(len(rows), np.int64), 0
        before = np.full(len(rows), -2.0, np.float32), np.zeros(len(rows), np.int64)
        if count:
            similar, numbers = self._index.search(rows, 1)
            before = similar[:, 0], numbers[:, 0]
        among = rows @ rows.T
        for row, (similarity, number) in enumerate(zip(*before, strict=True)):
            best, of = float(similarity), int(number)
            if fresh:
                place = int(np.argmax(among[row, new[:fresh]]))
                if among[row, new[place]] > best:
                    best, of = float(among[row, new[place]]), count + place
            # A product of equal vectors may be a few units in the last place below 1.
            if best >= threshold - 1e-6:
                found.append((self._names[of], min(1.0, best)))
            else:
                new[fresh] = row
                fresh += 1
                self._names.append(names[row])
                found.append((names[row], _OWN))
        self._index.add(np.ascontiguousarray(rows[new[:fresh]]))
        return found


def _normalized(vectors: Array) -> tuple[Array, Array]:
    """The vectors with length 1, or 0 for those without a direction; and which are finite."""
    readable: Array = np.asarray(np.isfinite(vectors).all(axis=1))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return np.ascontiguousarray(rows, np.float32), readable


def _sample(table: EmbeddingTable, most: int) -> Array:
    """Vectors from the whole table, evenly."""
    step = max(1, table.count // most)
    found, seen = [], 0
    for _, vectors in table.batches():
        rows, readable = _normalized(vectors[-seen % step :: step])
        found.append(rows[readable])
        seen += len(vectors)
    return np.concatenate([*found, np.empty((0, table.features), np.float32)])
