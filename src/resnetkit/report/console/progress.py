"""Progress: a bar on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from resnetkit.display import in_notebook
from resnetkit.report.console.notebook_bar import NotebookBar

T = TypeVar("T")
#: Seconds between plain lines; shorter work prints none.
INTERVAL = 15.0


def clock(seconds: float) -> str:
    """A time as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def track(items: Sequence[T], of: str = "images") -> Generator[T, None, None]:
    """Iterate the items, and show the progress as ``passing`` does."""
    with passing(lambda: len(items), of=of) as tell:
        for item in items:
            yield item
            tell()


@contextmanager
def passing(
    total: Callable[[], int | None], done: int = 0, of: str = "images"
) -> Iterator[Callable[[], None]]:
    """A function to call for each image, or what else there is ``of``; shows the rate and the
    remaining time, on stderr or in the notebook. ``total`` may be unknown at first; ``done`` of
    them were done before.
    """
    if in_notebook():
        yield from _in_notebook(total, done, of)
        return
    console = Console(stderr=True, highlight=False)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    began = last_line = time.perf_counter()
    count = done
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=total(), completed=done, rate="")

        def tell() -> None:
            nonlocal count, last_line
            count += 1
            now = time.perf_counter()
            if now - last_line < (0.1 if console.is_terminal else INTERVAL):
                return
            last_line, whole = now, total()
            text = _speed(count - done, None if whole is None else whole - count, now - began, of)
            progress.update(task, completed=count, total=whole, rate=text)
            if not console.is_terminal:
                whole_text = "" if whole is None else f" of {whole}"
                print(f"resnetkit: {count}{whole_text} {of}, {text}", file=sys.stderr)

        yield tell


def _speed(done: int, left: int | None, seconds: float, of: str) -> str:
    """``163 images/s, 0:12 left``."""
    rate = done / max(1e-9, seconds)
    text = f"{rate:.0f} {of}/s" if rate >= 1 else f"{1 / max(1e-9, rate):.1f} s each"
    return text if left is None else f"{text}, {clock(max(0, left) / rate)} left"


def _in_notebook(
    total: Callable[[], int | None], done: int, of: str
) -> Iterator[Callable[[], None]]:
    bar, began, count = NotebookBar(), time.perf_counter(), done

    def tell() -> None:
        nonlocal count
        count += 1
        whole = total()
        left = None if whole is None else whole - count
        whole_text = "" if whole is None else f" of {whole}"
        speed = _speed(count - done, left, time.perf_counter() - began, of)
        bar.show(count, whole, f"{count}{whole_text} {of}, {speed}")

    try:
        yield tell
    finally:
        seconds = time.perf_counter() - began
        speed = _speed(count - done, None, seconds, of)
        bar.close(f"{count} {of} in {clock(seconds)}, {speed}")


@contextmanager
def counted(total: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of newly done images, shown as by ``track``."""
    steps = track(range(total))

    def tell(count: int) -> None:
        for _ in range(count):
            next(steps, None)

    try:
        yield tell
    finally:
        steps.close()


@contextmanager
def transfer(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A function to call with the received and total bytes; shown on stderr.

    The rate counts from the first call, as a download may be resumed. The bar is shown from the
    first call until all bytes are received.
    """
    console = Console(stderr=True, highlight=False)
    began = last_line = time.perf_counter()
    first: int | None = None
    columns = (TextColumn(name), BarColumn(), TextColumn("{task.fields[text]}"))
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task("", total=None, text="")

    def tell(done: int, total: int | None) -> None:
        nonlocal began, last_line, first
        now = time.perf_counter()
        if first is None or done < first:
            began, first = now, done
            progress.start()
        rate = (done - first) / max(1e-9, now - began)
        text = _transferred(done, total, rate)
        progress.update(task, completed=done, total=total, text=text)
        if done == total:
            progress.stop()
        elif now - last_line > INTERVAL and not console.is_terminal:
            print(f"resnetkit: {name}: {text}", file=sys.stderr)
            last_line = now

    try:
        yield tell
    finally:
        progress.stop()


def _transferred(done: int, total: int | None, rate: float) -> str:
    """``12.0 of 97.8 MB, 5.1 MB/s, 0:17 left``; MB are millions of bytes."""
    size = f"{done / 1e6:.1f}" + (f" of {total / 1e6:.1f} MB" if total is not None else " MB")
    parts = [size, f"{rate / 1e6:.1f} MB/s"] if rate else [size]
    if rate and total is not None:
        parts.append(f"{clock((total - done) / rate)} left")
    return ", ".join(parts)
