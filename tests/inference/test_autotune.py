"""The pace of an engine: the fastest of what was measured, remembered by machine and model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnetkit.inference.engines import autotune
from resnetkit.inference.engines.autotune import Pace, machine, tuned
from resnetkit.inference.engines.engine import EngineOptions, Output, Pixels, Rows

SHAPE = (2, 2, 3)


class Sleeper:
    """Takes ``costs[streams]`` seconds a batch, and up to four images for the price of one."""

    name, precision = "sleeper", "fp32"
    output: Output = "logits"
    options = EngineOptions()

    def __init__(self, costs: dict[int, float]) -> None:
        self._costs = costs
        self.ways, self.streams = tuple(costs), 1
        self.batches = 0

    def answer(self, pixels: Pixels, *, shared: bool = False) -> Rows:
        self.batches += 1
        time.sleep(self._costs[self.streams] * max(1, len(pixels) / 4))
        return np.zeros((len(pixels), 2), np.float32)

    def infer_batches(self, batches: Iterable[Pixels]) -> Iterator[Rows]:
        return map(self.answer, batches)

    def to_dict(self) -> dict[str, Any]:
        return {"engine": self.name}


@pytest.fixture(autouse=True)
def probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(autotune, "SECONDS", 0.02)
    monkeypatch.setattr(autotune, "GAIN", 1.5)
    return tmp_path / "probes"


@pytest.mark.parametrize(("costs", "streams"), [({1: 0.02, 2: 0.06}, 1), ({1: 0.06, 2: 0.02}, 2)])
def test_the_fastest_is_taken_and_remembered(
    costs: dict[int, float], streams: int, probes: Path
) -> None:
    engine = Sleeper(costs)
    batch = tuned(engine, SHAPE, "net")
    assert batch in (4, 8), "one image costs as much as four, and eight twice as much"
    assert engine.streams == streams
    [path] = probes.iterdir()
    assert json.loads(path.read_text())["fastest"] == {"batch": batch, "streams": streams}
    again = Sleeper(costs)
    assert tuned(again, SHAPE, "net") == batch
    assert again.streams == streams
    assert again.batches == 0
    assert tuned(again, SHAPE, "another") in (4, 8)
    assert again.batches > 0


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"fastest": {"batch": 3, "streams": 1}}',
             '{"fastest": {"batch": 4, "streams": 9}}', '{"fastest": {"batch": [], "x": 1}}']
)  # fmt: skip
def test_what_cannot_be_read_is_measured_again(text: str, probes: Path) -> None:
    engine = Sleeper({1: 0.01})
    tuned(engine, SHAPE, "net")
    [path] = probes.iterdir()
    path.write_text(text)
    again = Sleeper({1: 0.01})
    assert tuned(again, SHAPE, "net") in autotune.SIZES
    assert again.batches > 0


def test_large_batches_of_a_slow_network_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "LONGEST", 0.01)
    assert list(autotune.measured(Sleeper({1: 0.02}), SHAPE)) == [Pace(batch=1, streams=1)]


def test_processors_of_one_name_are_told_apart_by_what_they_can(tmp_path: Path) -> None:
    flags = {"old": "fpu avx2", "new": "fpu avx2 avx512f avx512_vnni avx512_bf16"}
    for name, text in flags.items():
        place = tmp_path / name / "proc"
        place.mkdir(parents=True)
        core = f"processor : 0\nmodel name : Virtual CPU\nflags : {text}\n\n"
        (place / "cpuinfo").write_text(2 * core)
    found = {name: machine(tmp_path / name)["processor"] for name in flags}
    assert found == {
        "old": "Virtual CPU (AVX2)",
        "new": "Virtual CPU (AVX2, AVX-512, VNNI, BF16)",
    }
    assert machine(tmp_path)["processor"], "not told at all"
    assert machine()["threads"] >= 1
