"""Networks, explanations and comparisons in a notebook."""

from __future__ import annotations

import re

from markupsafe import Markup

from resnetkit.architecture import text
from resnetkit.architecture.comparison import Comparison, Difference, Side
from resnetkit.architecture.explanation import Explanation, explain
from resnetkit.architecture.network import Network
from resnetkit.architecture.table_rows import Level
from resnetkit.report.drawing.svg import drawing
from resnetkit.report.notebook.view import Table, View, tables

#: The columns whose cells are aligned at the left.
_WORDS = {"stage", "path", "what"}
#: Maximum number of differing layers that are listed.
_LISTED = 60


def network(shown: Network) -> View:
    """The drawing."""
    explanation = explain(shown)
    values = {"drawing": Markup(_compact(drawing(explanation)))}
    return View(name="drawing", heading=text.heading(explanation), values=values)


def explanation(shown: Explanation) -> View:
    """The table of the stages; those of the blocks and layers are folded."""
    about = (shown.network.about, shown.network.source)
    return tables(
        text.heading(shown),
        _level(shown, "stage"),
        about="; ".join(words for words in about if words),
        problem=shown.problem,
        folded=[("blocks", _level(shown, "block")), ("layers", _level(shown, "layer"))],
        notes=[note for note in text.notes(shown) if note != f"! {shown.problem}"],
    )


def comparison(shown: Comparison) -> View:
    """The totals and the options that differ; the layers that differ are folded."""
    names = (shown.first.title, shown.second.title)
    numbers = [(name, _value(a), _value(b)) for name, (a, b) in shown.numbers.items()]
    options = [(name, _value(a), _value(b)) for name, (a, b) in shown.options.items()]
    different = [Table(heads=("option", *names), rows=options)] if options else []
    count = len(shown.layers)
    layers = Table(
        heads=("path", names[0], "MACs", names[1], "MACs"),
        rows=[_difference(one) for one in shown.layers[:_LISTED]],
        left=frozenset({0, 1, 3}),
    )
    more = f"; the first {_LISTED}" if count > _LISTED else ""
    words = f"{count} of {shown.paths} layers differ{more}"
    return tables(
        f"{names[0]} and {names[1]}",
        Table(heads=("", *names), rows=numbers),
        *different,
        problem=shown.first.problem or shown.second.problem,
        folded=[(words, layers)] if count else [],
        notes=[*([] if count else [words]), text.MAC_MEANING],
    )


def _compact(svg: str) -> str:
    """A drawing, which escapes its own text, without what a notebook does not need: it is saved
    there, and a page's rules for classes could apply to it."""
    return re.sub(r'(?<=>)\n(?=<)| class="[^"]*"', "", svg)


def _level(explanation: Explanation, level: Level) -> Table:
    names = text.columns(level, formulas=False)
    return Table(
        heads=names,
        rows=[text.cells(row, names) for row in explanation.rows(level)],
        total=text.total_cells(explanation, names),
        left=frozenset(number for number, name in enumerate(names) if name in _WORDS),
    )


def _difference(one: Difference) -> tuple[str, ...]:
    return one.path, *_side(one.first), *_side(one.second)


def _side(side: Side | None) -> tuple[str, str]:
    return ("-", "") if side is None else (side.text, f"{side.macs:,}")


def _value(value: object) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return f"{value:,}" if type(value) is int else str(value)
