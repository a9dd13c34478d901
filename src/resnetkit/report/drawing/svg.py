"""Draws a network as a standalone SVG document.

Fills and strokes are attributes, not a style sheet, so that all viewers render it alike. The hues
are those of Okabe & Ito's colour-blind-safe palette.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

from resnetkit.architecture import text
from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.layer import shape_text
from resnetkit.architecture.shape_inference import Step
from resnetkit.architecture.table_rows import TableRow
from resnetkit.report.drawing.block_card import Card
from resnetkit.report.drawing.caption import Swatch
from resnetkit.report.drawing.column import lay_out_column
from resnetkit.report.drawing.layout import Panel, Sheet, lay_out
from resnetkit.report.drawing.marks import Box, Label, Note, Style, Tile, Wire

_FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
_PAPER, _INK, _MUTED, _WARNING = "#ffffff", "#1b1f24", "#545c66", "#a33c00"

_STAGES = {
    "stage0": "#5a6675",
    "stage1": "#0067a3",
    "stage2": "#007a5a",
    "stage3": "#a05a00",
    "stage4": "#a03c78",
    "stage5": "#5b45a8",
    "stage6": "#5f6b00",
    "stage7": "#9b2c2c",
    "stage8": "#00707d",
    "head": "#333b44",
}
_WIRES = {"main": "#3b424b", "shortcut": "#d55e00", "gate": "#7a4fb0"}
#: Characters that XML cannot contain, not even escaped.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: What shows more when it is pointed at, or is looked up.
_POINTED = re.compile(r'<title>[^<]*</title>\n|(?<=<g) class="[^"]*"| data-[a-z]+="[^"]*"')


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paint:
    fill: str
    stroke: str


_KINDS = {
    "conv": _Paint(fill="#d4e7f6", stroke="#0072b2"),
    "conv1d": _Paint(fill="#e3dbf1", stroke="#7a4fb0"),
    "norm": _Paint(fill="#eceff2", stroke="#8b949e"),
    "activation": _Paint(fill="#fde9c4", stroke="#c98500"),
    "pool": _Paint(fill="#d0efe4", stroke="#009e73"),
    "blur": _Paint(fill="#c9ebf0", stroke="#1f8a9e"),
    "subsample": _Paint(fill="#faf5b8", stroke="#a39400"),
    "flatten": _Paint(fill="#ffffff", stroke="#545c66"),
    "linear": _Paint(fill="#f5dcea", stroke="#b5548a"),
    "add": _Paint(fill="#ffffff", stroke=_WIRES["shortcut"]),
    "scale": _Paint(fill="#ffffff", stroke=_WIRES["gate"]),
}
_OTHER_KIND = _Paint(fill="#f4f4f4", stroke="#545c66")


def stage_color(stage: str) -> str:
    """The colour of a stage's frame and heading as ``#rrggbb``, dark enough for text on white.

    Stages beyond the eighth have the head's colour.
    """
    return _STAGES.get(stage, _STAGES["head"])


def drawing(explanation: Explanation) -> str:
    """The network of ``explanation`` as an SVG document.

    Every layer is a group with its path in ``data-path``; blocks have ``data-block`` and stages
    ``data-stage``. Each has a tooltip with its numbers.
    """
    return _document(explanation, lay_out(explanation))


def narrow_drawing(explanation: Explanation) -> str:
    """The same for narrow screens, about one block wide, without tooltips and ``data-``."""
    document = _document(explanation, lay_out_column(explanation))
    head, first, rest = document.partition("</title>")
    return head + first + _POINTED.sub("", rest)


def _document(explanation: Explanation, sheet: Sheet) -> str:
    size = f"{sheet.width} {sheet.height}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{sheet.width}" '
        f'height="{sheet.height}" role="img" font-family="{_FONT}" font-size="12" fill="none">',
        f"<title>{escaped(text.heading(explanation))}</title>",
        f"<desc>{escaped(_description(explanation))}</desc>",
        f'<rect class="paper" width="{sheet.width}" height="{sheet.height}" fill="{_PAPER}"/>',
    ]
    for swatch in sheet.legend:
        lines += _swatch(swatch)
    for panel in sheet.panels:
        lines += _panel(panel)
    lines += _wires(sheet.wires)
    lines += (_label(label, _INK) for label in sheet.labels)
    return "\n".join([*lines, "</svg>"])


def escaped(words: str) -> str:
    """Escape ``words`` for XML and HTML, as text or in an attribute.

    Characters that XML cannot hold become U+FFFD.
    """
    return escape(_NO_XML.sub("\ufffd", words))


def layer_tooltip(step: Step) -> str:
    """A layer's description, sizes, numbers and formulas, line by line."""
    if step.input is None or step.output is None:
        sizes = "not reached"
    else:
        sizes = f"{shape_text(step.input)} -> {shape_text(step.output)}"
    parameters = step.layer.parameters_formula() or "0"
    lines = [f"{step.path}: {step.layer.text}", sizes]
    lines += [f"size: {step.formula}"] if step.formula else []
    lines += [f"parameters: {parameters}", f"MACs: {step.macs_formula or '0'}"]
    lines += [f"receptive field {step.receptive_field:,}, stride {step.stride}"]
    return "\n".join(lines)


