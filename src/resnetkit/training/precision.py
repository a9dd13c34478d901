"""Chooses the training precision by a cached measurement."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from contextlib import suppress

import torch
from torch import Tensor

from resnetkit.errors import InputError, parsed
from resnetkit.files import cache_folder, write_text
from resnetkit.inference.engines.autotune import machine
from resnetkit.training.recipe.option_groups import Precision
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.step.dry_run import DryRun

#: Minimum speedup to choose bf16: its 8 bits per activation cost small networks accuracy (digits,
#: mean of 6 seeds: 99.16 %, and 99.54 % in float32).
GAIN = 1.5
#: Maximum number of images of a CPU's measured step at 224 pixels, scaled by the inverse area for
#: other sizes; measured steps; warm-up steps.
IMAGES, STEPS, WARM = 32, 5, 2
#: CPU capabilities that emulate bf16 in float32, which is several times slower.
_SLOW = ("DEFAULT", "NO AVX", "AVX2")


def settled(recipe: Recipe) -> Recipe:
    """``recipe`` with ``auto`` precision replaced.

    If the device has bf16, steps of the recipe are timed alternately in both. Measurements are
    cached in ``probes/`` by machine, torch, network, size and batch. A cache that cannot be read or
    written is ignored.
    """
    if recipe.runtime.precision != "auto":
        return recipe
    if not has_bf16(recipe.runtime.device):
        return recipe.override(precision="fp32")
    what = {
        "machine": machine(),
        "torch": str(torch.__version__),
        "device": _name_of(recipe.runtime.device),
        "network": recipe.network.to_dict(),
        "size": recipe.largest_size,
        "images": _images(recipe),
        "compile": recipe.runtime.compile,
        "threads": recipe.runtime.threads or torch.get_num_threads(),
    }
    text = json.dumps(what, sort_keys=True)
    path = cache_folder() / "probes" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = parsed(path.read_bytes())["precision"]
        if known in ("fp32", "bf16"):
            return recipe.override(precision=known)
    seconds = probed(recipe)
    best: Precision = "bf16" if seconds["fp32"] > GAIN * seconds["bf16"] else "fp32"
    if not all(map(math.isfinite, seconds.values())):
        # The memory may have been in use by others.
        return recipe.override(precision=best)
    with suppress(OSError, InputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({**what, "seconds": seconds, "precision": best}))
    return recipe.override(precision=best)


def has_bf16(device: str) -> bool:
    """Whether bf16 may be faster than float32 on it."""
    kind = torch.device(device).type
    if kind == "cuda":
        # Older GPUs emulate it, which is slower.
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cpu" and torch.backends.cpu.get_cpu_capability() not in _SLOW


def probed(recipe: Recipe) -> dict[str, float]:
    """The median seconds of a step in both precisions, alternating; infinite if it does not fit
    into the GPU's memory."""
    tried = DryRun(recipe)
    inputs = tried.inputs(_images(recipe))
    found: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for number in range(WARM + STEPS):
        for precision, times in found.items():
            seconds = _seconds(tried, inputs, bf16=precision == "bf16")
            if number >= WARM:
                times.append(seconds)
    return {precision: statistics.median(times) for precision, times in found.items()}


def _seconds(tried: DryRun, inputs: tuple[Tensor, Tensor], *, bf16: bool) -> float:
    began = time.perf_counter()
    try:
        tried.step(inputs, bf16=bf16)
    except torch.OutOfMemoryError:
        return math.inf
    return time.perf_counter() - began


def _images(recipe: Recipe) -> int:
    """The batch size; on a CPU limited to keep the probe short.

    A GPU's speed in small batches is that of launching its kernels, in any precision.
    """
    if torch.device(recipe.runtime.device).type == "cuda":
        return recipe.batch_size
    return min(recipe.batch_size, max(IMAGES, IMAGES * 224**2 // recipe.largest_size**2))


def _name_of(device: str) -> str:
    place = torch.device(device)
    return torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
