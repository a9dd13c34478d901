"""HTML page of the runs in a folder: a table, what differs, and the curves over each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from resnetkit.report.console.lines import as_chosen
from resnetkit.report.console.runs import cells
from resnetkit.report.pages.charts import Curves, Form, Series, curves
from resnetkit.report.pages.templates import script, template
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.run_comparison import Ran, Runs
from resnetkit.training.run_folder import REPORT

#: The runs whose curves are drawn, and those whose curves the page has.
DRAWN, MOST = 10, 30
#: Colours and dashes of lines: two lines of one colour differ in their dashes.
COLOURS, DASHES = 8, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of the table; sorted by ``value``, where that is not its text."""

    words: str
    value: float | str | None = None
    number: bool = True
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A run in the legend; ``name`` are the CSS classes of its line."""

    name: str
    end: str
    run: str
    about: str
    shown: bool


def runs_page(runs: Runs, place: str | Path | None = None) -> str:
    """The runs of a folder as an HTML document: a table, the settings that differ, the curves.

    ``place`` is the folder that the page will be in. Then runs link to their own pages, which a
    relative path finds wherever both are moved to.
    """
    differences = runs.differences()
    rows = [
        [
            Cell(words=str(number)),
            *_cells(run, place),
            *(_setting(values[number - 1]) for values in differences.values()),
        ]
        for number, run in enumerate(runs.runs, 1)
    ]
    return template("runs_page.html").render(
        # Pages are shared: without the folders that it is in.
        folder=Path(runs.folder).resolve().name,
        runs=runs.runs,
        heads=["", "run", "validation", "test", "done", "time", "state", *differences],
        rows=rows,
        differ=bool(differences),
        charts=_charts(runs.runs),
        legend=[_item(index, run) for index, run in enumerate(runs.runs[:MOST])],
        drawn=DRAWN,
        most=MOST,
        colours=COLOURS,
        damaged={
            name: reason.replace(f"{runs.folder}{os.sep}", "")
            for name, reason in runs.damaged.items()
        },
        script=script("runs"),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z"),
    )


def _cells(run: Ran, place: str | Path | None) -> list[Cell]:
    name, validation, test, epochs, time, state = cells(run)
    return [
        Cell(words=name, number=False, link=_link(run, place)),
        Cell(words=validation, value=_missing(run.validation)),
        Cell(words=test, value=_missing(run.test)),
        Cell(words=epochs, value=run.done),
        Cell(words=time, value=run.seconds),
        Cell(words=state, number=False),
    ]


def _missing(value: float | None) -> float | str:
    return "" if value is None else value


def _setting(value: object) -> Cell:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(words=as_chosen(value), value=value)
    return Cell(words=as_chosen(value), number=False)


def _link(run: Ran, place: str | Path | None) -> str:
    """The address of the run's own page from the folder ``place``."""
    report = run.folder / REPORT
    if place is None or not report.is_file():
        return ""
    try:
        return quote(Path(os.path.relpath(report.resolve(), Path(place).resolve())).as_posix())
    except ValueError:  # another drive of Windows
        return report.resolve().as_uri()


def _item(index: int, run: Ran) -> Item:
    return Item(
        name=_line(index),
        end=str(index + 1),
        run=run.name,
        about="" if run.finished else f"unfinished, {run.done} of {run.recipe.epochs} epochs",
        shown=index < DRAWN,
    )


def _line(index: int) -> str:
    return f"c{index % COLOURS} d{index % DASHES}"


def _charts(runs: Sequence[Ran]) -> list[Curves]:
    """Losses and accuracies of the runs that have epochs, over the epochs of the longest."""
    runs = runs[:MOST]
    found = [
        _chart(runs, "Validation loss", lambda row: row.validation_loss),
        _chart(runs, "Validation accuracy", lambda row: row.validation_accuracy, "percent"),
        _chart(runs, "Training loss", lambda row: row.loss),
        _chart(runs, "Training accuracy", lambda row: row.accuracy, "percent"),
    ]
    return [chart for chart in found if chart is not None]


def _chart(
    runs: Sequence[Ran],
    title: str,
    value: Callable[[EpochLog], float | None],
    form: Form = "number",
) -> Curves | None:
    lines = [
        Series(
            name=_line(index),
            label=f"run {index + 1}",
            values=[value(row) for row in run.rows],
            end=str(index + 1),
            shown=index < DRAWN,
        )
        for index, run in enumerate(runs)
    ]
    values = [one for line in lines for one in line.values if one is not None]
    if not values:
        return None
    is_log = form == "number" and min(values) > 0
    return curves(
        f"{title} (nats{'; log scale' if is_log else ''})" if form == "number" else title,
        lines,
        epochs=max(run.done for run in runs),
        form=form,
        log=is_log,
        most=1.0 if form == "percent" else None,
        label="a line for each run over the epochs, with its number at the end",
    )
