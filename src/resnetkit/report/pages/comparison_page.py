"""HTML page of two networks side by side; self-contained, as that of a network."""

from __future__ import annotations

from resnetkit.architecture import text
from resnetkit.architecture.comparison import Comparison
from resnetkit.report.pages.templates import template


def comparison_page(comparison: Comparison) -> str:
    """Two networks as an HTML document: numbers, options and layers that differ."""
    numbers, options, layers = comparison.tables()
    return template("comparison_page.html").render(
        names=comparison.names,
        verdict=comparison.verdict,
        abouts=[side.network.about for side in (comparison.first, comparison.second)],
        problems=[side.problem for side in (comparison.first, comparison.second)],
        tables=[
            ("Numbers", numbers, ()),
            ("Options that differ", options, ()),
            ("Layers that differ", layers, (1, 3)),
        ],
        note=text.MAC_MEANING,
    )
