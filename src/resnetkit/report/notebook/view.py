"""What a notebook's cell shows of an object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from resnetkit.report.pages.templates import template


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of texts below their ``heads``; ``left`` are the columns aligned at the left, ``total``
    is the last row."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] = ()
    left: frozenset[int] = frozenset({0})


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A line and what the template ``notebook_NAME.html`` shows below it."""

    name: str
    heading: str
    about: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def html(self) -> str:
        """The HTML, with its own style and no script."""
        page = template(f"notebook_{self.name}.html")
        return str(page.render(heading=self.heading, about=self.about, **self.values))


def tables(
    heading: str,
    *shown: Table,
    about: str = "",
    problem: str | None = None,
    folded: Sequence[tuple[str, Table]] = (),
    notes: Sequence[str] = (),
) -> View:
    """A view of tables; ``folded`` ones are below a title to open them."""
    values = {"tables": shown, "problem": problem, "folded": folded, "notes": notes}
    return View(name="tables", heading=heading, about=about, values=values)
