"""Prints networks, coloured by stage."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from resnetkit.architecture import text
from resnetkit.architecture.comparison import Comparison, Side
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
    names = (comparison.first.title, comparison.second.title)
    numbers = [("", *names)]
    numbers += [(name, _text(a), _text(b)) for name, (a, b) in comparison.numbers.items()]
    options = [("option", *names)]
    options += [(name, _text(a), _text(b)) for name, (a, b) in comparison.options.items()]
    layers = [("path", names[0], "MACs", names[1], "MACs")]
    layers += [
        (difference.path, *_side(difference.first), *_side(difference.second))
        for difference in comparison.layers
    ]
    heads = [("heading", line) for line in text.aligned(numbers, left={0})[:1]]
    lines = [*heads, *(("", line) for line in text.aligned(numbers, left={0})[1:])]
    if comparison.options:
        head, *rest = text.aligned(options, left={0})
        lines += [("", ""), ("heading", head), *(("", line) for line in rest)]
    lines.append(("", ""))
    if comparison.layers:
        head, *rest = text.aligned(layers, left={0, 1, 3})
        lines += [("heading", head), *(("", line) for line in rest), ("", "")]
    lines.append(("", f"{len(comparison.layers)} of {comparison.paths} layers differ"))
    lines.append(("", text.MAC_MEANING))
    _print(lines)


def _side(side: Side | None) -> tuple[str, str]:
    return ("-", "") if side is None else (side.text, f"{side.macs:,}")


def _text(value: object) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return f"{value:,}" if type(value) is int else str(value)


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
