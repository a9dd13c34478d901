"""Makes the pictures of docs/view.md: python docs/figures/view.py (needs Chromium)."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

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
            image = Image.open(io.BytesIO(page.screenshot()))
            image.convert("RGB").save(HERE / name, quality=82, method=6)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
