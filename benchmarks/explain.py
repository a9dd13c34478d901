"""How long `resnetkit explain` takes, cold, against torchinfo on the torchvision module.

Both are whole processes started in turn, so that a slow moment of the machine meets both.

    .venv/bin/python benchmarks/explain.py [--runs 15]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import statistics
import subprocess
import sys
import time
from datetime import date

OURS = [sys.executable, "-m", "resnetkit", "explain", "resnet50", "--level", "layer"]
THEIRS = [
    sys.executable,
    "-c",
    "import torchinfo, torchvision; "
    "print(torchinfo.summary(torchvision.models.resnet50(), (1, 3, 224, 224), depth=4))",
]


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    for command in (OURS, THEIRS):
        seconds(command)  # once, so that both find their files in the page cache
    pairs = [(seconds(OURS), seconds(THEIRS)) for _ in range(runs)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(their / our for our, their in pairs)
    packages = ("torch", "torchvision", "torchinfo")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(f"{date.today()}, {processor()}, Python {platform.python_version()}, {versions}")
    print(f"n = {runs} pairs of whole processes, in turn")
    print(f"resnetkit explain resnet50:        median {ours:.3f} s")
    print(f"torchvision + torchinfo.summary:   median {theirs:.3f} s")
    print(f"torchinfo / resnetkit:             median ratio {ratio:.1f}")


def processor() -> str:
    """The processor's name, as Linux tells it."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}"


if __name__ == "__main__":
    main()
