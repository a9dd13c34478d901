"""Races: what is counted, and against whom."""

from __future__ import annotations

import time

import pytest

from resnetkit.errors import InputError
from resnetkit.evaluation.timing import Contestant, race


def sleeper(name: str, batch: int, pause: float, calls: list[str]) -> Contestant:
    def run(times: int) -> None:
        calls.append(name)
        time.sleep(pause * times)

    return Contestant(name=name, precision="fp32", batch=batch, run=run)


def test_rates_and_ratios() -> None:
    calls: list[str] = []
    slow = sleeper("slow", 1, 0.02, calls)
    fast = sleeper("fast", 1, 0.005, calls)
    eight = sleeper("eight", 8, 0.02, calls)
    rows = race([slow, fast, eight], rounds=3, seconds=0.05)
    assert [row.name for row in rows] == ["slow", "fast", "eight"]
    assert rows[0].ratio == rows[0].least == rows[0].most == 1
    assert rows[0].rate == pytest.approx(50, rel=0.4)
    assert 2 < rows[1].ratio < 8
    assert rows[1].least <= rows[1].ratio <= rows[1].most
    assert rows[2].ratio == 1, "batches of another size are another race"
    assert rows[2].rate > 4 * rows[0].rate
    assert [row.rounds for row in rows] == [3, 3, 3]
    assert set(rows[0].to_dict()) >= {"name", "precision", "batch", "rate", "ratio"}
    # After each one's warm-up, they run in turn.
    assert calls[-9:] == ["slow", "fast", "eight"] * 3


def test_nothing_to_do_is_refused() -> None:
    with pytest.raises(InputError, match="0 rounds"):
        race([], rounds=0)
