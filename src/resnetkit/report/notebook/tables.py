"""A table of a notebook's cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of texts below their ``heads``; ``left`` are the columns aligned at the left, ``total``
    is the last row."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] = ()
    left: frozenset[int] = frozenset({0})
