"""Nothing is cut, laid over something else, or out of sight, on screens from 380 to 2560 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

import resnetkit
from resnetkit.architecture.comparison import compare
from resnetkit.architecture.explanation import explain
from resnetkit.inspect.page.view_page import view_page
from resnetkit.report.pages.comparison_page import comparison_page
from resnetkit.report.pages.network_page import network_page

pytestmark = pytest.mark.slow
WIDTHS = (380, 1280, 2560)
#: Elements whose words are cut or stand out of them.
CUT = """(selector) => [...document.querySelectorAll(selector)].filter((one) => {
  const box = one.getBoundingClientRect();
  return [...one.children].some((child) => {
    const words = child.getBoundingClientRect();
    return words.top < box.top - 0.5 || words.bottom > box.bottom + 0.5
      || words.left < box.left - 0.5 || words.right > box.right + 0.5;
  });
}).map((one) => one.innerText)"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "view.html").write_text(view_page(explain("resnet50")))
    (folder / "explain.html").write_text(network_page(explain("resnet50")))
    (folder / "compare.html").write_text(comparison_page(compare("resnet50", "resnet34")))
    return folder


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    found = browser.new_page(viewport={"width": request.param, "height": 900})
    yield found
    found.close()


def width(page: Page) -> int:
    assert page.viewport_size is not None
    return page.viewport_size["width"]


@pytest.mark.parametrize(
    "fragment",
    ["at=layer2.0", "vs=depth:34&at=layer2.0", "net=stem:deep-64-64-128&at=stage0", "tab=blocks"],
)
def test_the_words_of_a_layer_are_inside_its_box(folder: Path, page: Page, fragment: str) -> None:
    page.goto(f"{(folder / 'view.html').as_uri()}#{fragment}")
    page.wait_for_selector(".node")
    assert page.locator(".node").count() >= 10
    assert page.evaluate(CUT, ".node") == []
    tops = (
        page.locator(".graph")
        .first.locator(".node")
        .evaluate_all(
            "(all) => all.map((one) => one.getBoundingClientRect())"
            ".map((box) => [box.left, box.top, box.bottom])"
        )
    )
    below: dict[float, float] = {}
    for left, top, bottom in tops:
        assert top >= below.get(left, 0.0)
        below[left] = bottom


@pytest.mark.parametrize("fragment", ["at=layer2.0.conv2", "at=stage3"])
def test_sliders_stay_inside_and_below_each_other(folder: Path, page: Page, fragment: str) -> None:
    page.goto(f"{(folder / 'view.html').as_uri()}#{fragment}")
    for group in page.locator(".sliders").all():
        around = group.bounding_box()
        boxes = [one.bounding_box() for one in group.locator("input").all()]
        assert around is not None
        assert len(boxes) == 2
        assert all(
            box and box["x"] + box["width"] <= around["x"] + around["width"] for box in boxes
        )
        first, second = boxes
        assert first
        assert second
        assert first["x"] == second["x"] or first["y"] == second["y"]


def test_what_a_table_is_about_is_in_sight(folder: Path, page: Page) -> None:
    page.goto(f"{(folder / 'view.html').as_uri()}#vs=depth:34&at=layer2.0")
    title = page.locator("caption .titled").bounding_box()
    assert title is not None
    assert title["x"] + title["width"] <= width(page)
    page.goto(f"{(folder / 'view.html').as_uri()}#tab=notes")
    page.wait_for_selector(".parting")
    for name in ("notes", "code"):
        cell = page.locator(".parting th", has_text=name).first.bounding_box()
        assert cell is not None
        assert cell["x"] + cell["width"] <= width(page)


def test_both_ways_of_counting_have_the_same_columns(folder: Path, page: Page) -> None:
    page.goto(f"{(folder / 'view.html').as_uri()}#tab=count")
    page.wait_for_selector(".count-stages")
    paper, notes = (
        [one.bounding_box() for one in way.locator("> div").all()]
        for way in page.locator(".count-stages").all()
    )
    assert [box and box["x"] for box in paper] == [box and box["x"] for box in notes]


def test_a_row_of_explain_lays_nothing_over_another(folder: Path, page: Page) -> None:
    page.goto((folder / "explain.html").as_uri())
    assert page.locator(".row > span:visible").count() > 40
    wide = page.locator(".row > span").evaluate_all(
        "(all) => all.filter((one) => one.scrollWidth > one.clientWidth && one.clientWidth)"
        ".map((one) => one.innerText)"
    )
    assert wide == []


def test_both_networks_are_in_sight(folder: Path, page: Page) -> None:
    page.goto((folder / "compare.html").as_uri())
    tables = page.locator(".table")
    assert tables.count() == 3
    assert tables.evaluate_all("(all) => all.every((one) => one.scrollWidth <= one.clientWidth)")
    assert page.locator(".layers td.absent").count() > 20
    if width(page) < 600:
        shown = page.locator(".layers tbody tr").first.locator("td").nth(3)
        content = shown.evaluate("(one) => getComputedStyle(one, '::before').content")
        assert content.replace('" "', "") == '"resnet34: "'


def test_the_same_place_of_two_pictures_stands_beside_it(page: Page, tmp_path: Path) -> None:
    import numpy as np

    module = resnetkit.build("resnet18", num_classes=2, widths=(8, 8, 8, 8))
    preprocess = resnetkit.Preprocess(size=64, resize_to=64)
    bundle = resnetkit.Bundle.from_module(module, preprocess=preprocess, classes=("a", "b"))
    noise = np.random.default_rng(0)
    looks = [
        resnetkit.inspect.look(bundle, noise.integers(0, 255, shape, np.uint8))
        for shape in ((60, 90, 3), (90, 60, 3))
    ]
    (tmp_path / "page.html").write_text(view_page(explain(bundle.network, 64), looks))
    page.goto((tmp_path / "page.html").as_uri())
    page.locator(".look-small").nth(1).click()
    heights = [
        [one.bounding_box() for one in column.locator("h3").all()]
        for column in page.locator(".look").all()
    ]
    tops = [[round(box["y"]) for box in column if box] for column in heights]
    assert len(tops) == 2
    assert len(tops[0]) == 5
    if width(page) > 600:
        assert tops[0] == tops[1]
    assert page.locator(".look-through h3").first.inner_text().startswith("stage 0 ")
