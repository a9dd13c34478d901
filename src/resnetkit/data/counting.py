"""How many images there are, counted beside the work: listing millions takes a while."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from resnetkit.data.listing import SHARDS, STANDARD_INPUT, walk


def counted(paths: Sequence[str]) -> Callable[[], int | None]:
    """A function that says how many images ``paths`` stand for, as soon as it is known.

    Never for shards and standard input, which are read only once.
    """
    total: list[int] = []

    def count() -> None:
        total.append(sum(sum(1 for _ in walk(p)) if os.path.isdir(p) else 1 for p in paths))

    if not any(p == STANDARD_INPUT or p.lower().endswith(SHARDS) for p in paths):
        threading.Thread(target=count, name="counter", daemon=True).start()
    return lambda: total[0] if total else None
