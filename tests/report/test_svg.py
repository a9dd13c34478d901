"""The drawing: every layer once, nothing outside, nothing on top of something else."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from functools import cache
from itertools import combinations, pairwise
from types import SimpleNamespace

import pytest

from resnetkit.architecture import registry, text
from resnetkit.architecture.explanation import Explanation, explain
from resnetkit.architecture.layer import shape_text
from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options
from resnetkit.report.drawing.column import lay_out_column
from resnetkit.report.drawing.layout import Sheet, lay_out
from resnetkit.report.drawing.marks import Box, Label, text_width, typeset, wrapped
from resnetkit.report.drawing.svg import drawing, narrow_drawing, stage_color

_SVG = "{http://www.w3.org/2000/svg}"
_UNUSUAL = {
    "resnet50_deep at 473": ("resnet50_deep", 473, {}),
    "wide input": ("resnext50_32x4d", (3, 480, 1333), {}),
    "dilated": ("resnet50", None, {"output_stride": 8}),
    "dilated with gates": ("seresnet50t", None, {"output_stride": 8}),
    "large numbers": ("resnext101_32x32d", (3, 4000, 6001), {"output_stride": 8}),
    "eight stages": ("resnet18", 512, {"depths": (1, 2, 3, 4, 5, 6, 1, 1), "widths": (64,) * 8}),
    "one block": ("resnet50", None, {"depths": (1,), "widths": (64,)}),
}
_CASES = {**{name: (name, None, {}) for name in registry.names()}, **_UNUSUAL}
_NARROW = "narrow "
#: Of the layouts, whatever they are for.
_SHEETS = [
    *_CASES,
    *(f"{_NARROW}{name}" for name in ("resnet50", "seresnet50t", "resnet20", *_UNUSUAL)),
]


@cache
def _drawn(case: str) -> SimpleNamespace:
    name, size, options = _CASES[case.removeprefix(_NARROW)]
    explanation = explain(name, size, **options)
    narrow = case.startswith(_NARROW)
    document = narrow_drawing(explanation) if narrow else drawing(explanation)
    return SimpleNamespace(
        explanation=explanation,
        document=document,
        root=ElementTree.fromstring(document),
        sheet=lay_out_column(explanation) if narrow else lay_out(explanation),
    )


def _overlap(one: Box, other: Box, *, by: float = 0) -> bool:
    return (
        one.x + by < other.right
        and other.x + by < one.right
        and one.y + by < other.bottom
        and other.y + by < one.bottom
    )


def _inside(inner: Box, outer: Box) -> bool:
    return (
        inner.x >= outer.x
        and inner.y >= outer.y
        and inner.right <= outer.right
        and inner.bottom <= outer.bottom
    )


def _text_box(element: ElementTree.Element) -> Box:
    return Label(
        x=float(element.attrib["x"]),
        y=float(element.attrib["y"]),
        text=element.text or "",
        size=float(element.attrib["font-size"]),
        anchor=element.get("text-anchor", "start"),  # type: ignore[arg-type]
        style="strong" if element.get("font-weight") == "bold" else "plain",
    ).box


def _every_label(sheet: Sheet) -> list[Label]:
    labels = [*sheet.labels, *(swatch.label for swatch in sheet.legend)]
    for panel in sheet.panels:
        labels += panel.labels
        labels += (label for note in panel.notes for label in note.labels)
        labels += (label for tile in panel.tiles for label in tile.labels)
        for card in panel.cards:
            labels += card.labels
            labels += (label for tile in card.tiles for label in tile.labels)
    return labels


@pytest.mark.parametrize("case", _CASES)
def test_every_layer_block_and_stage_is_drawn_once(case: str) -> None:
    drawn = _drawn(case)
    paths = Counter(e.attrib["data-path"] for e in drawn.root.iter() if "data-path" in e.attrib)
    assert paths == Counter(step.path for step in drawn.explanation.walk.steps)
    blocks = [e.attrib["data-block"] for e in drawn.root.iter() if "data-block" in e.attrib]
    network = drawn.explanation.network
    assert blocks == [block.name for stage in network.stages for block in stage.blocks]
    stages = [e.attrib["data-stage"] for e in drawn.root.iter() if "data-stage" in e.attrib]
    assert stages == [*(stage.name for stage in network.stages), "head"]


@pytest.mark.parametrize("case", _SHEETS)
def test_every_text_lies_inside_the_view_box(case: str) -> None:
    root = _drawn(case).root
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert (float(root.attrib["width"]), float(root.attrib["height"])) == (width, height)
    sheet = Box(x=0, y=0, width=width, height=height)
    texts = list(root.iter(f"{_SVG}text"))
    assert len(texts) > 30
    for element in texts:
        assert _inside(_text_box(element), sheet), element.text


@pytest.mark.parametrize("case", _SHEETS)
def test_the_drawing_shows_the_labels_of_the_layout(case: str) -> None:
    drawn = _drawn(case)
    texts = Counter(element.text for element in drawn.root.iter(f"{_SVG}text"))
    symbols = Counter(swatch.symbol.text for swatch in drawn.sheet.legend if swatch.symbol)
    assert texts == Counter(label.text for label in _every_label(drawn.sheet)) + symbols


@pytest.mark.parametrize("case", _SHEETS)
def test_nothing_in_a_card_lies_on_something_else(case: str) -> None:
    for panel in _drawn(case).sheet.panels:
        for card in panel.cards:
            boxes = [tile.box for tile in card.tiles]
            assert not any(_overlap(one, other) for one, other in combinations(boxes, 2))
            assert all(_inside(box, card.box) for box in boxes)
            for label in card.labels:
                assert _inside(label.box, card.box), label.text
                assert not any(_overlap(label.box, box) for box in boxes), label.text
            for one, other in combinations(card.labels, 2):
                assert not _overlap(one.box, other.box), (one.text, other.text)
            if card.gate:
                gate = {t.step.path for t in card.tiles if t.step.located.branch == "gate"}
                framed = {t.step.path for t in card.tiles if _inside(t.box, card.gate)}
                assert gate == framed
                assert gate


@pytest.mark.parametrize("case", _SHEETS)
def test_panels_hold_their_contents_and_keep_clear_of_each_other(case: str) -> None:
    sheet = _drawn(case).sheet
    paper = Box(x=0, y=0, width=sheet.width, height=sheet.height)
    for panel in sheet.panels:
        assert _inside(panel.box, paper)
        contents = [thing.box for thing in (*panel.cards, *panel.tiles, *panel.notes)]
        assert all(_inside(box, panel.box) for box in contents)
        assert not any(_overlap(one, other) for one, other in combinations(contents, 2))
        for label in panel.labels:
            assert _inside(label.box, panel.box), label.text
            assert not any(_overlap(label.box, box) for box in contents), label.text
        for one, other in combinations(panel.labels, 2):
            assert not _overlap(one.box, other.box, by=1), (one.text, other.text)
    for above, below in pairwise(sheet.panels):
        assert above.box.bottom + 20 < below.box.y


@pytest.mark.parametrize("case", _SHEETS)
def test_a_layers_words_fit_its_box(case: str) -> None:
    for panel in _drawn(case).sheet.panels:
        for tile in (*panel.tiles, *(tile for card in panel.cards for tile in card.tiles)):
            for label in tile.labels:
                assert _inside(label.box, tile.box), (tile.step.path, label.text)
            if not tile.symbol:
                words = " ".join(label.text for label in tile.labels)
                assert words.startswith(typeset(tile.step.layer.text)), tile.step.path


@pytest.mark.parametrize("case", _SHEETS)
def test_wires_meet_what_they_connect(case: str) -> None:
    """Each block's shortcut starts at its fork and ends at its addition, level or upright."""
    for panel in _drawn(case).sheet.panels:
        for card in panel.cards:
            wires = [wire for wire in card.wires if wire.role == "shortcut"]
            add = next(tile.box for tile in card.tiles if tile.step.layer.kind == "add")
            assert wires[0].points[0] == card.fork
            assert wires[-1].points[-1] == (add.right, add.middle[1])
            tiles = [t.box for t in card.tiles if t.step.located.branch == "main"]
            for wire in wires:
                for start, end in pairwise(wire.points):
                    assert start[0] == end[0] or start[1] == end[1]
                    line = Box(
                        x=min(start[0], end[0]),
                        y=min(start[1], end[1]),
                        width=abs(start[0] - end[0]),
                        height=abs(start[1] - end[1]),
                    )
                    assert not any(_overlap(line, box) for box in tiles)


