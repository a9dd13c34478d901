"""Prints learning-rate range tests and measured batch sizes."""

from __future__ import annotations

import sys

from resnetkit.architecture.text import aligned
from resnetkit.report.console.lines import say
from resnetkit.training.batch_size_finder import BatchSizeResult
from resnetkit.training.lr_finder import LRFinderResult
from resnetkit.training.recipe.recipe import Recipe

#: Number of evenly spaced steps shown.
_SHOWN = 20


def show_found(found: LRFinderResult, recipe: Recipe) -> None:
    """Print points of the curve, and the suggested rate."""
    points = found.points
    step = -(-len(points) // _SHOWN)
    rows = [(f"{p.rate:.2g}", f"{p.loss:.4f}", f"{p.smoothed:.4f}") for p in points[::step]]
    head, *lines = aligned([("lr", "loss", "smoothed"), *rows], left=())
    say(
        f"{recipe.network.name}, batches of {recipe.batch_size}, {recipe.optimizer.name}: "
        f"{len(points)} steps",
        "bold",
    )
    say(head, "bold")
    for line in lines:
        say(line)
    end = "exploded" if found.exploded else "did not explode"
    say(f"the loss is least at {found.lowest:.2g} and {end} up to {points[-1].rate:.2g}")
    say(
        f"suggested: --lr {found.suggested:g}, where the loss falls fastest "
        f"(the recipe has {recipe.optimizer.lr:g})",
        "bold green",
    )


def tell_fitted(fitted: BatchSizeResult) -> None:
    """Print the chosen batch size and the speed of each trial on stderr."""
    rates = ", ".join(
        f"{trial.batch}: {'does not fit' if trial.rate is None else f'{trial.rate:.0f} images/s'}"
        for trial in fitted.tried
    )
    print(
        f"resnetkit: batches of {fitted.batch}, for {fitted.why} ({rates})",
        file=sys.stderr,
    )
