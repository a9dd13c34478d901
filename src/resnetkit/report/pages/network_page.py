"""A network as one HTML page: its numbers, the drawing, the table that folds, notes and options.

The page needs nothing but itself: no script, style sheet, font or image from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import groupby

from resnetkit.architecture import registry, text
from resnetkit.architecture.explanation import Explanation
from resnetkit.architecture.layer import shape_text
from resnetkit.architecture.options import Options
from resnetkit.architecture.rows import Row
from resnetkit.report.drawing.svg import drawing, escaped, stage_color

_COLUMNS = text.columns("layer", formulas=False)
_FORMULAS = text.columns("layer", formulas=True)[len(_COLUMNS) :]

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ground: #f4f6f8; --ink: #1b1f24;
  --muted: #57606a; --line: #d8dee4; --bar: #dce8f2; --warn: #a33c00; --warn-ground: #fdf0e7;
  --lift: 0%; }
@media (prefers-color-scheme: dark) { :root { --paper: #1b2026; --ground: #12161b;
  --ink: #e6eaee; --muted: #9aa5b1; --line: #343c45; --bar: #2a3f52; --warn: #ffb38a;
  --warn-ground: #3a2417; --lift: 45%; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 1500px; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0; }
p { margin: .4rem 0; } .quiet { color: var(--muted); }
section { margin-top: 2.2rem; }
.bar { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: baseline;
  margin-bottom: .3rem; } button { margin-right: .4rem; }
.figures { display: grid; grid-template-columns: repeat(4, 1fr);
  gap: .7rem; margin: 1.2rem 0 0; }
.figures div { background: var(--paper); border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem .9rem; }
@media screen and (max-width: 60rem) { .figures { grid-template-columns: repeat(2, 1fr); } }
dt { color: var(--muted); font-size: .82rem; }
dd { margin: 0; font-size: 1.2rem; font-weight: 600; font-variant-numeric: tabular-nums; }
dd small { display: block; font-size: .8rem; font-weight: 400; color: var(--muted); }
.problem { margin: 1.2rem 0 0; padding: .7rem 1rem; border-left: 5px solid var(--warn);
  background: var(--warn-ground); color: var(--warn); font-weight: 600; }
.zoom input { position: absolute; opacity: 0; }
.zoom label, button { display: inline-block; font: inherit; font-size: .85rem; color: inherit;
  padding: .15rem .7rem; margin-bottom: .6rem; background: var(--paper);
  border: 1px solid var(--line); border-radius: 6px; cursor: pointer; }
.zoom input:checked + label { background: var(--ink); color: var(--paper); }
.zoom input:focus-visible + label { outline: 2px solid #0072b2; outline-offset: 2px; }
.sheet { overflow: auto; max-height: 88vh; background: #fff; border: 1px solid var(--line);
  border-radius: 8px; }
.sheet svg { display: block; height: auto; width: 100%; }
#half:checked ~ .sheet svg { width: 200%; } #most:checked ~ .sheet svg { width: 400%; }
#real:checked ~ .sheet svg { width: auto; }
/* The drawing is made for white paper; in the dark its lightness is turned, its hues are kept. */
@media screen and (prefers-color-scheme: dark) { .sheet { background: #1a1a1a; }
  .sheet svg { filter: invert(.9) hue-rotate(180deg); } }
.table { overflow-x: auto; background: var(--paper); border: 1px solid var(--line);
  border-radius: 8px; font-size: .9rem; }
.table > * { min-width: 68rem; }
.row { display: grid; align-items: baseline; padding: .3rem .9rem .3rem .7rem; gap: 0 .9rem;
  grid-template-columns: 5.5rem 12.5rem minmax(14rem, 1fr) 8rem 7.5rem 9rem 4rem 3.5rem;
  border-top: 1px solid var(--line); border-left: 5px solid var(--stage, transparent); }
.row > span { overflow-wrap: anywhere; }
.row > :nth-child(n + 4) { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.head { border-top: 0; color: var(--muted); font-weight: 600; }
.total { font-weight: 700; border-top: 2px solid var(--ink); }
summary { cursor: pointer; list-style: none; }
summary::-webkit-details-marker { display: none; }
summary:hover, .layer:hover { background: color-mix(in srgb, var(--bar) 45%, transparent); }
summary:focus-visible { outline: 2px solid #0072b2; outline-offset: -2px; }
.stage > summary { font-weight: 600; }
.stage > summary > :first-child { color: color-mix(in srgb, var(--stage), #fff var(--lift)); }
.stage > summary > :first-child::before, .block > summary > :nth-child(2)::before {
  content: "\\25b8"; display: inline-block; width: 1.1em; color: var(--muted); }
.stage[open] > summary > :first-child::before, .block[open] > summary > :nth-child(2)::before {
  content: "\\25be"; }
.share { background: linear-gradient(to left, var(--stage) var(--share), var(--line) 0)
  bottom / 100% 3px no-repeat; padding-bottom: 3px; }
.layer { font-size: .95em; } .block .layer > :nth-child(2) { padding-left: 1.1em; }
.layer > :first-child, .block > summary > :first-child { color: var(--muted); }
.formulas { grid-column: 3 / -1; text-align: left !important;
  white-space: normal !important; color: var(--muted);
  font: .86em/1.6 ui-monospace, "DejaVu Sans Mono", Consolas, monospace; }
.formulas b { font-weight: 600; color: var(--ink); } .formulas span { margin-right: 1.6em; }
.unreached { color: var(--warn); border-left-style: dashed; }
table { border-collapse: collapse; background: var(--paper); font-size: .9rem; width: 100%; }
th, td { text-align: left; padding: .3rem .9rem; border: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--muted); } td:nth-child(2) { font-variant-numeric: tabular-nums; }
.changed { font-weight: 700; }
@page { size: A4 portrait; margin: 10mm; }
@media print { html { font-size: 9px; } body { background: #fff; font-size: 1.1rem; }
  main { max-width: none; padding: 0; } h2, .head { break-after: avoid; }
  .row { break-inside: avoid; }
  .zoom input, .zoom label, button, .pointing { display: none; }
  .sheet, .table { overflow: visible; max-height: none; border: 0; }
  .zoom .sheet svg { width: 100% !important; max-height: 265mm; break-inside: avoid; } }
"""


