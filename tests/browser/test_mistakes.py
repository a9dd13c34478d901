"""Mistakes of a run, from its report to the maps of both classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from resnetkit.cli.main import main

pytestmark = pytest.mark.slow
AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    command = "train digits --model resnet20 --depths 1,1 --widths 16,32 --size 8 --epochs 1"
    assert main([*command.split(), "--out", str(folder)]) == 0
    page = folder / "mistakes.html"
    assert main(["view", str(folder), "--mistakes", "--count", "4", "--out", str(page)]) == 0
    return folder


def test_from_the_report_to_a_mistake_and_its_classes(page: Page, run: Path) -> None:
    page.goto((run / "report.html").as_uri())
    links = page.locator(".mistakes").first.get_by_role("link")
    assert links.count() == 4
    links.nth(2).click()
    expect(page).to_have_url(f"{(run / 'mistakes.html').as_uri()}#picture=3")
    chosen = page.locator(".look-small[aria-pressed=true]")
    expect(chosen).to_have_count(1)
    truth, _, guess = chosen.inner_text().split()
    mistake = page.get_by_role("region", name=f"{truth}, taken for {guess}")
    heads = mistake.get_by_role("heading")
    assert [one.split()[-3] for one in heads.all_inner_texts()] == [guess, truth]
    assert mistake.locator("canvas").count() == 2
    page.locator(".look-classes button").nth(1).click()
    page.wait_for_url("**#picture=3&class=*")
    page.reload()
    expect(page.locator(".look-classes button").nth(1)).to_have_attribute("aria-pressed", "true")
    page.locator(".look-small").nth(0).click()
    expect(page.get_by_role("region", name="taken for")).to_have_count(2)
    page.go_back()
    expect(page.get_by_role("region", name="taken for")).to_have_count(1)


def test_accessible_and_no_sideways_scroll(page: Page, run: Path) -> None:
    for name in ("mistakes.html#picture=2", "mistakes.html#picture=2,4", "report.html"):
        page.goto(f"{run.as_uri()}/{name}")
        for width in (380, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.evaluate(AXE.read_text())
            found = page.evaluate("axe.run().then((result) => result.violations)")
            grave = [
                (one["id"], [node["html"] for node in one["nodes"]][:3])
                for one in found
                if one["impact"] in ("serious", "critical")
            ]
            assert not grave
