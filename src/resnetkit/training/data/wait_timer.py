"""Measures time spent waiting on an iterator."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiting(Generic[T]):
    """Iterates over ``items``; ``seconds`` is the total time spent waiting for them."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self.seconds = 0.0

    def __iter__(self) -> Iterator[T]:
        asked = time.perf_counter()
        for item in self._items:
            self.seconds += time.perf_counter() - asked
            yield item
            asked = time.perf_counter()
