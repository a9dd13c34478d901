"""Training on a GPU: the same bits in every run, and one line when its memory is full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from resnetkit.errors import InputError
from resnetkit.inference.engines.torch import is_out_of_memory
from resnetkit.training.recipe.recipe import Recipe


@contextmanager
def reproducible(recipe: Recipe) -> Iterator[None]:
    """Within it, a GPU computes the same bits every time if the recipe is ``deterministic``; else
    cuDNN measures which algorithm is the fastest. Nothing changes on other devices.

    torch warns of operations that have no deterministic algorithm.
    """
    if torch.device(recipe.runtime.device).type != "cuda":
        yield
        return
    exact = recipe.runtime.deterministic
    cudnn: Any = torch.backends.cudnn
    other: Any = torch.utils.deterministic
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    flags = cudnn.deterministic, cudnn.benchmark, other.fill_uninitialized_memory
    # Read when cuBLAS is first used (NVIDIA's documentation, "Results reproducibility").
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        torch.use_deterministic_algorithms(exact, warn_only=True)
        cudnn.deterministic, cudnn.benchmark = exact, not exact
        # A guard against reading memory that was never written; costs time.
        other.fill_uninitialized_memory = False
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark, other.fill_uninitialized_memory = flags


@contextmanager
def within_memory(recipe: Recipe) -> Iterator[None]:
    """Raise ``InputError`` where a step finds too little memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(_advice(recipe), field=("batch_size", "grad_accum_steps")) from None


def _advice(recipe: Recipe) -> str:
    device, batch = torch.device(recipe.runtime.device), recipe.batch_size
    where = "the memory"
    if device.type == "cuda" and torch.cuda.is_available():
        free, total = (bytes_ / (1 << 30) for bytes_ in torch.cuda.mem_get_info(device))
        held = torch.cuda.memory_allocated(device) / (1 << 30)
        where = (
            f"the memory of {torch.cuda.get_device_name(device)} ({total:.1f} GiB; {held:.1f} are "
            f"held by this process, {free:.1f} are free)"
        )
    parts = 2 * recipe.optimizer.grad_accum_steps
    less = f"batch_size={max(2, batch // 2)}"
    if parts <= batch // 2:
        less = f"grad_accum_steps={parts}, {less}"
    return (
        f"batch_size is {batch} at {recipe.largest_size} pixels, which does not fit into {where}; "
        f"give {less}, or batch_size='auto', which measures the largest that fits"
    )