def _row_tooltip(row: TableRow) -> str:
    output = "not reached" if row.output is None else shape_text(row.output)
    return "\n".join(
        [
            f"{row.path}: {row.what}",
            f"output {output}",
            f"{row.parameters:,} parameters, {row.macs:,} MACs",
            f"receptive field {row.receptive_field:,}, stride {row.stride}",
        ]
    )


def _description(explanation: Explanation) -> str:
    network = explanation.network
    stages = (f"{row.stage}: {row.what}." for row in explanation.rows("stage"))
    return "\n".join([network.about, *stages, *text.notes(explanation)]).strip()


def _panel(panel: Panel) -> Iterator[str]:
    color = stage_color(panel.row.stage)
    yield f'<g class="stage" data-stage="{escaped(panel.row.stage)}">'
    yield f"<title>{escaped(_row_tooltip(panel.row))}</title>"
    yield _rect(panel.box, _tint(color, 0.06), color, radius=12, width=1.6)
    for card in panel.cards:
        yield from _card(card, color)
    yield from _wires(panel.wires)
    for note in panel.notes:
        yield from _note(note)
    yield from (line for tile in panel.tiles for line in _tile(tile))
    yield from (_label(label, color) for label in panel.labels)
    yield "</g>"


def _card(card: Card, color: str) -> Iterator[str]:
    yield f'<g class="block" data-block="{escaped(card.row.path)}">'
    yield f"<title>{escaped(_row_tooltip(card.row))}</title>"
    yield _rect(card.box, _PAPER, _tint(color, 0.45), radius=8, width=1)
    if card.gate:
        yield _rect(card.gate, "#f4effa", _tint(_WIRES["gate"], 0.5), radius=6, width=1)
    yield from _wires(card.wires)
    for x, y in card.dots:
        yield f'<circle cx="{x:g}" cy="{y:g}" r="3" fill="{_WIRES["main"]}"/>'
    yield from (line for tile in card.tiles for line in _tile(tile))
    yield from (_label(label, color) for label in card.labels)
    yield "</g>"


def _tile(tile: Tile) -> Iterator[str]:
    paint = _KINDS.get(tile.step.layer.kind, _OTHER_KIND)
    reached = tile.step.output is not None
    state = "" if reached else ' data-reached="no" stroke-dasharray="5 3"'
    kind = escaped(tile.step.layer.kind)
    yield f'<g class="layer {kind}" data-path="{escaped(tile.step.path)}"{state}>'
    yield f"<title>{escaped(layer_tooltip(tile.step))}</title>"
    if tile.symbol:
        yield _circle(tile.box, paint)
    else:
        yield _rect(tile.box, paint.fill if reached else _PAPER, paint.stroke, radius=4, width=1)
    yield from (_label(label, _INK) for label in tile.labels)
    yield "</g>"


