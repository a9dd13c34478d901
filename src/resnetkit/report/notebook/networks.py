"""Networks, explanations and comparisons in a notebook."""

from __future__ import annotations

import re

from markupsafe import Markup

from resnetkit.architecture import text
from resnetkit.architecture.comparison import Comparison
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
    (head, *numbers), (options_head, *options), (layers_head, *rows) = shown.tables()
    different = [Table(heads=options_head, rows=options)] if options else []
    count = len(rows)
    layers = Table(heads=layers_head, rows=rows[:_LISTED], left=frozenset({0, 1, 3}))
    more = f"; the first {_LISTED}" if count > _LISTED else ""
    words = f"{shown.verdict}{more}"
    return tables(
        " and ".join(shown.names),
        Table(heads=head, rows=numbers),
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
