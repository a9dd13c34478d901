"""Predictions in a notebook."""

from __future__ import annotations

from resnetkit.inference.prediction import Prediction
from resnetkit.report.pages.evaluation_tables import thumbnail
from resnetkit.report.pages.templates import template

#: Maximum number of bars, and of numbers of an embedding.
BARS, _NUMBERS = 10, 8


def prediction(shown: Prediction) -> str:
    """The picture, if it can still be read, and a bar for each class."""
    picture = None if shown.image is None else thumbnail(shown.image())
    embedding = shown.embedding
    return template("notebook_prediction.html").render(
        heading=shown.name,
        about="",
        problem=shown.problem,
        picture=picture,
        scores=shown.scores[:BARS],
        more=len(shown.scores) - BARS,
        features=0 if embedding is None else len(embedding),
        numbers=[] if embedding is None else embedding[:_NUMBERS].tolist(),
    )
