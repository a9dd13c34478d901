"""Pictures on the page of a network: inside a file, and given to a server."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect

import resnetkit
from live_server import running
from photographs import photograph
from resnetkit.architecture.explanation import explain
from resnetkit.inspect import look
from resnetkit.inspect.page.view_page import view_page
from resnetkit.server.application import create_app
from resnetkit.server.connections import ConnectionLimits
from resnetkit.server.model_source import ModelSource, ServingOptions
from resnetkit.server.protocol import limited_protocol

pytestmark = pytest.mark.slow
AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
CLASSES = ("astronaut", "cat", "coffee", "rocket")


@pytest.fixture(scope="module")
def bundle() -> resnetkit.Bundle:
    torch.manual_seed(1)
    module = resnetkit.build("resnet18", num_classes=len(CLASSES), widths=(8, 16, 16, 32))
    preprocess = resnetkit.Preprocess(size=96, resize_to=110)
    return resnetkit.Bundle.from_module(module, preprocess=preprocess, classes=CLASSES)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    found = [folder / "coffee.jpg", folder / "rocket.png"]
    for path in found:
        PIL.Image.fromarray(photograph(path.stem)).save(path)
    return found


@pytest.fixture(scope="module")
def file(
    bundle: resnetkit.Bundle, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> str:
    page = tmp_path_factory.mktemp("page") / "page.html"
    looks = [look(bundle, picture) for picture in pictures]
    page.write_text(view_page(explain(bundle.network, bundle.preprocess.size), looks))
    return page.as_uri()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page whose console stays empty, except for answers of the server that are no success."""
    found = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    yield found
    found.close()
    assert [line for line in said if "status of 422" not in line] == []


def shot(page: Page) -> np.ndarray:
    return np.array(PIL.Image.open(BytesIO(page.locator(".look-frame").screenshot()))).astype(int)


def test_a_map_and_a_unit_are_shown_on_the_picture(page: Page, file: str) -> None:
    page.goto(file)
    classes = page.locator(".look-classes button")
    assert classes.count() == len(CLASSES)
    views = [shot(page)]
    for button in (classes.nth(1), page.locator(".look-thumb").nth(3)):
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        views.append(shot(page))
    assert all(np.abs(one - views[0]).max() > 30 for one in views[1:])
    page.locator(".look-thumb").first.hover()
    expect(page.locator(".look-seen")).to_be_visible()
    expect(page.get_by_text("input pixels: the square.")).to_be_visible()


def test_blocks_and_two_pictures(page: Page, file: str) -> None:
    page.goto(file)
    page.get_by_role("button", name="Blocks, with their shortcuts").click()
    assert page.get_by_text("The shortcut (identity) carried").count() == 4
    assert page.get_by_text("The shortcut (projection) carried").count() == 4
    page.get_by_role("button", name="rocket.png").click()
    assert page.locator("section.look").count() == 2
    page.get_by_role("button", name="coffee.jpg").click()
    assert page.locator("section.look").count() == 1


def test_other_choices_say_that_the_pictures_are_of_the_asked_network(
    page: Page, file: str
) -> None:
    page.goto(f"{file}#tab=pictures&input=128")
    expect(page.get_by_text("take back the choices")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1280])
def test_accessible_and_no_sideways_scroll(
    width: int, scheme: str, browser: Browser, file: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(file)
    for level in ("Stages", "Blocks, with their shortcuts"):
        page.get_by_role("button", name=level).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run().then((result) => result.violations)")
        grave = [one for one in found if one["impact"] in ("serious", "critical")]
        assert not grave
    page.close()


@pytest.fixture(scope="module")
def server(bundle: resnetkit.Bundle) -> Iterator[str]:
    served = ServingOptions(inspect=True).open(ModelSource(name="net", model=bundle))
    app: FastAPI = create_app(served)
    with running(app, limited_protocol, ConnectionLimits(), lifespan="on") as (host, port):
        yield f"http://{host}:{port}/view"


def test_pictures_are_given_to_the_server(
    page: Page, server: str, pictures: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "notes.txt"
    bad.write_text("no picture")
    page.goto(server)
    page.locator("input[type=file]").set_input_files([pictures[0], bad, pictures[1]])
    expect(page.get_by_role("button", name="rocket.png")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("button", name="coffee.jpg")).to_be_visible()
    expect(page.get_by_text("notes.txt: not an image, or of an unsupported")).to_be_visible()
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the picture").click()
    expect(page.get_by_role("button", name="camera", exact=True)).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Stop the camera").click()
    page.get_by_role("link", name="Structure").click()
    page.get_by_role("link", name="Pictures").click()
    expect(page.get_by_role("button", name="coffee.jpg")).to_be_visible()
