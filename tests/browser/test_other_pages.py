"""The pages without much script, in a browser: accessible, narrow, and silent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import PIL.Image
import pytest
from playwright.sync_api import Page, expect

import resnetkit
from live_server import running
from npm_packages import runtime_cached
from resnetkit.cli.main import main
from resnetkit.server.application import create_app
from resnetkit.server.connections import ConnectionLimits
from resnetkit.server.model_source import ModelSource, ServingOptions
from resnetkit.server.protocol import limited_protocol
from resnetkit.training.epoch_log import read_log, write_log

pytestmark = pytest.mark.slow
AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
PAGES = ("explain", "compare", "evaluate", "run", "runs", "server", "classifier")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Each page by its name."""
    folder = tmp_path_factory.mktemp("pages")
    run = folder / "trained" / "run"
    command = f"train digits --depths 1,1,1 --epochs 2 --out {run}"
    assert main(command.split()) == 0
    half = shutil.copytree(run, run.with_name("half"))
    write_log(half, read_log(run)[:1])
    bundle = run / "best.safetensors"
    for line in (
        f"explain resnet50 --out {folder}/explain.html",
        f"compare resnet50 resnet34 --out {folder}/compare.html",
        f"evaluate {bundle} digits --format html --out {folder}/evaluate.html",
        f"runs {folder}/trained --out {folder}/runs.html",
    ):
        assert main(line.split()) == 0
    with runtime_cached(folder / "cache"):
        resnetkit.export(bundle, folder / "classifier.html", to="web", agree_on="digits")
    found = {name: (folder / f"{name}.html").as_uri() for name in PAGES}
    found["run"] = (run / "report.html").as_uri()
    served = ServingOptions().open(ModelSource(name="digits", model=bundle))
    app = create_app(served)
    with running(app, limited_protocol, ConnectionLimits(), lifespan="on") as (host, port):
        yield {**found, "server": f"http://{host}:{port}/"}


@pytest.mark.parametrize("name", PAGES)
def test_accessible_and_no_sideways_scroll(
    name: str, page: Page, addresses: dict[str, str]
) -> None:
    page.goto(addresses[name])
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
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


def test_a_number_of_the_matrix_opens_its_pictures(page: Page, addresses: dict[str, str]) -> None:
    page.goto(addresses["evaluate"])
    number = page.locator("td button").first
    number.focus()
    page.keyboard.press("Enter")
    opened = page.locator(".behind:popover-open")
    expect(opened).to_be_visible()
    assert opened.locator("img").count() >= 1
    page.keyboard.press("Escape")
    expect(opened).to_be_hidden()


def test_the_table_of_runs_is_sorted_and_its_legend_hides_runs(
    page: Page, addresses: dict[str, str]
) -> None:
    page.goto(addresses["runs"])
    names = page.locator("tbody td:nth-child(2)")
    first = names.all_inner_texts()
    head = page.get_by_role("columnheader", name="done")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert names.all_inner_texts() == ["half", "run"]
    head.get_by_role("button").click()
    assert names.all_inner_texts() == ["run", "half"]

    charts = page.locator("[data-curves] svg")
    drawn = charts.first.inner_html()
    switch = page.locator(".legend").get_by_role("button", name=first[0])
    switch.press("Enter")
    expect(switch).to_have_attribute("aria-pressed", "false")
    assert "c0" not in charts.first.inner_html()
    switch.press("Enter")
    assert charts.first.inner_html() == drawn
    page.get_by_role("link", name="run", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("resnet20 on digits")


def test_an_answer_of_the_server_is_one_line_a_class(page: Page, addresses: dict[str, str]) -> None:
    page.goto(addresses["server"])
    picture = {"name": "grey.png", "mimeType": "image/png", "buffer": png()}
    page.set_input_files("input[type=file]", [picture])
    expect(page.locator("dd").first).to_be_visible()
    heights = page.locator("dd").evaluate_all(
        "(all) => all.map((one) => { one.textContent = '100.0 %'; return one.offsetHeight; })"
    )
    assert max(heights) < 30, "one line"
    assert page.get_by_text("Computing").count() == 0


def png() -> bytes:
    written = BytesIO()
    PIL.Image.new("L", (16, 16), 99).save(written, "PNG")
    return written.getvalue()
