"""Patterns of names with braces: ``shard-{000..099}.tar``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

from resnetkit.errors import InputError

#: Maximum number of paths from one pattern.
_MAX_BRACES = 1_000_000


def braces(pattern: str) -> Iterator[str]:
    """``a{00..11}`` as ``a00`` to ``a11``, ``{a,b}`` as ``a`` and ``b``; all combinations."""
    parts: list[list[str]] = []
    count = 1
    for number, part in enumerate(re.split(r"\{([^{}]*(?:\.\.|,)[^{}]*)\}", pattern)):
        if number % 2 == 0:
            parts.append([part])
            continue
        first = re.fullmatch(r"(\d+)\.\.(\d+)", part)
        if first is None:
            choices = part.split(",")
        else:
            low, high = first.groups()
            width = len(low) if low.startswith("0") else 0
            if int(high) - int(low) >= _MAX_BRACES:
                raise InputError(f"{pattern} stands for more than {_MAX_BRACES:,} paths")
            choices = [f"{value:0{width}}" for value in range(int(low), int(high) + 1)]
        count *= len(choices)
        parts.append(choices)
    if count > _MAX_BRACES:
        raise InputError(f"{pattern} stands for more than {_MAX_BRACES:,} paths")
    return map("".join, product(*parts))
