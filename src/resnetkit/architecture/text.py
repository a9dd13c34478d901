"""An explanation as plain text: table, tree, Markdown and CSV, from the same cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Sequence

from resnetkit.architecture.layer import shape_text
from resnetkit.architecture.table_rows import Explained, Level, TableRow
from resnetkit.errors import printable

#: The definition of a MAC, printed below tables.
MAC_MEANING = (
    "1 MAC = one multiply-add of a convolution or linear layer = 2 FLOPs; nothing else counts"
)
_LEFT = {"stage", "path", "what", "size", "parameters =", "MACs ="}


def columns(level: Level, formulas: bool) -> tuple[str, ...]:
    """The headings of a level's table."""
    names: tuple[str, ...] = (
        "stage",
        "path",
        "what",
        "output",
        "parameters",
        "MACs",
        "field",
        "stride",
    )
    if level == "network":
        names = names[1:]
    elif level == "stage":
        names = names[:1] + names[2:]
    return names + (("size", "parameters =", "MACs =") if formulas else ())


def cells(row: TableRow, names: tuple[str, ...]) -> tuple[str, ...]:
    """The texts of a row in the named columns."""
    texts = {
        "stage": row.stage,
        "path": row.path,
        "what": row.what,
        "output": "-" if row.output is None else shape_text(row.output),
        "parameters": f"{row.parameters:,}",
        "MACs": f"{row.macs:,}",
        "field": f"{row.receptive_field:,}",
        "stride": str(row.stride),
        "size": row.formula,
        "parameters =": row.parameters_formula,
        "MACs =": row.macs_formula,
    }
    return tuple(texts[name] for name in names)


def total_cells(explanation: Explained, names: tuple[str, ...]) -> tuple[str, ...]:
    """The last row: the sums of the columns that add up."""
    totals = explanation.totals
    sums = {
        "parameters": f"{totals.parameters:,}",
        "MACs": f"{totals.macs:,}",
        "output": shape_text(explanation.output),
        names[0]: "total",
    }
    return tuple(sums.get(name, "") for name in names)


def notes(explanation: Explained) -> list[str]:
    """The lines below a table: the problem, if any, both layer counts, what the columns mean."""
    network = explanation.network
    stem, pools, stages = network.layer_sums()
    counts = network.layer_count
    linear = counts["paper"] - stem - sum(stages)
    paper = " + ".join(map(str, (stem, *stages, linear)))
    counted = " + ".join(map(str, (stem + pools, *stages)))
    lines = [f"! {explanation.problem}"] if explanation.problem else []
    return [
        *lines,
        f"{counts['paper']} layers by the paper: {paper} "
        "(He et al. 2015: stem, main-path convolutions of each stage, fully connected)",
        f"{counts['notes']} layers by the notes: {counted} "
        "(study notes on ResNet-50: stem and max-pool, main-path convolutions of each stage)",
        MAC_MEANING,
        "field: side of the square of input pixels that one output sees; "
        "stride: input pixels between outputs",
    ]


def heading(explanation: Explained) -> str:
    """The line above a table."""
    totals = explanation.totals
    return (
        f"{explanation.title} at {shape_text(explanation.input)}: "
        f"{totals.parameters / 1e6:.2f} M parameters, {_macs(totals.macs)}, "
        f"{totals.activations / 1e6:.2f} M activations"
    )


def _macs(macs: int) -> str:
    return f"{macs / 1e9:.2f} GMACs" if macs >= 1e9 else f"{macs / 1e6:.2f} MMACs"


def table_lines(
    explanation: Explained, level: Level, formulas: bool = False
) -> list[tuple[str, str]]:
    """The aligned table as ``(stage, line)``; stage is ``""`` outside stages."""
    names, body = table_cells(explanation, level, formulas)
    head, *lines = aligned([names, *(cells for _, cells in body)], left_columns(names))
    rule = ("", "-" * max(map(len, (head, *lines))))
    drawn = [
        ("", head),
        rule,
        *((stage, line) for (stage, _), line in zip(body, lines, strict=True)),
    ]
    return drawn if level == "network" else [*drawn[:-1], rule, drawn[-1]]


def table_cells(
    explanation: Explained, level: Level, formulas: bool = False
) -> tuple[tuple[str, ...], list[tuple[str, tuple[str, ...]]]]:
    """The headings, and the stage and cells of each row; the last are the totals, if it has any."""
    names = columns(level, formulas)
    body = [(row.stage, cells(row, names)) for row in explanation.rows(level)]
    total = [] if level == "network" else [("", total_cells(explanation, names))]
    return names, [*body, *total]


