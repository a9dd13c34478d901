"""Training curves and reliability diagrams as small SVG images.

matplotlib, used for PNG files (``plots.py``), takes a third of a second, too slow for a page
written after each epoch. The script of a page (``web/src/curves``) draws the same lines over a part
of the epochs; ``tests/report/test_charts.py`` compares both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from markupsafe import Markup

from resnetkit.evaluation.confidence import Calibration
from resnetkit.report.console.lines import percent

_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 8, 28
#: The right margin with labels at the ends of lines, and the least distance of two labels.
_LABELLED, _APART = 24, 11
#: How numbers are written on the axis.
Form: TypeAlias = Literal["number", "percent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: ``name`` are CSS classes, ``values`` start at epoch 1, None where there is none.

    ``label`` names it in read-outs, ``end`` is written at its end. One that is not ``shown`` is
    only in the data for the page's script.
    """

    name: str
    label: str
    values: Sequence[float | None]
    end: str = ""
    shown: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Lines over the epochs: a drawing, and as JSON what the page's script needs to zoom."""

    title: str
    svg: Markup
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axes:
    """The area of the lines in a drawing, and the ranges that it stands for."""

    epochs: int
    low: float
    high: float
    log: bool
    right: float

    def across(self, epoch: float) -> float:
        share = (epoch - 1) / (self.epochs - 1) if self.epochs > 1 else 0.5
        return _LEFT + (self.right - _LEFT) * share

    def up(self, value: float) -> float:
        low, high = self.low, self.high
        share = math.log(value / low, high / low) if self.log else (value - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def curves(
    title: str,
    series: Sequence[Series],
    *,
    epochs: int,
    form: Form = "number",
    log: bool = False,
    most: float | None = None,
    best: tuple[int, float] | None = None,
    label: str = "lines over the epochs; a table below has the numbers",
) -> Curves:
    """The lines over ``epochs``; ``best`` is a point to mark, ``label`` describes the drawing.

    The axis starts at 0, or at the smallest value if it is ``log``, and ends at ``most`` or above.
    """
    drawn = [line for line in series if line.shown]
    values = [value for line in drawn for value in line.values if value is not None]
    low, high = (min(values), max(values)) if values else (0.1, 1.0)
    log = log and low > 0
    if log:
        low, high = low / 1.1, high * 1.1
    else:
        low, high = min(0.0, low), max(high, most or 0.0) or 1.0
    margin = _LABELLED if any(line.end for line in series) else _RIGHT
    axes = _Axes(epochs=epochs, low=low, high=high, log=log, right=_WIDTH - margin)
    parts = [*_grid(axes, form), *_lines(axes, drawn, form)]
    if best is not None:
        epoch, value = best
        words = f"epoch {epoch}: {_formatted(value, form)}"
        parts.append(_dot("held", axes.across(epoch), axes.up(value), words))
    data = {
        "epochs": epochs,
        "area": [_LEFT, _TOP, axes.right, _HEIGHT - _BOTTOM],
        "form": form,
        "log": log,
        "most": most,
        "best": best and [best[0], _short(best[1])],
        "lines": [_as_json(line) for line in series],
    }
    return Curves(
        title=title,
        svg=_svg(_WIDTH, _HEIGHT, label, parts),
        data=json.dumps(data, separators=(",", ":")),
    )


def _as_json(line: Series) -> Mapping[str, Any]:
    return {
        "name": line.name,
        "label": line.label,
        "end": line.end,
        "shown": line.shown,
        "values": [None if value is None else _short(value) for value in line.values],
    }


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _formatted(value: float, form: Form) -> str:
    return f"{value:.0%}" if form == "percent" else f"{value:g}"


def _grid(axes: _Axes, form: Form) -> Iterator[Markup]:
    for tick in _ticks(axes.low, axes.high, log=axes.log):
        height = axes.up(tick)
        yield _line("grid", _LEFT, height, axes.right, height)
        yield _text(_formatted(tick, form), _LEFT - 6, height + 4, "end")
    for tick in _linear(1, max(2, axes.epochs), 6):
        if tick.is_integer() and tick <= axes.epochs:
            yield _text(f"{tick:g}", axes.across(tick), _HEIGHT - 10, "middle")


def _lines(axes: _Axes, series: Sequence[Series], form: Form) -> Iterator[Markup]:
    ends = []
    for line in series:
        places = [
            None if value is None else (axes.across(epoch), axes.up(value), value)
            for epoch, value in enumerate(line.values, 1)
        ]
        for piece in _pieces(places):
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in piece)
            yield Markup('<polyline class="{}" points="{}"/>').format(line.name, points)
            if len(piece) == 1:
                x, y, value = piece[0]
                yield _dot(line.name, x, y, _formatted(value, form))
        found = [place for place in places if place is not None]
        if line.end and found:
            ends.append((found[-1][1], found[-1][0], line.end))
    ends.sort()
    for height, (_, x, words) in zip(_apart([one[0] for one in ends]), ends, strict=True):
        yield _text(words, x + 5, height + 4, "start")


