"""Items that a thread makes ahead."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from resnetkit.data.prefetch import early


def test_what_is_made_early_is_the_same_in_order() -> None:
    for ahead in (1, 3):
        assert list(early((n for n in range(20)), ahead=ahead)) == list(range(20))
        assert list(early((n for n in range(0)), ahead=ahead)) == []


def test_the_next_is_made_while_this_one_is_used_and_no_more() -> None:
    made, next_one = [], threading.Event()

    def items() -> Generator[int]:
        for number in range(9):
            made.append(number)
            if number == 1:
                next_one.set()
            yield number

    found = early(items())
    assert next(found) == 0
    assert next_one.wait(10), "nothing is made ahead"
    found.close()
    assert made == [0, 1]


def test_an_error_arrives_in_its_turn_and_what_is_open_is_closed() -> None:
    closed = []

    def items() -> Generator[int]:
        try:
            yield 1
            yield 2
            raise OSError("gone")
        finally:
            closed.append(True)

    seen: list[int] = []
    with pytest.raises(OSError, match="gone"):
        seen.extend(early(items()))
    found = early(items())
    seen.append(next(found))
    found.close()
    assert (seen, closed) == ([1, 2, 1], [True, True])


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    found = early(iter_of(5))
    next(found)
    found.close()
    list(early(iter_of(5)))
    assert threading.active_count() == before


def iter_of(count: int) -> Generator[int]:
    yield from range(count)
