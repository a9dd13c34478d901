"""A progress bar in the output of a notebook's cell.

It needs no widgets: the kernel replaces the HTML that it displayed.
"""

from __future__ import annotations

import time
from html import escape
from typing import Any

from resnetkit.errors import require

#: Seconds between two states; shorter work shows none.
INTERVAL = 0.25


class NotebookBar:
    """A bar with a text; ``close`` leaves the text alone."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._last = time.perf_counter()
        self._text = ""

    def show(self, done: float, total: float | None, text: str) -> None:
        """Show ``done`` of ``total`` items, which may be unknown."""
        now = time.perf_counter()
        if now - self._last < INTERVAL:
            return
        self._last, self._text = now, text
        of = "" if total is None else f' value="{done:.0f}" max="{total:.0f}"'
        self._display(f"<progress{of}></progress> {escape(text)}")

    def close(self, text: str = "") -> None:
        """Replace the bar by ``text``, or by its last one."""
        if self._handle is not None:
            self._text = text or self._text
            self._display(escape(self._text))
            self._handle = None

    def _display(self, html: str) -> None:
        bundle = {
            "text/html": f'<div class="resnetkit-progress">{html}</div>',
            "text/plain": self._text,
        }
        if self._handle is None:
            show = require("IPython.display", "a bar in a notebook").display
            self._handle = show(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
