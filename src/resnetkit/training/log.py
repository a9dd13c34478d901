"""A line for each epoch: ``log.jsonl`` in the run folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnetkit.errors import InputError
from resnetkit.files import write_text

#: The file in a run folder.
FILE = "log.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An epoch, counted from 1.

    Losses are mean cross-entropies in nats, without label smoothing, accuracies shares from 0 to
    1; those of training are of the varied images while the weights changed. ``lr`` is the last
    step's, ``seconds`` are those of the whole epoch, ``rate`` is in training images a second.
    ``best``: the best epoch so far. ``waited`` is the share of the training time that was spent
    waiting for images, 0 to 1.
    """

    epoch: int
    lr: float
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    rate: float
    best: bool
    waited: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON types."""
        return asdict(self)


def is_best(rows: Sequence[Row], accuracy: float, loss: float) -> bool:
    """Whether this validation accuracy, or at the same one the loss, is better than all before."""
    return all((accuracy, -loss) > (row.validation_accuracy, -row.validation_loss) for row in rows)


def best_of(rows: Sequence[Row]) -> Row:
    """The row of the best epoch, whose weights are ``best.safetensors``."""
    return [row for row in rows if row.best][-1]


def write_log(folder: Path, rows: Sequence[Row]) -> None:
    """Write all rows, wholly or not at all."""
    write_text(folder / FILE, "".join(json.dumps(row.to_dict()) + "\n" for row in rows))


def read_log(folder: Path) -> list[Row]:
    """The rows of a run; none before its first epoch ended. Raises ``ValueError`` if damaged."""
    path = folder / FILE
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [Row(**json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be understood ({error}); train anew") from None