def page(explanation: Explanation) -> str:
    """The network of ``explanation`` as an HTML document."""
    title = escaped(explanation.title)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title} at {shape_text(explanation.input)}</title>",
            f"<style>{_STYLE}</style></head>",
            "<body><main>",
            *_heading(explanation, title),
            *_drawing(explanation),
            *_table(explanation),
            *_notes(explanation),
            *_options(explanation),
            "</main></body></html>",
        ]
    )


def _heading(explanation: Explanation, title: str) -> Iterator[str]:
    network = explanation.network
    yield f"<header><h1>{title}</h1>"
    if network.about:
        yield f"<p>{escaped(network.about)}</p>"
    if network.source:
        yield f'<p class="quiet">Source: {escaped(network.source)}</p>'
    yield '<dl class="figures">'
    for name, value, small in _figures(explanation):
        yield f"<div><dt>{name}</dt><dd>{value}<small>{small}</small></dd></div>"
    yield "</dl>"
    if explanation.problem:
        yield f'<p class="problem" role="note">{escaped(explanation.problem)}</p>'
    yield "</header>"


def _figures(explanation: Explanation) -> tuple[tuple[str, str, str], ...]:
    """Name, number and a word on it, of what the page is headed with."""
    totals, counts = explanation.totals, explanation.network.layer_count
    reached = "last map reached" if explanation.problem else "of one image"
    return (
        ("input", shape_text(explanation.input), "channels x height x width"),
        ("output", shape_text(explanation.output), reached),
        ("parameters", f"{totals.parameters:,}", f"{totals.parameters / 1e6:.2f} million"),
        ("MACs", f"{totals.macs:,}", f"{totals.macs / 1e9:.2f} GMACs"),
        ("activations", f"{totals.activations:,}", "put out by convolutions and linear layers"),
        ("buffers", f"{totals.buffers:,}", "kept by the norms, not trained"),
        ("layers by the paper", str(counts["paper"]), "stem, main path, fully connected"),
        ("layers by the notes", str(counts["notes"]), "stem and max-pool, main path"),
    )


def _drawing(explanation: Explanation) -> Iterator[str]:
    yield "<section><h2>Drawing</h2>"
    yield '<p class="quiet pointing">Point at a layer, block or stage for its numbers.</p>'
    yield '<div class="zoom">'
    for key, words in (("fit", "fit"), ("half", "2x"), ("most", "4x"), ("real", "actual size")):
        checked = " checked" if key == "fit" else ""
        yield f'<input type="radio" name="zoom" id="{key}"{checked}>'
        yield f'<label for="{key}">{words}</label>'
    yield f'<div class="sheet" tabindex="0">{drawing(explanation)}</div></div></section>'


