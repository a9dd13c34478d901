"""`export --to web` in a real browser: a file without a network gives the engine's answers."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch
from playwright.sync_api import Browser, Locator, Page, Request

import resnetkit
from npm_packages import runtime_cached

pytestmark = pytest.mark.slow

CLASSES = ("astronaut", "cat", "coffee", "rocket")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose classes differ on the photographs."""
    torch.manual_seed(1)
    module = resnetkit.build(
        "resnet18", num_classes=len(CLASSES), widths=(8, 16, 16, 32), stem_widths=(8,)
    )
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        module.fc.weight.mul_(20)
    preprocess = resnetkit.Preprocess(size=96, resize_to=110)
    path = tmp_path_factory.mktemp("bundle") / "net.safetensors"
    resnetkit.Bundle.from_module(module, preprocess=preprocess, classes=CLASSES).save(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """JPEG, PNG with transparency, and a photograph on its side with EXIF."""
    folder = tmp_path_factory.mktemp("pictures")
    files = [folder / name for name in ("astronaut.jpg", "chelsea.png", "rocket.jpg")]
    PIL.Image.fromarray(skimage.data.astronaut()).save(files[0], quality=90)
    cat = PIL.Image.fromarray(skimage.data.chelsea()).convert("RGBA")
    cat.putalpha(PIL.Image.linear_gradient("L").resize(cat.size).point(lambda x: 255 * (x > 99)))
    cat.save(files[1])
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(skimage.data.rocket()).save(files[2], quality=90, exif=exif)
    return files


@pytest.fixture(scope="module")
def page_file(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    with runtime_cached(folder / "cache"):
        resnetkit.export(bundle, folder / "net.html", to="web")
    return folder / "net.html"


@pytest.fixture
def page(browser: Browser, page_file: Path) -> Iterator[Page]:
    """The page, opened as a file; it asks for nothing and its console stays empty."""
    found = browser.new_page(viewport={"width": 1100, "height": 900})
    complaints: list[str] = []
    found.on("console", lambda message: complaints.append(message.text))
    found.on("pageerror", lambda error: complaints.append(str(error)))

    def asked(request: Request) -> None:
        if not request.url.startswith(("blob:", "data:", page_file.as_uri())):
            complaints.append(request.url)

    found.on("request", asked)
    found.goto(page_file.as_uri())
    yield found
    found.close()
    assert not complaints


def shown(card: Locator) -> dict[str, float]:
    """Probabilities by class, from the bars."""
    card.locator(".scores").wait_for(timeout=60_000)
    return {
        row.locator(".label").inner_text(): row.locator("i").evaluate(
            "e => parseFloat(e.style.width)"
        )
        / 100
        for row in card.locator(".scores li").all()
    }


def test_answers_are_the_engines(page: Page, bundle: Path, pictures: list[Path]) -> None:
    page.locator("input[type=file]").set_input_files(pictures)
    for name, predictions in zip(
        (path.name for path in pictures), resnetkit.predict(bundle, pictures), strict=True
    ):
        card = page.get_by_role("article", name=name)
        found = shown(card)
        wanted = {score.label: score.probability for score in predictions.scores}
        assert found.keys() == wanted.keys()
        for label, probability in wanted.items():
            assert found[label] == pytest.approx(probability, abs=0.002)


def test_choosing_a_class_lays_its_map_over_the_picture(page: Page, pictures: list[Path]) -> None:
    page.locator("input[type=file]").set_input_files(pictures[:1])
    card = page.get_by_role("article", name="astronaut.jpg")
    card.locator(".scores").wait_for(timeout=60_000)
    picture, buttons = card.locator(".picture"), card.locator(".scores button")
    views = []
    for number in (1, 2):
        buttons.nth(number).click()
        assert buttons.nth(number).get_attribute("aria-pressed") == "true"
        views.append(np.array(PIL.Image.open(BytesIO(picture.screenshot()))).astype(int))
    assert np.abs(views[0] - views[1]).max() > 40
    buttons.nth(2).press("Enter")  # again: none
    assert card.locator("canvas").count() == 0


def test_what_is_no_picture_is_named(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "notes.txt"
    bad.write_text("no picture")
    page.locator("input[type=file]").set_input_files(bad)
    page.get_by_text(
        "notes.txt: not a picture, or of a kind that this browser cannot read"
    ).wait_for()


def test_the_camera_is_classified_and_kept(page: Page) -> None:
    page.get_by_role("button", name="Use the camera").click(timeout=60_000)
    camera = page.get_by_role("article", name="camera", exact=True)
    assert len(shown(camera)) == len(CLASSES)
    camera.get_by_role("button", name="Keep this picture").click()
    kept = page.get_by_role("article", name="camera 1")
    assert len(shown(kept)) == len(CLASSES)
    camera.get_by_role("button", name="Stop the camera").click()
    camera.wait_for(state="detached")


def test_a_narrow_page_does_not_scroll_sideways(page: Page, pictures: list[Path]) -> None:
    page.set_viewport_size({"width": 380, "height": 800})
    page.locator("input[type=file]").set_input_files(pictures)
    page.locator(".scores").nth(2).wait_for(timeout=60_000)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 380
