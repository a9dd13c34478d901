"""What notebooks show of what was found, and the examples of the functions."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import resnetkit
from inspected import bundle_of, photo
from resnetkit import inspect as inspection
from resnetkit.display import Displayed
from resnetkit.report.notebook import front

FUNCTIONS = [name for name in inspection.__all__ if name[0].islower()]


def test_the_functions_are_these() -> None:
    assert set(FUNCTIONS) == {
        "activation_statistics", "feature_maps", "filters", "find_duplicates", "grad_cam", "look",
        "nearest", "receptive_field", "weights_report",
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a picture with a hostile name."""
    folder = tmp_path_factory.mktemp("examples")
    module = resnetkit.build("resnet18", num_classes=3)
    resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=64)).save(
        folder / "model.safetensors"
    )
    PIL.Image.fromarray(photo()).save(folder / "seven.png")
    PIL.Image.fromarray(photo()).save(folder / "<b>&.png")
    return folder


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_typed_and_their_examples_run(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    function = getattr(inspection, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(one.annotation is not one.empty for one in signature.parameters.values())
    names = {one: getattr(inspection, one) for one in FUNCTIONS}
    names |= {"resnetkit": resnetkit, "model": "model.safetensors"}
    (test,) = doctest.DocTestFinder(recurse=False).find(function, name, globs=names)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    assert not runner.run(test).failed


def shown(thing: Displayed) -> str:
    html = thing._repr_html_()
    assert html.startswith('<div class="resnetkit">')
    assert "<script" not in html
    assert front.heading(thing)
    return html


def test_views(folder: Path) -> None:
    bundle, hostile = bundle_of("cifar"), folder / "<b>&.png"
    maps = inspection.feature_maps(bundle, hostile, "layer")
    html = shown(maps)
    assert "&lt;b&gt;&amp;" in html
    assert "<b>" not in html
    assert html.count("data:image/png") == 13  # the input and twelve maps
    assert f"and {len(maps.maps) - 12} more maps" in html
    found = inspection.grad_cam(bundle, hostile, method="cam")
    html = shown(found)
    assert html.count("data:image/jpeg") == 1
    assert "<b>" not in html
    assert f"cam for {found.label}" in html
    plain = inspection.receptive_field(bundle, "stage1")
    assert "data:image" not in shown(plain)
    assert str(plain).splitlines()[1] in shown(plain)
    effective = inspection.receptive_field(bundle, "stage1", effective=True)
    assert shown(effective).count("data:image/png") == 1
    statistics = inspection.activation_statistics(bundle, hostile)
    html = shown(statistics)
    assert all(row.path in html for row in statistics.rows)
    report: Any = inspection.weights_report(resnetkit.build("resnet20"))
    html = shown(report)
    assert report.findings[0].text in html
    assert "19 norms" in html
    assert "no findings" in shown(inspection.weights_report(bundle))
