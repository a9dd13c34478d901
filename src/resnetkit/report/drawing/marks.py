"""Boxes, labels and wires of a drawing, and text widths.

``y`` grows downwards. Colours are chosen in ``svg.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Literal

from resnetkit.architecture.layer import Activation, Add, Norm, Scale, shape_text
from resnetkit.architecture.shape_inference import Step

Anchor = Literal["start", "middle", "end"]
Style = Literal["plain", "strong", "muted", "stage", "warning"]
Role = Literal["main", "shortcut", "gate"]
Point = tuple[float, float]

NAME_SIZE = 12
SMALL_SIZE = 10.5
LINE = 15
STRIP = 19
NODE = 24
#: Layer kinds drawn as round nodes.
SYMBOLS = {Add.kind: "+", Scale.kind: "\u00d7"}

#: Character widths of Helvetica and Arial, in thousandths of the font size (Adobe's metrics).
_WIDTHS = {
    character: width
    for width, characters in (
        (191, "'"),
        (222, "ijl"),
        (260, "|"),
        (278, " !,./:;I[\\]ft\u00b7"),
        (333, "()-`r"),
        (355, '"'),
        (389, "*"),
        (469, "^"),
        (500, "Jcksvxyz"),
        (556, "0123456789#$?L_abdeghnopqu"),
        (584, "+<=>~\u00d7"),
        (611, "FTZ"),
        (667, "&ABEKPSVXY"),
        (722, "CDHNRUw"),
        (778, "GOQ"),
        (833, "Mm"),
        (889, "%"),
        (944, "W"),
    )
    for character in characters
}
#: Bold letters are wider, and substitutes of Arial may be.
_BOLD, _ROOM = 1.07, 1.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle; ``x`` and ``y`` are its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> Point:
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A line of text; ``y`` is its baseline. A ``plate`` hides what is under it."""

    x: float
    y: float
    text: str
    size: float = SMALL_SIZE
    anchor: Anchor = "start"
    style: Style = "plain"
    plate: bool = False

    @property
    def bold(self) -> bool:
        return self.style in ("strong", "stage", "warning")

    @property
    def box(self) -> Box:
        """Its bounding box, by Helvetica's widths."""
        width = text_width(self.text, self.size, bold=self.bold)
        left = self.x - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        return Box(x=left, y=self.y - 0.8 * self.size, width=width, height=1.05 * self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A line of the signal, with an arrowhead at its last point."""

    points: tuple[Point, ...]
    role: Role = "main"
    arrow: bool = True
    reached: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A layer: a box with its text, or a round node with ``symbol``."""

    step: Step
    box: Box
    labels: tuple[Label, ...] = ()
    symbol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A framed text other than a layer: the input, the output, a problem."""

    box: Box
    labels: tuple[Label, ...]
    style: Literal["signal", "missing", "warning"] = "signal"


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Upper estimate of the width of ``text`` in pixels, at font size ``size``."""
    thousandths = sum(_WIDTHS.get(character, 1000) for character in text)
    return thousandths / 1000 * size * _ROOM * (_BOLD if bold else 1)


def wrapped(
    text: str, width: float, size: float, *, at: str = " ", bold: bool = False
) -> list[str]:
    """Wrap ``text`` to ``width`` pixels, breaking at ``at``, then at spaces, then anywhere."""
    lines: list[str] = []
    *pieces, last = text.split(at)
    for piece in (*(f"{piece}{at}" for piece in pieces), last):
        if lines and text_width(f"{lines[-1]}{piece}".rstrip(), size, bold=bold) <= width:
            lines[-1] += piece
        elif text_width(piece.rstrip(), size, bold=bold) <= width:
            lines.append(piece)
        elif at != " ":
            lines += wrapped(piece, width, size, bold=bold)
        else:
            lines += _broken(piece, width, size, bold)
    return [line.strip() for line in lines]


def _broken(word: str, width: float, size: float, bold: bool) -> list[str]:
    lines = [""]
    for character in word:
        if lines[-1] and text_width(lines[-1] + character, size, bold=bold) > width:
            lines.append("")
        lines[-1] += character
    return lines


def typeset(text: str) -> str:
    """A layer's text or a shape with typographic signs: ``3x3`` as 3×3, ``->`` as →."""
    return re.sub(r"(?<=\d)x(?=\d)", "\u00d7", text.replace("->", "\u2192"))


def size_text(step: Step) -> str:
    """A layer's output size, or that it is not reached."""
    return "not reached" if step.output is None else typeset(shape_text(step.output))


def _is_strip(step: Step) -> bool:
    """Norms and activations change no size; they are drawn as thin strips."""
    return isinstance(step.layer, Norm | Activation)


def stacks(steps: Iterable[Step]) -> list[tuple[Step, ...]]:
    """Layers drawn without a gap: one, with the norms and activations after it."""
    found: list[list[Step]] = []
    for step in steps:
        if found and _is_strip(step):
            found[-1].append(step)
        else:
            found.append([step])
    return [tuple(stack) for stack in found]


def _name_lines(step: Step, width: float) -> tuple[str, ...]:
    return _layer_lines(step.layer.text, width - 8, strip=_is_strip(step))


@lru_cache(maxsize=1024)
def _layer_lines(words: str, width: float, *, strip: bool) -> tuple[str, ...]:
    """A layer's text in lines; cached, as the blocks of a stage repeat the same few layers."""
    size = SMALL_SIZE if strip else NAME_SIZE
    return tuple(wrapped(typeset(words), width, size, at=", ", bold=not strip))


def _tile_height(step: Step, width: float) -> int:
    lines = len(_name_lines(step, width))
    return STRIP + LINE * (lines - 1) if _is_strip(step) else 12 + LINE * (lines + 1)


def stack_height(stack: Iterable[Step], width: float) -> int:
    """The height of a stack of layers ``width`` pixels wide."""
    return sum(_tile_height(step, width) for step in stack)


def tile(step: Step, x: float, y: float, width: float) -> Tile:
    """A layer as a box with its description and output size; a strip omits the size."""
    strip = _is_strip(step)
    box = Box(x=x, y=y, width=width, height=_tile_height(step, width))
    middle, baseline = box.middle[0], y + (13.5 if strip else 17)
    labels = [
        Label(
            x=middle,
            y=baseline + number * LINE,
            text=line,
            size=SMALL_SIZE if strip else NAME_SIZE,
            anchor="middle",
            style="plain" if strip else "strong",
        )
        for number, line in enumerate(_name_lines(step, width))
    ]
    if not strip:
        below = labels[-1].y + LINE - 0.5
        labels.append(
            Label(x=middle, y=below, text=size_text(step), anchor="middle", style="muted")
        )
    return Tile(step=step, box=box, labels=tuple(labels))


def stack_tiles(stack: Iterable[Step], x: float, y: float, width: float) -> list[Tile]:
    """The tiles of a stack, top to bottom without a gap."""
    tiles: list[Tile] = []
    for step in stack:
        tiles.append(tile(step, x, tiles[-1].box.bottom if tiles else y, width))
    return tiles


def node(step: Step, x: float, y: float) -> Tile:
    """A layer of ``SYMBOLS`` as a round node around ``(x, y)``."""
    symbol = SYMBOLS[step.layer.kind]
    box = Box(x=x - NODE / 2, y=y - NODE / 2, width=NODE, height=NODE)
    return Tile(step=step, box=box, labels=(symbol_label(symbol, x, y, 18),), symbol=symbol)


def symbol_label(symbol: str, x: float, y: float, size: float) -> Label:
    """``symbol`` in the middle of a node."""
    return Label(x=x, y=y + size / 3, text=symbol, size=size, anchor="middle", style="strong")


def note(
    lines: Iterable[tuple[str, Style]],
    x: float,
    y: float,
    width: float,
    style: Literal["signal", "missing", "warning"] = "signal",
) -> Note:
    """Lines in a frame with its upper left corner at ``(x, y)``."""
    texts = tuple(lines)
    box = Box(x=x, y=y, width=width, height=12 + LINE * len(texts))
    centred = style != "warning"
    labels = tuple(
        Label(
            x=box.middle[0] if centred else x + 12,
            y=y + 17 + LINE * number,
            text=text,
            size=NAME_SIZE,
            anchor="middle" if centred else "start",
            style=text_style,
        )
        for number, (text, text_style) in enumerate(texts)
    )
    return Note(box=box, labels=labels, style=style)


def note_width(lines: Iterable[str]) -> int:
    """The width of a note whose lines are not wrapped."""
    return max(ceil(text_width(line, NAME_SIZE, bold=True)) for line in lines) + 20
