"""The page that opens a network, in a browser: every part of it is used once.

Chromium is Debian's (``make slow`` installs it), axe-core that of ``web/package-lock.json``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from resnetkit.architecture.explanation import explain
from resnetkit.inspect.page.view_page import view_page

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
#: The views, by what is after "#".
VIEWS = {
    "network": "",
    "stage": "at=stage3",
    "stem": "at=stage0",
    "block": "at=layer2.0",
    "layer": "at=layer2.0.conv2",
    "norm": "at=layer2.0.bn2",
    "other": "net=depth:152,stem:deep-64-64-128&at=stage3&input=473",
    "compare": "vs=depth:34",
    "compare block": "vs=depth:34&at=layer2.0",
    "compare layer": "net=resnet50_notes&vs=resnet50_deep&input=473&at=layer4.0.conv2",
    "blocks": "tab=blocks",
    "count": "tab=count",
    "notes": "tab=notes",
    "problem": "net=pool:7x7&input=473",
}
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("view") / "resnet50.html"
    path.write_text(view_page(explain("resnet50")))
    return path.as_uri()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Open]:
    """Opens the page; at the end, it has asked for nothing and printed nothing."""
    contexts, said = [], []

    def opened(fragment: str = "", width: int = 1280, script: str = "", **options: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url))
        page.add_init_script(script or "0")
        page.goto(f"{address}#{fragment}")
        page.wait_for_selector("main, #view:not(:empty)")
        # Chromium takes the focus away when it looks for the fragment, after the first frame.
        page.evaluate("new Promise((r) => requestAnimationFrame(() => setTimeout(r, 100)))")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [line for line in said if not line.startswith(address)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("fragment", VIEWS.values(), ids=VIEWS.keys())
def test_accessible(fragment: str, scheme: str, open_page: Open) -> None:
    page = open_page(fragment, color_scheme=scheme)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run().then((result) => result.violations)")
    grave = [
        (one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert not grave


@pytest.mark.parametrize("width", [380, 768, 1280, 2560])
@pytest.mark.parametrize("fragment", VIEWS.values(), ids=VIEWS.keys())
def test_no_sideways_scroll(fragment: str, width: int, open_page: Open) -> None:
    page = open_page(fragment, width=width)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def heading(page: Page) -> str:
    return page.locator(".crumbs h2").inner_text()


def test_keys(open_page: Open) -> None:
    page = open_page()
    for key, place in [
        ("ArrowRight ArrowRight ArrowRight Enter", "stage 2"),
        ("Enter", "layer2.0"),
        ("ArrowDown ArrowDown ArrowDown Enter", "conv2"),
        ("ArrowRight", "bn2"),
        ("Backspace", "layer2.0"),
        ("Escape", "stage 2"),
        ("ArrowRight Enter", "layer2.1"),
        ("Escape Escape", "resnet50"),
    ]:
        for one in key.split():
            page.keyboard.press(one)
        expect(page.locator(".crumbs h2")).to_have_text(place)
    page.go_back()
    expect(page.locator(".crumbs h2")).to_have_text("stage 2")
    page.go_back()
    expect(page.locator(".crumbs h2")).to_have_text("layer2.1")
    page.go_forward()
    expect(page.locator(".crumbs h2")).to_have_text("stage 2")
    assert page.evaluate("document.activeElement.dataset.item") is not None


def test_keys_work_in_the_table_and_from_the_start(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".flow a").first).to_be_focused()
    page.locator("table a").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("table a").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".crumbs h2")).to_have_text("stage 1")


def test_figure_and_table_mark_each_other(open_page: Open) -> None:
    for fragment, item in (("", ".item"), ("at=stage2", ".card"), ("at=layer2.0", ".node")):
        page = open_page(fragment)
        page.locator("tbody tr").nth(1).hover()
        expect(page.locator(f"{item}.marked")).to_have_count(1)
        page.locator(f"a{item}").nth(2).focus()
        expect(page.locator("tbody tr").nth(2)).to_have_class(re.compile("marked"))
        expect(page.locator("tbody tr.marked")).to_have_count(1)


def test_choices(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="152", exact=True).click()
    expect(page.locator("h1")).to_have_text("resnet152")
    expect(page.locator(".figures .differs")).to_have_count(4)
    expect(page.locator("td.differs").first).to_contain_text("≠")
    assert "60,192,808" in page.locator(".figures").inner_text()
    page.get_by_role("button", name="1x1", exact=True).click()
    expect(page.locator("h1")).to_have_text("resnet152_v1")
    page.locator(".segments button", has_text="18").first.click()
    expect(page.locator(".selector .reason")).to_contain_text(
        "stride_on 1x1 applies to bottlenecks, not to block basic; use block bottleneck"
    )
    expect(page.locator("h1")).to_have_text("resnet152_v1")
    page.get_by_role("button", name="use depth 18, stride on 3x3").click()
    expect(page.locator("h1")).to_have_text("resnet18")
    page.get_by_label("input", exact=True).fill("473")
    expect(page.locator(".figures")).to_contain_text("3×473×473")
    page.get_by_label("input", exact=True).fill("0")
    expect(page.get_by_role("alert")).to_contain_text("give a side from 1 to")
    page.get_by_role("button", name="back to resnet50").click()
    expect(page.locator("h1")).to_have_text("resnet50")
    expect(page.locator(".differs")).to_have_count(0)


def test_an_input_that_is_too_small(open_page: Open) -> None:
    page = open_page("net=resnet50_notes&input=2")
    expect(page.get_by_role("alert")).to_contain_text("the input 3x2x2 is too small")
    page.get_by_role("button", name="224", exact=True).click()
    expect(page.locator(".crumbs h2")).to_have_text("resnet50_notes")


def test_two_networks(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="compare two networks").click()
    expect(page.locator("caption")).to_contain_text("0 of 6 rows differ")
    second = page.get_by_role("group", name="network B")
    second.get_by_role("button", name="34").click()
    expect(page.locator("h1")).to_have_text("resnet50 and resnet34")
    expect(page.locator("caption")).to_contain_text("5 of 6 rows differ")
    expect(page.locator(".figure")).to_have_count(2)
    expect(page.locator(".figure").first.locator(".sign")).to_have_count(5)
    page.locator(".figure").first.locator("a", has_text="stage 3").click()
    expect(page.locator(".figure")).to_have_count(2)
    page.goto(page.url.replace("at=stage3", "at=layer3.0.conv3"))
    expect(page.locator(".figure").nth(1)).to_contain_text("There is no layer3.0.conv3")


def test_counting(open_page: Open) -> None:
    page = open_page("tab=count")
    found = page.locator(".found")
    expect(found).to_contain_text("by the paper: layer3.4.conv3")
    expect(found).to_contain_text("by the notes: layer3.4.conv2")
    text = page.locator(".counting").inner_text()
    assert "50 by the paper: 1 + 9 + 12 + 18 + 9 + 1" in text
    assert "50 by the notes: 2 + 9 + 12 + 18 + 9" in text
    page.get_by_label("Where is layer").fill("2")
    expect(found).to_contain_text("by the notes: maxpool")
    page.get_by_label("Where is layer").fill("51")
    expect(found).to_contain_text("give a number from 1 to 50")
    page.get_by_label("layer 37 by the paper: layer3.4.conv3").click()
    expect(page.locator(".crumbs h2")).to_have_text("conv3")
    expect(page.locator(".facts")).to_contain_text("number 37 by the paper")


def test_the_notes_and_their_code(open_page: Open) -> None:
    page = open_page("tab=notes")
    text = page.locator(".notes").inner_text()
    assert "117, 117, 59, 30, 16, 10" in text
    assert "119, 119, 60, 30, 15, 9" in text
    row = page.locator("tr", has_text="layer4.0.conv2")
    expect(row).to_contain_text("rounded up, against rounded down")
    row.get_by_role("link").click()
    expect(page.locator("h1")).to_have_text("resnet50_notes and resnet50_deep")
    expect(page.locator(".figure").first).to_contain_text("hangs over the end by 1")
    expect(page.locator(".figure").nth(1)).to_contain_text("1 cell at the end is cut off")


@pytest.mark.parametrize("width", [380, 1280, 2560])
def test_the_window_is_drawn(width: int, open_page: Open) -> None:
    page = open_page("at=conv1", width=width)
    assert page.locator(".axis .tap").count() == 7
    assert page.locator(".axis .result.current").count() == 1


@pytest.mark.parametrize("fragment", ["", "net=output-stride:8", "input=32", "input=473x200"])
def test_maps_do_not_cover_each_other(fragment: str, open_page: Open) -> None:
    for width in (600, 800, 1280):
        page = open_page(fragment, width=width)
        right = 0.0
        for slab in page.locator(".across .slab").all():
            box = slab.bounding_box()
            assert box is not None
            assert box["x"] >= right
            right = box["x"] + box["width"]


def test_the_two_blocks(open_page: Open) -> None:
    text = open_page("tab=blocks").locator(".kinds").inner_text()
    for number in ("73,728", "69,632", "1,179,648", "17 times as many"):
        assert number in text


def test_a_window_slides(open_page: Open) -> None:
    page = open_page("at=conv1")
    slider = page.get_by_label("column of the window")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator(".kernel-two")).to_contain_text("window 0 of 0 to 111 covers −3 to 3")
    expect(page.locator(".field p")).to_contain_text("columns −3 to 3")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".kernel-two")).to_contain_text("window 1 of 0 to 111 covers −1 to 5")
    page.wait_for_url(re.compile("unit="))


def test_what_a_unit_sees(open_page: Open) -> None:
    page = open_page()
    words = page.locator(".field p")
    expect(words).to_contain_text("427×427")
    box = page.locator(".flow li").nth(2).locator(".face").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    expect(page.locator(".field h3")).to_have_text("What one unit of stage 1 sees")
    expect(words).to_contain_text("35×35")
    assert page.locator(".flow .input .seen").count() == 1
    page.locator(".map .face").click(position={"x": 3, "y": 3})
    page.mouse.move(0, 0)
    expect(words).to_contain_text("The unit in row 0 (of 0 to 6) and column 0")


def test_the_link_holds_the_state(open_page: Open) -> None:
    page = open_page("net=depth:101&vs=depth:34&at=layer3.0&input=320x240&unit=0.1,0.9")
    before = page.locator("main").inner_text()
    assert "What one unit of layer3.0 sees in A" in before
    page.reload()
    page.wait_for_selector("main")
    assert page.locator("main").inner_text() == before


def test_colours(open_page: Open) -> None:
    page = open_page(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.emulate_media(color_scheme="dark")
    page.get_by_role("button", name="light").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert page.evaluate(ground) == light


def test_touch(open_page: Open) -> None:
    page = open_page(width=380, has_touch=True, is_mobile=True)
    page.locator(".flow a", has_text="stage 1").tap()
    expect(page.locator(".crumbs h2")).to_have_text("stage 1")
    page.locator(".card").first.tap()
    page.locator(".node").first.tap()
    expect(page.locator(".crumbs h2")).to_have_text("conv1")


def test_print_and_motion(open_page: Open) -> None:
    page = open_page(reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.querySelector('.item')).transition") in (
        "all", "none", "all 0s ease 0s",
    )  # fmt: skip
    page.emulate_media(media="print")
    expect(page.locator(".choices")).to_be_hidden()
    expect(page.locator("table")).to_be_visible()


def test_a_browser_that_cannot_unpack(open_page: Open) -> None:
    page = open_page(script="delete globalThis.DecompressionStream")
    expect(page.locator("#view")).to_contain_text("This browser is too old for this page")


_SEEN = """
new MutationObserver((_, observer) => {
  if (document.querySelector(".flow a")) {
    observer.disconnect();
    requestAnimationFrame(() => (globalThis.seen = performance.now()));
  }
}).observe(document, { childList: true, subtree: true });
"""
_FIRST = """
new Promise((done) => {
  const look = () => (globalThis.seen ? done(globalThis.seen) : setTimeout(look, 10));
  look();
})
"""
_OPENED = """
async ([hash, selector]) => {
  const start = performance.now();
  location.hash = hash;
  while (!document.querySelector(selector)) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - start;
}
"""


def test_it_is_fast(open_page: Open, record_property: Callable[[str, object], None]) -> None:
    """Bounds of a slow machine; it is ten times as fast on an idle one (docs/view.md)."""
    page = open_page(script=_SEEN)
    first = page.evaluate(_FIRST)
    page = open_page("net=depth:152")
    times = {}
    for name, fragment, selector in (
        ("stage", "at=stage3", ".card:nth-child(1)"),
        ("block", "at=layer3.7", ".node"),
        ("layer", "at=layer3.7.conv2", ".axis"),
    ):
        times[name] = page.evaluate(_OPENED, [f"net=depth:152&{fragment}", selector])
        assert re.search(r"#.*at=", page.url)
    record_property("milliseconds", {"first view": first, **times})
    print({"first view": first, **times})
    assert first < 5000
    assert max(times.values()) < 1000
