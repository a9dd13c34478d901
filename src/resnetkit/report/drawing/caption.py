"""Title, legend, totals and notes of a drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from resnetkit.architecture import text
from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.layer import Norm
from resnetkit.architecture.rare_layer import ChannelConv
from resnetkit.report.drawing.marks import (
    NAME_SIZE,
    SYMBOLS,
    Box,
    Label,
    Style,
    Wire,
    symbol_label,
    text_width,
    wrapped,
)

#: Width of a sample in the legend.
_SAMPLE = 26
#: The legend's names of layer kinds.
_KINDS = {
    "conv": "convolution",
    "conv1d": "convolution along channels",
    "activation": "activation",
    "pool": "pool",
    "blur": "blur",
    "subsample": "subsample, pad with zeros",
    "flatten": "flatten",
    "linear": "fully connected",
    "add": "add the shortcut",
    "scale": "times the gate",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Swatch:
    """An entry of the legend: a sample of a layer kind or of a wire, and its name.

    Round nodes have a ``symbol``.
    """

    label: Label
    kind: str = ""
    box: Box | None = None
    symbol: Label | None = None
    wire: Wire | None = None


def title(explanation: Explanation, x: float, width: float) -> tuple[Label, ...]:
    """The name, description and totals."""
    network = explanation.network
    about = "; ".join(words for words in (network.about, network.source) if words)
    lines: list[tuple[str, float, Style]] = [
        (explanation.title, 26, "strong"),
        (about, 14, "muted"),
        (text.heading(explanation), 14, "plain"),
        (_block_formula(explanation), 14, "plain"),
    ]
    return _paragraphs([line for line in lines if line[0]], x, 14, width)


def footer(explanation: Explanation, x: float, top: float, width: float) -> tuple[Label, ...]:
    """The totals and the notes; a problem is shown at the head, where it arises."""
    totals, counts = explanation.totals, explanation.network.layer_count
    total = (
        f"total: {totals.parameters:,} parameters, {totals.macs:,} MACs "
        f"({totals.macs / 1e9:.2f} GMACs), {counts['paper']} layers by the paper, "
        f"{counts['notes']} by the notes"
    )
    notes = [line for line in text.notes(explanation) if line != f"! {explanation.problem}"]
    small: list[tuple[str, float, Style]] = [(line, 12, "muted") for line in notes]
    return _paragraphs([(total, 17, "strong"), *small], x, top, width)


def legend(explanation: Explanation, x: float, y: float, width: float) -> tuple[Swatch, ...]:
    """A sample of every layer kind and wire in the drawing, wrapped into lines."""
    swatches: list[Swatch] = []
    at = x
    for words, kind, wire in _samples(explanation):
        needed = _SAMPLE + 7 + ceil(text_width(words, NAME_SIZE))
        if at > x and at + needed > x + width:
            at, y = x, y + 24
        label = Label(x=at + _SAMPLE + 7, y=y + 12, text=words, size=NAME_SIZE)
        if wire is not None:
            line = replace(wire, points=((at, y + 8), (at + _SAMPLE, y + 8)))
            swatches.append(Swatch(label=label, wire=line))
        elif kind in SYMBOLS:
            box = Box(x=at + _SAMPLE - 18, y=y - 1, width=18, height=18)
            symbol = symbol_label(SYMBOLS[kind], *box.middle, 14)
            swatches.append(Swatch(label=label, kind=kind, box=box, symbol=symbol))
        else:
            box = Box(x=at, y=y, width=_SAMPLE, height=16)
            swatches.append(Swatch(label=label, kind=kind, box=box))
        at += needed + 20
    return tuple(swatches)


def _samples(explanation: Explanation) -> Iterator[tuple[str, str, Wire | None]]:
    """Name, kind and wire of each entry of the legend."""
    steps = explanation.walk.steps
    for kind, layer in {step.layer.kind: step.layer for step in steps}.items():
        words = layer.text.partition(",")[0] if isinstance(layer, Norm) else kind
        yield _KINDS.get(kind, words), kind, None
    yield "main path", "", Wire(points=())
    yield "shortcut", "", Wire(points=(), role="shortcut")
    if any(step.located.branch == "gate" for step in steps):
        efficient = any(step.layer.kind == ChannelConv.kind for step in steps)
        words = "efficient channel attention" if efficient else "squeeze-excitation"
        yield f"gate ({words})", "", Wire(points=(), role="gate")
    if explanation.problem:
        yield "not reached", "", Wire(points=(), reached=False)


def _block_formula(explanation: Explanation) -> str:
    gated = any(step.located.branch == "gate" for step in explanation.walk.steps)
    main = "gate(main(x)) \u00d7 main(x)" if gated else "main(x)"
    return f"block(x) = ReLU( {main} + shortcut(x) )"


def _paragraphs(
    lines: Sequence[tuple[str, float, Style]], x: float, top: float, width: float
) -> tuple[Label, ...]:
    """Texts with their size and style, wrapped and stacked below ``top``."""
    labels: list[Label] = []
    y = top
    for words, size, style in lines:
        for line in wrapped(words, width, size, bold=style == "strong"):
            y += size * 1.5
            labels.append(Label(x=x, y=y, text=line, size=size, style=style))
    return tuple(labels)
