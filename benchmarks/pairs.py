"""Two Python programs as whole processes, started in turn, so that a slow moment meets both."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date

from resnetkit.inference.engines.autotune import machine

#: What is printed of a program, and the arguments that Python is started with.
Program = tuple[str, list[str]]


def compare(ours: Program, theirs: Program, *, runs: int, packages: Sequence[str]) -> None:
    """Print both medians and the median of the ratios, with date, machine and versions."""
    for _, arguments in (ours, theirs):
        seconds(arguments)  # once, so that both find their files in the page cache
    pairs = [(seconds(ours[1]), seconds(theirs[1])) for _ in range(runs)]
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    ratio = statistics.median(their / our for our, their in pairs)
    print(
        f"{date.today()}, {processor()}, Python {platform.python_version()}, {versions(packages)}"
    )
    print(f"n = {runs} pairs of whole processes, in turn")
    width = max(len(ours[0]), len(theirs[0]))
    for (name, _), median in zip((ours, theirs), medians, strict=True):
        print(f"{name:<{width}}  median {median:.3f} s")
    print(f"median ratio {ratio:.1f}")


def seconds(arguments: list[str]) -> float:
    """The time of one process, from start to end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def versions(packages: Sequence[str]) -> str:
    """The packages with their versions."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def processor() -> str:
    """How many cores of which processor, with its instruction sets."""
    facts = machine()
    return f"{facts['threads']} cores of {facts['processor']}"
