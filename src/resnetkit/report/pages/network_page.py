"""HTML page of a network.

The page is self-contained: no external script, style sheet, font or image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import groupby
from typing import Any

from resnetkit.architecture import registry, text
from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.layer import shape_text
from resnetkit.architecture.options import Options
from resnetkit.architecture.table_rows import TableRow
from resnetkit.report.drawing.svg import stage_color
from resnetkit.report.pages.sketch import Sketch
from resnetkit.report.pages.templates import template

_COLUMNS = text.columns("layer", formulas=False)
_FORMULAS = text.columns("layer", formulas=True)[len(_COLUMNS) :]


def network_page(explanation: Explanation) -> str:
    """The network of ``explanation`` as an HTML document."""
    return template("network_page.html").render(
        title=explanation.title,
        input=shape_text(explanation.input),
        network=explanation.network,
        problem=explanation.problem,
        figures=_figures(explanation),
        sketch=Sketch.of(explanation),
        columns=_COLUMNS,
        stages=list(_stages(explanation)),
        total=text.total_cells(explanation, _COLUMNS),
        notes=text.notes(explanation),
        options=list(_options(explanation)),
    )


def _figures(explanation: Explanation) -> tuple[tuple[str, str, str], ...]:
    """Name, value and description of the figures at the head of the page."""
    totals, counts = explanation.totals, explanation.network.layer_count
    reached = "last map reached" if explanation.problem else "of one image"
    return (
        ("input", shape_text(explanation.input), "channels x height x width"),
        ("output", shape_text(explanation.output), reached),
        ("parameters", f"{totals.parameters:,}", f"{totals.parameters / 1e6:.2f} million"),
        ("MACs", f"{totals.macs:,}", f"{totals.macs / 1e9:.2f} GMACs"),
        ("activations", f"{totals.activations:,}", "outputs of convolutions and linear layers"),
        ("buffers", f"{totals.buffers:,}", "kept by the norms, not trained"),
        ("layers by the paper", str(counts["paper"]), "stem, main path, fully connected"),
        ("layers by the notes", str(counts["notes"]), "study notes: stem and max-pool, main path"),
    )


def _stages(explanation: Explanation) -> Iterator[dict[str, Any]]:
    """Stages with their blocks and layers."""
    layers = {
        key: [_layer(row) for _, row in run]
        for key, run in groupby(
            zip(explanation.walk.steps, explanation.rows("layer"), strict=True),
            lambda pair: pair[0].located.block or pair[0].path,
        )
    }
    blocks = groupby(explanation.rows("block"), lambda row: row.stage)
    for stage, (_, inside) in zip(explanation.rows("stage"), blocks, strict=True):
        yield {
            "color": stage_color(stage.stage),
            "cells": _cells(explanation, stage),
            "blocks": [
                {
                    "is_layer": row.level == "layer",
                    "cells": _cells(explanation, row),
                    "layers": layers[row.path],
                }
                for row in inside
            ],
        }


def _layer(row: TableRow) -> dict[str, Any]:
    formulas = zip(_FORMULAS, text.cells(row, _FORMULAS), strict=True)
    named = zip(_COLUMNS, text.cells(row, _COLUMNS), strict=True)
    return {
        "reached": row.output is not None,
        "cells": [(name, cell, "") for name, cell in named],
        "formulas": [(name, formula) for name, formula in formulas if formula],
    }


def _cells(explanation: Explanation, row: TableRow) -> list[tuple[str, str, str]]:
    """The cells of a stage or block, with its percentages of the totals."""
    totals = explanation.totals
    parts = {"parameters": (row.parameters, totals.parameters), "MACs": (row.macs, totals.macs)}
    cells = []
    for name, cell in zip(_COLUMNS, text.cells(row, _COLUMNS), strict=True):
        part, whole = parts.get(name, (0, 0))
        words = "" if name == "path" and row.level == "stage" else cell
        cells.append((name, words, f"{100 * part / whole:.1f}%" if whole else ""))
    return cells


def _options(explanation: Explanation) -> Iterator[tuple[str, str, str, str]]:
    """Every option with its value, its meaning, and ``changed`` if it is not the catalogue's,
    ``usual`` if it is the default of all networks."""
    network = explanation.network
    changed, usual = registry.changes(network), Options()
    for option in fields(Options):
        value = getattr(network.options, option.name)
        state = "usual" if value == getattr(usual, option.name) else ""
        state = "changed" if option.name in changed else state
        yield option.name, _value(value), option.metadata["help"], state


def _value(value: object) -> str:
    """An option's value in command-line syntax."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)
