"""Shared console helpers; imports stay light."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from resnetkit.display import in_notebook
from resnetkit.errors import printable
from resnetkit.training.epoch_log import ERRORS, EpochLog, standard_error

#: The caveat of a measurement on training images.
TRAINED_ON = "the training images, which says little about other images: none were held out"


def percent(share: float | None) -> str:
    """Format a share from 0 to 1 as a percentage; a dash for None."""
    return "-" if share is None else f"{100 * share:.2f} %"


def between(interval: tuple[float, float]) -> str:
    """Format an interval of shares as percentages."""
    return f"{100 * interval[0]:.2f} to {percent(interval[1])}"


def as_chosen(value: object) -> str:
    """Format a recipe's value on one line."""
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
    # A notebook's kernel sets the variable, and would show each line as HTML.
    if file.isatty() or (os.environ.get("FORCE_COLOR") and not in_notebook()):
        from rich.console import Console
        from rich.text import Text

        Console(file=file, highlight=False, soft_wrap=True).print(Text(text, style=style))
    else:
        print(text, file=file, flush=True)


def print_page(page: str) -> None:
    """Print SVG or HTML; characters that the encoding of stdout lacks become references."""
    encoding = sys.stdout.encoding or "utf-8"
    print(page.encode(encoding, "xmlcharrefreplace").decode(encoding))


def tell_unreadable(name: str, reason: str) -> None:
    """Report a skipped image on stderr."""
    print(f"resnetkit: skipped {printable(name)}: {printable(reason)}", file=sys.stderr)


def tell_engine(facts: Mapping[str, Any], why: str) -> None:
    """Print the engine on stderr, by its ``to_dict``, and the reason for a default choice."""
    reason = f": {why}" if why else ""
    print(
        f"engine {facts['engine']} {facts['version']}, {facts['precision']}, on {facts['device']}"
        f"{reason}",
        file=sys.stderr,
    )


def rule(rows: Sequence[EpochLog]) -> str:
    """The reason for the choice of the best epoch."""
    highest = max(rows, key=lambda row: row.validation_accuracy or 0.0)
    accuracy = highest.validation_accuracy
    if accuracy is None:
        return "the last, as no images were held out for selection"
    error = standard_error(accuracy, highest.validation_images)
    return (
        f"the last within two standard errors ({percent(ERRORS * error)}) of the highest "
        f"validation accuracy, {percent(accuracy)} in epoch {highest.epoch}"
    )
