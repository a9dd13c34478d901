"""How far long work is: a bar on a terminal, a plain line now and then where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

T = TypeVar("T")
#: Seconds between two plain lines; work that is done sooner prints none.
INTERVAL = 15.0


def clock(seconds: float) -> str:
    """A time as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def track(items: Iterable[T], total: int) -> Iterator[T]:
    """The items as they come; how many of ``total`` images have passed is told on stderr."""
    console = Console(stderr=True, highlight=False)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    began = told = time.perf_counter()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=total, rate="")
        for count, item in enumerate(items, start=1):
            yield item
            now = time.perf_counter()
            rate = count / max(1e-9, now - began)
            text = f"{rate:.0f} images/s, {clock((total - count) / rate)} left"
            progress.update(task, completed=count, rate=text)
            if now - told > INTERVAL and not console.is_terminal:
                print(f"resnetkit: {count} of {total} images, {text}", file=sys.stderr)
                told = now
