"""The learning rate range test.

Smith 2015, arXiv:1506.01186, with exponential steps and a smoothed loss as in fastai.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from resnetkit.bundle.bundle import Bundle
from resnetkit.errors import InputError
from resnetkit.training.callbacks import Callback, RunOptions
from resnetkit.training.recipe.recipe import Recipe
from resnetkit.training.run import rehearsed
from resnetkit.training.run_context import RunContext
from resnetkit.training.signals import Stop
from resnetkit.training.step.optimization_step import NotFiniteError, Score
from resnetkit.training.trainer import Trainer

#: The range of fastai and Lightning, except for the lower limit.
LOW, HIGH, STEPS = 1e-6, 10.0, 100
#: Smoothing factor of the loss: 0.98 in fastai, for ten times as many steps as the loss takes to
#: fall here.
_KEPT = 0.9
#: The loss has exploded at this multiple of the minimum so far (fastai, Lightning), or at this
#: multiple of the loss at the start and of guessing.
_EXPLODED, _WORSE = 4.0, 1.25
#: The first steps, ignored while smoothing begins.
_FIRST = 10
#: Steps over which a fall is measured, as one alone may be chance; the middle is reported.
_STRETCH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A step: its learning rate, and the loss before it.

    The loss is the batch's cross-entropy in nats without label smoothing.
    """

    rate: float
    loss: float
    smoothed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LRFinderResult:
    """The outcome of a range test.

    ``suggested`` is the peak rate for a run: the middle of the ten steps in which the smoothed loss
    falls most (the steepest descent over the logarithm of the rate, where Lightning has one step),
    rounded to two digits. ``lowest`` is the rate at its minimum; a tenth of that is another common
    rule (fastai's "minimum"), which was much further from known good rates for SGD and AdamW.
    ``exploded``: the test ended before the highest rate.
    """

    points: tuple[Point, ...]
    suggested: float
    lowest: float
    exploded: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "suggested": self.suggested,
            "rule": "where the smoothed loss falls fastest over the logarithm of the rate",
            "lowest": self.lowest,
            "exploded": self.exploded,
            "points": [asdict(point) for point in self.points],
        }


def find_lr(
    recipe: Recipe,
    callback: Callback | None = None,
    *,
    pretrained: Bundle | None = None,
    run_options: RunOptions | None = None,
    steps: int = STEPS,
    low: float = LOW,
    high: float = HIGH,
    done: Callable[[int], None] = lambda _: None,
) -> LRFinderResult:
    """Train ``steps`` steps while the rate rises exponentially from ``low`` to ``high``.

    The steps are otherwise those of a run by ``recipe``. The test ends early when the smoothed loss
    is four times its minimum, a quarter above that of the start and of guessing, or not finite. No
    file is written. The same recipe gives the same result. ``done`` is called with the number of
    images of each step.

    Raises ``ValueError`` for a range that does not rise, too few steps, unusable data, and if the
    loss never falls.
    """
    if not 0 < low < high or not math.isfinite(high):
        raise InputError(
            f"low is {low:g} and high {high:g}; low must be above 0 and high above low"
        )
    if steps < 3 * _FIRST:
        raise InputError(f"steps is {steps}; it must be at least {3 * _FIRST}")
    callback, run_options = callback or Callback(), run_options or RunOptions()
    recipe = recipe.override(ema_decay=0.0)
    rates = [low * (high / low) ** (number / (steps - 1)) for number in range(steps)]
    with (
        rehearsed(recipe, callback, run_options, pretrained) as (settled, splits, weights),
        tempfile.TemporaryDirectory() as folder,
    ):
        points: list[Point] = []
        trainer = Trainer(
            settled,
            Path(folder),
            splits,
            RunContext(callback=callback, run_options=run_options, stop=Stop()),
            pretrained=weights,
            schedule=lambda _: rates[len(points)],
        )
        for point in _points(trainer, rates):
            points.append(point)
            done(recipe.batch_size)
    return judged(points, exploded=len(points) < steps)


def _points(trainer: Trainer, rates: Sequence[float]) -> Iterator[Point]:
    """A point per step, until the loss explodes."""
    average, least, number = 0.0, math.inf, 0
    worst = _WORSE * math.log(len(trainer.splits.classes))
    for epoch in count():
        trainer.batch = 0
        for batch in trainer.train.batches(epoch):
            if number == len(rates):
                return
            trainer.score = Score()
            try:
                trainer.step(epoch, batch)
            except NotFiniteError:
                return
            if not trainer.score.images:
                continue
            loss = trainer.score.loss
            average = _KEPT * average + (1 - _KEPT) * loss
            number += 1
            smoothed = average / (1 - _KEPT**number)
            yield Point(rate=rates[number - 1], loss=loss, smoothed=smoothed)
            least = min(least, smoothed)
            if number <= _FIRST:
                worst = max(worst, _WORSE * smoothed)
            elif not smoothed <= min(worst, _EXPLODED * least):
                return


def judged(points: Sequence[Point], *, exploded: bool) -> LRFinderResult:
    """The result of a curve. Raises ``ValueError`` if it does not fall."""
    usable = points[_FIRST:]
    if len(usable) <= _STRETCH:
        raise InputError(
            f"the loss exploded after {len(points)} steps, at the rate "
            f"{points[-1].rate if points else 0:.2g}; the weights may be damaged: check the data"
        )
    lowest = min(range(len(usable)), key=lambda number: usable[number].smoothed)
    falls = [
        usable[number].smoothed - usable[number + _STRETCH].smoothed
        for number in range(lowest + 1 - _STRETCH)
    ]
    if not falls or max(falls) <= 0:
        raise InputError(
            f"the loss does not fall at any rate from {usable[0].rate:.2g}, so none can be "
            "suggested; the weights may have converged, or the data be too hard"
        )
    steepest = falls.index(max(falls)) + _STRETCH // 2
    return LRFinderResult(
        points=tuple(points),
        suggested=float(f"{usable[steepest].rate:.1e}"),
        lowest=usable[lowest].rate,
        exploded=exploded,
    )
