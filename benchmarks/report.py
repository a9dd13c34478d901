"""What the page of a run costs: the seconds of writing it after an epoch, against that epoch's.

.venv/bin/python benchmarks/report.py [--epochs 10] [--model resnet20]

Both are of the same run, one after the other. Seconds by the clock, and of the processor, which
other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path

import torch

from resnetkit.inference.engines.autotune import machine
from resnetkit.report.callbacks.live_report import Reported
from resnetkit.training.callbacks import Callback
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import run_recipe


class Timed(Reported):
    """Keeps the seconds of each epoch and of its page."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Callback())
        self.pages: list[tuple[float, float]] = []
        self.epochs: list[tuple[float, float]] = []
        self.last = _now()

    def epoch(self, row: EpochLog) -> None:
        began = _now()
        self.epochs.append(_since(self.last, began))
        super().epoch(row)
        self.last = _now()
        self.pages.append(_since(began, self.last))


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float], ended: tuple[float, float]) -> tuple[float, float]:
    return ended[0] - began[0], ended[1] - began[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--model", default="resnet20")
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    facts = machine()
    print(f"{date.today()}, {facts['processor']}, {facts['threads']} threads, "
          f"torch {torch.__version__}")  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        timed = Timed(folder)
        result = run_recipe(make_recipe("digits", args.model, epochs=args.epochs), folder, timed)
        began = time.perf_counter()
        timed.finish(result)
        end = time.perf_counter() - began
        size = (folder / "report.html").stat().st_size
    print(f"{args.model} on digits, n = {args.epochs} epochs, medians")
    for number, kind in enumerate(("clock", "processor")):
        page = statistics.median(pair[number] for pair in timed.pages)
        # The first begins before the images are read.
        epoch = statistics.median(pair[number] for pair in timed.epochs[1:])
        print(f"{kind}: an epoch {epoch:.2f} s, its page {1000 * page:.0f} ms, {page / epoch:.2%}")
    print(f"the last page, with test images: {end:.2f} s, {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
