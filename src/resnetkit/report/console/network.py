"""Prints networks, coloured by stage."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

from resnetkit.architecture import text
from resnetkit.architecture.comparison import Comparison
from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.layer import shape_text
from resnetkit.architecture.table_rows import Level
from resnetkit.display import in_notebook

_STYLES = {
    "stage0": "yellow",
    "stage1": "green",
    "stage2": "cyan",
    "stage3": "blue",
    "stage4": "magenta",
    "head": "red",
    "problem": "bold red",
    "heading": "bold",
}


def show(
    explanation: Explanation, level: Level, *, formulas: bool = False, tree: bool = False
) -> None:
    """Print the table or tree of a network."""
    lines = text.tree_lines if tree else text.table_lines
    problem = explanation.problem
    _print(
        [
            ("heading", text.heading(explanation)),
            ("", ""),
            *lines(explanation, level, formulas),
            ("", ""),
            *(
                ("problem" if problem and problem in note else "", note)
                for note in text.notes(explanation)
            ),
        ]
    )


def show_catalog(rows: Iterable[tuple[str, int, int, tuple[int, ...], str]]) -> None:
    """Print one line per network: name, parameters, MACs, input, description."""
    cells = [("name", "parameters", "GMACs", "input", "what it is")]
    cells += [
        (name, f"{parameters:,}", f"{macs / 1e9:.3f}", shape_text(shape), about)
        for name, parameters, macs, shape, about in rows
    ]
    lines = text.aligned(cells, left={0, 4})
    _print(
        [
            ("heading", lines[0]),
            *(("", line) for line in lines[1:]),
            ("", ""),
            ("", f"{len(lines) - 1} networks; {text.MAC_MEANING}"),
        ]
    )


def show_comparison(comparison: Comparison) -> None:
    """Print the differences of two networks: options, totals, layers."""
    _print(_comparison_lines(comparison))


def comparison_text(comparison: Comparison) -> str:
    """The same as plain text."""
    return "\n".join(line for _, line in _comparison_lines(comparison))


def _comparison_lines(comparison: Comparison) -> Iterator[tuple[str, str]]:
    left = {0: {0}, 1: {0}, 2: {0, 1, 3}}
    for number, cells in enumerate(comparison.tables()):
        if len(cells) > 1:
            head, *rest = text.aligned(cells, left[number])
            yield from (("heading", head), *(("", line) for line in rest), ("", ""))
    yield "", comparison.verdict
    yield "", text.MAC_MEANING


def _print(lines: Iterable[tuple[str, str]]) -> None:
    """Print ``(style, line)``: coloured on a terminal, plain elsewhere."""
    if in_notebook() or not (sys.stdout.isatty() or os.environ.get("FORCE_COLOR")):
        print("\n".join(line for _, line in lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for style, line in lines:
        console.print(Text(line, style=_STYLES.get(style, "")))
