"""Prints networks, coloured by stage."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from resnetkit.architecture import text
from resnetkit.architecture.comparison import Comparison
from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.layer import shape_text
from resnetkit.architecture.table_rows import Level, TableRow
from resnetkit.report.console.fitting import (
    Fitted,
    fitted,
    is_coloured,
    terminal_width,
    wrapped,
)

_STYLES = {
    "stage0": "yellow",
    "stage1": "green",
    "stage2": "cyan",
    "stage3": "blue",
    "stage4": "magenta",
    "problem": "bold red",
    "heading": "bold",
}
#: The columns that a narrow terminal does without, the first first.
_EXPENDABLE = ("stride", "field", "stage", "MACs", "parameters")
#: The tree in ASCII.
_ASCII = str.maketrans({"│": "|", "├": "|", "└": "`", "─": "-"})
Lines = Iterable[tuple[str, str]]


def show(
    explanation: Explanation, level: Level, *, formulas: bool = False, tree: bool = False
) -> None:
    """Print the table or tree of a network, on a terminal within its width."""
    width = terminal_width()
    lines = _tree(explanation, level, formulas) if tree else _table(explanation, level, formulas)
    problem = explanation.problem
    notes = (
        ("problem" if problem and problem in note else "", note) for note in text.notes(explanation)
    )
    _print(
        [
            *_wrapped([("heading", text.heading(explanation))], width),
            ("", ""),
            *lines,
            ("", ""),
            *_wrapped(notes, width),
        ]
    )


def _table(explanation: Explanation, level: Level, formulas: bool) -> Lines:
    width = terminal_width()
    lines = text.table_lines(explanation, level, formulas)
    if width is None or max(len(line) for _, line in lines) <= width:
        return lines
    names, body = text.table_cells(explanation, level)
    expendable = _EXPENDABLE if level != "stage" else [n for n in _EXPENDABLE if n != "stage"]
    table = _fitted(names, body, width, expendable)
    if "stage" in table.left_out:  # the first column then is the path
        last = text.total_cells(explanation, names[1:])
        table = _fitted(names, [*body[:-1], ("", ("", *last))], width, expendable)
    rows = [
        [(stage, line) for line in lines]
        for (stage, _), lines in zip([("", ()), *body], table.rows, strict=True)
    ]
    if formulas:
        for drawn, row in zip(rows[1:], explanation.rows(level), strict=False):
            drawn.extend(_formulas(row, width))
    rule = [("", "-" * max(len(line) for row in rows for _, line in row))]
    parts = [rows[0], rule, *rows[1:]]
    if level != "network":
        parts.insert(-1, rule)
    notes = [("", line) for line in table.notes]
    return [line for part in (*parts, notes) for line in part]


def _fitted(
    names: tuple[str, ...],
    body: list[tuple[str, tuple[str, ...]]],
    width: int,
    expendable: Sequence[str],
) -> Fitted:
    return fitted(
        [names, *(cells for _, cells in body)],
        text.left_columns(names),
        width,
        wraps={names.index("what")},
        expendable=expendable,
    )


def _formulas(row: TableRow, width: int) -> Lines:
    """The formulas below a row, where they do not fit beside it."""
    named = [("size", row.formula), ("parameters", row.parameters_formula)]
    for name, formula in (*named, ("MACs", row.macs_formula)):
        if formula:
            for line in wrapped(f"{name} = {formula}", width - 4):
                yield row.stage, f"    {line}"


def _tree(explanation: Explanation, level: Level, formulas: bool) -> Lines:
    width = terminal_width()
    lines = text.tree_lines(explanation, level, formulas)
    if width is not None and max(len(line) for _, line in lines) > width:
        drawn = text.tree_cells(explanation, level, formulas)
        table = fitted(
            [("", "output", "parameters", "MACs", ""), *(cells for _, cells in drawn)],
            {0, 4},
            width,
            wraps={4},
            expendable=("parameters", "MACs"),
            beside=_bars,
        )
        stages = [stage for stage, _ in drawn]
        lines = [
            (stage, line) for stage, row in zip(stages, table.rows[1:], strict=True) for line in row
        ]
        lines += [("", line) for line in table.notes]
    if _writes("├─└│"):
        return lines
    return [(stage, line.translate(_ASCII)) for stage, line in lines]


def _bars(name: str) -> str:
    """What continues a name of the tree on the next line."""
    return "".join("│" if character in "│├" else " " for character in name).rstrip()


def _writes(characters: str) -> bool:
    """Whether stdout's encoding has the characters."""
    try:
        characters.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def show_catalog(rows: Iterable[tuple[str, int, int, tuple[int, ...], str]]) -> None:
    """Print one line per network: name, parameters, MACs, input, description."""
    cells = [("name", "parameters", "GMACs", "input", "what it is")]
    cells += [
        (name, f"{parameters:,}", f"{macs / 1e9:.3f}", shape_text(shape), about)
        for name, parameters, macs, shape, about in rows
    ]
    width = terminal_width()
    ending = ("", f"{len(cells) - 1} networks; {text.MAC_MEANING}")
    table = fitted(cells, {0, 4}, width, wraps={4}, expendable=("input", "GMACs", "parameters"))
    _print([*_headed(table), ("", ""), *_wrapped([ending], width)])


def show_comparison(comparison: Comparison) -> None:
    """Print the differences of two networks: options, totals, layers."""
    _print(_comparison_lines(comparison, terminal_width()))


def comparison_text(comparison: Comparison) -> str:
    """The same as plain text."""
    return "\n".join(line for _, line in _comparison_lines(comparison, None))


def _comparison_lines(comparison: Comparison, width: int | None) -> Lines:
    numbers, options, layers = comparison.tables()
    for cells, left, wraps in (
        (numbers, {0}, {1, 2}),
        (options, {0}, {1, 2}),
        (layers, {0, 1, 3}, {1, 3}),
    ):
        if len(cells) > 1:
            table = fitted(cells, left, width, wraps=wraps, expendable=("MACs",))
            yield from (*_headed(table), ("", ""))
    yield from _wrapped([("", comparison.verdict), ("", text.MAC_MEANING)], width)


def _headed(table: Fitted) -> Lines:
    """The lines of a table, the first row as its heading, and what is left out."""
    for number, row in enumerate(table.rows):
        yield from (("" if number else "heading", line) for line in row)
    yield from (("", line) for line in table.notes)


def _wrapped(lines: Lines, width: int | None) -> Lines:
    for style, line in lines:
        yield from ((style, part) for part in wrapped(line, width))


def _print(lines: Lines) -> None:
    """Print ``(style, line)``: coloured on a terminal, plain elsewhere."""
    if not is_coloured():
        print("\n".join(line for _, line in lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for style, line in lines:
        console.print(Text(line, style=_STYLES.get(style, "")))