def _pieces(
    places: Sequence[tuple[float, float, float] | None],
) -> Iterator[list[tuple[float, float, float]]]:
    """The parts of a line without gaps."""
    piece = []
    for place in (*places, None):
        if place is not None:
            piece.append(place)
        elif piece:
            yield piece
            piece = []


def _apart(heights: Sequence[float]) -> list[float]:
    """Ascending ``heights``, moved so that labels there do not overlap: down, then back up."""
    found: list[float] = []
    for height in heights:
        found.append(max(height, found[-1] + _APART) if found else height)
    limit = float(_HEIGHT - _BOTTOM)
    for at in reversed(range(len(found))):
        found[at] = min(found[at], limit)
        limit = found[at] - _APART
    return found


def reliability(calibration: Calibration) -> Markup:
    """Bars of accuracy over confidence, and the gap of each to its confidence."""
    side, left, top = 300, 44, 8
    inner = side - left - 22

    def across(share: float) -> float:
        return left + share * inner

    def up(share: float) -> float:
        return top + (1 - share) * inner

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_line("grid", left, up(tick), left + inner, up(tick)))
        parts.append(_text(f"{tick:.0%}", left - 6, up(tick) + 4, "end"))
        parts.append(_text(f"{tick:.0%}", across(tick), up(0) + 16, "middle"))
    for one in calibration.bins:
        if one.accuracy is None or one.confidence is None:
            continue
        words = (
            f"confidence {one.low:.0%} to {one.high:.0%}: {one.images} images, mean confidence "
            f"{percent(one.confidence)}, accuracy {percent(one.accuracy)}"
        )
        x, width = across(one.low) + 1, inner * (one.high - one.low) - 2
        parts.append(_bar("bar", x, up(one.accuracy), width, one.accuracy * inner, words))
        upper = max(one.accuracy, one.confidence)
        gap = abs(one.accuracy - one.confidence) * inner
        parts.append(_bar("gap", x, up(upper), width, gap, words))
    parts.append(_line("even", across(0), up(0), across(1), up(1)))
    parts.append(_text("confidence", across(0.5), up(0) + 32, "middle"))
    return _svg(side, side + 4, "reliability diagram; the table has its numbers", parts)


def _ticks(low: float, high: float, *, log: bool) -> list[float]:
    if not log or high / low <= 8:
        return _linear(low, high, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    parts = (1, 2, 5) if high / low < 100 else (1,)
    found = [part * 10.0**power for power in powers for part in parts]
    return [tick for tick in found if low <= tick <= high]


def _linear(low: float, high: float, most: int) -> list[float]:
    """Multiples between the ends of a round step, of which at most ``most`` fit."""
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(one * unit for one in (1, 2, 2.5, 5, 10) if one * unit >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _svg(width: int, height: int, label: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        width, height, label
    )
    return head + Markup("").join(parts) + Markup("</svg>")


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        name, x1, y1, x2, y2
    )


def _text(words: str, x: float, y: float, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, words
    )


def _dot(name: str, x: float, y: float, words: str) -> Markup:
    return Markup(
        '<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3.5"><title>{}</title></circle>'
    ).format(name, x, y, words)


def _bar(name: str, x: float, y: float, width: float, height: float, words: str) -> Markup:
    return Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
        "<title>{}</title></rect>"
    ).format(name, x, y, width, height, words)
