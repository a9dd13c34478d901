"""What notebooks show: whole and self-contained HTML, escaped, whose style is its own."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import resnetkit
from photographs import photograph, write_classes
from resnetkit.display import Displayed
from resnetkit.report.notebook import evaluations, predictions

EVIL = "<script>alert('&')</script>\u202e"
_VOID = {"img", "br"}
_SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


class Parsed(HTMLParser):
    """Checks that tags nest; collects tags, attributes, and texts outside of the style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, attribute: str) -> list[str]:
        return [value for name, value in self.attributes if name == attribute]


def shown(thing: Displayed) -> Parsed:
    return Parsed(thing._repr_html_())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder of photographs, whose class names and file names are hostile."""
    folder = tmp_path_factory.mktemp("notebook")
    write_classes(folder / "pictures", 8, classes=("brick", "coffee"))
    (folder / "pictures" / "brick").rename(folder / "pictures" / EVIL.replace("/", "\u2215"))
    for number, path in enumerate(sorted((folder / "pictures").rglob("*.jpg"))):
        path.rename(path.with_name(f"<b>{number}.jpg"))
    resnetkit.train(
        folder / "pictures", "resnet20", out=folder / "runs" / "<i>a", epochs=2, size=32, threads=1
    )
    return folder


@pytest.fixture(scope="module")
def things(folder: Path) -> dict[str, Displayed]:
    """One of each kind."""
    run = folder / "runs" / "<i>a"
    best = run / "best.safetensors"
    network = replace(resnetkit.network("resnet20"), name=EVIL, about=EVIL, source=EVIL)
    result = resnetkit.resume(run)
    (path, *_) = sorted((folder / "pictures").rglob("*.jpg"))
    (prediction,) = resnetkit.predict(best, path, engine="torch")
    module = resnetkit.build("resnet18", num_classes=3)
    torch.save(module.state_dict(), folder / "<b>.pth")
    measured = resnetkit.evaluate(best, folder / "pictures", split="all", engine="torch")
    found: dict[str, Displayed] = {
        "network": network,
        "explanation": resnetkit.explain(network),
        "problem": resnetkit.explain("resnet50_deep", 473),
        "comparison": resnetkit.compare(network, "resnet18"),
        "same": resnetkit.compare("resnet50", "resnet50"),
        "prediction": prediction,
        "embedding": resnetkit.Prediction(name=EVIL, embedding=np.ones(12, np.float32)),
        "unreadable": resnetkit.Prediction(name=EVIL, problem=EVIL),
        "measurement": measured,
        "evaluation": measured.evaluation,
        "result": result,
        "runs": resnetkit.compare_runs(folder / "runs"),
        "bundle": resnetkit.load(best),
        "identification": resnetkit.identify(folder / "<b>.pth"),
    }
    return found


KINDS = [
    "network", "explanation", "problem", "comparison", "same", "prediction", "embedding",
    "unreadable", "measurement", "evaluation", "result", "runs", "bundle", "identification",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_self_contained_and_escaped(kind: str, things: dict[str, Displayed]) -> None:
    page = shown(things[kind])
    assert {"script", "link", "iframe", "object", "i"}.isdisjoint(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(source.startswith("data:image/") for source in page.of("src"))
    assert not page.of("href")
    html = things[kind]._repr_html_()
    assert "\u202e" not in _SVG.sub("", html)
    assert "url(" not in html
    assert set(re.findall(r"https?://[^\"' <]+", html)) <= {"http://www.w3.org/2000/svg"}
    if kind not in ("problem", "same"):
        assert re.search("&lt;(script|i|b)&gt;", html)


@pytest.mark.parametrize("kind", KINDS)
def test_its_style_applies_to_nothing_else(kind: str, things: dict[str, Displayed]) -> None:
    """Two in one notebook do not disturb each other: no ids, and rules for SVG name its frame."""
    html = things[kind]._repr_html_()
    page = Parsed(html)
    assert page.of("id") == []
    assert page.of("class")[0] == "resnetkit"
    (style,) = _STYLE.findall(html)
    selectors = re.findall(r"([^{}]+)\{[^{}]*\}", style)
    assert len(selectors) > 10
    for selector in (one.strip() for many in selectors for one in many.split(",")):
        assert ".resnetkit" in selector.split(" "), selector
        if "svg" in selector:
            assert ".rk-charts" in selector or ".rk-sheet" in selector, selector
        if "figure" in selector:
            assert ".rk-" in selector, selector


def test_the_drawing_has_every_layer(things: dict[str, Displayed]) -> None:
    page = shown(resnetkit.network("resnet18"))
    paths = [located.path for located in resnetkit.network("resnet18").layers()]
    assert set(page.of("data-path")) == set(paths)


def test_numbers_are_those_of_the_table() -> None:
    explanation = resnetkit.explain("resnet50_deep", 473)
    page = shown(explanation)
    assert page.text.count("24,765,744,320") == 3, "the total of stages, blocks and layers"
    assert explanation.problem in page.text
    for row in explanation.rows("layer"):
        assert row.path in page.words
    same = shown(resnetkit.compare("resnet50", "resnet50")).text
    assert "identical: no option and none of the 175 layers differs" in same
    text = shown(resnetkit.compare("resnet50", "resnet50_v1")).text
    assert "stride_on 3x3 1x1" in text
    assert "12 of 175 layers differ" in text


def test_a_prediction_has_its_picture_and_bars(folder: Path) -> None:
    bundle = resnetkit.load(folder / "runs" / "<i>a" / "best.safetensors")
    path = folder / "cat.png"
    PIL.Image.fromarray(photograph("chelsea")).save(path)
    (found,) = resnetkit.predict(bundle, str(path), engine="torch")
    page = shown(found)
    assert len(page.of("src")) == 1
    widths = [one for one in page.of("style") if one.startswith("width:")]
    assert widths == [f"width:{100 * score.probability:.1f}%" for score in found.scores]
    path.unlink()
    page = shown(found)
    assert "the picture is no longer there" in page.text
    assert page.of("src") == []
    assert len(page.of("style")) == len(found.scores)


@pytest.mark.parametrize("kind", ["array", "picture", "tensor", "bytes"])
def test_a_picture_in_memory_is_not_kept(kind: str, folder: Path) -> None:
    """A reference to it is weak: a list of predictions does not hold all pixels."""
    bundle = resnetkit.load(folder / "runs" / "<i>a" / "best.safetensors")
    image: Any = photograph("chelsea").copy()
    if kind == "tensor":
        image = torch.from_numpy(image).permute(2, 0, 1)
    elif kind != "array":
        image = PIL.Image.fromarray(image)
    if kind == "bytes":
        image.save(buffer := BytesIO(), "PNG")
        image = buffer.getvalue()
    (found,) = bundle.predict([image], engine="torch")
    assert bool(shown(found).of("src")) == (kind != "bytes")
    del image
    gc.collect()
    assert "no longer there" in shown(found).text


def test_many_classes_and_mistakes_are_few_lines(things: dict[str, Displayed]) -> None:
    scores = tuple(
        resnetkit.inference.prediction.ClassScore(label=str(n), probability=0.01)
        for n in range(100)
    )
    page = shown(resnetkit.Prediction(name="a", scores=scores))
    assert len(page.of("style")) == predictions.BARS
    assert "and 90 less probable classes" in page.text
    evaluation = things["evaluation"]
    assert isinstance(evaluation, resnetkit.Evaluation)
    assert len(shown(evaluation).of("src")) <= evaluations.PICTURES
    names = tuple(f"class {number}" for number in range(40))
    confusion = np.eye(40, dtype=np.int64)
    confusion[3, 7] = 2
    page = shown(replace(evaluation, names=names, confusion=confusion))
    assert "The 1 most frequent confusions of 40 classes. " in page.text
    assert "class 3 class 7 2 66.67 %" in page.text


def test_a_run_shows_curves_and_epochs(things: dict[str, Displayed]) -> None:
    page = shown(things["result"])
    assert page.tags.count("svg") == 3
    assert "2 epochs" in page.text
    assert "; written to <i>a" in page.text
    assert "1 run in runs" in shown(things["runs"]).text
    one = dataclasses.replace(things["result"], rows=things["result"].rows[:1])
    assert "1 epoch " in shown(one).text
    # Notebooks are shared.
    for thing in (things["result"], things["runs"]):
        assert str(things["result"].folder.parent) not in thing._repr_html_()
    assert shown(things["runs"]).text.count("finished") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_objects_stay_frozen_and_slotted(kind: str, things: dict[str, Displayed]) -> None:
    thing = things[kind]
    if dataclasses.is_dataclass(thing):
        assert not hasattr(thing, "__dict__")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, dataclasses.fields(thing)[0].name, None)


@pytest.mark.parametrize("kind", ["network", "prediction", "unreadable", "runs"])
def test_values_are_pickled_copied_compared_and_hashed(
    kind: str, things: dict[str, Displayed]
) -> None:
    thing = things[kind]
    for twin in (pickle.loads(pickle.dumps(thing)), copy.deepcopy(thing), copy.copy(thing)):
        assert twin == thing
        assert twin._repr_html_() == thing._repr_html_()
        if kind != "runs":
            assert hash(twin) == hash(thing)


def test_describing_in_a_notebook_loads_little() -> None:
    """The drawing needs neither torch nor numpy; a description needs nothing of the report."""
    check = (
        "import sys, resnetkit\n"
        "network = resnetkit.network('resnet18')\n"
        "shown = resnetkit.explain(network), resnetkit.compare(network, 'resnet34')\n"
        "assert not [n for n in sys.modules if n.startswith('resnetkit.report')]\n"
        "for one in (network, *shown):\n    one._repr_html_()\n"
        "assert not {'torch', 'numpy', 'IPython', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_an_evaluation_needs_no_plots(folder: Path) -> None:
    """The extra ``train`` has torch and matplotlib."""
    check = (
        "import sys\nsys.modules.update(dict.fromkeys(('torch', 'matplotlib', 'sklearn')))\n"
        "import resnetkit\n"
        "found = resnetkit.evaluate(sys.argv[1], sys.argv[2], split='all')\n"
        "print(len(found._repr_html_()))\n"
    )
    best = folder / "runs" / "<i>a" / "best.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", check, best, folder / "pictures"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) > 1000
