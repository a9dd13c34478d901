"""Layout of a network on a wide sheet: stages as stacked panels.

The signal runs left to right, block by block, then back to the left for the next line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import ceil

from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.layer import shape_text
from resnetkit.architecture.shape_inference import Step
from resnetkit.architecture.table_rows import TableRow, shortcut_text
from resnetkit.report.drawing.block_card import (
    COLUMN,
    Card,
    Paths,
    card_height,
    card_width,
    lay_card,
    paths,
)
from resnetkit.report.drawing.caption import Swatch, footer, legend, title
from resnetkit.report.drawing.marks import (
    LINE,
    NAME_SIZE,
    Box,
    Label,
    Note,
    Point,
    Style,
    Tile,
    Wire,
    note,
    note_width,
    stack_height,
    stack_tiles,
    stacks,
    typeset,
    wrapped,
)

MARGIN, EDGE, _FACTS, RETURN, _GAP = 28, 18, 186, 34, 28
BETWEEN_LINES, BETWEEN_PANELS = 30, 46
_LEAST_WIDTH = 980
#: Maximum number of blocks per line, except in very long stages.
_FEW, _MANY = 6, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The layout of a stage: blocks as cards, or the layers of the stem or head in one line.

    The signal enters at ``entry`` from the left and leaves downwards from ``exit``.
    """

    row: TableRow
    box: Box
    labels: tuple[Label, ...]
    entry: Point
    exit: Point
    cards: tuple[Card, ...] = ()
    tiles: tuple[Tile, ...] = ()
    notes: tuple[Note, ...] = ()
    wires: tuple[Wire, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The whole drawing, ``width`` by ``height`` pixels."""

    width: int
    height: int
    labels: tuple[Label, ...]
    legend: tuple[Swatch, ...]
    panels: tuple[Panel, ...]
    wires: tuple[Wire, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A stage's steps with its row and the paths of its blocks, if any."""

    row: TableRow
    steps: tuple[Step, ...]
    blocks: tuple[Paths, ...]

    def lines(self, most: int) -> list[tuple[Paths, ...]]:
        """The blocks in lines of equal length, at most ``most`` in each."""
        count = -(-len(self.blocks) // most)
        length = -(-len(self.blocks) // count)
        return [self.blocks[i : i + length] for i in range(0, len(self.blocks), length)]


def lay_out(explanation: Explanation) -> Sheet:
    """Place everything of ``explanation`` on a sheet."""
    runs = runs_of(explanation)
    deepest = max(len(run.blocks) for run in runs)
    most = _FEW if deepest <= _FEW else _MANY
    inner = max(_LEAST_WIDTH, *(_panel_width(explanation, run, most) for run in runs))
    top = title(explanation, MARGIN, inner)
    samples = legend(explanation, MARGIN, top[-1].y + 14, inner)
    y = max(swatch.label.y for swatch in samples) + 26
    panels: list[Panel] = []
    for run in runs:
        box = Box(x=MARGIN, y=y, width=inner, height=0)
        panels.append(_block_panel(run, box, most) if run.blocks else _chain(explanation, run, box))
        y = panels[-1].box.bottom + BETWEEN_PANELS
    wires, shapes = between_panels(panels, MARGIN + EDGE + _FACTS + RETURN)
    bottom = footer(explanation, MARGIN, y - 6, inner)
    return Sheet(
        width=ceil(inner) + 2 * MARGIN,
        height=ceil(bottom[-1].y) + MARGIN,
        labels=(*top, *shapes, *bottom),
        legend=samples,
        panels=tuple(panels),
        wires=wires,
    )


def runs_of(explanation: Explanation) -> list[Run]:
    """The stages of a network and its head, in order."""
    network = explanation.network
    blocks = {block.name: block for stage in network.stages for block in stage.blocks}
    block_rows = {row.path: row for row in explanation.rows("block")}
    stage_rows = {row.stage: row for row in explanation.rows("stage")}
    runs = []
    for stage, stage_steps in groupby(explanation.walk.steps, lambda step: step.located.stage):
        steps = tuple(stage_steps)
        drawn = [
            paths(block_rows[name], shortcut_text(blocks[name]), tuple(run))
            for name, run in groupby(steps, lambda step: step.located.block)
            if name is not None
        ]
        runs.append(Run(stage_rows[stage], steps, tuple(drawn)))
    return runs


def _block_panel(run: Run, frame: Box, most: int) -> Panel:
    """Cards in lines below ``frame``'s upper edge, with wires from each to the next."""
    left = frame.x + EDGE + _FACTS + RETURN
    height = max(card_height(block) for block in run.blocks)
    cards: list[Card] = []
    wires: list[Wire] = []
    y = frame.y + EDGE
    for line in run.lines(most):
        x = left
        for block in line:
            cards.append(lay_card(block, x, y, height))
            x = cards[-1].box.right + _GAP
        y += height + BETWEEN_LINES
    for card, following in pairwise(cards):
        if card.box.y == following.box.y:
            wires.append(_to_the_right(card, following))
        else:
            turn = card.box.bottom + BETWEEN_LINES / 2
            wires.append(to_the_next_line(card.exit, turn, left, entry_of(following)))
    wires += [Wire(points=(entry_of(card), card.fork), arrow=False) for card in cards]
    box = Box(x=frame.x, y=frame.y, width=frame.width, height=y - BETWEEN_LINES + EDGE - frame.y)
    return Panel(
        row=run.row,
        box=box,
        labels=_facts(run, box),
        entry=entry_of(cards[0]),
        exit=cards[-1].exit,
        cards=tuple(cards),
        wires=tuple(wires),
    )


def entry_of(card: Card) -> Point:
    """Where the signal enters the frame of a block."""
    return card.box.x, card.fork[1]


def _to_the_right(card: Card, following: Card) -> Wire:
    """From the end of a block up to the beginning of the next."""
    low, between = card.box.bottom - 7, (card.box.right + following.box.x) / 2
    entry = entry_of(following)
    around = (card.exit, (card.exit[0], low), (between, low), (between, entry[1]), entry)
    return Wire(points=around)


def to_the_next_line(start: Point, turn: float, left: float, entry: Point) -> Wire:
    """Down from ``start``, back along ``turn``, and down to ``entry`` right of ``left``."""
    lane = left - RETURN / 2
    return Wire(points=(start, (start[0], turn), (lane, turn), (lane, entry[1]), entry))


def between_panels(panels: Sequence[Panel], left: float) -> tuple[tuple[Wire, ...], list[Label]]:
    """The wires between stages, whose layers begin at ``left``, labelled with their shape."""
    wires, labels = [], []
    for panel, following in pairwise(panels):
        turn = panel.box.bottom + BETWEEN_PANELS / 2
        wires.append(to_the_next_line(panel.exit, turn, left, following.entry))
        if panel.row.output is not None:
            shape = typeset(shape_text(panel.row.output))
            x = min(left + 70, (left + panel.exit[0]) / 2)
            labels.append(
                Label(x=x, y=turn + 4, text=shape, size=NAME_SIZE, anchor="middle", plate=True)
            )
    return tuple(wires), labels


def chain_notes(
    explanation: Explanation, run: Run
) -> tuple[list[tuple[str, Style]], list[tuple[str, Style]]]:
    """The labels of the input before the first layer and the output after the last."""
    if run.row.stage != "head":
        shape = typeset(shape_text(explanation.input))
        return [("input", "strong"), (shape, "muted")], []
    if explanation.problem:
        return [], [("no output", "strong"), ("see below", "muted")]
    return [], [("output", "strong"), (typeset(shape_text(explanation.output)), "muted")]


def _chain(explanation: Explanation, run: Run, frame: Box) -> Panel:
    """The layers of the stem or head from left to right, norms and activations below."""
    before, behind = chain_notes(explanation, run)
    columns = stacks(run.steps)
    tallest = max(stack_height(stack, COLUMN) for stack in columns)
    middle = frame.y + EDGE + max(tallest, _facts_height() - EDGE) / 2
    x = frame.x + EDGE + _FACTS + RETURN
    entry = (x, middle)
    notes: list[Note] = []
    tiles: list[Tile] = []
    wires: list[Wire] = []
    reached = True
    if before:
        notes.append(_beside(before, x, middle, missing=False))
        x = notes[-1].box.right + _GAP
    for stack in columns:
        top = middle - stack_height(stack, COLUMN) / 2
        reached = stack[0].output is not None
        if tiles or notes:
            wires.append(Wire(points=((x - _GAP, middle), (x, middle)), reached=reached))
        tiles += stack_tiles(stack, x, top, COLUMN)
        x += COLUMN + _GAP
    leaving = (x - _GAP - COLUMN / 2, tiles[-1].box.bottom)
    if behind:
        wires.append(Wire(points=((x - _GAP, middle), (x, middle)), reached=reached))
        notes.append(_beside(behind, x, middle, missing=not reached))
    bottom = max(middle + tallest / 2, frame.y + _facts_height())
    if run.row.stage == "head" and explanation.problem:
        notes.append(_problem(explanation.problem, frame, bottom + 14))
        bottom = notes[-1].box.bottom
    box = Box(x=frame.x, y=frame.y, width=frame.width, height=bottom + EDGE - frame.y)
    return Panel(
        row=run.row,
        box=box,
        labels=_facts(run, box),
        entry=entry,
        exit=leaving,
        tiles=tuple(tiles),
        notes=tuple(notes),
        wires=tuple(wires),
    )


def _beside(lines: list[tuple[str, Style]], x: float, middle: float, *, missing: bool) -> Note:
    height = 12 + LINE * len(lines)
    width = note_width(line for line, _ in lines)
    return note(lines, x, middle - height / 2, width, "missing" if missing else "signal")


def _problem(problem: str, frame: Box, y: float) -> Note:
    x = frame.x + EDGE + _FACTS + RETURN
    width = frame.x + frame.width - EDGE - x
    lines: list[tuple[str, Style]] = [
        (line, "warning") for line in wrapped(problem, width - 24, NAME_SIZE, bold=True)
    ]
    return note(lines, x, y, width, "warning")


def _panel_width(explanation: Explanation, run: Run, most: int) -> float:
    """The minimum width of a stage."""
    left = EDGE + _FACTS + RETURN
    if run.blocks:
        inner = max(
            sum(card_width(block) + _GAP for block in line) - _GAP for line in run.lines(most)
        )
        return left + inner + EDGE
    notes = sum(
        note_width(line for line, _ in lines) + _GAP
        for lines in chain_notes(explanation, run)
        if lines
    )
    return left + notes + len(stacks(run.steps)) * (COLUMN + _GAP) - _GAP + EDGE


def _facts_height() -> int:
    return 44 + 6 * (LINE + 2)


def facts_of(run: Run) -> tuple[tuple[str, str], ...]:
    """A stage's numbers by name."""
    row = run.row
    output = "none" if row.output is None else typeset(shape_text(row.output))
    count = ("blocks", str(len(run.blocks))) if run.blocks else ("layers", str(len(run.steps)))
    return (
        count,
        ("output", output),
        ("receptive field", f"{row.receptive_field:,}"),
        ("stride", str(row.stride)),
        ("parameters", f"{row.parameters:,}"),
        ("MACs", f"{row.macs:,}"),
    )


def _facts(run: Run, box: Box) -> tuple[Label, ...]:
    """The stage's name and numbers, at its left edge."""
    x, y = box.x + EDGE, box.y + EDGE + 16
    labels = [Label(x=x, y=y, text=run.row.stage, size=19, style="stage")]
    for number, (name, value) in enumerate(facts_of(run), start=1):
        line = y + 8 + number * (LINE + 2)
        labels += [
            Label(x=x, y=line, text=name, size=NAME_SIZE, style="muted"),
            Label(x=x + _FACTS, y=line, text=value, size=NAME_SIZE, anchor="end"),
        ]
    return tuple(labels)
