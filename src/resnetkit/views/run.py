"""A run and an evaluation: lines on the terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from resnetkit.architecture.text import aligned
from resnetkit.evaluation import ClassFigures, Measurement
from resnetkit.images.sources import Part
from resnetkit.training.log import Row
from resnetkit.training.recipe import Recipe
from resnetkit.training.run import Result, Watch
from resnetkit.trial import Candidate, Trial
from resnetkit.views.progress import clock


def percent(share: float | None) -> str:
    """A share from 0 to 1 as people read it; a dash for none."""
    return "-" if share is None else f"{100 * share:.2f} %"


class Printed(Watch):
    """Prints a line for each epoch, and on a terminal a bar with rate and remaining time.

    The bar and the warnings go to stderr.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._console.is_terminal,
        )
        self._task = TaskID(0)
        self._recipe: Recipe | None = None
        self._count = self._seen = self._total = 0
        self._began = 0.0

    def __enter__(self) -> Printed:
        return self

    def __exit__(self, *reason: object) -> None:
        self._progress.stop()

    def warn(self, text: str) -> None:
        print(f"resnetkit: {text}", file=sys.stderr)

    def start(self, recipe: Recipe, images: Mapping[Part, int], rows: list[Row]) -> None:
        network = recipe.network
        counts = ", ".join(f"{count} {part}" for part, count in images.items())
        say(
            f"{network.name}, {network.parameters:,} parameters, "
            f"{recipe.preprocess.size}x{recipe.preprocess.size} pixels, "
            f"{network.options.classes} classes",
            "bold",
        )
        say(f"images: {counts}")
        if rows:
            say(f"continuing after epoch {rows[-1].epoch}")
        self._recipe, self._count = recipe, images["train"]
        self._total = (recipe.epochs - len(rows)) * self._count
        self._began = time.perf_counter()
        self._progress.start()
        self._task = self._progress.add_task("", total=self._count, epoch=len(rows) + 1, rate="")

    def images(self, count: int) -> None:
        self._seen += count
        self._progress.update(self._task, advance=count, rate=self._rate())

    def epoch(self, row: Row) -> None:
        assert self._recipe is not None
        line = (
            f"epoch {row.epoch:>{len(str(self._recipe.epochs))}}/{self._recipe.epochs}"
            f"  loss {row.loss:.4f}  accuracy {percent(row.accuracy):>8}"
            f"  validation loss {row.validation_loss:.4f}"
            f"  accuracy {percent(row.validation_accuracy):>8}  lr {row.lr:.4f}  {self._rate()}"
        )
        self._line(f"{line}{'  best' if row.best else ''}", "green" if row.best else "")
        self._progress.reset(self._task, total=self._count, epoch=row.epoch + 1, rate=self._rate())

    def _line(self, text: str, style: str) -> None:
        """A line above the bar where both are on one terminal, else on stdout as ever."""
        if self._console.is_terminal and sys.stdout.isatty():
            self._console.print(Text(text, style=style), soft_wrap=True)
        else:
            say(text, style)

    def _rate(self) -> str:
        """Images a second and the time that is left, validation included."""
        rate = self._seen / max(1e-9, time.perf_counter() - self._began)
        return f"{rate:.0f} images/s, {clock((self._total - self._seen) / max(rate, 1e-9))} left"


def say(text: str, style: str = "", file: IO[str] | None = None) -> None:
    """Print a line, styled on a terminal."""
    file = file or sys.stdout
    if file.isatty() or os.environ.get("FORCE_COLOR"):
        Console(file=file, highlight=False, soft_wrap=True).print(Text(text, style=style))
    else:
        print(text, file=file, flush=True)


def show_result(result: Result) -> None:
    """What a finished run has come to."""
    best = result.best
    say(
        f"best: epoch {best.epoch}, validation accuracy {percent(best.validation_accuracy)}", "bold"
    )
    if result.test is not None:
        right = round(result.test.accuracy * result.test.images)
        say(
            f"test accuracy {percent(result.test.accuracy)} "
            f"({right} of {result.test.images} images that took no part in training)",
            "bold green",
        )
    say(f"written to {result.folder}: {', '.join(sorted(p.name for p in result.folder.iterdir()))}")


def show_measurement(measurement: Measurement, matrix: int = 20) -> None:
    """The figures of an evaluation; the confusion matrix as well up to ``matrix`` classes."""
    evaluation = measurement.evaluation
    say(f"{measurement.title}: {evaluation.images} images", "bold")
    say(f"accuracy {percent(evaluation.accuracy)}", "bold green")
    if evaluation.top5 is not None:
        say(f"top-5 accuracy {percent(evaluation.top5)}")
    say(f"loss {evaluation.loss:.4f}")
    say("")
    heads = ("class", "precision", "recall", "F1", "images")
    _table(aligned([heads, *map(_figures, evaluation.classes)], left={0}))
    if len(evaluation.names) <= matrix:
        say("")
        say("confusion: rows are the true classes, columns the predicted ones")
        rows = zip(evaluation.names, evaluation.confusion.tolist(), strict=True)
        grid = [("", *evaluation.names), *((name, *map(str, row)) for name, row in rows)]
        _table(aligned(grid, left={0}))


def show_trial(trial: Trial) -> None:
    """The candidates of a trial, best first, and whether the best is the right one."""
    say(f"{trial.file} on {trial.data} ({trial.part}): {trial.images} images", "bold")
    if trial.in_order:
        say("the file has no class names: the data's are taken in alphabetical order")
    heads = (*trial.candidates[0].facts, "accuracy", "loss")
    rows = [
        (*map(str, c.facts.values()), percent(c.accuracy), f"{c.loss:.4f}")
        for c in trial.candidates
    ]
    _table(aligned([heads, *rows], left=set(range(len(heads) - 2))))
    best, second = (_facts(candidate) for candidate in trial.candidates[:2])
    if trial.is_sure:
        say(f"{best}: {second} does so much worse by chance with p = {trial.chance:.1g}", "green")
    else:
        say(
            f"these images do not tell {best} from {second} (p = {trial.chance:.2g}); give more, "
            "or other ones"
        )


def _facts(candidate: Candidate) -> str:
    return ", ".join(f"{name} {value}" for name, value in candidate.facts.items())


def tell_unreadable(name: str, reason: str) -> None:
    """Name on stderr an image that is skipped."""
    print(f"resnetkit: skipped {name}: {reason}", file=sys.stderr)


def tell_trained_on(names: Sequence[str]) -> None:
    """Warn on stderr that measured images were trained on."""
    if names:
        text = f"{len(names)} of the measured images were trained on, e.g. {names[0]}"
        print(f"resnetkit: {text}; the accuracy looks better than it is", file=sys.stderr)


def _figures(row: ClassFigures) -> tuple[str, ...]:
    shares = (percent(row.precision), percent(row.recall), percent(row.f1))
    return row.name, *shares, str(row.support)


def _table(lines: list[str]) -> None:
    head, *rest = lines
    say(head, "bold")
    for line in rest:
        say(line)
