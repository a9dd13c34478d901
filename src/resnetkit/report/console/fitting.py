"""Tables on a terminal: columns are wrapped, or left out and named, so that no line is broken."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from resnetkit.display import in_notebook
from resnetkit.errors import printable

#: The least width to which a column is wrapped.
_LEAST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The lines of each row, and the headings of the columns that are left out."""

    rows: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What to print below the table, if anything is left out."""
        if not self.left_out:
            return []
        width = terminal_width()
        names = ", ".join(dict.fromkeys(self.left_out))
        return ["", *wrapped(f"left out in {width} columns: {names}", width)]


def is_terminal() -> bool:
    """Whether stdout is a terminal, and not a notebook."""
    return sys.stdout.isatty() and not in_notebook()


def terminal_width() -> int | None:
    """The columns of the terminal; None if stdout is none, where nothing is fitted."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def is_coloured() -> bool:
    """Whether to print colours."""
    return not in_notebook() and (sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR")))


def fitted(
    rows: Sequence[tuple[str, ...]],
    left: Collection[int],
    width: int | None,
    *,
    wraps: Collection[int] = (),
    expendable: Sequence[str] = (),
    comfortable: int = 20,
    beside: Callable[[str], str] = lambda _: "",
) -> Fitted:
    """Align cells in columns, of which those in ``left`` are left-aligned, within ``width``.

    The first row has the headings. Columns in ``wraps`` are wrapped to a ``comfortable`` width;
    then those with a heading in ``expendable`` are left out, the first first; then the others are
    wrapped further. ``beside`` is what continues a cell of the first column next to wrapped ones.
    """
    rows = [tuple(map(printable, row)) for row in rows]
    kept = list(range(len(rows[0])))
    widths = _widths(rows, kept, wraps, width, comfortable)
    for heading in expendable:
        if widths is not None:
            break
        kept = [n for n in kept if rows[0][n] != heading]
        widths = _widths(rows, kept, wraps, width, comfortable)
    if widths is None:
        widths = _widths(rows, kept, wraps, width, _LEAST)
    assert widths is not None
    sizes = dict(zip(kept, widths, strict=True))
    return Fitted(
        rows=tuple(_lines(row, sizes, left, beside) for row in rows),
        left_out=tuple(name for n, name in enumerate(rows[0]) if n not in kept),
    )


def fitted_lines(
    rows: Sequence[tuple[str, ...]], left: Collection[int], *, indent: int = 0
) -> list[str]:
    """Rows without headings as lines, within the terminal; all but the first column are wrapped."""
    width = terminal_width()
    table = fitted(
        rows, left, None if width is None else width - indent, wraps=set(range(1, len(rows[0])))
    )
    return [line for row in table.rows for line in row]


def wrapped(line: str, width: int | None) -> list[str]:
    """A sentence in lines of at most ``width``."""
    if width is None or len(line) <= width:
        return [line]
    return textwrap.wrap(line, max(width, _LEAST), break_on_hyphens=False)


def _widths(
    rows: Sequence[tuple[str, ...]],
    kept: Sequence[int],
    wraps: Collection[int],
    width: int | None,
    least: int,
) -> list[int] | None:
    """The widths of the columns kept; None if they do not fit, unless with the least width."""
    widths = [max(len(row[n]) for row in rows) for n in kept]
    if width is None:
        return widths
    narrow = [at for at, n in enumerate(kept) if n in wraps]
    excess = sum(widths) + 2 * (len(kept) - 1) - width
    while excess > 0:
        widest = max(narrow, key=lambda at: widths[at], default=None)
        if widest is None or widths[widest] <= least:
            return widths if least == _LEAST else None
        widths[widest] -= 1
        excess -= 1
    return widths


def _lines(
    row: tuple[str, ...],
    sizes: dict[int, int],
    left: Collection[int],
    beside: Callable[[str], str],
) -> tuple[str, ...]:
    cells = {
        n: textwrap.wrap(row[n], size, break_on_hyphens=False) if len(row[n]) > size else [row[n]]
        for n, size in sizes.items()
    }
    lines = []
    for number in range(max(map(len, cells.values()))):
        words = {n: cell[number] if number < len(cell) else "" for n, cell in cells.items()}
        if number:
            words[0] = words.get(0) or beside(row[0])
        lines.append(
            "  ".join(
                words[n].ljust(size) if n in left else words[n].rjust(size)
                for n, size in sizes.items()
            ).rstrip()
        )
    return tuple(lines)
