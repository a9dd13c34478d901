"""Prints what was pushed to the Hugging Face Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnetkit.errors import printable
from resnetkit.report.console.fitting import fitted_lines

if TYPE_CHECKING:
    from resnetkit.bundle.pushed import Pushed

_LOADED_BY = {
    "timm": "resnetkit, timm, transformers (which uses timm)",
    "transformers": "resnetkit, transformers",
    "none": "resnetkit",
}


def show(done: Pushed) -> None:
    """Print the commit, its files, and who loads them."""
    card = (
        "README.md was written by hand, and is kept; --overwrite replaces it"
        if done.card_kept
        else "written"
    )
    rows = [
        ("pushed", printable(done.url)),
        ("files", ", ".join(done.files)),
        ("model card", card),
        ("loaded by", _LOADED_BY[done.framework]),
    ]
    print("\n".join(fitted_lines(rows, {0, 1})))
