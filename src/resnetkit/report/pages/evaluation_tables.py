"""Figures and tables of an evaluation: the worst classes, and mistakes as pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from resnetkit.data.decoding.decode import Image, scaled_upright
from resnetkit.evaluation.confidence import BINS
from resnetkit.evaluation.evaluation import ClassFigures, Evaluation, Mistake
from resnetkit.report.console.lines import between, percent

#: Maximum number of classes for a matrix, and for one row per class.
MATRIX, ROWS = 25, 60
#: Otherwise, the number of worst classes and most frequent confusions.
WORST = 30
#: The longer side of an embedded image, and the side below which it is not resized.
SIDE, TINY = 128, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure at the head of the page, with a description."""

    name: str
    value: str
    small: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """``images`` images of ``truth`` were predicted as ``guess``, a ``share`` of ``truth``."""

    truth: str
    guess: str
    images: int
    share: float


def measured(evaluation: Evaluation | None, part: str | None) -> Iterator[Figure]:
    """The metrics of an evaluation on the images of ``part``, if there is one."""
    if evaluation is None:
        return
    where = f" ({part})" if part else ""
    interval = between(evaluation.accuracy_interval)
    yield Figure(
        name=f"accuracy{where}",
        value=percent(evaluation.accuracy),
        small=f"{interval} at 95 %; {evaluation.images:,} images",
    )
    if evaluation.top5 is not None and evaluation.top5_interval is not None:
        yield Figure(
            name=f"top-5 accuracy{where}",
            value=percent(evaluation.top5),
            small=f"{between(evaluation.top5_interval)} at 95 %",
        )
    yield Figure(
        name=f"loss{where}", value=f"{evaluation.loss:.4f}", small="mean cross-entropy, nats"
    )
    yield Figure(
        name="calibration error",
        value=percent(evaluation.calibration.ece),
        small=f"ECE, {BINS} bins of equal width",
    )


def confusions(evaluation: Evaluation, most: int = WORST) -> list[Confusion]:
    """The most frequent confusions, in descending order."""
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    counts = evaluation.confusion.sum(axis=1)
    rows, columns = np.nonzero(wrong)
    order = np.argsort(-wrong[rows, columns], kind="stable")[:most]
    return [
        Confusion(
            truth=evaluation.names[row],
            guess=evaluation.names[column],
            images=int(wrong[row, column]),
            share=float(wrong[row, column] / counts[row]),
        )
        for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True)
    ]


def shown_classes(evaluation: Evaluation) -> list[ClassFigures]:
    """All classes, or if there are many the worst by F1, worst first."""
    if len(evaluation.classes) <= ROWS:
        return list(evaluation.classes)
    return sorted(evaluation.classes, key=lambda row: (row.f1 or 0.0, -row.support))[:WORST]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of the matrix: images, their share of the true class, whether it is correct."""

    images: int
    share: float
    right: bool


def matrix(evaluation: Evaluation) -> list[tuple[str, list[Cell]]] | None:
    """Rows of the true classes; None if they are too many."""
    if len(evaluation.names) > MATRIX:
        return None
    rows = []
    for number, (name, row) in enumerate(
        zip(evaluation.names, evaluation.confusion.tolist(), strict=True)
    ):
        whole = max(1, sum(row))
        cells = [Cell(images=n, share=n / whole, right=number == i) for i, n in enumerate(row)]
        rows.append((name, cells))
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """The pictures behind a confusion: an element of the page, ``id``."""

    id: str
    mistakes: list[tuple[Mistake, Picture | None]]


def behind(evaluation: Evaluation) -> dict[tuple[str, str], Behind]:
    """The kept mistakes by true and predicted class, in the order of ``confused``."""
    found: dict[tuple[str, str], Behind] = {}
    for mistake in evaluation.confused:
        key = mistake.truth, mistake.guess
        place = found.setdefault(key, Behind(id=f"confused{len(found)}", mistakes=[]))
        place.mistakes.append((mistake, thumbnail(mistake.image)))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image in a page: ``source`` is a ``data:`` URL. ``tiny`` ones show pixels."""

    source: str
    tiny: bool


def thumbnail(given: Image | None) -> Picture | None:
    """An image made small; None if it can no longer be read."""
    if given is None:
        return None
    try:
        image, *_ = scaled_upright(given, "RGB", _factor)
    except (ValueError, OSError):  # e.g. of a picture that was closed
        return None
    tiny = max(image.size) < TINY
    image.thumbnail((SIDE, SIDE))
    buffer = BytesIO()
    if tiny:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=75)
    kind = "png" if tiny else "jpeg"
    coded = base64.b64encode(buffer.getvalue()).decode()
    return Picture(source=f"data:image/{kind};base64,{coded}", tiny=tiny)


def _factor(width: int, height: int) -> int:
    """The scale at which a photograph is decoded, no smaller than its thumbnail."""
    return next((part for part in (8, 4, 2) if max(width, height) >= part * SIDE), 1)