@pytest.mark.parametrize("case", _SHEETS)
def test_wires_between_stages_cross_no_words(case: str) -> None:
    sheet = _drawn(case).sheet
    words = [label.box for panel in sheet.panels for label in panel.labels]
    for wire in sheet.wires:
        for (x, y), (to_x, to_y) in pairwise(wire.points):
            line = Box(x=min(x, to_x), y=min(y, to_y), width=abs(to_x - x), height=abs(to_y - y))
            assert not any(_overlap(line, box) for box in words)


def test_the_narrow_drawing_is_one_block_wide_without_tooltips() -> None:
    drawn = _drawn(f"{_NARROW}resnet50")
    assert drawn.sheet.width < 460
    for panel in drawn.sheet.panels:
        assert all(one.box.bottom < other.box.y for one, other in pairwise(panel.cards))
    assert "data-" not in drawn.document
    assert drawn.document.count("<title>") == 1
    texts = {element.text for element in drawn.root.iter(f"{_SVG}text")}
    blocks = {row.path for row in drawn.explanation.rows("block") if row.level == "block"}
    assert blocks <= texts


@pytest.mark.parametrize("case", ["resnet50", "seresnet50t", "resnet20", "resnet50_deep at 473"])
def test_a_tooltip_says_what_the_table_says(case: str) -> None:
    drawn = _drawn(case)
    tooltips = {
        element.attrib["data-path"]: element.findtext(f"{_SVG}title", "")
        for element in drawn.root.iter(f"{_SVG}g")
        if "data-path" in element.attrib
    }
    for row in drawn.explanation.rows("layer"):
        tooltip = tooltips[row.path]
        assert row.path in tooltip
        assert row.what in tooltip
        assert row.formula in tooltip
        assert f"parameters: {row.parameters_formula or '0'}\n" in tooltip
        assert f"MACs: {row.macs_formula or '0'}\n" in tooltip
        assert ("not reached" if row.output is None else shape_text(row.output)) in tooltip


