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
def held_on() -> Iterator[None]:
    """Within it, the process does not give freed memory back to the system.

    A step frees and allots the same activations again and again, gigabytes of ResNet-50's; by
    default each of them comes as new pages, which the system has to clear. Without the GNU C
    library it does nothing. What is left over is given back at the end.
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
        give_back()


def give_back() -> None:
    """Give freed memory back to the system, where the GNU C library has kept it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
