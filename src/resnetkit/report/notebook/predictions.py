"""Predictions in a notebook."""

from __future__ import annotations

from resnetkit.inference.prediction import Prediction
from resnetkit.report.notebook.view import View
from resnetkit.report.pages.evaluation_tables import thumbnail

#: Maximum number of bars, and of numbers of an embedding.
BARS, _NUMBERS = 10, 8


def prediction(shown: Prediction) -> View:
    """The picture, if it can still be read, and a bar for each class."""
    picture = None if shown.image is None else thumbnail(shown.image())
    embedding = shown.embedding
    values = {
        "problem": shown.problem,
        "picture": picture,
        "scores": shown.scores[:BARS],
        "more": len(shown.scores) - BARS,
        "features": 0 if embedding is None else len(embedding),
        "numbers": [] if embedding is None else embedding[:_NUMBERS].tolist(),
    }
    return View(name="prediction", heading=shown.name, values=values)