def test_the_total_and_both_layer_counts_are_written() -> None:
    drawn = _drawn("resnet50_deep")
    words = " ".join(element.text or "" for element in drawn.root.iter(f"{_SVG}text"))
    totals = drawn.explanation.totals
    assert f"total: {totals.parameters:,} parameters, {totals.macs:,} MACs" in words
    assert f"({totals.macs / 1e9:.2f} GMACs)" in words
    assert "50 layers by the paper" in words
    assert "50 by the notes" in words
    assert text.MAC_MEANING in words


def test_a_head_that_cannot_take_the_features_says_so() -> None:
    drawn = _drawn("resnet50_deep at 473")
    head = next(e for e in drawn.root.iter(f"{_SVG}g") if e.get("data-stage") == "head")
    words = " ".join(element.text or "" for element in head.iter(f"{_SVG}text"))
    assert drawn.explanation.problem
    assert drawn.explanation.problem in words
    missed = {e.attrib["data-path"] for e in drawn.root.iter() if e.get("data-reached") == "no"}
    steps = drawn.explanation.walk.steps
    assert missed == {step.path for step in steps if step.output is None} == {"fc"}
    dashed = next(e for e in head if e.get("data-path") == "fc")
    assert "stroke-dasharray" in dashed.attrib
    assert "not reached" in [element.text for element in dashed.iter(f"{_SVG}text")]


