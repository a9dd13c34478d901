"""Shared console helpers; imports stay light."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from resnetkit.errors import printable
from resnetkit.training.epoch_log import ERRORS, Row, standard_error

#: What a measurement on what was trained on is worth.
TRAINED_ON = "the training images, which tells little of other ones: none were held back"


def percent(share: float | None) -> str:
    """A share from 0 to 1 as people read it; a dash for none."""
    return "-" if share is None else f"{100 * share:.2f} %"


def between(interval: tuple[float, float]) -> str:
    """An interval of shares as people read it."""
    return f"{100 * interval[0]:.2f} to {percent(interval[1])}"


def as_chosen(value: object) -> str:
    """A value of a recipe on one line."""
    if isinstance(value, list | tuple):
        return ", ".join(map(as_chosen, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else printable(str(value))


def say(text: str, style: str = "", file: IO[str] | None = None) -> None:
    """Print a line, styled on a terminal."""
    file = file or sys.stdout
    if file.isatty() or os.environ.get("FORCE_COLOR"):
        from rich.console import Console
        from rich.text import Text

        Console(file=file, highlight=False, soft_wrap=True).print(Text(text, style=style))
    else:
        print(text, file=file, flush=True)


def tell_unreadable(name: str, reason: str) -> None:
    """Name on stderr an image that is skipped."""
    print(f"resnetkit: skipped {printable(name)}: {printable(reason)}", file=sys.stderr)


def tell_engine(facts: Mapping[str, Any], why: str) -> None:
    """Say on stderr which engine answers, by its ``to_dict``; why, where nobody asked for it."""
    reason = f": {why}" if why else ""
    print(
        f"engine {facts['engine']} {facts['version']}, {facts['precision']}, on {facts['device']}"
        f"{reason}",
        file=sys.stderr,
    )


def rule(rows: Sequence[Row]) -> str:
    """Why the best epoch of a run is the best."""
    highest = max(rows, key=lambda row: row.validation_accuracy or 0.0)
    accuracy = highest.validation_accuracy
    if accuracy is None:
        return "the last, for no images were held back to choose by"
    error = standard_error(accuracy, highest.validation_images)
    return (
        f"the last within two standard errors ({percent(ERRORS * error)}) of the highest "
        f"validation accuracy, {percent(accuracy)} in epoch {highest.epoch}"
    )
