"""Layout of a network for narrow screens: stages, blocks and layers below each other."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

from resnetkit.architecture.explanation import Explanation
from resnetkit.report.drawing.block_card import COLUMN, Card, card_height, card_width, lay_card
from resnetkit.report.drawing.caption import footer, legend, title
from resnetkit.report.drawing.layout import (
    BETWEEN_LINES,
    BETWEEN_PANELS,
    EDGE,
    RETURN,
    Panel,
    Run,
    Sheet,
    between_panels,
    chain_notes,
    entry_of,
    facts_of,
    runs_of,
    to_the_next_line,
)
from resnetkit.report.drawing.marks import (
    LINE,
    NAME_SIZE,
    Box,
    Label,
    Note,
    Style,
    Tile,
    Wire,
    note,
    note_width,
    stack_tiles,
    stacks,
    wrapped,
)

_MARGIN, _GAP, _LEAST_WIDTH = 10, 20, 400
_INDENT = EDGE + RETURN


def lay_out_column(explanation: Explanation) -> Sheet:
    """Place everything of ``explanation`` on a sheet about as wide as one block."""
    runs = runs_of(explanation)
    blocks = [block for run in runs for block in run.blocks]
    inner = max(_LEAST_WIDTH, *(_INDENT + card_width(block) + EDGE for block in blocks))
    top = title(explanation, _MARGIN, inner)
    samples = legend(explanation, _MARGIN, top[-1].y + 14, inner)
    y = max(swatch.label.y for swatch in samples) + 26
    panels: list[Panel] = []
    for run in runs:
        frame = Box(x=_MARGIN, y=y, width=inner, height=0)
        panels.append(_blocks(run, frame) if run.blocks else _chain(explanation, run, frame))
        y = panels[-1].box.bottom + BETWEEN_PANELS
    wires, shapes = between_panels(panels, _MARGIN + _INDENT)
    bottom = footer(explanation, _MARGIN, y - 6, inner)
    return Sheet(
        width=ceil(inner) + 2 * _MARGIN,
        height=ceil(bottom[-1].y) + _MARGIN,
        labels=(*top, *shapes, *bottom),
        legend=samples,
        panels=tuple(panels),
        wires=wires,
    )


def _blocks(run: Run, frame: Box) -> Panel:
    """Cards below each other, with wires from each to the next."""
    labels, y = _facts(run, frame)
    left = frame.x + _INDENT
    cards: list[Card] = []
    for block in run.blocks:
        cards.append(lay_card(block, left, y, card_height(block)))
        y = cards[-1].box.bottom + BETWEEN_LINES
    wires = [
        to_the_next_line(card.exit, card.box.bottom + BETWEEN_LINES / 2, left, entry_of(following))
        for card, following in pairwise(cards)
    ]
    wires += [Wire(points=(entry_of(card), card.fork), arrow=False) for card in cards]
    return Panel(
        row=run.row,
        box=_closed(frame, cards[-1].box.bottom),
        labels=labels,
        entry=entry_of(cards[0]),
        exit=cards[-1].exit,
        cards=tuple(cards),
        wires=tuple(wires),
    )


def _chain(explanation: Explanation, run: Run, frame: Box) -> Panel:
    """The layers of the stem or head from top to bottom."""
    labels, y = _facts(run, frame)
    x = frame.x + _INDENT
    middle = x + COLUMN / 2
    before, behind = chain_notes(explanation, run)
    notes: list[Note] = []
    tiles: list[Tile] = []
    wires: list[Wire] = []

    def framed(lines: list[tuple[str, Style]], *, missing: bool) -> float:
        width = note_width(line for line, _ in lines)
        at = middle - width / 2
        notes.append(note(lines, at, y, width, "missing" if missing else "signal"))
        return notes[-1].box.bottom

    if before:
        y = framed(before, missing=False) + _GAP
    reached = True
    for stack in stacks(run.steps):
        reached = stack[0].output is not None
        if tiles or notes:
            wires.append(Wire(points=((middle, y - _GAP), (middle, y)), reached=reached))
        tiles += stack_tiles(stack, x, y, COLUMN)
        y = tiles[-1].box.bottom + _GAP
    leaving = (middle, tiles[-1].box.bottom)
    if behind:
        wires.append(Wire(points=((middle, y - _GAP), (middle, y)), reached=reached))
        y = framed(behind, missing=not reached) + _GAP
    if run.row.stage == "head" and explanation.problem:
        width = frame.width - 2 * EDGE
        words = wrapped(explanation.problem, width - 24, NAME_SIZE, bold=True)
        lines: list[tuple[str, Style]] = [(line, "warning") for line in words]
        notes.append(note(lines, frame.x + EDGE, y, width, "warning"))
        y = notes[-1].box.bottom + _GAP
    return Panel(
        row=run.row,
        box=_closed(frame, y - _GAP),
        labels=labels,
        entry=(x, tiles[0].box.middle[1]),
        exit=leaving,
        tiles=tuple(tiles),
        notes=tuple(notes),
        wires=tuple(wires),
    )


def _facts(run: Run, frame: Box) -> tuple[tuple[Label, ...], float]:
    """The stage's name and numbers in two columns, and where its layers begin below them."""
    x, y = frame.x + _INDENT, frame.y + EDGE + 16  # beside the wire from the last stage
    labels = [Label(x=x, y=y, text=run.row.stage, size=19, style="stage")]
    half = (frame.width - _INDENT - 2 * EDGE) / 2
    for number, (name, value) in enumerate(facts_of(run)):
        left = x + (number // 3) * (half + EDGE)
        line = y + 8 + (number % 3 + 1) * (LINE + 2)
        labels += [
            Label(x=left, y=line, text=name, size=NAME_SIZE, style="muted"),
            Label(x=left + half, y=line, text=value, size=NAME_SIZE, anchor="end"),
        ]
    return tuple(labels), y + 8 + 3 * (LINE + 2) + EDGE


def _closed(frame: Box, bottom: float) -> Box:
    return Box(x=frame.x, y=frame.y, width=frame.width, height=bottom + EDGE - frame.y)