def _table(explanation: Explanation) -> Iterator[str]:
    """Stages that fold, blocks in them that fold, and their layers with formulas."""
    layers = {
        key: [row for _, row in run]
        for key, run in groupby(
            zip(explanation.walk.steps, explanation.rows("layer"), strict=True),
            lambda pair: pair[0].located.block or pair[0].path,
        )
    }
    blocks = groupby(explanation.rows("block"), lambda row: row.stage)
    fold = "for (const d of document.querySelectorAll('.table details')) d.open = "
    yield '<section><div class="bar"><h2>Layers</h2>'
    yield f'<span><button type="button" onclick="{fold}true">unfold all</button>'
    yield f'<button type="button" onclick="{fold}false">fold all</button></span></div>'
    yield '<div class="table"><div class="row head">'
    yield "".join(f"<span>{name}</span>" for name in _COLUMNS) + "</div>"
    for stage, (_, inside) in zip(explanation.rows("stage"), blocks, strict=True):
        color = stage_color(stage.stage)
        yield f'<details class="stage" style="--stage:{color}"><summary class="row">'
        yield f"{_cells(explanation, stage)}</summary>"
        for row in inside:
            yield from _block(explanation, row, layers[row.path])
        yield "</details>"
    cells = text.total_cells(explanation, _COLUMNS)
    yield f'<div class="row total">{_spans(cells)}</div></div></section>'


def _block(explanation: Explanation, row: Row, layers: Iterable[Row]) -> Iterator[str]:
    """A block with its layers folded into it, or a layer that belongs to none."""
    inside = (_layer(layer) for layer in layers)
    if row.level == "layer":
        yield from inside
        return
    yield f'<details class="block"><summary class="row">{_cells(explanation, row)}</summary>'
    yield from inside
    yield "</details>"


def _layer(row: Row) -> str:
    named = zip(_FORMULAS, text.cells(row, _FORMULAS), strict=True)
    formulas = " ".join(
        f"<span><b>{escaped(name)}</b> {escaped(formula)}</span>"
        for name, formula in named
        if formula
    )
    unreached = " unreached" if row.output is None else ""
    cells = _spans(text.cells(row, _COLUMNS))
    below = f'<div class="formulas">{formulas}</div>' if formulas else ""
    return f'<div class="row layer{unreached}">{cells}{below}</div>'


def _spans(cells: Iterable[str]) -> str:
    return "".join(f"<span>{escaped(cell)}</span>" for cell in cells)


def _cells(explanation: Explanation, row: Row) -> str:
    """The cells of a stage or block, with its shares of the totals as bars."""
    totals = explanation.totals
    parts = {"parameters": (row.parameters, totals.parameters), "MACs": (row.macs, totals.macs)}
    spans = []
    for name, cell in zip(_COLUMNS, text.cells(row, _COLUMNS), strict=True):
        part, whole = parts.get(name, (0, 0))
        words = "" if name == "path" and row.level == "stage" else escaped(cell)
        if whole:
            share = f"{100 * part / whole:.1f}%"
            spans.append(
                f'<span class="share" style="--share:{share}" title="{share} of all">{words}</span>'
            )
        else:
            spans.append(f"<span>{words}</span>")
    return "".join(spans)


def _notes(explanation: Explanation) -> Iterator[str]:
    yield "<section><h2>How to read the numbers</h2><ul>"
    yield from (f"<li>{escaped(line)}</li>" for line in text.notes(explanation))
    yield "</ul></section>"


def _options(explanation: Explanation) -> Iterator[str]:
    """Every option with its value and meaning; those changed from the catalogue stand out."""
    network = explanation.network
    changed = registry.changes(network)
    yield "<section><h2>Options of the network</h2>"
    yield "<table><thead><tr><th>option</th><th>value</th><th>meaning</th></tr></thead><tbody>"
    for option in fields(Options):
        mark = ' class="changed"' if option.name in changed else ""
        value = escaped(_value(getattr(network.options, option.name)))
        yield (
            f"<tr{mark}><td>{option.name}</td><td>{value}</td>"
            f"<td>{escaped(option.metadata['help'])}</td></tr>"
        )
    yield "</tbody></table></section>"


def _value(value: object) -> str:
    """An option's value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)