def test_a_network_that_is_reached_throughout_has_nothing_dashed() -> None:
    assert "stroke-dasharray" not in _drawn("resnet50_deep").document


def test_blocks_run_to_the_right_and_wrap() -> None:
    panel = next(p for p in _drawn("resnet152").sheet.panels if p.row.stage == "stage3")
    lines = Counter(card.box.y for card in panel.cards)
    assert list(lines.values()) == [8, 8, 8, 8, 4]
    for card, following in pairwise(panel.cards):
        beside = card.box.y == following.box.y and card.box.right < following.box.x
        below = card.box.bottom < following.box.y and following.box.x == panel.cards[0].box.x
        assert beside or below


def test_the_gate_is_drawn_only_where_there_is_one() -> None:
    for case, gated in (("seresnet50", True), ("resnet50", False)):
        cards = [card for panel in _drawn(case).sheet.panels for card in panel.cards]
        assert all((card.gate is not None) == gated for card in cards)
        assert ("gate (squeeze-excitation)" in _drawn(case).document) == gated


def test_an_unlabelled_shortcut_is_called_identity() -> None:
    drawn = _drawn("resnet50")
    blocks = {b.name: b for stage in drawn.explanation.network.stages for b in stage.blocks}
    for panel in drawn.sheet.panels:
        for card in panel.cards:
            names = {label.text for label in card.labels}
            assert ("identity" in names) == (not blocks[card.row.path].shortcut)
            assert ("projection" in names) == bool(blocks[card.row.path].shortcut)


def test_the_document_is_standalone_and_the_same_each_time() -> None:
    drawn = _drawn("resnet18")
    assert drawn.document == drawing(explain("resnet18"))
    assert drawn.root.tag == f"{_SVG}svg"
    assert drawn.root.attrib["role"] == "img"
    assert drawn.root.findtext(f"{_SVG}title") == text.heading(drawn.explanation)
    assert "layers by the paper" in drawn.root.findtext(f"{_SVG}desc", "")
    assert "href" not in drawn.document


@pytest.mark.parametrize(
    "hostile",
    ["<script>alert(1)</script>", "a & b ]]> \" '", "bell \a, half \ud800, nul \0", "W" * 900],
)
def test_hostile_words_leave_the_document_whole(hostile: str) -> None:
    network = Network(name=hostile, options=Options(), about=hostile, source=hostile)
    document = drawing(explain(network))
    root = ElementTree.fromstring(document.encode())
    assert not list(root.iter(f"{_SVG}script"))
    _, _, width, _ = map(float, root.attrib["viewBox"].split())
    for element in root.iter(f"{_SVG}text"):
        assert _text_box(element).right <= width


def test_stage_colors_are_distinct_and_dark_enough_for_white() -> None:
    colors = [stage_color(name) for name in (*(f"stage{n}" for n in range(9)), "head")]
    assert len(set(colors)) == len(colors)
    for color in colors:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 4.5, color  # WCAG 2.1, contrast AA
    assert stage_color("stage99") == stage_color("head")


def test_text_is_wrapped_without_loss_and_within_its_width() -> None:
    words = "conv 3x3, 8192->8192, groups 32, stride 2, dilation 4"
    for width in (30, 80, 150, 1000):
        lines = wrapped(words, width, 12, at=", ")
        assert "".join(lines).replace(" ", "") == words.replace(" ", "")
        assert all(text_width(line, 12) <= width for line in lines)
    assert wrapped(words, 1000, 12, at=", ") == [words]
    assert typeset("conv 3x3, 64->64") == "conv 3\u00d73, 64\u219264"


def test_a_large_network_is_drawn_in_a_moment() -> None:
    explanation: Explanation = explain("seresnet269d")
    start = time.perf_counter()
    drawing(explanation)
    assert time.perf_counter() - start < 1.5
