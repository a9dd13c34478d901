"""Overlaps input with computation; splits and pads batches for fixed-batch graphs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import Pixels, PixelType, Rows

R = TypeVar("R")
#: Batches queued or computed while the next one is read.
AHEAD = 2


def overlapped(
    answer: Callable[[Pixels], R], batches: Iterable[Pixels], ahead: int = AHEAD
) -> Iterator[R]:
    """``map(answer, batches)`` in a separate thread, in order, at most ``ahead`` early.

    Results are yielded before another batch is read, which may be slow.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="engine") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for batch in batches:
                waiting.append(pool.submit(answer, batch))
                while waiting and (len(waiting) >= ahead or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def parts(pixels: Pixels, size: int | None, kind: PixelType) -> list[Pixels]:
    """Split a batch into pieces of ``size`` images; None leaves it unchanged.

    The last piece is padded with black images; ``joined`` cuts their rows off. Raises
    ``ValueError`` for pixels of another dtype than ``kind``, which a runtime might misread.
    """
    if pixels.dtype != kind:
        raise InputError(
            f"the pixels are {pixels.dtype}, and the engine takes {kind}; "
            "open_engine(..., pixels=...) makes one for the other"
        )
    if size is None:
        return [pixels]
    lacks = -len(pixels) % size
    if lacks:
        black = np.zeros((lacks, *pixels.shape[1:]), pixels.dtype)
        pixels = np.concatenate([pixels, black])
    return [pixels[at : at + size] for at in range(0, len(pixels), size)]


def joined(rows: Sequence[Rows], count: int) -> Rows:
    """Join the rows of the pieces of a batch of ``count`` images."""
    return rows[0] if len(rows) == 1 and len(rows[0]) == count else np.concatenate(rows)[:count]


def by_parts(
    infer: Callable[[Iterable[Pixels]], Iterator[Rows]],
    batches: Iterable[Pixels],
    size: int | None,
    kind: PixelType,
) -> Iterator[Rows]:
    """``infer(batches)``, with each batch split by ``parts``."""
    waiting: deque[tuple[int, int]] = deque()

    def pieces() -> Iterator[Pixels]:
        for batch in batches:
            found = parts(batch, size, kind)
            waiting.append((len(batch), len(found)))
            yield from found

    held: list[Rows] = []
    for rows in infer(pieces()):
        held.append(rows)
        count, wanted = waiting[0]
        if len(held) == wanted:
            waiting.popleft()
            yield joined(held, count)
            held = []
