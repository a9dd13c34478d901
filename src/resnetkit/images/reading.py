"""Reading many images at a time, in order and in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from resnetkit.images.pixels import UnreadableImageError, pixels_of
from resnetkit.images.sources import Example
from resnetkit.preprocess import Preprocess

T = TypeVar("T")
R = TypeVar("R")


def readers() -> int:
    """How many threads decode images: one for each processor, 8 at most."""
    return min(8, os.cpu_count() or 1)


def ordered(
    function: Callable[[T], R], items: Iterable[T], *, threads: int | None = None
) -> Iterator[R]:
    """``map(function, items)`` by several threads, never more than a few results ahead."""
    threads = threads or readers()
    remaining = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in islice(remaining, 4 * threads):
                waiting.append(pool.submit(function, item))
            while waiting:
                yield waiting.popleft().result()
                for item in islice(remaining, 1):
                    waiting.append(pool.submit(function, item))
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The images that can be decoded with their digests, and what is wrong with the others."""

    digests: dict[str, str]
    problems: tuple[UnreadableImageError, ...]


def verify(examples: Sequence[Example], preprocess: Preprocess) -> Verified:
    """Decode and cut every image once; ``digests`` has the names of those that can be."""

    def digest(example: Example) -> str | UnreadableImageError:
        try:
            pixels_of(example.image, preprocess)
            return example.digest()
        except UnreadableImageError as error:
            return error
        except OSError as error:
            return UnreadableImageError(example.name, error.strerror or str(error))

    digests: dict[str, str] = {}
    problems: list[UnreadableImageError] = []
    for example, found in zip(examples, ordered(digest, examples), strict=True):
        if isinstance(found, UnreadableImageError):
            problems.append(found)
        else:
            digests[example.name] = found
    return Verified(digests=digests, problems=tuple(problems))
