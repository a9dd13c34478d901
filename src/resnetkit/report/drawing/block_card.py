"""Layout of a block: main path in the middle, gate below it, shortcut on the right.

The signal enters at ``fork`` and leaves at ``exit``; both lie on the middle of the main path.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import get_args

from resnetkit.architecture.block import Branch
from resnetkit.architecture.shape_inference import Step
from resnetkit.architecture.table_rows import TableRow
from resnetkit.report.drawing.marks import (
    LINE,
    NAME_SIZE,
    NODE,
    SMALL_SIZE,
    SYMBOLS,
    Box,
    Label,
    Point,
    Role,
    Style,
    Tile,
    Wire,
    node,
    size_text,
    stack_height,
    stack_tiles,
    stacks,
    text_width,
)

#: Widths of the main path and of a shortcut with layers.
COLUMN, LANE = 158, 142
_EDGE, _BYPASS, _BETWEEN, _BARE_LANE = 14, 22, 18, 58
_HEADER, _GAP, _GATE_TITLE, _FRAME = 44, 15, 18, 6
#: Room for the shortcut's name above its first layer.
_ABOVE_LANE = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """A block's steps by branch, its totals, and the name of its shortcut."""

    row: TableRow
    shortcut_name: str
    main: tuple[Step, ...]
    gate: tuple[Step, ...]
    shortcut: tuple[Step, ...]
    junction: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The layout of a block. ``gate`` frames the gate's layers, if there is one."""

    row: TableRow
    box: Box
    tiles: tuple[Tile, ...]
    wires: tuple[Wire, ...]
    labels: tuple[Label, ...]
    dots: tuple[Point, ...]
    fork: Point
    exit: Point
    gate: Box | None


@dataclass(frozen=True, slots=True)
class _Strand:
    """Stacks below each other with wires between them; ``end`` is their lower end."""

    tiles: list[Tile]
    wires: list[Wire]
    end: Point


@dataclass(frozen=True, slots=True)
class _Gate:
    """A gate's layers in their frame; ``split`` is the branching point on the main path."""

    layers: _Strand
    frame: Box
    label: Label
    split: Point


def paths(row: TableRow, shortcut_name: str, steps: tuple[Step, ...]) -> Paths:
    """The steps of one block, sorted by branch."""
    of = {
        branch: tuple(step for step in steps if step.located.branch == branch)
        for branch in get_args(Branch)
    }
    return Paths(row=row, shortcut_name=shortcut_name, **of)


def _strand_height(steps: tuple[Step, ...], width: float) -> int:
    return sum(_GAP + stack_height(stack, width) for stack in stacks(steps))


def _junction_height(steps: tuple[Step, ...]) -> int:
    return sum(
        _GAP + (NODE if step.layer.kind in SYMBOLS else stack_height((step,), COLUMN))
        for step in steps
    )


def card_height(block: Paths) -> int:
    """The minimum height of the block."""
    gate = 9 + _FRAME + _GATE_TITLE + _strand_height(block.gate, COLUMN) if block.gate else 0
    main = _strand_height(block.main, COLUMN) + gate
    around = _ABOVE_LANE + _strand_height(block.shortcut, LANE)
    return _HEADER + max(main, around) + _junction_height(block.junction) + 2 * _EDGE


def card_width(block: Paths) -> int:
    """The width of the block, by its heading or its paths."""
    lane = LANE if block.shortcut else _BARE_LANE
    bypass = _BYPASS if block.gate else 0
    drawn = 2 * _EDGE + bypass + COLUMN + _BETWEEN + lane
    worded = max(
        text_width(left, size, bold=bold) + text_width(right, size)
        for left, right, size, bold in _header_lines(block)
    )
    return max(drawn, ceil(worded) + 2 * _EDGE + 14)


def _header_lines(block: Paths) -> tuple[tuple[str, str, float, bool], ...]:
    row, last = block.row, block.junction[-1]
    return (
        (row.path, size_text(last), NAME_SIZE + 1, True),
        (f"{row.parameters:,} parameters", f"{row.macs:,} MACs", SMALL_SIZE, False),
    )


def _header(block: Paths, box: Box) -> list[Label]:
    labels = []
    for number, (left, right, size, bold) in enumerate(_header_lines(block)):
        y = box.y + 20 + number * (LINE + 1)
        style: Style = "stage" if bold else "muted"
        labels += [
            Label(x=box.x + _EDGE, y=y, text=left, size=size, style=style),
            Label(x=box.right - _EDGE, y=y, text=right, size=size, anchor="end", style="muted"),
        ]
    return labels


def _strand(steps: tuple[Step, ...], start: Point, width: float, role: Role) -> _Strand:
    """Stacks of ``width``, centred below ``start``."""
    x, y = start
    tiles: list[Tile] = []
    wires: list[Wire] = []
    for stack in stacks(steps):
        reached = stack[0].output is not None
        wires.append(Wire(points=((x, y), (x, y + _GAP)), role=role, reached=reached))
        tiles += stack_tiles(stack, x - width / 2, y + _GAP, width)
        y = tiles[-1].box.bottom
    return _Strand(tiles, wires, (x, y))


