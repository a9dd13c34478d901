"""The drawing as PDF and PNG: the SVG's words and colours, at its size."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from io import BytesIO

import pypdfium2
import pytest
from PIL import Image

from resnetkit.architecture.explanation import Explanation, explain
from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options
from resnetkit.cli.main import main
from resnetkit.report.drawing import printed
from resnetkit.report.drawing.svg import drawing


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    return explain("seresnet18", depths=(1,), widths=(64,))


def test_the_pdf_has_the_words_and_the_size_of_the_svg(explanation: Explanation) -> None:
    made = printed.pdf(explanation)
    assert made == printed.pdf(explanation), "the same each time"
    page = pypdfium2.PdfDocument(made)[0]
    svg = ElementTree.fromstring(drawing(explanation))
    assert page.get_size() == pytest.approx(
        (0.75 * float(svg.attrib["width"]), 0.75 * float(svg.attrib["height"]))
    )
    found = "".join(page.get_textpage().get_text_range().split())
    for element in svg.iter("{http://www.w3.org/2000/svg}text"):
        assert "".join((element.text or "").split()) in found
    assert "3\u00d73,64\u219264" in found
    fonts = set(re.findall(rb"/BaseFont /(\S+)", made))
    assert fonts == {b"Helvetica", b"Helvetica-Bold", b"Symbol"}, "of every reader of PDF"


def test_the_png_has_the_colours_of_the_svg_and_twice_its_size(explanation: Explanation) -> None:
    image = Image.open(BytesIO(printed.png(explanation)))
    svg = ElementTree.fromstring(drawing(explanation))
    assert image.size == pytest.approx(
        (2 * float(svg.attrib["width"]), 2 * float(svg.attrib["height"])), abs=1
    )
    counts = {pixel: count for count, pixel in image.convert("RGB").getcolors(1 << 24)}
    for color in ("#ffffff", "#d4e7f6", "#d55e00", "#7a4fb0", "#1b1f24"):
        assert counts.get(tuple(bytes.fromhex(color[1:])), 0) > 300, color


def test_a_huge_drawing_is_made_smaller(monkeypatch: pytest.MonkeyPatch, explanation) -> None:
    monkeypatch.setattr(printed, "MOST_PIXELS", 100_000)
    monkeypatch.setattr(printed, "MOST_POINTS", 500)
    assert max(pypdfium2.PdfDocument(printed.pdf(explanation))[0].get_size()) == 500
    width, height = Image.open(BytesIO(printed.png(explanation))).size
    assert 95_000 < width * height < 105_000


def test_hostile_words_are_drawn() -> None:
    network = Network(name="<b> & \u4e16\u754c \a", options=Options(), about="\ud800")
    assert printed.pdf(explain(network)).startswith(b"%PDF")


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_the_command_writes_both(ending: str, tmp_path, capsys) -> None:
    target = tmp_path / f"net.{ending}"
    assert main(["explain", "resnet20", "--out", str(target)]) == 0
    assert capsys.readouterr() == ("", "")
    assert target.read_bytes().startswith({"png": b"\x89PNG", "pdf": b"%PDF"}[ending])


@pytest.mark.parametrize("package", ["svglib", "pypdfium2"])
def test_a_missing_package_is_one_line(package: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["explain", "resnet20", "--out", str(tmp_path / "net.png")]) == 2
    printed_error = capsys.readouterr().err
    assert f"requires {package}, which is not installed; pip install 'resnetkit[drawing]'" in (
        printed_error
    )
    assert printed_error.count("\n") == 1
    assert not list(tmp_path.iterdir())
