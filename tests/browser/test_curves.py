"""Curves that zoom, in a browser: by mouse, touch and keyboard, kept when the page reloads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

import resnetkit
from resnetkit.files import write_text
from resnetkit.report.pages.run_page import run_page, setting
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe_defaults import make_recipe

pytestmark = pytest.mark.slow
SMALL = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))
EPOCHS, DONE = 20, 15


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run in training."""
    recipe = make_recipe(model=SMALL, size=8, epochs=EPOCHS, batch_size=128)
    rows = [EpochLog(epoch=n, lr=0.1 / n, loss=2 / n, accuracy=1 - 1 / n, validation_loss=3 / n,
                validation_accuracy=1 - 1 / (n + 1), seconds=2.0, rate=90.0, best=True,
                waited=0.25) for n in range(1, DONE + 1)]  # fmt: skip
    made = setting("a run", recipe.network, recipe.preprocess, recipe=recipe, about={})
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_text(path, run_page(made, recipe, rows))
    return path


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    found = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    found.on("request", lambda request: request.url.startswith("file:") or said.append(request.url))
    found.goto(report.as_uri())
    yield found
    found.close()
    assert not [one for one in said if not one.startswith("data:")]


def drag(page: Page, chart: Locator, first: int, last: int) -> None:
    """Over the epochs of a chart that shows all of them."""
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None

    def x(epoch: int) -> float:
        return box["x"] + box["width"] * (48 + 304 * (epoch - 1) / (EPOCHS - 1)) / 360

    page.mouse.move(x(first), box["y"] + 80)
    page.mouse.down()
    page.mouse.move(x(last) - 9, box["y"] + 90)
    page.mouse.move(x(last), box["y"] + 90)
    page.mouse.up()


def ticks(chart: Locator) -> list[str]:
    return chart.locator("text[text-anchor=middle]").all_text_contents()


def test_dragging_zooms_all_and_a_button_shows_all_again(page: Page) -> None:
    charts = page.locator("[data-curves] svg")
    first = [chart.inner_html() for chart in charts.all()]
    drag(page, charts.nth(0), 5, 9)
    expect(page.get_by_role("status")).to_have_text("epochs 5 to 9 of 20")
    for chart in charts.all():
        assert ticks(chart) == ["5", "6", "7", "8", "9"]
        for line in chart.locator("polyline").all():
            assert len((line.get_attribute("points") or "").split()) == 5
    page.mouse.move(0, 0)
    page.get_by_role("button", name="all epochs").click()
    assert [chart.inner_html() for chart in charts.all()] == first


def test_the_pointed_epoch_is_read_out(page: Page) -> None:
    chart = page.locator("[data-curves] svg").nth(1)
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * (48 + 304 * 3 / (EPOCHS - 1)) / 360, box["y"] + 50)
    told = page.locator(".told")
    expect(told.nth(0)).to_have_text("epoch 4: training 0.5, validation 0.75")
    expect(told.nth(1)).to_have_text("epoch 4: training 75.00 %, validation 80.00 %")
    expect(told.nth(2)).to_have_text("epoch 4: learning rate 0.025")
    page.mouse.move(0, 0)
    expect(told.nth(2)).to_contain_text(f"epoch {DONE}:")


def test_by_keyboard(page: Page) -> None:
    chart = page.get_by_role("slider", name=re.compile("Accuracy"))
    expect(chart).to_have_attribute("aria-valuemax", str(DONE))
    chart.focus()
    page.keyboard.press("Home")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(chart).to_have_attribute("aria-valuenow", "6")
    expect(chart).to_have_attribute(
        "aria-valuetext", "epoch 6: training 83.33 %, validation 85.71 %"
    )
    page.keyboard.press("+")
    page.keyboard.press("+")
    status = page.get_by_role("status")
    expect(status).to_have_text("epochs 5 to 9 of 20")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(status).to_have_text("epochs 6 to 10 of 20")
    page.keyboard.press("-")
    expect(status).not_to_have_text("epochs 6 to 10 of 20")
    page.keyboard.press("0")
    expect(status).to_have_text("epochs 1 to 20 of 20")
    page.keyboard.press("Tab")
    expect(page.get_by_role("slider", name=re.compile("Learning rate"))).to_be_focused()


def test_a_reload_keeps_the_zoom_and_the_focus(page: Page) -> None:
    drag(page, page.locator("[data-curves] svg").nth(2), 3, 8)
    page.get_by_role("slider", name=re.compile("Accuracy")).focus()
    page.reload()
    expect(page.get_by_role("status")).to_have_text("epochs 3 to 8 of 20")
    expect(page.get_by_role("slider", name=re.compile("Accuracy"))).to_be_focused()


def test_by_touch(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport={"width": 380, "height": 800}, has_touch=True)
    page.goto(report.as_uri())
    chart = page.locator("[data-curves] svg").nth(0)
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    touch = page.context.new_cdp_session(page)
    y = box["y"] + 60
    for kind, share in (("Start", 0.3), ("Move", 0.4), ("Move", 0.6), ("End", None)):
        at = [] if share is None else [{"x": box["x"] + box["width"] * share, "y": y}]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": at})
    expect(page.get_by_role("status")).to_have_text("epochs 5 to 11 of 20")
    page.close()


def test_without_script_and_on_paper(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.get_by_role("img", name=re.compile("lines over the epochs")).count() == 3
    assert not page.locator(".tools").count()
    context.close()
    page = browser.new_page()
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="zoom in")).to_be_hidden()
    page.close()
