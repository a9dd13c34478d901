"""Makes the pictures of docs/view.md and docs/notes.md, with Chromium: python docs/figures/view.py

Prints how long the clicks of each question take. With ``--questions`` it makes only those of
docs/notes.md. The network of ``view_pictures.webp`` is trained on crops of four photographs, in
some minutes.
"""

from __future__ import annotations

import io
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import skimage.data
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

import resnetkit
from resnetkit.architecture.explanation import explain
from resnetkit.inspect.page.view_page import view_page

HERE = Path(__file__).parent
WINDOW = "net=resnet50_notes&vs=resnet50_deep&input=473&at=layer4.0.conv2&unit=0.99,0.99"
#: File, address after "#", width and height of the window, and how far it is scrolled.
PICTURES = (
    ("view_network.webp", "", 1280, 1230, 0),
    ("view_block.webp", "at=layer2.0", 1280, 1300, 0),
    ("view_window.webp", WINDOW, 1280, 800, 330),
)


#: How often the clicks of a question are timed.
ROUNDS = 7


def save(page: Page, name: str, part: str = "") -> None:
    """The page, or a part of it, as a file of the documentation."""
    shown = page.locator(part).screenshot() if part else page.screenshot()
    image = Image.open(io.BytesIO(shown))
    image.convert("RGB").save(HERE / name, quality=82, method=6)


def why_119(page: Page) -> None:
    page.get_by_role("link", name="117 or 119?").click()
    expect(page.locator(".parting")).to_contain_text("rounded up, against exact")


def layer_37(page: Page) -> None:
    page.get_by_role("link", name="Counting layers").click()
    page.get_by_label("Where is layer").fill("37")
    page.locator(".found a").first.click()
    expect(page.locator(".facts")).to_contain_text("number 37 by the paper")


def shortcut(page: Page) -> None:
    page.locator(".flow a", has_text="stage 2").click()
    page.locator("a.card").first.click()
    expect(page.locator(".graph-box")).to_contain_text("because the shape changes")


def fifty(page: Page) -> None:
    page.get_by_role("link", name="Counting layers").click()
    expect(page.locator(".counting")).to_contain_text("50 by the notes: 2 + 9 + 12 + 18 + 9")


def unit(page: Page) -> None:
    page.locator(".flow a", has_text="stage 3").click()
    page.locator("tbody tr", has_text="layer3.5").hover()
    expect(page.locator(".field")).to_contain_text("267\u00d7267")


#: The questions of docs/notes.md: its picture, what is clicked, and the part of the page shown.
QUESTIONS: tuple[tuple[str, Callable[[Page], None], str], ...] = (
    ("why_119.webp", why_119, ".notes"),
    ("layer_37.webp", layer_37, ".facts"),
    ("shortcut.webp", shortcut, ".figure"),
    ("fifty.webp", fifty, ".counting"),
    ("unit.webp", unit, ".side-by"),
)


def questions(browser: Browser, address: str) -> None:
    """Answer each question by clicking, and time the clicks until the answer is on the page."""
    for name, click, part in QUESTIONS:
        seconds = []
        for number in range(ROUNDS):
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.goto(address)
            page.wait_for_selector("main")
            began = time.perf_counter()
            click(page)
            seconds.append(time.perf_counter() - began)
            if number == 0:
                if click is shortcut:
                    page.mouse.move(0, 0)  # away from what it would mark
                page.wait_for_timeout(300)
                save(page, name, part)
            page.close()
        print(f"{name}: {1000 * statistics.median(seconds):.0f} ms, median of {ROUNDS}")


def with_pictures(folder: Path) -> Path:
    """The page of a small trained network, with a photograph."""
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        (folder / "crops" / name).mkdir(parents=True)
        photo = Image.fromarray(getattr(skimage.data, name)())
        for number in range(60):
            side = 120 + 31 * number % 160
            left = 37 * number % max(1, photo.width - side)
            top = 53 * number % max(1, photo.height - side)
            crop = photo.crop((left, top, left + side, top + side))
            crop.save(folder / "crops" / name / f"{number}.png")
    run = resnetkit.train(
        folder / "crops", out=folder / "run", model="resnet18", size=128, epochs=8, batch_size=16
    )
    photo = folder / "coffee.jpg"
    Image.fromarray(skimage.data.coffee()).save(photo, quality=90)
    bundle = resnetkit.load(run.folder / "best.safetensors")
    page = folder / "pictures.html"
    page.write_text(
        view_page(
            explain(bundle.network, bundle.preprocess.size), [resnetkit.inspect.look(bundle, photo)]
        )
    )
    return page


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "resnet50.html"
        page_file.write_text(view_page(explain("resnet50")))
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        questions(browser, page_file.as_uri())
        if "--questions" in sys.argv[1:]:
            return
        for name, fragment, width, height, scrolled in PICTURES:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(f"{page_file.as_uri()}#{fragment}")
            page.wait_for_selector("main")
            if not fragment:
                page.locator("tbody tr", has_text="stage 3").hover()
            page.mouse.wheel(0, scrolled)
            page.wait_for_timeout(500)
            save(page, name)
            page.close()
        page = browser.new_page(viewport={"width": 1280, "height": 1040})
        page.goto(with_pictures(Path(folder)).as_uri())
        page.get_by_text("Blocks, with their shortcuts").click()
        page.locator("summary", has_text="Choices").click()
        page.locator("h3", has_text="layer3.0").scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        save(page, "view_pictures.webp")
        browser.close()


if __name__ == "__main__":
    main()
