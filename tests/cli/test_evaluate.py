"""evaluate as a user runs it: intervals, calibration, the page, and folders with other names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import resnetkit
from photographs import CLASSES, write_classes
from resnetkit.cli.main import main
from resnetkit.evaluation.confidence import wilson
from resnetkit.preprocess import Preprocess

#: Folders as ImageNet names them, of the classes in alphabetical order.
WNIDS = tuple(f"n0000000{n}" for n in range(len(CLASSES)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with random weights, its classes' pictures, and the same under other names."""
    root = tmp_path_factory.mktemp("evaluate")
    write_classes(root / "pictures", 4)
    write_classes(root / "wnids", 4)
    lines = []
    for wnid, name in zip(WNIDS, CLASSES, strict=True):
        (root / "wnids" / name).rename(root / "wnids" / wnid)
        lines.append(f"{wnid} {name}, another name\n")
    (root / "map.txt").write_text("".join(lines))
    torch.manual_seed(0)
    small = {"depths": (1, 1), "widths": (8, 16), "stem_widths": (8,)}
    module = resnetkit.build("resnet20", num_classes=6, **small).eval()
    # In another order than that of the folders.
    names = (*reversed(CLASSES), "nobody")
    bundle = resnetkit.Bundle.from_module(module, preprocess=Preprocess(size=16), classes=names)
    bundle.save(root / "model.safetensors")
    return root


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["evaluate", *map(str, words), "--engine", "torch"])
    return code, *capsys.readouterr()


def test_figures_of_other_names_are_the_same(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, choices = place / "model.safetensors", ("--format", "json")
    code, plain, _ = run(capsys, model, place / "pictures", *choices)
    assert code == 0
    mapped = ("--class-map", place / "map.txt")
    code, other, _ = run(capsys, model, place / "wnids", *choices, *mapped)
    assert code == 0
    first, second = json.loads(plain), json.loads(other)
    for name in ("accuracy", "top5", "loss", "intervals", "calibration", "classes", "confusion"):
        assert first[name] == second[name]
    right = round(first["accuracy"] * 20)
    assert first["intervals"]["accuracy"] == list(wilson(right, 20))
    assert first["intervals"]["level"] == 0.95
    bins = first["calibration"]["bins"]
    assert len(bins) == 15
    assert sum(one["images"] for one in bins) == 20
    assert len(first["mistakes"]) == 20 - right
    sure = [one["confidence"] for one in first["mistakes"]]
    assert sure == sorted(sure, reverse=True)
    for one in first["mistakes"]:
        assert one["image"].startswith(one["class"])
        assert one["predicted"] != one["class"]
        assert one["confidence"] >= one["probability"]
    code, table, _ = run(capsys, model, place / "pictures")
    assert "% at 95 %)" in table
    assert "calibration error" in table


def test_the_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (place / "model.safetensors", place / "pictures", "--format", "html")
    code, page, errors = run(capsys, *words)
    assert (code, errors) == (0, "")
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("data:image/jpeg") > 5
    assert "Calibration" in page
    code, output, _ = run(capsys, *words, "--out", place / "page.html")
    assert (code, output) == (0, "")
    written = (place / "page.html").read_text()
    assert len(written.splitlines()) == len(page.rstrip("\n").splitlines())
    assert not (place / "confusion.png").exists()


def test_bad_input_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "short.txt").write_text(f"{WNIDS[0]} brick\n")
    (place / "both.txt").write_text("".join(f"{wnid} brick\n" for wnid in WNIDS))
    model, wnids, map_ = place / "model.safetensors", place / "wnids", "--class-map"
    for words, message in (
        ((model, wnids), "does not know: n00000000"),
        ((model, wnids, map_, place / "nowhere"), "cannot be read"),
        ((model, wnids, map_, place / "short.txt"), f"does not map {WNIDS[1]}"),
        ((model, wnids, map_, place / "both.txt"), "maps both n00000000 and n00000001"),
        ((model, wnids, map_, model), "UTF-8"),
        ((model, wnids, map_, place / "map.txt", "--try", "stride-on"), "combined with --try"),
        ((model, place / "pictures", "--format", "html", "--out", place), "is a folder"),
        # Before anything is read: these images are not there.
        ((model, place / "nowhere", "--format", "html", "--out", place / "no" / "x.html"),
         f"there is no folder {place / 'no'}"),
    ):  # fmt: skip
        code, _, errors = run(capsys, *words)
        assert code == 2
        (line,) = errors.splitlines()
        assert message in line
