"""Finds the batch size with the highest throughput."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from resnetkit.errors import InputError
from resnetkit.inference.engines.torch import is_out_of_memory
from resnetkit.training.precision import settled
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.step.allocator import return_memory
from resnetkit.training.step.dry_run import DryRun
from resnetkit.training.step.threads import threads

#: The smallest and the largest batch tried; larger ones leave too few steps to learn.
LEAST, MOST = 4, 2048
#: Minimum number of steps in an epoch, so that the norms' statistics keep up with the weights.
EPOCH = 8
#: Minimum speedup to prefer a larger batch; measured speeds vary by less.
GAIN = 1.05
#: Share of the memory reserved for images, fragmentation and the next step.
RESERVE = 0.2
#: Seconds for which a batch is measured, with a minimum of two steps.
_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A batch size and its training images per second; ``rate`` is None if it did not fit."""

    batch: int
    rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSizeResult:
    """The chosen ``batch``, the trials, and ``why`` it is no larger."""

    batch: int
    tried: tuple[Trial, ...]
    why: str


def find_batch_size(
    recipe: Recipe,
    images: int,
    *,
    available: int | None = None,
    on_progress: Callable[[Trial], None] = lambda _: None,
) -> BatchSizeResult:
    """The smallest batch size with nearly the highest throughput that fits into memory.

    Trains on noise with batches of 4, 8, 16, ... and the recipe's network, optimizer, precision and
    largest image size. Stops when an epoch of ``images`` would have fewer than eight steps, when a
    batch does not fit into ``available`` bytes less a reserve of 20 % (None: the free memory of the
    machine, container or GPU), or when two batches in a row were not 5 % faster than the best
    before. ``on_progress`` is called with each trial.

    Raises ``ValueError`` if not even the smallest fits.
    """
    most = min(MOST, images // EPOCH)
    tried: list[Trial] = []
    why = f"an epoch of {images} images must have {EPOCH} steps"
    with threads(recipe.runtime.threads):
        for trial in _trials(settled(recipe), most, available):
            tried.append(trial)
            on_progress(trial)
            if trial.rate is None:
                why = f"{trial.batch} do not fit into memory"
                break
            if _is_flat(tried):
                why = "larger ones are not faster"
                break
    rates = {t.batch: t.rate for t in tried if t.rate is not None}
    if not rates:
        raise InputError(
            f"not even a batch of {tried[0].batch} fits into memory; give a smaller size or "
            "network, or batch_size=2",
            field=("size", "batch_size"),
        )
    best = max(rates.values())
    batch = next(batch for batch, rate in rates.items() if rate * GAIN >= best)
    return BatchSizeResult(batch=batch, tried=tuple(tried), why=why)


def _is_flat(tried: list[Trial]) -> bool:
    """Whether the last two batches were no faster."""
    rates = [trial.rate or 0.0 for trial in tried]
    return len(rates) > 2 and max(rates[-2:]) < GAIN * max(rates[:-2])


def _trials(recipe: Recipe, most: int, available: int | None) -> Iterator[Trial]:
    """Try batches from the smallest on, up to the first that does not fit."""
    step = DryRun(recipe)
    memory = (
        _Gpu(recipe.runtime.device)
        if torch.device(recipe.runtime.device).type == "cuda"
        else _Processor()
    )
    free = memory.free() if available is None else available
    batch = LEAST
    while batch <= max(LEAST, most):
        # Memory is proportional to the batch: twice that of the last one.
        fits = 2 * memory.used() <= free * (1 - RESERVE)
        rate = _rate(step, batch) if fits else None
        if rate is not None and memory.used() > free * (1 - RESERVE):
            rate = None
        yield Trial(batch=batch, rate=rate)
        if rate is None:
            return
        batch *= 2


def _rate(step: DryRun, batch: int) -> float | None:
    """Images per second of the fastest step, as other processes only slow it down."""
    bf16 = step.recipe.runtime.precision == "bf16"
    try:
        inputs = step.inputs(batch)
        step.step(inputs, bf16=bf16)
        seconds: list[float] = []
        while len(seconds) < 2 or sum(seconds) < _SECONDS:
            began = time.perf_counter()
            step.step(inputs, bf16=bf16)
            seconds.append(time.perf_counter() - began)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise
    return batch / min(seconds)


class _Processor:
    """The memory of the machine, or of this process's container."""

    def __init__(self) -> None:
        # Memory left over from earlier work, e.g. the precision probe, would not be counted.
        return_memory()
        # 5 resets the peak (proc(5)); without it the peak may be older, which is safe.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")

    def free(self) -> int:
        """Bytes available without swapping."""
        return available_memory()

    def used(self) -> int:
        """Peak bytes of the largest batch so far."""
        return max(0, _status("VmHWM") - self._before)


class _Gpu:
    """The memory of a GPU."""

    def __init__(self, device: str) -> None:
        self._device = device
        # Memory kept from earlier work, e.g. the precision probe, would not be counted.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)

    def free(self) -> int:
        """Free bytes."""
        return int(torch.cuda.mem_get_info(self._device)[0])

    def used(self) -> int:
        """Peak bytes reserved by torch."""
        return int(torch.cuda.max_memory_reserved(self._device))


def available_memory(root: Path = Path("/")) -> int:
    """Bytes available to this process: on the machine, or within its container's limit.

    The minimum of ``MemAvailable`` in /proc/meminfo and, for each control group of this process
    (version 2 or 1), the limit less the usage without the file cache, which is reclaimable.
    ``root`` is the root of the file system.
    """
    found = [_field(root / "proc/meminfo", "MemAvailable")]
    for limit, used, stat, cache in _groups(root):
        most, now = _number(limit), _number(used)
        if most is not None and now is not None:
            found.append(max(0, most - now + (_field(stat, cache) or 0)))
    known = [number for number in found if number is not None]
    if not known:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min(known)


def _groups(root: Path) -> Iterator[tuple[Path, Path, Path, str]]:
    """Paths of each control group's limit, usage and statistics, and the cache's field."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, place = line.split(":", 2)
        if kinds not in ("", *(["memory"] if "memory" in kinds.split(",") else [])):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if kinds else "")
        # In a container the group is at the root, whatever its name outside.
        for above in (place.strip("/"), *map(str, Path(place.strip("/")).parents)):
            folder = base / above
            if kinds:
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            else:
                names = ("memory.max", "memory.current", "inactive_file")
            yield folder / names[0], folder / names[1], folder / "memory.stat", names[2]


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max": no limit
        return None


def _field(path: Path, name: str) -> int | None:
    """The value of a field, in bytes."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    for line in lines:
        found, *rest = line.replace(":", " ").split()
        if found == name:
            return int(rest[0]) * (1024 if rest[-1] == "kB" else 1)
    return None


def _status(name: str) -> int:
    return _field(Path("/proc/self/status"), name) or 0
