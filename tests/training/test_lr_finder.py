"""The range test of the learning rate, and the batch that is chosen by measuring."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import PIL.Image
import pytest

import resnetkit
from resnetkit.bundle.bundle import Bundle
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.nn.resnet import build
from resnetkit.training import run
from resnetkit.training.lr_finder import LRFinderResult, Point, find_lr, judged
from resnetkit.training.recipe_defaults import make_recipe

CHOICES = "--model resnet20 --depths 1 --widths 8 --stem-widths 8 --size 8".split()
TINY = resnetkit.network("resnet20", depths=(1,), widths=(8,), stem_widths=(8,))


def find(capsys: pytest.CaptureFixture[str], *more: str) -> dict:
    assert main(["train", "digits", *CHOICES, "--find-lr", "--format", "json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_rate_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = find(capsys, "--out", "range.png")
    assert [path.name for path in tmp_path.iterdir()] == ["range.png"], "and no run"
    with PIL.Image.open("range.png") as picture:
        assert picture.width > 300
    points = found["points"]
    assert len(points) > 50
    factors = [after["rate"] / before["rate"] for before, after in pairwise(points)]
    assert factors == pytest.approx([1e7 ** (1 / 99)] * len(factors))
    assert abs(points[0]["loss"] - math.log(10)) < 0.6, "drawn weights guess"
    assert 1e-3 < found["suggested"] < found["lowest"]
    least = min(points[10:], key=lambda point: point["smoothed"])
    assert found["lowest"] == least["rate"]
    assert least["smoothed"] < points[0]["loss"] - 0.2
    assert find(capsys) == found, "the same again"
    assert find(capsys, "--seed", "1")["points"] != points


def test_weights_that_are_trained_further(tmp_path: Path) -> None:
    recipe = make_recipe("digits", TINY, size=8)
    bundle = Bundle.from_module(
        build(recipe.network), preprocess=recipe.preprocess, classes=tuple("0123456789")
    )
    before = {name: value.clone() for name, value in bundle.arrays.items()}
    first = find_lr(make_recipe("digits", pretrained=bundle, seed=0), pretrained=bundle).points[0]
    other = find_lr(make_recipe("digits", pretrained=bundle, seed=1), pretrained=bundle).points[0]
    assert first != other, "of other images"
    assert all((bundle.arrays[name] == value).all() for name, value in before.items())


def test_an_explosion_ends_it() -> None:
    found = find_lr(make_recipe("digits", TINY, size=8), high=1e9)
    assert found.exploded
    assert len(found.points) < 100
    assert found.suggested < 10


def test_in_the_precision_that_a_run_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe("digits", TINY, size=8, batch_size=64)
    assert recipe.runtime.precision == "auto"
    whole = find_lr(recipe.override(precision="fp32"))
    monkeypatch.setattr(run, "settled", lambda recipe: recipe.override(precision="bf16"))
    assert find_lr(recipe) == find_lr(recipe.override(precision="bf16")) != whole


def curve(*losses: float) -> LRFinderResult:
    points = [
        Point(rate=10 ** (n / 10 - 5), loss=loss, smoothed=loss) for n, loss in enumerate(losses)
    ]
    return judged(points, exploded=True)


def test_the_rule() -> None:
    fall = [2 - 1.5 * min(1, max(0, (n - 35) / 10)) for n in range(60)]
    found = curve(*fall, *[9.0] * 5)
    assert found.suggested == pytest.approx(10 ** (40 / 10 - 5), rel=0.05), "the middle of the fall"
    assert found.lowest == pytest.approx(10 ** (45 / 10 - 5))


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([2.0] * 12, "exploded after 12 steps"),
        ([], "exploded after 0 steps"),
        ([2.0 + n / 10 for n in range(60)], "does not fall at any rate"),
    ],
)
def test_curves_that_say_nothing(losses: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        curve(*losses)


def test_what_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = make_recipe("digits", TINY, size=8)
    for wrong in ({"low": 1.0, "high": 0.1}, {"high": math.inf}, {"steps": 5}):
        with pytest.raises(InputError, match="must"):
            find_lr(recipe, **wrong)
    for more, message in (
        (["--find-lr", "--out", "run"], "run has no picture suffix; give a name that ends in .png"),
        (["--find-lr", "--out", str(tmp_path / "a/b.png")], "there is no folder"),
        (["--format", "json"], "--format requires --find-lr"),
        (["--find-lr", "--resume", str(tmp_path)], "leave --find-lr out"),
    ):
        assert main(["train", *([] if "--resume" in more else ["digits", *CHOICES]), *more]) == 2
        assert message in capsys.readouterr().err
