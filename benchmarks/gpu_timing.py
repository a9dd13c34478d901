"""Timing of `gpu.py`'s parts: contenders in turn, between CUDA events, and the card's own peaks."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

#: Runs so many batches; a GPU may still compute when it returns.
Runner = Callable[[int], object]
#: Dense bf16 TFLOP/s by NVIDIA's data sheets (without sparsity), by torch's name or its beginning.
PUBLISHED = {
    "NVIDIA H200": 989.0,
    "NVIDIA H100 80GB HBM3": 989.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA A100": 312.0,
    "NVIDIA L40S": 362.0,
    "NVIDIA L4": 121.0,
}


class NotPossibleError(Exception):
    """A part cannot run here; says why."""


@dataclass(slots=True, kw_only=True)
class Setting:
    """Where a part runs: the device, the end of its time, its data, and the file for its rows."""

    device: torch.device
    miniature: bool
    deadline: float
    data: Path | None
    folder: Path
    rows: Path

    @property
    def gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.deadline - time.monotonic()

    def write(self, table: str, **row: Any) -> None:
        """Keep a row, also if the part is ended later."""
        self.put({"table": table, **row})

    def put(self, row: dict[str, Any]) -> None:
        """Append a line."""
        with self.rows.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def wait(device: torch.device) -> None:
    """Wait until the device has computed everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Seconds from before ``run`` until all it started is computed.

    On a GPU between two events on its stream, which include the time that it waits for the
    processor.
    """
    wait(device)
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return time.perf_counter() - began
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    run()
    last.record()
    wait(device)
    return first.elapsed_time(last) / 1000


@dataclass(slots=True, kw_only=True)
class Contender:
    """What is timed: ``make`` returns its runner; ``facts`` are kept in its row."""

    name: str
    batch: int
    make: Callable[[], Runner]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Ready:
    one: Contender
    run: Runner
    times: int
    start: float
    peak: float | None
    rates: list[float] = field(default_factory=list)


def one_line(error: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], float | None]]:
    """Within it, the result gives the peak GiB that torch has allocated beside what it had before;
    None on a processor."""
    if device.type != "cuda":
        yield lambda: None
        return
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    yield lambda: (torch.cuda.max_memory_allocated(device) - before) / (1 << 30)


def forget(device: torch.device) -> None:
    """Give memory that is no longer used back to the card."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def race(
    setting: Setting,
    contenders: Sequence[Contender],
    *,
    rounds: int = 5,
    seconds: float = 0.5,
    warm: int = 3,
    reserve: float = 5.0,
) -> list[dict[str, Any]]:
    """Images a second of each, in turn: median, least and most of the rounds.

    ``seconds`` is the time of a contender in a round, ``warm`` the runs before, of which the first
    is kept as ``start_s``, with the peak memory of all. ``ratio`` is the median of the rate to that
    of the first contender in the same round. One that fails has ``error`` instead. Fewer rounds, or
    contenders, are run if less than ``reserve`` seconds are left.
    """
    forget(setting.device)
    tried: list[_Ready | str] = []
    for one in contenders:
        found: _Ready | str = "no time left"
        if setting.left >= reserve:
            try:
                found = _warmed(setting, one, seconds, warm)
            except Exception as error:
                found = one_line(error)
        if isinstance(found, str):
            # Outside `except`, where the error still holds the tensors.
            forget(setting.device)
        tried.append(found)
    ready = [at for at in tried if not isinstance(at, str)]
    for number in range(rounds):
        if number and setting.left < reserve + len(ready) * seconds:
            break
        for at in ready:
            took = seconds_of(partial(at.run, at.times), setting.device)
            at.rates.append(at.one.batch * at.times / took)
    return [
        {"what": one.name, "batch": one.batch, **one.facts, "error": at}
        if isinstance(at, str)
        else _row(at, ready[0])
        for one, at in zip(contenders, tried, strict=True)
    ]


def _warmed(setting: Setting, one: Contender, seconds: float, warm: int) -> _Ready:
    with peak_memory(setting.device) as peak:
        run = one.make()
        start = seconds_of(lambda: run(1), setting.device)
        for _ in range(warm - 1):
            run(1)
        each = seconds_of(lambda: run(2), setting.device) / 2
        times = max(1, round(seconds / max(each, 1e-6)))
        return _Ready(one, run, times, start, peak())


def _row(at: _Ready, first: _Ready) -> dict[str, Any]:
    ratios = [mine / theirs for mine, theirs in zip(at.rates, first.rates, strict=True)]
    return {
        "what": at.one.name,
        "batch": at.one.batch,
        **at.one.facts,
        "n": len(at.rates),
        "images_s": statistics.median(at.rates),
        "least": min(at.rates),
        "most": max(at.rates),
        "ratio": statistics.median(ratios),
        "start_s": at.start,
        "peak_GiB": at.peak,
    }


def matmul_peak(
    device: torch.device, dtype: torch.dtype, size: int, rounds: int = 10
) -> dict[str, Any]:
    """TFLOP/s of products of random ``(size, size)`` matrices: 2 ``size``^3 operations each."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    found = [
        2 * size**3 * 4 / seconds_of(lambda: [a @ b for _ in range(4)], device) / 1e12
        for _ in range(rounds)
    ]
    return {"n": rounds, "TFLOP_s": statistics.median(found), "least": min(found),
            "most": max(found)}  # fmt: skip


def published_peak(device: torch.device) -> float | None:
    """The dense bf16 TFLOP/s that NVIDIA publishes for the card, if known here."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    known = (
        peak
        for start, peak in PUBLISHED.items()
        if f"{name} ".startswith((f"{start} ", f"{start}-"))
    )
    return next(known, None)
