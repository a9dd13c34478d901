"""The epoch log: one JSON line per epoch in ``log.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnetkit.errors import InputError, check, number, one_of, optional, parsed, whole
from resnetkit.files import write_text

#: Standard errors within which an epoch counts as no worse than the best one.
ERRORS = 2
#: The file in a run folder.
FILE = "log.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochLog:
    """The log of one epoch, counted from 1.

    Losses are mean cross-entropies in nats, without label smoothing, accuracies shares from 0 to
    1; those of training are of augmented images while the weights changed. ``lr`` is the last
    step's, ``seconds`` the duration of the whole epoch, ``rate`` training images per second.
    ``best``: its weights were kept, see ``is_best``. ``waited`` is the share of the training time
    spent waiting for images, 0 to 1, by the process that waited longest. ``validation_images`` is
    the number of validation images, also 0 in older logs; validation accuracy and loss are None
    without validation images.
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
        """The fields as JSON types."""
        return asdict(self)


def standard_error(accuracy: float, images: int) -> float:
    """The standard error of an accuracy on ``images``, by the binomial distribution.

    One right and one wrong answer are added (Laplace's rule of succession), so that a perfect
    score on a few images has an error.
    """
    share = (accuracy * images + 1) / (images + 2)
    return math.sqrt(share * (1 - share) / images) if images else 0.0


def is_best(rows: Sequence[EpochLog], accuracy: float | None, images: int) -> bool:
    """Whether an epoch after ``rows`` is kept: not significantly worse than the best one.

    An epoch is kept if its validation accuracy on ``images`` is within ``ERRORS`` standard errors
    of the highest so far. So the final choice, among epochs that the images cannot distinguish, is
    the one trained longest, at the lowest learning rate. ``benchmarks/kept_epoch.py`` compares this
    rule with others. Breiman et al., Classification and Regression Trees (1984), choose by one
    standard error in the same way. Without validation images, every epoch is kept, so that the last
    one remains.
    """
    if accuracy is None:
        return True
    highest = max((row.validation_accuracy or 0.0 for row in rows), default=0.0)
    # Different accuracies differ by much more than rounding errors.
    return accuracy >= highest - ERRORS * standard_error(highest, images) - 1e-9


def best_of(rows: Sequence[EpochLog]) -> EpochLog:
    """The best epoch, whose weights are in ``best.safetensors``."""
    return [row for row in rows if row.best][-1]


def is_finished(rows: Sequence[EpochLog], epochs: int, patience: int = 0) -> bool:
    """Whether all ``epochs`` are done, or none of the last ``patience`` (0: off) was kept."""
    stopped = 0 < patience <= len(rows) and not any(row.best for row in rows[-patience:])
    return stopped or len(rows) >= epochs


def write_log(folder: Path, rows: Sequence[EpochLog]) -> None:
    """Write all epochs atomically."""
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


def epoch_log_of(document: Mapping[str, Any]) -> EpochLog:
    """The inverse of ``to_dict``. Raises ``ValueError`` for invalid fields."""
    check(document, _RULES, "an epoch's")
    try:
        return EpochLog(**document)
    except TypeError as error:
        raise InputError(f"not an epoch of a log: {error}") from None


def read_log(folder: Path) -> list[EpochLog]:
    """The finished epochs of a run. Raises ``ValueError`` if the log is damaged."""
    path = folder / FILE
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [epoch_log_of(parsed(line, "a line")) for line in lines]
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); train again") from None
