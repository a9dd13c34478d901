"""The page of runs: results, what differs, curves over each other, and honest about the rest."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

import resnetkit
from resnetkit.report import runs_page
from resnetkit.report.pages.templates import script
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run_comparison import Ran, Runs

SMALL = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))
RECIPE = make_recipe(model=SMALL, size=8, epochs=4, batch_size=128)
EVIL = '<script>alert("1")</script>'


def ran(name: str, done: int = 4, *, folder: Path = Path("gone"), **changes: Any) -> Ran:
    rows = tuple(
        EpochLog(epoch=n, lr=0.1 / n, loss=2 / n, accuracy=1 - 1 / n, validation_loss=3 / n,
            validation_accuracy=1 - 1 / (n + 1), seconds=2.0, rate=90.0, best=True)
        for n in range(1, done + 1)
    )  # fmt: skip
    best = rows[-1] if rows else None
    found = Ran(name=name, folder=folder, recipe=RECIPE, done=done, finished=done == 4, rows=rows,
                best=best and best.epoch, validation=best and best.validation_accuracy,
                test=0.5 if done == 4 else None, seconds=2.0 * done)  # fmt: skip
    return replace(found, **changes)


def page_of(*runs: Ran, damaged: dict[str, str] | None = None, place: Path | None = None) -> str:
    """The page without its script."""
    page = runs_page(Runs(folder="all/runs", runs=runs, damaged=damaged or {}), place)
    return page.replace(f"<script>{script('runs')}</script>", "")


def charts(page: str) -> dict[str, dict[str, Any]]:
    found = re.findall(r'data-curves="([^"]+)"><h3>([^<]+)</h3>', page)
    return {title: json.loads(unescape(data)) for data, title in found}


def test_a_row_and_a_line_for_each_run() -> None:
    faster = RECIPE.override(lr=0.5)
    page = page_of(ran("one"), ran("two", recipe=faster), ran("three", 2))
    assert "<h1>3 runs in runs</h1>" in page
    heads = re.findall(r"<th [^>]*>([^<]+)</th>", page)
    assert heads == ["no.", "run", "validation", "test", "done", "time", "state", "lr"]
    [third] = re.findall(r"<tr>(.*three.*)</tr>", page)
    assert re.sub("<[^>]+>", " ", third).split() == (
        ["3", "three", "66.67", "%", "-", "2/4", "0:04", "unfinished", "0.1"]
    )
    assert "(unfinished, 2 of 4 epochs)" in page
    assert 'data-value="0.5">0.5</td>' in page
    found = charts(page)
    assert list(found) == ["Validation loss (nats; log scale)", "Validation accuracy",
                           "Training loss (nats; log scale)", "Training accuracy"]  # fmt: skip
    assert [len(line["values"]) for line in found["Validation accuracy"]["lines"]] == [4, 4, 2]
    assert len(set(re.findall(r'<polyline class="([^"]+)"', page))) == 3
    assert page.count("<polyline") == 12


def test_names_are_shown_as_they_are_and_nothing_is_asked_for() -> None:
    page = page_of(ran(EVIL), ran("a\udcff"), damaged={EVIL: f"all/runs/{EVIL}: bad"})
    assert "<script" not in page
    assert "a\\udcff" in page
    assert f"{EVIL} is left out: {EVIL}: bad" in unescape(page)
    assert not re.findall(r"(?:src|href)=\"(?!data:,)|url\(|@import", page)
    page.encode("utf-8")


def test_runs_link_to_their_own_pages(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a #1: b"
    folder.mkdir(parents=True)
    runs = (ran("one", folder=folder), ran("two", folder=tmp_path))
    assert "<a " not in page_of(*runs, place=tmp_path)
    (folder / "report.html").touch()
    for place, link in ((tmp_path, "runs/"), (tmp_path / "pages" / "new", "../../runs/")):
        assert re.findall('<a href="([^"]+)"', page_of(*runs, place=place)) == [
            f"{link}a%20%231%3A%20b/report.html"
        ]
    assert "<a " not in page_of(*runs)


@pytest.mark.parametrize(("count", "drawn", "kept"), [(10, 10, 10), (12, 10, 12), (40, 10, 30)])
def test_many_runs_are_not_all_drawn(count: int, drawn: int, kept: int) -> None:
    page = page_of(*(ran(f"run{n}") for n in range(count)))
    assert page.count("<polyline") == 4 * drawn
    assert len(charts(page)["Validation accuracy"]["lines"]) == kept
    assert page.count("data-line=") == kept
    assert page.count("<tr>") == 1 + count
    assert (f"The best {drawn} runs are drawn" in page) == (count > drawn)
    assert (f"curves of the best {kept} are in this page" in page) == (count > kept)


def test_what_is_not_there_is_not_drawn() -> None:
    begun = page_of(ran("begun", 0))
    assert "<h1>1 run in runs</h1>" in begun
    assert not charts(begun)
    assert "0/4" in begun
    no_validation = [
        replace(row, validation_loss=None, validation_accuracy=None) for row in ran("one").rows
    ]
    found = charts(page_of(ran("one", rows=tuple(no_validation), validation=None), ran("two", 0)))
    assert list(found) == ["Training loss (nats; log scale)", "Training accuracy"]
    assert "Results" not in page_of(damaged={"one": "bad"})
    assert "Their recipes are the same" in page_of(ran("one"), ran("two"))
