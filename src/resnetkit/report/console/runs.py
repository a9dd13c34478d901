"""Prints runs side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from resnetkit.errors import printable
from resnetkit.report.console.fitting import fitted, terminal_width
from resnetkit.report.console.lines import as_chosen, percent, say
from resnetkit.report.console.progress import clock
from resnetkit.training.run_comparison import Ran, Runs


def show_runs(runs: Runs) -> None:
    """Print one line per run, best first, with the settings that differ."""
    for style, line in _lines(runs, terminal_width()):
        say(line, style)


def runs_text(runs: Runs) -> str:
    """The same as plain text."""
    return "\n".join(line for _, line in _lines(runs, None))


def _lines(runs: Runs, width: int | None) -> Iterator[tuple[str, str]]:
    differences = runs.differences()
    heads = ("run", "validation", "test", "epochs", "time", "state", *differences)
    rows = [
        (*cells(run), *(as_chosen(values[number]) for values in differences.values()))
        for number, run in enumerate(runs.runs)
    ]
    # Settings that do not fit are left out first, the last first.
    table = fitted(
        [heads, *rows],
        {0, *range(5, len(heads))},
        width,
        wraps={0, *range(6, len(heads))},
        expendable=(*reversed(tuple(differences)), "state", "time", "epochs", "test"),
    )
    for number, row in enumerate(table.rows):
        yield from (("" if number else "bold", line) for line in row)
    yield from (("", line) for line in table.notes)
    if len(runs.runs) > 1:
        same = "" if differences else "; their recipes are the same"
        yield from (("", ""), ("", f"{len(runs.runs)} runs by validation accuracy{same}"))


def tell_damaged(runs: Runs) -> None:
    """List unreadable runs on stderr."""
    for name, reason in runs.damaged.items():
        print(f"resnetkit: skipped {printable(name)}: {printable(reason)}", file=sys.stderr)


def cells(run: Ran) -> tuple[str, ...]:
    """Name, accuracies, epochs, time and state of a run."""
    return (
        printable(run.name),
        percent(run.validation),
        percent(run.test),
        f"{run.done}/{run.recipe.epochs}",
        clock(run.seconds),
        "finished" if run.finished else "unfinished",
    )
