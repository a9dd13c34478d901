"""Pages of runs and evaluations: whole, closed, small, and safe from what files are called."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

import resnetkit
from resnetkit.data.datasets.dataset import Sample
from resnetkit.evaluation.evaluation import Evaluation, Measurement, evaluate_engine
from resnetkit.inference.engines.torch import Torch
from resnetkit.preprocess import Preprocess
from resnetkit.report.drawing import svg
from resnetkit.report.pages.network_page import network_page
from resnetkit.report.pages.run_page import evaluation_page, run_page, setting
from resnetkit.report.pages.templates import script
from resnetkit.training.epoch_log import EpochLog
from resnetkit.training.recipe_defaults import make_recipe

GREY = Preprocess(size=8, channels="L", divisor=1, mean=(0.0,), std=(1.0,))
SMALL = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))
SMALL_EXPLAINED = resnetkit.explain(SMALL)
EVIL = '<script>alert("1")</script>'
VOID = {"meta", "link", "img", "br", "line", "polyline", "rect", "circle", "path"}


class Page(HTMLParser):
    """Checks that every element is closed and that nothing is asked for from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.words = ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in ("src", "href", "action", "data", "srcset", "xlink:href"):
                assert (value or "").startswith(("data:image/", "data:,", "#")), value

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += f"{data}|"


def checked(text: str) -> Page:
    text = text.replace(f"<script>{script('curves')}</script>", "")
    page = Page(text)
    assert not {"script", "iframe", "object", "base"}.intersection(page.elements)
    style = text.split("<style>")[1].split("</style>", maxsplit=1)[0]
    assert "url(" not in style
    assert "@import" not in style
    text.encode("utf-8")
    return page


def found(classes: tuple[str, ...], examples: list[Sample]) -> Evaluation:
    """Answers as the first pixel says."""

    def model(batch: Tensor) -> Tensor:
        at = batch[:, 0, 0, 0].long() + 256 * batch[:, 0, 0, 1].long()
        return torch.nn.functional.one_hot(at, len(classes)).float() * 5

    return evaluate_engine(Torch(model, GREY), GREY, classes, examples)


def example(label: int, guess: int, name: str = "x") -> Sample:
    image = np.zeros((8, 8), dtype=np.uint8)
    image[0, :2] = divmod(guess, 256)[::-1]
    return Sample(name=name, label=label, image=image)


def measured(classes: tuple[str, ...], evaluation: Evaluation) -> Measurement:
    module = resnetkit.build(SMALL.override(num_classes=len(classes), in_chans=1))
    model = resnetkit.Bundle.from_module(module, preprocess=GREY, classes=classes)
    engine = {"engine": "torch", "version": "2", "precision": "fp32", "device": EVIL}
    return Measurement(model=model, engine=engine, data=f"/data/{EVIL}", part="test",
                       evaluation=evaluation, trained_on=(EVIL,), run=None)  # fmt: skip


def rows(count: int) -> list[EpochLog]:
    return [EpochLog(epoch=n, lr=0.1 / n, loss=2 / n, accuracy=1 - 1 / n, validation_loss=3 / n,
                validation_accuracy=1 - 1 / (n + 1), seconds=2.0, rate=90.0, best=True,
                waited=0.25) for n in range(1, count + 1)]  # fmt: skip


def test_hostile_names_are_shown_as_they_are() -> None:
    classes = (EVIL, "{{ 7 * 7 }}", "a\udcffb\nc", "x" * 500)
    names = [f"{EVIL}.jpg", "'\" onerror=x", "a\udcff\x07", "{% for x in y %}"]
    evaluation = found(classes, [example(n % 4, (n + 1) % 4, names[n % 4]) for n in range(12)])
    text = evaluation_page(measured(classes, evaluation))
    page = checked(text)
    assert EVIL in page.words
    assert "{{ 7 * 7 }}" in page.words
    assert "a\\udcffb\\nc" in page.words
    assert text.count("data:image/png;base64,") == 24  # as a mistake, and behind its confusion


def test_a_confusion_opens_its_pictures() -> None:
    pairs = [(0, 1)] * 6 + [(2, 0)]
    evaluation = found(("ant", "bee", "cat"), [example(0, 0), *(example(*pair) for pair in pairs)])
    text = evaluation_page(measured(("ant", "bee", "cat"), evaluation))
    opened = dict(
        re.findall(r'<button type="button" popovertarget="(\w+)" aria-label="([^"]+)">', text)
    )
    assert opened == {
        "confused0": "6 of ant predicted as bee: show pictures",
        "confused1": "1 of cat predicted as ant: show pictures",
    }
    for place, pictures in (("confused0", 4), ("confused1", 1)):
        [inside] = re.findall(rf'<div popover id="{place}".*?\n</div>\n<button', text, re.DOTALL)
        assert inside.count("<figure") == pictures


def test_a_single_class() -> None:
    evaluation = found(("only",), [example(0, 0)] * 3)
    page = checked(evaluation_page(measured(("only",), evaluation)))
    assert "Most confident mistakes" not in page.words
    assert "100.00 %" in page.words
    assert "43.85 to 100.00 % at 95 %; 3 images" in page.words


