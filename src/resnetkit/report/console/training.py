"""Prints training."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from resnetkit.data.datasets.dataset import Part
from resnetkit.display import in_notebook
from resnetkit.errors import printable
from resnetkit.report.console.lines import TRAINED_ON, between, percent, rule, say
from resnetkit.report.console.notebook_bar import NotebookBar
from resnetkit.report.console.progress import clock
from resnetkit.report.cost import Cost, Prices
from resnetkit.training.callbacks import Callback

if TYPE_CHECKING:  # training imports torch, which evaluation does not need
    from resnetkit.training.epoch_log import EpochLog
    from resnetkit.training.recipe.recipe import Recipe
    from resnetkit.training.result import Result

#: Seconds between plain lines within an epoch, without a terminal.
INTERVAL = 60.0


class Printed(Callback):
    """Prints a line for each epoch, and shows a bar with rate and remaining time.

    The bar is in the notebook or on the terminal; elsewhere, one line a minute replaces it. It and
    the warnings go to stderr; in a notebook, to stdout. The hours of cores or GPUs are shown for
    several processes, and where a price is given; they count from when this object is created.
    """

    def __init__(self, prices: Prices | None = None) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=8),
            TextColumn("{task.percentage:.0f} %"),
            TextColumn("{task.fields[score]}{task.fields[rate]}{task.fields[job]}"),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._console.is_terminal,
        )
        self._bar = NotebookBar() if in_notebook() else None
        self._task = TaskID(0)
        self._recipe: Recipe | None = None
        self._count = self._seen = self._total = 0
        self._score, self._last_line = "", time.perf_counter()
        self._began = 0.0
        self._processes = self._restarts = self._unreadable = 0
        self._prices, self._created = prices or Prices(), time.perf_counter()
        self._cost: Cost | None = None
        self._continues = False

    def __enter__(self) -> Printed:
        return self

    def __exit__(self, *reason: object) -> None:
        self._progress.stop()
        if self._bar is not None:
            self._bar.close()

    def warn(self, text: str) -> None:
        file = sys.stderr if self._bar is None else sys.stdout
        print(f"resnetkit: {printable(text)}", file=file)

    def start(
        self, recipe: Recipe, images: Mapping[Part, int], rows: list[EpochLog], done: int = 0
    ) -> None:
        network = recipe.network
        counts = ", ".join(f"{count} {part}" for part, count in images.items())
        say(
            f"{network.name}, {network.parameters:,} parameters, "
            f"{recipe.preprocess.size}x{recipe.preprocess.size} pixels, "
            f"{network.options.num_classes} classes",
            "bold",
        )
        say(f"images: {counts}")
        if rows or done:
            say(f"continuing in epoch {len(rows) + 1}, after {done} images of it")
        self._processes = int(os.environ.get("WORLD_SIZE", "1"))
        self._restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        self._continues = bool(rows or done or self._restarts)
        self._cost = self._prices.of_training(recipe, self._processes)
        self._recipe, self._count = recipe, images["train"]
        self._total = (recipe.epochs - len(rows)) * self._count - done
        self._began = self._last_line = time.perf_counter()
        self._progress.start()
        self._task = self._progress.add_task(
            "", total=self._count, completed=done, epoch=len(rows) + 1, score="", rate="", job=""
        )

    def so_far(self, loss: float, accuracy: float, waited: float = 0.0) -> None:
        self._score = f"loss {loss:.3f}  accuracy {100 * accuracy:.1f} %  wait {waited:.0%}  "

    def images(self, count: int) -> None:
        self._seen += count
        rate, job = self._rate(), self._job()
        self._progress.update(self._task, advance=count, score=self._score, rate=rate, job=job)
        now, task = time.perf_counter(), self._progress.tasks[0]
        if self._bar is not None:
            text = f"epoch {task.fields['epoch']}  {self._score}{rate}{job}"
            self._bar.show(task.completed, self._count, text)
        elif not self._console.is_terminal and now - self._last_line > INTERVAL:
            self._last_line = now
            print(
                f"resnetkit: epoch {task.fields['epoch']}: {task.completed:.0f} of {self._count} "
                f"images  {self._score}{rate}{job}",
                file=sys.stderr,
            )

    def unreadable(self, count: int) -> None:
        self._unreadable = count

    def epoch(self, row: EpochLog) -> None:
        assert self._recipe is not None
        validated = row.validation_loss is not None
        line = (
            f"epoch {row.epoch:>{len(str(self._recipe.epochs))}}/{self._recipe.epochs}"
            f"  loss {row.loss:.4f}  accuracy {percent(row.accuracy):>8}"
        )
        if validated:
            line += (
                f"  validation loss {row.validation_loss:.4f}"
                f"  accuracy {percent(row.validation_accuracy):>8}"
            )
        if self._bar is None:  # a cell is narrow, and its bar has the rate
            line += f"  lr {row.lr:.4f}  data wait {row.waited:.0%}  {self._rate()}"
        best = row.best and validated
        self._line(f"{line}{'  best' if best else ''}", "green" if best else "")
        self._last_line = time.perf_counter()
        if row.epoch == self._recipe.epochs:
            self._progress.stop()
        rate, job = self._rate(), self._job()
        # It replaces all of the fields.
        self._progress.reset(
            self._task, total=self._count, epoch=row.epoch + 1, score="", rate=rate, job=job
        )

    def _line(self, text: str, style: str) -> None:
        """Print a line above the bar if both are on one terminal, else on stdout."""
        if self._console.is_terminal and sys.stdout.isatty():
            self._console.print(Text(text, style=style), soft_wrap=True)
        else:
            say(text, style)

    def _rate(self) -> str:
        """Images per second and the remaining time, including validation."""
        rate = self._seen / max(1e-9, time.perf_counter() - self._began)
        return f"{rate:.0f} images/s, {clock((self._total - self._seen) / max(rate, 1e-9))} left"

    def _job(self) -> str:
        """Processes, restarts and unreadable images, where there are several or any, and hours."""
        counts = (
            ("processes", self._processes, 2),
            ("restarts", self._restarts, 1),
            ("unreadable", self._unreadable, 1),
        )
        words = [f"{word} {count}" for word, count, least in counts if count >= least]
        return "".join(f"  {word}" for word in [*words, *self._hours()])

    def _hours(self) -> list[str]:
        if self._cost is None or (self._processes == 1 and self._cost.price is None):
            return []
        return [self._cost.text(time.perf_counter() - self._created)]

    def show_cost(self) -> None:
        """Print the hours of this start, if the live line has them."""
        since, more = ("this", "; earlier ones not counted") if self._continues else ("the", "")
        for hours in self._hours():
            say(f"{clock(time.perf_counter() - self._created)} since {since} start, {hours}{more}")


def show_result(result: Result) -> None:
    """Print the result of a finished run."""
    best = result.best
    if best.validation_accuracy is None:
        say(f"kept: epoch {best.epoch}, {rule(result.rows)}", "bold")
    else:
        accuracy = percent(best.validation_accuracy)
        say(f"best: epoch {best.epoch}, validation accuracy {accuracy}", "bold")
        say(f"kept as {rule(result.rows)}")
    if result.part == "train":
        say(f"accuracy {percent(result.evaluation.accuracy)}, measured on {TRAINED_ON}")
    if result.test is not None:
        right = round(result.test.accuracy * result.test.images)
        share = f"{right} of {result.test.images} images"
        seen = f"{share}, {result.copies} of which are copies of training images"
        say(
            f"test accuracy {percent(result.test.accuracy)} "
            f"({seen if result.copies else f'{share} that took no part in training'}; "
            f"{between(result.test.accuracy_interval)} at 95 %)",
            "bold green",
        )
    if len(result.rows) < result.recipe.epochs:
        say(
            f"ended after {len(result.rows)} of {result.recipe.epochs} epochs: none of the last "
            f"{result.recipe.schedule.patience} was the best"
        )
    seconds = sum(row.seconds for row in result.rows)
    waited = sum(row.seconds * row.waited for row in result.rows) / max(seconds, 1e-9)
    say(
        f"{len(result.rows)} epochs in {clock(seconds)}, {seconds / len(result.rows):.1f} s each, "
        f"{waited:.0%} of it waiting for data"
    )
    say(f"written to {result.folder}: {', '.join(sorted(p.name for p in result.folder.iterdir()))}")
