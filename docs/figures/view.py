"""Makes the pictures of docs/view.md: python docs/figures/view.py (needs Chromium).

The network of ``view_pictures.webp`` is trained on crops of four photographs, in some minutes.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

import skimage.data
from PIL import Image
from playwright.sync_api import Page, sync_playwright

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


def save(page: Page, name: str) -> None:
    """The page as a file of the documentation."""
    image = Image.open(io.BytesIO(page.screenshot()))
    image.convert("RGB").save(HERE / name, quality=82, method=6)


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