def _note(note: Note) -> Iterator[str]:
    stroke = {"signal": _WIRES["main"], "missing": _MUTED, "warning": _WARNING}[note.style]
    fill = "#fdf0e7" if note.style == "warning" else _PAPER
    radius = 6 if note.style == "warning" else note.box.height / 2
    dash = ' stroke-dasharray="5 3"' if note.style == "missing" else ""
    yield f'<g class="note {note.style}"{dash}>'
    yield _rect(note.box, fill, stroke, radius=radius, width=1.4)
    yield from (_label(label, _INK) for label in note.labels)
    yield "</g>"


def _swatch(swatch: Swatch) -> Iterator[str]:
    paint = _KINDS.get(swatch.kind, _OTHER_KIND)
    if swatch.box and swatch.symbol:
        yield _circle(swatch.box, paint)
        yield _label(swatch.symbol, _INK)
    elif swatch.box:
        yield _rect(swatch.box, paint.fill, paint.stroke, radius=4, width=1)
    if swatch.wire:
        yield from _wires([swatch.wire])
    yield _label(swatch.label, _INK)


def _wires(wires: Iterable[Wire]) -> Iterator[str]:
    for wire in wires:
        color = _WIRES[wire.role] if wire.reached else _MUTED
        width = "2" if wire.role == "shortcut" else "1.5"
        dash = "" if wire.reached else ' stroke-dasharray="5 3"'
        points = " ".join(f"{x:g},{y:g}" for x, y in wire.points)
        yield f'<polyline points="{points}" stroke="{color}" stroke-width="{width}"{dash}/>'
        if wire.arrow:
            yield f'<path d="{_arrowhead(wire)}" fill="{color}"/>'


def _arrowhead(wire: Wire) -> str:
    """A triangle along the last segment of the wire."""
    (from_x, from_y), (x, y) = wire.points[-2:]
    if from_x == x:
        back = -6 if y > from_y else 6
        return f"M{x:g},{y:g}l-3.5,{back}h7z"
    back = -6 if x > from_x else 6
    return f"M{x:g},{y:g}l{back},-3.5v7z"


def _rect(box: Box, fill: str, stroke: str, *, radius: float, width: float) -> str:
    return (
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" '
        f'rx="{radius:g}" fill="{fill}" stroke="{stroke}" stroke-width="{width:g}"/>'
    )


def _circle(box: Box, paint: _Paint) -> str:
    x, y = box.middle
    return (
        f'<circle cx="{x:g}" cy="{y:g}" r="{box.width / 2:g}" fill="{paint.fill}" '
        f'stroke="{paint.stroke}" stroke-width="2"/>'
    )


def _label(label: Label, stage: str) -> str:
    colors: dict[Style, str] = {"stage": stage, "muted": _MUTED, "warning": _WARNING}
    bold = ' font-weight="bold"' if label.bold else ""
    anchor = f' text-anchor="{label.anchor}"' if label.anchor != "start" else ""
    words = (
        f'<text x="{label.x:g}" y="{label.y:g}" font-size="{label.size:g}"{anchor}{bold} '
        f'fill="{colors.get(label.style, _INK)}" stroke="none">{escaped(label.text)}</text>'
    )
    if not label.plate:
        return words
    box = label.box
    plate = Box(x=box.x - 5, y=box.y - 2.5, width=box.width + 10, height=box.height + 5)
    return _rect(plate, _PAPER, "#c9ced4", radius=plate.height / 2, width=0.8) + words


def _tint(color: str, share: float) -> str:
    """Mix ``share`` of ``color`` with white."""
    parts = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - (255 - part) * share):02x}" for part in parts)
