"""Reads images ahead in several threads, in order and in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")
#: Hands items on, one by one, so that a view can show how far it is.
Track = Callable[[Sequence[Any]], Iterable[Any]]


def readers() -> int:
    """Number of decoding threads: one per CPU, at most 8.

    Divided among the torchrun processes of this machine.
    """
    sharing = os.environ.get("LOCAL_WORLD_SIZE", "")
    return min(8, max(1, (os.cpu_count() or 1) // int(sharing if sharing.isdigit() else 1)))


def ordered(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int | None = None,
    ahead: int | None = None,
) -> Iterator[R]:
    """``map(function, items)`` in several threads, at most ``ahead`` results early."""
    threads = threads or readers()
    remaining = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="reader") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in islice(remaining, ahead or 4 * threads):
                waiting.append(pool.submit(function, item))
            while waiting:
                result = waiting.popleft().result()
                for item in islice(remaining, 1):
                    waiting.append(pool.submit(function, item))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def early(items: Generator[T], *, ahead: int = 1) -> Iterator[T]:
    """Iterate ``items`` in another thread; at most ``ahead`` are queued."""
    ended = object()
    with ThreadPoolExecutor(1, thread_name_prefix="early") as pool:
        waiting: deque[Future[T | object]] = deque()
        try:
            for _ in range(ahead):
                waiting.append(pool.submit(next, items, ended))
            while (item := waiting.popleft().result()) is not ended:
                waiting.append(pool.submit(next, items, ended))
                yield cast(T, item)
        finally:
            for future in waiting:
                future.cancel()
            pool.shutdown()
            items.close()
