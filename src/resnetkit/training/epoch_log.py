"""The epoch log: one JSON line an epoch in ``log.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnetkit.errors import InputError, check, number, one_of, optional, parsed, whole
from resnetkit.files import write_text

#: An epoch is no worse than the best one by more than chance within so many standard errors.
ERRORS = 2
#: The file in a run folder.
FILE = "log.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochLog:
    """An epoch, counted from 1.

    Losses are mean cross-entropies in nats, without label smoothing, accuracies shares from 0 to
    1; those of training are of the varied images while the weights changed. ``lr`` is the last
    step's, ``seconds`` are those of the whole epoch, ``rate`` is in training images a second.
    ``best``: its weights were kept, by ``is_best``. ``waited`` is the share of the training time
    that was spent waiting for images, 0 to 1. ``validation_images`` is what validation accuracy and
    loss are means over; these are None where nothing is held back to validate on. It is 0 also in
    logs of before it was written.
    """

    epoch: int
    lr: float
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float
    rate: float
    best: bool
    waited: float = 0.0
    validation_images: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON types."""
        return asdict(self)


def standard_error(accuracy: float, images: int) -> float:
    """Of the share of right answers among ``images``, by the binomial distribution.

    One right and one wrong answer are added (Laplace's rule of succession), since all of a few
    images right is not all of them.
    """
    share = (accuracy * images + 1) / (images + 2)
    return math.sqrt(share * (1 - share) / images) if images else 0.0


def is_best(rows: Sequence[EpochLog], accuracy: float | None, images: int) -> bool:
    """Whether an epoch after ``rows`` is kept: no worse than the best one by more than chance.

    It is when its validation accuracy, among ``images``, is within ``ERRORS`` standard errors of
    the highest so far. So what is kept in the end is the last epoch within so much of the highest:
    among those that the images cannot tell apart, the one that was trained longest, at the lowest
    learning rate. ``benchmarks/kept_epoch.py`` compares this rule with others. Breiman et al.,
    Classification and Regression Trees (1984), choose by one standard error in the same way.
    Without validation images each epoch is kept, so that it is the last one in the end.
    """
    if accuracy is None:
        return True
    highest = max((row.validation_accuracy or 0.0 for row in rows), default=0.0)
    # Shares of the same count of images differ by much more than a rounding.
    return accuracy >= highest - ERRORS * standard_error(highest, images) - 1e-9


def best_of(rows: Sequence[EpochLog]) -> EpochLog:
    """The row of the best epoch, whose weights are ``best.safetensors``."""
    return [row for row in rows if row.best][-1]


def is_finished(rows: Sequence[EpochLog], epochs: int, patience: int = 0) -> bool:
    """Whether there were all ``epochs``, or none of the last ``patience`` (0: any) was kept."""
    worn = 0 < patience <= len(rows) and not any(row.best for row in rows[-patience:])
    return worn or len(rows) >= epochs


def write_log(folder: Path, rows: Sequence[EpochLog]) -> None:
    """Write all rows, wholly or not at all."""
    write_text(folder / FILE, "".join(json.dumps(row.to_dict()) + "\n" for row in rows))


_NUMBER = number(-1e30, 1e30)
_RULES = {
    "epoch": whole(1, 1 << 40),
    **dict.fromkeys(("lr", "loss", "seconds", "rate"), _NUMBER),
    "validation_loss": optional(_NUMBER),
    "accuracy": number(0, 1),
    "validation_accuracy": optional(number(0, 1)),
    "best": one_of(True, False),
    "waited": optional(_NUMBER),
    "validation_images": optional(whole(0, 1 << 40)),
}


def row_of(document: Mapping[str, Any]) -> EpochLog:
    """The row of ``to_dict``. Raises ``ValueError`` for what is none."""
    check(document, _RULES, "a row's")
    try:
        return EpochLog(**document)
    except TypeError as error:
        raise InputError(f"this is no row of a log: {error}") from None


def read_log(folder: Path) -> list[EpochLog]:
    """The rows of a run; none before its first epoch ended. Raises ``ValueError`` if damaged."""
    path = folder / FILE
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [row_of(parsed(line, "a line")) for line in lines]
    except ValueError as error:
        raise InputError(f"{path} cannot be understood ({error}); train anew") from None
