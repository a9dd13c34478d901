"""Training curves and reliability diagrams as small SVG images.

matplotlib, used for PNG files (``plots.py``), takes a third of a second, too slow for a page
written after each epoch. Only its tick computation is used here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import LogLocator, MaxNLocator

from resnetkit.evaluation.confidence import Calibration
from resnetkit.report.console.lines import percent

_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 8, 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: ``name`` is the CSS class of its colour, ``values`` start at epoch 1."""

    name: str
    values: Sequence[float]


def curves(
    series: Sequence[Series],
    *,
    epochs: int,
    form: Callable[[float], str],
    log: bool = False,
    most: float | None = None,
    best: tuple[int, float] | None = None,
) -> Markup:
    """The lines over ``epochs``; ``form`` formats a value, ``best`` is a point to mark.

    The axis starts at 0, or at the smallest value if it is ``log``, and ends at ``most`` or above.
    """
    values = [value for line in series for value in line.values]
    low, high = (min(values), max(values)) if values else (0.1, 1.0)
    log = log and low > 0
    if log:
        low, high = low / 1.1, high * 1.1
    else:
        low, high = min(0.0, low), max(high, most or 0.0) or 1.0
    span = math.log(high / low) if log else high - low

    def across(epoch: float) -> float:
        inner = _WIDTH - _LEFT - _RIGHT
        return _LEFT + inner * ((epoch - 1) / (epochs - 1) if epochs > 1 else 0.5)

    def up(value: float) -> float:
        share = (math.log(value / low) if log else value - low) / span
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for tick in _ticks(low, high, log=log):
        parts.append(_line("grid", _LEFT, up(tick), _WIDTH - _RIGHT, up(tick)))
        parts.append(_text(form(tick), _LEFT - 6, up(tick) + 4, "end"))
    whole = MaxNLocator(nbins=6, integer=True, min_n_ticks=1)
    for tick in whole.tick_values(1, max(2, epochs)):
        if 1 <= tick <= epochs:
            parts.append(_text(f"{tick:g}", across(tick), _HEIGHT - 10, "middle"))
    for line in series:
        points = " ".join(
            f"{across(number):.1f},{up(value):.1f}" for number, value in enumerate(line.values, 1)
        )
        parts.append(Markup('<polyline class="{}" points="{}"/>').format(line.name, points))
        if len(line.values) == 1:
            parts.append(_dot(line.name, across(1), up(line.values[0]), form(line.values[0])))
    if best is not None:
        epoch, value = best
        parts.append(_dot("held", across(epoch), up(value), f"epoch {epoch}: {form(value)}"))
    return _svg(_WIDTH, _HEIGHT, "lines over the epochs; a table below has the numbers", parts)


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
    if log and high / low > 8:
        subs = (1, 2, 5) if high / low < 100 else (1,)
        found = LogLocator(subs=subs, numticks=12).tick_values(low, high)
    else:
        found = MaxNLocator(nbins=5).tick_values(low, high)
    return [float(tick) for tick in found if low <= tick <= high]


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
