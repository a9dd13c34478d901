"""Keeps freed memory in the allocator between steps, or returns it to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

#: ``malloc.h`` of the GNU C library: parameters of ``mallopt`` and their defaults.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _TOP_PAD: 128 * 1024, _MMAP_MAX: 65536}
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 << 20, _MMAP_MAX: 0}


@contextmanager
def keep_memory() -> Iterator[None]:
    """Keep freed memory in the process within this context.

    Each step frees and allocates the same activations, gigabytes for ResNet-50; by default they get
    new pages, which the system has to clear. Does nothing without the GNU C library. Unused memory
    is returned at the end.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    for parameter, value in _KEEPING.items():
        mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _DEFAULTS.items():
            mallopt(parameter, value)
        return_memory()


def return_memory() -> None:
    """Return memory freed but kept by the GNU C library to the system."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
