"""The page: whole, self-contained, and its numbers are the walk's."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser

import pytest

from resnetkit.architecture import registry, text
from resnetkit.architecture.explanation import Explanation, explain
from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options, option_names
from resnetkit.report.drawing.marks import typeset
from resnetkit.report.pages.network_page import network_page

_VOID = {"meta", "input", "link"}
_COLUMNS = text.columns("layer", formulas=False)


class _Page(HTMLParser):
    """Checks that tags nest; collects attributes, texts and the rows of the table."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.rows: list[tuple[str, list[str]]] = []
        self.formulas: list[str] = []
        self.depth = 0
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag in _VOID:
            return
        self.open.append(tag)
        classes = (dict(attrs).get("class") or "").split()
        if "row" in classes:
            self.rows.append((" ".join(classes), []))
            self.depth = len(self.open)
        elif tag == "span" and self.depth == len(self.open) - 1 and self.rows:
            self.rows[-1][1].append("")
        elif "formulas" in classes:
            self.formulas.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if len(self.open) < self.depth:
            self.depth = 0

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if not self.depth:
            return
        if len(self.open) == self.depth + 1 and self.open[-1] == "span":
            self.rows[-1][1][-1] += data
        elif len(self.open) > self.depth and self.formulas:
            self.formulas[-1] += data

    def of(self, kind: str) -> list[list[str]]:
        return [cells for classes, cells in self.rows if kind in classes.split()]


@cache
def _parsed(name: str, size: int | None = None) -> tuple[Explanation, str, _Page]:
    explanation = explain(name, size)
    document = network_page(explanation)
    return explanation, document, _Page(document)


def _number(cell: str) -> int:
    return int(cell.replace(",", ""))


def catalogue() -> list:
    """Every network; those of very many layers take seconds."""
    return [
        pytest.param(
            entry.name,
            marks=[pytest.mark.slow] if sum(entry.network().options.depths) > 30 else [],
        )
        for entry in registry.catalog()
    ]


@pytest.mark.parametrize("name", catalogue())
def test_every_layer_has_its_row_with_its_formulas(name: str) -> None:
    explanation, _, parsed = _parsed(name)
    rows = explanation.rows("layer")
    assert parsed.of("layer") == [
        [typeset(cell) for cell in text.cells(row, _COLUMNS)] for row in rows
    ]
    written = "\n".join(parsed.formulas)
    for row in rows:
        assert row.formula in written
        assert row.parameters_formula in written
        assert row.macs_formula in written
    expected = [row for row in rows if row.formula or row.parameters_formula or row.macs_formula]
    assert len(parsed.formulas) == len(expected)
    for row, words in zip(expected, parsed.formulas, strict=True):
        assert f"{row.formula} " in f"{words} "
        assert f"{row.macs_formula} " in f"{words} "


@pytest.mark.parametrize("name", registry.names())
def test_the_rows_of_each_level_add_up_to_the_walks_totals(name: str) -> None:
    explanation, _, parsed = _parsed(name)
    steps = explanation.walk.steps
    sums = {
        "parameters": sum(step.layer.parameters for step in steps),
        "MACs": sum(step.macs for step in steps),
    }
    (total,) = parsed.of("total")
    blocks = [cells for classes, cells in parsed.rows if classes == "row"]
    stages = [cells for cells in blocks if cells[1] == ""]
    for column, expected in sums.items():
        index = _COLUMNS.index(column)
        assert _number(total[index]) == expected
        assert sum(_number(cells[index]) for cells in stages) == expected
        assert sum(_number(cells[index]) for cells in parsed.of("layer")) == expected
    assert [cells[0] for cells in stages] == [row.stage for row in explanation.rows("stage")]
    assert [cells[1] for cells in blocks if cells[1]] == [
        row.path for row in explanation.rows("block") if row.level == "block"
    ]


@pytest.mark.parametrize("name", registry.names())
def test_the_page_needs_nothing_from_elsewhere(name: str) -> None:
    _, document, parsed = _parsed(name)
    assert not {"script", "iframe", "object", "embed", "img", "a"} & set(parsed.tags)
    assert parsed.tags.count("link") == 1
    for attribute, value in parsed.attributes:
        if (attribute, value) == ("href", "data:,"):
            continue  # an icon, so that the server is not asked for one
        assert attribute not in ("src", "href", "xlink:href", "srcset", "data", "action")
        assert "url(" not in value
        if attribute != "xmlns":
            assert "//" not in value
    assert "@import" not in document
    assert "url(" not in document


def test_the_drawing_is_in_the_page() -> None:
    explanation, _, parsed = _parsed("seresnet50t")
    drawn = [value for name, value in parsed.attributes if name == "data-path"]
    assert sorted(drawn) == sorted(step.path for step in explanation.walk.steps)
    assert parsed.tags.count("svg") == 2, "a wide and a narrow one"


def test_stages_and_blocks_fold() -> None:
    explanation, _, parsed = _parsed("resnet50")
    blocks = sum(len(stage.blocks) for stage in explanation.network.stages)
    assert parsed.tags.count("details") == parsed.tags.count("summary") == 6 + blocks
    assert not any(name == "open" for name, _ in parsed.attributes)


def test_the_notes_and_the_numbers_are_written() -> None:
    explanation, _, parsed = _parsed("resnet50_deep", 473)
    words = " ".join(parsed.words)
    for line in text.notes(explanation):
        assert line in parsed.words
    assert text.MAC_MEANING in parsed.words
    assert explanation.problem in parsed.words
    assert f"{explanation.totals.buffers:,}" in parsed.words
    assert f"{explanation.totals.activations:,}" in parsed.words
    assert "24.77 GMACs" in words
    assert [cells[1] for cells in parsed.of("unreached")] == ["fc"]


def test_a_page_without_a_problem_has_no_word_of_one() -> None:
    _, document, parsed = _parsed("resnet50")
    assert parsed.of("unreached") == []
    assert 'class="problem"' not in document


def test_every_option_is_listed_as_the_command_line_takes_it() -> None:
    explanation = explain("resnet50", output_stride=8)
    document = network_page(explanation)
    rows = dict(re.findall(r"<td>(\w+)</td><td>([^<]*)</td>", document))
    assert tuple(rows) == option_names()
    assert rows["depths"] == "3,4,6,3"
    assert rows["groups"] == "1"
    assert rows["stem_padding"] == "3"
    assert rows["conv_bias"] == "false"
    assert rows["squeeze_excitation"] == "none"
    changed = re.findall(r'<tr class="changed"><td>(\w+)</td>', document)
    assert changed == ["output_stride"]


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "\"><img src=x>&amp;' \0 \ud800"])
def test_hostile_words_stay_words(hostile: str) -> None:
    network = Network(name=hostile, options=Options(), about=hostile, source=hostile)
    document = network_page(explain(network))
    parsed = _Page(document)
    assert document.encode()
    assert not {"script", "img"} & set(parsed.tags)
    shown = hostile.replace("\0", "\ufffd").replace("\ud800", "\ufffd")
    assert shown in parsed.words


def test_the_page_is_the_same_each_time() -> None:
    assert _parsed("resnet18")[1] == network_page(explain("resnet18"))
