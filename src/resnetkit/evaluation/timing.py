"""Interleaved benchmarking, so that transient slowdowns affect all candidates alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from resnetkit.data.prefetch import Track
from resnetkit.errors import InputError

#: Maximum seconds of one contestant in a round.
LONGEST = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contestant:
    """One candidate: ``run(times)`` computes that many batches of ``batch`` images.

    The batches of one ``run`` may overlap; it returns when all are computed.
    """

    name: str
    precision: str
    batch: int
    run: Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Raced:
    """Results of one contestant over ``rounds`` rounds.

    ``rate`` is the median of images per second. ``ratio`` is the median over the rounds of its rate
    relative to the first contestant with the same batch, ``least`` and ``most`` its minimum and
    maximum.
    """

    name: str
    precision: str
    batch: int
    rounds: int
    rate: float
    ratio: float
    least: float
    most: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {field: getattr(self, field) for field in self.__slots__}


def race(
    contestants: Sequence[Contestant],
    *,
    rounds: int = 5,
    seconds: float = 1.0,
    track: Track = iter,
) -> list[Raced]:
    """Run each for about ``seconds`` per round, interleaved, ``rounds`` times, after a warm-up.

    ``track`` wraps the iteration to show progress. Raises ``InputError`` for fewer than one round.
    """
    if rounds < 1 or not 0 < seconds <= LONGEST:
        raise InputError(
            f"there are {rounds} rounds of {seconds:g} s; both must be above 0, and a round at "
            f"most {LONGEST:g} s"
        )
    times = [_times(one, seconds) for one in contestants]
    rates: list[list[float]] = [[] for _ in contestants]
    for turn in track(range(rounds * len(contestants))):
        number = turn % len(contestants)
        one = contestants[number]
        rates[number].append(one.batch * times[number] / _seconds(one, times[number]))
    return list(_raced(contestants, rates))


def _raced(contestants: Sequence[Contestant], rates: Sequence[Sequence[float]]) -> Iterator[Raced]:
    first: dict[int, Sequence[float]] = {}
    for one, found in zip(contestants, rates, strict=True):
        against = first.setdefault(one.batch, found)
        ratios = [ours / theirs for ours, theirs in zip(found, against, strict=True)]
        yield Raced(
            name=one.name,
            precision=one.precision,
            batch=one.batch,
            rounds=len(found),
            rate=statistics.median(found),
            ratio=statistics.median(ratios),
            least=min(ratios),
            most=max(ratios),
        )


def _times(one: Contestant, seconds: float) -> int:
    """Number of batches in that time; the first ones, which compile, are not counted."""
    one.run(2)
    return max(1, round(seconds / (_seconds(one, 2) / 2)))


def _seconds(one: Contestant, times: int) -> float:
    start = time.perf_counter()
    one.run(times)
    return time.perf_counter() - start