def test_a_thousand_classes_stay_small_and_tell_the_worst() -> None:
    classes = tuple(f"class {n}" for n in range(1000))
    pairs = [(n % 1000, n % 1000) for n in range(1000)]
    pairs += [(7, 8)] * 5 + [(9, 10)] * 40
    evaluation = found(classes, [example(label, guess) for label, guess in pairs])
    text = evaluation_page(measured(classes, evaluation))
    page = checked(text)
    assert len(text) < 250_000
    assert "The 30 worst of 1000 classes by F1" in page.words
    worst = page.words[page.words.index("worst of 1000") :]
    assert re.findall(r"class \d+(?=\|)", worst)[:2] == ["class 9", "class 10"]
    confused = page.words[page.words.index("Confusion") : page.words.index("worst of")]
    assert re.findall(r"class \d+(?=\|)", confused) == ["class 9", "class 10", "class 7", "class 8"]


def test_a_run_from_its_start_to_its_end() -> None:
    recipe = make_recipe(model=SMALL, size=8, epochs=5, batch_size=128)
    about = {"data": EVIL}
    made = setting("a run", recipe.network, recipe.preprocess, recipe=recipe, about=about)
    begun = checked(run_page(made, recipe, []))
    assert "in training: 0 of 5 epochs are done" in begun.words
    assert "meta" in begun.elements
    text = run_page(made, recipe, rows(1))
    assert "circle" in checked(text).elements, "a single point is seen"
    going = checked(run_page(made, recipe, rows(3)))
    assert going.elements.count("polyline") - begun.elements.count("polyline") == 5
    assert "25.00 % of the time waiting" in going.words
    assert "about 0:04 left" in going.words
    assert "nesterov" in going.words
    assert 'http-equiv="refresh"' in text
    evaluation = found(tuple("0123456789"), [example(n % 10, n % 9) for n in range(90)])
    text = run_page(made, recipe, rows(5), evaluation)
    end = checked(text)
    assert "refresh" not in text
    assert "finished after 5 epochs" in end.words
    assert end.elements.count("td") > 100, "the matrix"


@pytest.mark.parametrize(("first", "told"), [(600.0, True), (2.5, False)])
def test_a_high_first_validation_loss_is_explained(first: float, told: bool) -> None:
    recipe = make_recipe(model=SMALL, size=8, epochs=5, batch_size=128)
    made = setting("a run", recipe.network, recipe.preprocess, recipe=recipe, about={})
    begun, *more = rows(3)
    page = checked(run_page(made, recipe, [replace(begun, validation_loss=first), *more]))
    assert ("The validation loss begins high" in page.words) == told
    assert "Loss (cross-entropy, nats; log scale)" in page.words


def test_photographs_are_made_small(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    Pillow.fromarray(noise).save(path)
    gone = tmp_path / "gone.jpg"
    Pillow.fromarray(noise[:90, :120]).save(gone)
    classes = ("a", "b")
    images = [Sample(name=p.name, label=1, image=p) for p in (path, gone)]

    def model(batch: Tensor) -> Tensor:
        return torch.tensor([[3.0, 0.0]]).expand(len(batch), 2)

    evaluation = evaluate_engine(Torch(model, GREY), GREY, classes, images)
    gone.unlink()
    text = evaluation_page(measured(classes, evaluation))
    assert "cannot be read" in checked(text).words
    coded = re.findall(r"data:image/jpeg;base64,([^\"]+)", text)
    assert len(coded) == 2  # as a mistake, and behind its confusion
    assert len(coded[0]) < 20_000


def test_the_style_of_charts_does_not_reach_into_the_drawing() -> None:
    """Rules for the parts of an SVG, and for its classes, are those of the charts or of the sheet
    as a whole."""
    drawing = ElementTree.fromstring(svg.drawing(SMALL_EXPLAINED))
    parts = {element.tag.rpartition("}")[2] for element in drawing.iter()} - {"svg", "title"}
    parts |= {f".{name}" for element in drawing.iter() for name in element.get("class", "").split()}
    recipe = make_recipe(model=SMALL, size=8, epochs=5, batch_size=128)
    made = setting("a run", recipe.network, recipe.preprocess, recipe=recipe, about={})
    for page in (run_page(made, recipe, rows(2)), network_page(SMALL_EXPLAINED)):
        style = page.split("<style>")[1].split("</style>", maxsplit=1)[0]
        style = re.sub(r"/\*.*?\*/|@media[^{]*\{", "", style, flags=re.DOTALL)
        selectors = [one for found in re.findall(r"([^{}]+)\{", style) for one in found.split(",")]
        assert len(selectors) > 50
        for selector in selectors:
            named = set(re.findall(r"\.?[a-z][\w-]*", re.sub(r":[\w-]+(\([^)]*\))?", "", selector)))
            if named & parts:
                assert re.search(r"\.(charts|table|row)\b", selector), selector
