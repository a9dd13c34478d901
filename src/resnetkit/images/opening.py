"""From what a user names to a source of labelled images."""

from __future__ import annotations

from pathlib import Path

from resnetkit.images.digits import digits
from resnetkit.images.sources import DIGITS, Source, folder


def open_source(data: str | Path, *, least: int = 2) -> Source:
    """``digits``, or the folder ``data`` with at least ``least`` classes.

    Raises ``ValueError`` where there is no such folder, and for one without class folders, with
    too few of them, or with an empty one.
    """
    if str(data) == DIGITS:
        return digits()
    return folder(Path(data), least=least)
