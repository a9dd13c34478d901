"""Walks a network backwards: which rows and columns of the input a unit of a map needs."""

from __future__ import annotations

from typing import NamedTuple

from resnetkit.architecture.block import INPUT, Located
from resnetkit.architecture.layer import Flatten, Layer, Norm, Pool, Scale
from resnetkit.architecture.shape_inference import Step


class Span(NamedTuple):
    """Rows or columns from ``low`` to ``high``, both included."""

    low: int
    high: int

    def __or__(self, other: Span | None) -> Span:
        if other is None:
            return self
        return Span(min(self.low, other.low), max(self.high, other.high))


class Need(NamedTuple):
    """What is needed of a map: ``free`` as if it had no edges, ``inside`` what exists of that."""

    free: Span
    inside: Span | None

    def __or__(self, other: Need) -> Need:
        inside = other.inside if self.inside is None else self.inside | other.inside
        return Need(self.free | other.free, inside)


def traced(
    steps: dict[str, Step], layer: str, where: tuple[int, int], shape: tuple[int, int, int]
) -> tuple[tuple[Need, Need], str | None]:
    """The rows and columns of the input that are needed, and through what all others are.

    The network is walked backwards from the layer. What is needed of a map is cut at its edges, as
    there is nothing but padding outside.
    """
    needs = {layer: tuple(Need(Span(at, at), Span(at, at)) for at in where)}
    everywhere: str | None = None
    for step in reversed(steps.values()):
        if step.path not in needs:
            continue
        located, need = step.located, needs[step.path]
        if isinstance(step.layer, Norm) and step.layer.groups is not None:
            everywhere = "the statistics of group norms"
        if isinstance(step.layer, Scale):
            everywhere = "gates, which see the whole map"
        for path in _inputs(located):
            sizes = shape[1:] if path == INPUT else _sides(steps[path])
            before = tuple(
                _before(step.layer, one, side) for one, side in zip(need, sizes, strict=True)
            )
            known = needs.get(path)
            needs[path] = (
                before
                if known is None
                else tuple(a | b for a, b in zip(known, before, strict=True))
            )
    rows, columns = needs[INPUT]
    return (rows, columns), everywhere


def _inputs(located: Located) -> tuple[str, ...]:
    """The inputs that matter at a position; a gate is the same at all of them."""
    return located.inputs[:1] if isinstance(located.layer, Scale) else located.inputs


def _sides(step: Step) -> tuple[int, int]:
    assert step.output is not None
    return (step.output[1], step.output[2]) if len(step.output) == 3 else (1, 1)


def _before(layer: Layer, need: Need, side: int) -> Need:
    """What a layer needs of its input, which has ``side`` rows or columns."""
    window = layer.window
    if window is not None:

        def through(span: Span) -> Span:
            low, high = (at * window.stride - window.padding for at in span)
            return Span(low, high + window.extent - 1)

        inside = None if need.inside is None else _cut(through(need.inside), side)
        return Need(through(need.free), inside)
    if isinstance(layer, Pool | Flatten):
        whole = Span(0, side - 1)
        return Need(whole, None if need.inside is None else whole)
    return need


def _cut(span: Span, side: int) -> Span | None:
    low, high = max(0, span.low), min(side - 1, span.high)
    return Span(low, high) if low <= high else None