def _junction(steps: tuple[Step, ...], start: Point) -> _Strand:
    """The nodes that join the paths, and the activation after them."""
    x, y = start
    tiles: list[Tile] = []
    wires: list[Wire] = []
    for step in steps:
        wires.append(Wire(points=((x, y), (x, y + _GAP))))
        if step.layer.kind in SYMBOLS:
            tiles.append(node(step, x, y + _GAP + NODE / 2))
        else:
            tiles += stack_tiles((step,), x - COLUMN / 2, y + _GAP, COLUMN)
        y = tiles[-1].box.bottom
    return _Strand(tiles, wires, (x, y))


def _shortcut(block: Paths, fork: Point, add: Box, lane_x: float) -> _Strand:
    """From the fork to the right, down through its layers, and back to the addition."""
    corner, back = (lane_x, fork[1]), (lane_x, add.middle[1])
    entry = (add.right, add.middle[1])
    if not block.shortcut:
        return _Strand([], [Wire(points=(fork, corner, back, entry), role="shortcut")], entry)
    height = _strand_height(block.shortcut, LANE) - _GAP
    top = fork[1] + max(_ABOVE_LANE, (back[1] - fork[1] - height) / 2 + 10)
    inner = _strand(block.shortcut, (lane_x, top - _GAP), LANE, "shortcut")
    wires = [
        Wire(points=(fork, corner, (lane_x, top)), role="shortcut"),
        *inner.wires[1:],
        Wire(points=(inner.end, back, entry), role="shortcut"),
    ]
    return _Strand(inner.tiles, wires, entry)


def _shortcut_label(block: Paths, fork: Point, add: Box, lane: _Strand, lane_x: float) -> Label:
    """The shortcut's name, on its wire: in the middle, or above its first layer."""
    below = lane.tiles[0].box.y if lane.tiles else add.middle[1]
    y = (fork[1] + below) / 2
    return Label(x=lane_x, y=y + 3, text=block.shortcut_name, anchor="middle", plate=True)


def _gate(block: Paths, start: Point, scale: Box) -> _Gate:
    """The gate's layers below the main path, which passes them on the left."""
    split = (start[0], start[1] + 9)
    frame = Box(
        x=start[0] - COLUMN / 2 - _FRAME,
        y=split[1] + _FRAME,
        width=COLUMN + 2 * _FRAME,
        height=_GATE_TITLE + _strand_height(block.gate, COLUMN),
    )
    first = frame.y + _GATE_TITLE + _GAP - _FRAME
    layers = _strand(block.gate, (start[0], first - _GAP), COLUMN, "gate")
    side = frame.x - _BYPASS / 2 + 1
    passing = (split, (side, split[1]), (side, scale.middle[1]), (scale.x, scale.middle[1]))
    wires = [
        Wire(points=(start, split), arrow=False),
        Wire(points=(split, (start[0], first)), role="gate"),
        *layers.wires[1:],
        Wire(points=(layers.end, (start[0], scale.y)), role="gate"),
        Wire(points=passing),
    ]
    label = Label(x=frame.x + 8, y=frame.y + 14, text="gate", style="muted")
    return _Gate(_Strand(layers.tiles, wires, layers.end), frame, label, split)


def lay_card(block: Paths, x: float, y: float, height: float) -> Card:
    """The block at ``(x, y)``, stretched to ``height``, with the join at the end."""
    box = Box(x=x, y=y, width=card_width(block), height=height)
    lane_x = box.right - _EDGE - (LANE if block.shortcut else _BARE_LANE) / 2
    middle = x + _EDGE + (_BYPASS if block.gate else 0) + COLUMN / 2
    fork = (middle, y + _HEADER + _EDGE / 2)
    main = _strand(block.main, fork, COLUMN, "main")
    joined = _junction(
        block.junction, (middle, box.bottom - _EDGE - _junction_height(block.junction))
    )
    takers = {path: tile.box for tile in joined.tiles for path in tile.step.located.inputs}
    after_main = takers[block.main[-1].path]
    gate = _gate(block, main.end, after_main) if block.gate else None
    between = gate.layers.wires if gate else [Wire(points=(main.end, (middle, after_main.y)))]
    (entry,) = block.main[0].located.inputs
    add = takers[block.shortcut[-1].path if block.shortcut else entry]
    around = _shortcut(block, fork, add, lane_x)
    return Card(
        row=block.row,
        box=box,
        tiles=(*main.tiles, *(gate.layers.tiles if gate else ()), *around.tiles, *joined.tiles),
        wires=(*main.wires, *between, *joined.wires[1:], *around.wires),
        labels=(
            *_header(block, box),
            *((gate.label,) if gate else ()),
            _shortcut_label(block, fork, add, around, lane_x),
        ),
        dots=(fork, gate.split) if gate else (fork,),
        fork=fork,
        exit=joined.end,
        gate=gate.frame if gate else None,
    )
