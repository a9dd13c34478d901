"""A finished run, and runs side by side, in a notebook."""

from __future__ import annotations

from pathlib import Path

from resnetkit.report.console.lines import TRAINED_ON, as_chosen, percent
from resnetkit.report.console.progress import clock
from resnetkit.report.console.runs import cells
from resnetkit.report.notebook import evaluations
from resnetkit.report.notebook.view import Table, View, tables
from resnetkit.report.pages.run_page import title_of, trained, training_curves
from resnetkit.training.result import Result
from resnetkit.training.run_comparison import Runs


def result(shown: Result) -> View:
    """The curves, and the evaluation of the best weights."""
    rows = shown.rows
    parts = evaluations.parts(shown.evaluation, shown.part)
    parts["figures"] += trained(rows, len(rows))
    counts = ", ".join(f"{count:,} {part}" for part, count in shown.counts.items())
    copies = f"{shown.copies} of the {shown.part} images are copies of training images"
    return View(
        name="run",
        heading=f"{title_of(shown.recipe)}: {_number(len(rows), 'epoch')}",
        about=f"images: {counts}; written to {shown.folder.resolve().name}",
        values=parts
        | {
            "curves": training_curves(rows, len(rows)),
            "validated": any(row.validation_loss is not None for row in rows),
            "epochs": _epochs(shown),
            "warning": f"measured on {TRAINED_ON}" if shown.part == "train" else None,
            "notes": [copies] if shown.copies else [],
        },
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what if count == 1 else what + 's'}"


def _epochs(shown: Result) -> Table:
    heads = ("epoch", "loss", "accuracy", "validation loss", "validation accuracy", "learning rate",
             "time", "")  # fmt: skip
    rows = [
        (
            str(row.epoch),
            f"{row.loss:.4f}",
            percent(row.accuracy),
            "-" if row.validation_loss is None else f"{row.validation_loss:.4f}",
            percent(row.validation_accuracy),
            f"{row.lr:.3g}",
            clock(row.seconds),
            "kept" if row is shown.best else "",
        )
        for row in shown.rows
    ]
    return Table(heads=heads, rows=rows, left=frozenset({7}))


def runs(shown: Runs) -> View:
    """A row for each run, best first, with the settings that differ."""
    differences = shown.differences()
    heads = ("run", "validation", "test", "epochs", "time", "state", *differences)
    rows = [
        (*cells(run), *(as_chosen(values[number]) for values in differences.values()))
        for number, run in enumerate(shown.runs)
    ]
    return tables(
        # Notebooks are shared: without the folders that it is in.
        f"{_number(len(rows), 'run')} in {Path(shown.folder).resolve().name}",
        Table(heads=heads, rows=rows, left=frozenset({0, *range(5, len(heads))})),
        about="by validation accuracy, with the settings that differ" if len(rows) > 1 else "",
        notes=[f"skipped {name}: {reason}" for name, reason in shown.damaged.items()],
    )
