"""Chooses batch size and streams by a cached measurement."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from resnetkit.errors import InputError, parsed
from resnetkit.files import cache_folder, write_text
from resnetkit.inference.engines.engine import Engine, Pixels, available

#: Batch sizes, tried while they get faster.
SIZES = (1, 4, 8, 16, 32, 64)
#: Minimum seconds and batches of a measurement, and minimum speedup of the next size.
SECONDS, BATCHES, GAIN = 0.3, 3, 1.02
#: Instruction sets relevant to inference, by their Linux and usual names.
INSTRUCTIONS = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx_vnni": "AVX-VNNI", "avx512_vnni": "VNNI",
    "avx512_bf16": "BF16", "amx_int8": "AMX", "asimddp": "dot products", "bf16": "BF16",
}  # fmt: skip
#: Larger batches are not tried after one that takes longer, in seconds.
LONGEST = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Batch size, and number of concurrent batches."""

    batch: int
    streams: int


def tuned(
    engine: Engine, shape: tuple[int, int, int], model: str, sizes: tuple[int, ...] = SIZES
) -> int:
    """The fastest of some batch sizes for images of ``shape`` ``(H, W, C)``; also sets
    ``engine.streams``.

    ``model`` identifies the model. Measurements are cached in ``probes/``, by machine, model and
    engine. A cache that cannot be read or written is ignored.
    """
    what = {"machine": machine(), "model": model, "shape": shape, "engine": engine.to_dict()}
    if sizes != SIZES:
        what["sizes"] = sizes
    text = json.dumps(what, sort_keys=True, default=str)
    name = hashlib.sha256(text.encode()).hexdigest()[:24]
    path = cache_folder() / "probes" / f"{name}.json"
    best = _remembered(path, engine, sizes)
    if best is None:
        rates = measured(engine, shape, sizes)
        best = max(rates, key=lambda pace: rates[pace])
        rows = [{**asdict(pace), "images_per_second": rate} for pace, rate in rates.items()]
        document = {**what, "measured": rows, "fastest": asdict(best)}
        with suppress(OSError, InputError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(document, default=str))
    engine.streams = best.streams
    return best.batch


def _remembered(path: Path, engine: Engine, sizes: tuple[int, ...]) -> Pace | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = Pace(**parsed(path.read_bytes())["fastest"])
        if known.batch in sizes and known.streams in engine.ways:
            return known
    return None


def measured(
    engine: Engine, shape: tuple[int, int, int], sizes: tuple[int, ...] = SIZES
) -> dict[Pace, float]:
    """Images per second for each tried batch size, with each number of streams."""
    rates: dict[Pace, float] = {}
    for streams in engine.ways:
        engine.streams = streams
        best = 0.0
        for size in sizes:
            rate = _rate(engine, np.zeros((size, *shape), np.uint8))
            rates[Pace(batch=size, streams=streams)] = rate
            if rate < GAIN * best or size > LONGEST * rate:
                break
            best = max(best, rate)
    return rates


def _rate(engine: Engine, batch: Pixels) -> float:
    """Measure batches as in prediction, with overlapping requests."""
    # The first batch of a shape is slow: memory is allocated, kernels are selected.
    for _ in engine.infer_batches(repeat(batch, engine.streams + 1)):
        pass
    began, count = time.perf_counter(), 0
    for _ in engine.infer_batches(repeat(batch)):
        count += 1
        seconds = time.perf_counter() - began
        if count >= BATCHES and seconds >= SECONDS:
            break
    return len(batch) * count / seconds


def machine(root: Path = Path("/")) -> dict[str, Any]:
    """Identifies the machine that a measurement is valid for.

    CPUs of virtual machines may share a name and differ several times in speed, so the relevant
    instruction sets are included.
    """
    name, flags = platform.processor() or platform.machine(), set[str]()
    with suppress(OSError):
        for line in (root / "proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags.update(value.split())
    sets = [title for flag, title in INSTRUCTIONS.items() if flag in flags]
    return {
        "processor": f"{name} ({', '.join(sets)})" if sets else name,
        "threads": available(),
        "system": platform.system(),
    }
