"""Evaluations in a notebook."""

from __future__ import annotations

from typing import Any

from resnetkit.evaluation.evaluation import Evaluation, Measurement
from resnetkit.report.console.lines import percent
from resnetkit.report.notebook.view import Table, View
from resnetkit.report.pages import evaluation_tables

#: Maximum number of mistakes shown as pictures.
PICTURES = 8


def evaluation(shown: Evaluation) -> View:
    """The metrics, the confusion matrix, and mistakes as pictures."""
    heading = f"accuracy {percent(shown.accuracy)} of {shown.images:,} images"
    return View(name="evaluation", heading=heading, values=parts(shown))


def measurement(shown: Measurement) -> View:
    """The same, with the model, the data and what they mean for the accuracy."""
    engine = shown.engine
    return View(
        name="evaluation",
        heading=f"{shown.title}: {shown.evaluation.images:,} images",
        about=f"engine {engine['engine']} {engine['version']}, {engine['precision']}",
        values=parts(shown.evaluation, shown.part)
        | {"warning": shown.warning, "notes": shown.notes},
    )


def parts(shown: Evaluation, part: str | None = None) -> dict[str, Any]:
    """The template's values of an evaluation."""
    classes = evaluation_tables.shown_classes(shown)
    whole = len(classes) == len(shown.classes)
    mistakes = shown.mistakes[:PICTURES]
    return {
        "warning": None,
        "notes": (),
        "evaluation": shown,
        "figures": list(evaluation_tables.measured(shown, part)),
        "matrix": evaluation_tables.matrix(shown),
        "confusions": evaluation_tables.confusions(shown),
        "classes": Table(
            heads=("class", "precision", "recall", "F1", "images"),
            rows=[
                (one.name, percent(one.precision), percent(one.recall), percent(one.f1),
                 str(one.support))
                for one in classes
            ],
        ),
        "classes_title": "classes" if whole else f"the {len(classes)} worst classes by F1",
        "mistakes": [(one, evaluation_tables.thumbnail(one.image)) for one in mistakes],
        "wrong": shown.images - int(shown.confusion.trace()),
    }  # fmt: skip