def left_columns(names: Sequence[str]) -> set[int]:
    """The columns of words, which are left-aligned."""
    return {index for index, name in enumerate(names) if name in _LEFT}


def aligned(lines: Sequence[tuple[str, ...]], left: Container[int]) -> list[str]:
    """Align cells in columns; the columns in ``left`` are left-aligned."""
    lines = [tuple(map(printable, line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if index in left else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def table(explanation: Explained, level: Level, formulas: bool = False) -> str:
    """Heading, aligned table and notes."""
    lines = [line for _, line in table_lines(explanation, level, formulas)]
    return "\n".join([heading(explanation), "", *lines, "", *notes(explanation)])


def markdown(explanation: Explained, level: Level, formulas: bool = False) -> str:
    """The table in GitHub Markdown."""
    names = columns(level, formulas)
    lines = [cells(row, names) for row in explanation.rows(level)]
    if level != "network":
        lines.append(total_cells(explanation, names))
    rule = [":--" if name in _LEFT else "--:" for name in names]
    body = ["| " + " | ".join(line) + " |" for line in (names, rule, *lines)]
    return "\n".join([f"**{heading(explanation)}**", "", *body, "", *_bullets(explanation)])


def _bullets(explanation: Explained) -> list[str]:
    return [f"- {line}" for line in notes(explanation)]


def comma_separated(explanation: Explained, level: Level, formulas: bool = False) -> str:
    """The rows as CSV with plain numbers and no total."""
    names = ["stage", "path", "what", "output", "parameters", "buffers", "macs", "activations"]
    names += ["receptive_field", "stride"]
    names += ["formula", "parameters_formula", "macs_formula"] if formulas else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in explanation.rows(level):
        output = "" if row.output is None else shape_text(row.output)
        writer.writerow([output if name == "output" else getattr(row, name) for name in names])
    return out.getvalue().rstrip("\n")


def tree_lines(
    explanation: Explained, level: Level, formulas: bool = False
) -> list[tuple[str, str]]:
    """The hierarchy network, stage, block, layer as ``(stage, line)``, down to ``level``."""
    drawn = tree_cells(explanation, level, formulas)
    width, wide = (max(len(cells[n]) for _, cells in drawn) for n in (0, 1))
    return [
        (stage, f"{name:<{width}}  {output:>{wide}}  {parameters:>20} {macs:>20}  {words}".rstrip())
        for stage, (name, output, parameters, macs, words) in drawn
    ]


def tree_cells(
    explanation: Explained, level: Level, formulas: bool = False
) -> list[tuple[str, tuple[str, str, str, str, str]]]:
    """The stage of each row of the tree, and its name, output, parameters, MACs and description."""
    items = _tree_items(explanation, level)
    lasts = _last_of_siblings([depth for depth, _ in items])
    drawn = []
    open_branches: list[bool] = []
    for (depth, row), last in zip(items, lasts, strict=True):
        open_branches = open_branches[: depth - 1]
        bars = "".join("│  " if more else "   " for more in open_branches)
        branch = "" if depth == 0 else ("└─ " if last else "├─ ")
        label = row.path.split(".", 2)[2] if depth == 3 else row.path
        output = "-" if row.output is None else shape_text(row.output)
        words = row.formula if formulas and row.formula else row.what
        numbers = (f"{row.parameters:,} params", f"{row.macs:,} MACs")
        drawn.append((row.stage, (f"{bars}{branch}{label}", output, *numbers, words)))
        if depth:
            open_branches.append(not last)
    return drawn


def _tree_items(explanation: Explained, level: Level) -> list[tuple[int, TableRow]]:
    """Rows with their depth: 0 network, 1 stage, 2 block or lone layer, 3 layer."""
    items = [(0, explanation.rows("network")[0])]
    if level == "network":
        return items
    blocks, layers = explanation.rows("block"), explanation.rows("layer")
    for stage in explanation.rows("stage"):
        items.append((1, stage))
        if level == "stage":
            continue
        for block in (row for row in blocks if row.stage == stage.stage):
            items.append((2, block))
            if level == "layer" and block.level == "block":
                inside = (row for row in layers if row.path.startswith(f"{block.path}."))
                items += [(3, row) for row in inside]
    return items


def _last_of_siblings(depths: list[int]) -> list[bool]:
    lasts = []
    for index, depth in enumerate(depths):
        following = next((d for d in depths[index + 1 :] if d <= depth), -1)
        lasts.append(following < depth)
    return lasts


def tree(explanation: Explained, level: Level, formulas: bool = False) -> str:
    """Heading, tree and notes."""
    lines = [line for _, line in tree_lines(explanation, level, formulas)]
    return "\n".join([heading(explanation), "", *lines, "", *notes(explanation)])
