"""Shows evaluations: on the console, as JSON, as an HTML page and as ``confusion.png``."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from resnetkit.errors import InputError, printable
from resnetkit.evaluation.evaluation import ClassFigures, Evaluation, Measurement
from resnetkit.files import write_text
from resnetkit.report.console.fitting import Fitted, fitted, terminal_width, wrapped
from resnetkit.report.console.lines import (
    between,
    percent,
    print_page,
    say,
    tell_engine,
    tell_unreadable,
)
from resnetkit.report.pages.evaluation_tables import confusions

if TYPE_CHECKING:
    from resnetkit.evaluation.ambiguity_trial import AmbiguityTrial, Candidate


def show(measurement: Measurement, kind: str, out: Path | None) -> None:
    """Print the metrics as a table or JSON, and write ``confusion.png`` into the folder ``out`` or
    the run's; or with html write a page to stdout or ``out``. Notes go to stderr.

    Raises ``ValueError`` if ``confusion.png`` cannot be written.
    """
    for note in (*measurement.notes, *filter(None, [measurement.warning])):
        print(f"resnetkit: {printable(note)}", file=sys.stderr)
    for name, reason in measurement.evaluation.problems:
        tell_unreadable(name, reason)
    if kind == "html":
        from resnetkit.report.pages.run_page import evaluation_page

        page = evaluation_page(measurement)
        print_page(page) if out is None else write_text(out, page)
        return
    if kind == "json":
        print(measurement.to_json())
    else:  # the page and JSON already name the engine
        tell_engine(measurement.engine, measurement.engine_reason)
        _show_table(measurement)
    folder = out or measurement.run
    if folder is None:
        return
    if find_spec("matplotlib") is None:
        print(
            "resnetkit: confusion.png is not written: it requires matplotlib; "
            "pip install 'resnetkit[train]'",
            file=sys.stderr,
        )
    else:  # last, so that an unwritable folder does not lose the results
        from resnetkit.report import plots

        try:
            folder.mkdir(parents=True, exist_ok=True)
            plots.save_confusion(
                measurement.evaluation, folder / "confusion.png", measurement.title
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"confusion.png cannot be written to {folder}: {reason}") from None


def _show_table(measurement: Measurement, matrix: int = 20) -> None:
    """Print the metrics, with the confusion matrix for up to ``matrix`` classes."""
    evaluation = measurement.evaluation
    _say(f"{measurement.title}: {evaluation.images} images", "bold")
    interval = between(evaluation.accuracy_interval)
    _say(f"accuracy {percent(evaluation.accuracy)} ({interval} at 95 %)", "bold green")
    if evaluation.top5 is not None and evaluation.top5_interval is not None:
        interval = between(evaluation.top5_interval)
        _say(f"top-5 accuracy {percent(evaluation.top5)} ({interval} at 95 %)")
    say(f"loss {evaluation.loss:.4f}")
    _say(
        f"calibration error {percent(evaluation.calibration.ece)} "
        f"(ECE, {len(evaluation.calibration.bins)} bins of equal width, Guo et al. 2017)"
    )
    say("")
    heads = ("class", "precision", "recall", "F1", "images")
    rows = [heads, *map(_figures, evaluation.classes)]
    expendable = ("images", "F1", "recall")
    _table(fitted(rows, {0}, terminal_width(), wraps={0}, expendable=expendable))
    if len(evaluation.names) <= matrix:
        say("")
        _confusion(evaluation)


def _confusion(evaluation: Evaluation) -> None:
    """The matrix; on a narrow terminal its columns have numbers in place of names, and on one too
    narrow for these the most frequent confusions are listed."""
    names = [printable(name) for name in evaluation.names]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    width = terminal_width()
    counts = [tuple(map(str, row)) for row in evaluation.confusion.tolist()]
    for heads, labels, words in (
        (names, names, "rows are the true classes, columns the predicted ones"),
        (
            numbers,
            [f"{number} {name}" for number, name in zip(numbers, names, strict=True)],
            "rows are the true classes, columns the predicted ones, by their numbers",
        ),
    ):
        grid = [("", *heads), *((label, *row) for label, row in zip(labels, counts, strict=True))]
        table = fitted(grid, {0}, width, wraps={0})
        if width is None or max(len(line) for row in table.rows for line in row) <= width:
            _say(f"confusion: {words}")
            _table(table)
            return
    _say("the most frequent confusions; a wider terminal shows the matrix")
    found = [(c.truth, c.guess, str(c.images)) for c in confusions(evaluation, most=10)]
    _table(fitted([("true", "predicted", "images"), *found], {0, 1}, width, wraps={0, 1}))


def show_trial(trial: AmbiguityTrial, kind: str) -> None:
    """Print the candidates of a trial, best first, and whether the result is significant, as a
    table or JSON; unreadable images are named on stderr."""
    for name, reason in trial.problems:
        tell_unreadable(name, reason)
    if kind == "json":
        print(trial.to_json())
        return
    say(f"{trial.file} on {trial.data} ({trial.part}): {trial.images} images", "bold")
    if trial.in_order:
        say("the file has no class names: the data's are used in alphabetical order")
    heads = (*trial.candidates[0].facts, "accuracy", "loss")
    rows = [
        (*map(str, c.facts.values()), percent(c.accuracy), f"{c.loss:.4f}")
        for c in trial.candidates
    ]
    facts = set(range(len(heads) - 2))
    _table(fitted([heads, *rows], facts, terminal_width(), wraps=facts))
    best, second = (_facts(candidate) for candidate in trial.candidates[:2])
    if trial.is_sure:
        _say(f"{best}: {second} is this much worse by chance with p = {trial.chance:.1g}", "green")
    else:
        _say(
            f"these images do not separate {best} and {second} (p = {trial.chance:.2g}); give more "
            "or other images"
        )


def _facts(candidate: Candidate) -> str:
    return ", ".join(f"{name} {value}" for name, value in candidate.facts.items())


def _figures(row: ClassFigures) -> tuple[str, ...]:
    shares = (percent(row.precision), percent(row.recall), percent(row.f1))
    return printable(row.name), *shares, str(row.support)


def _say(line: str, style: str = "") -> None:
    """Print a sentence within the terminal."""
    for part in wrapped(line, terminal_width()):
        say(part, style)


def _table(table: Fitted) -> None:
    head, *rest = table.rows
    for line in head:
        say(line, "bold")
    for line in (line for row in rest for line in row):
        say(line)
    for line in table.notes:
        say(line)
