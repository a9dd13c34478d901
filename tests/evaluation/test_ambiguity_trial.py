"""Trials: a checkpoint that cannot tell its stride is measured with both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import resnetkit
from resnetkit.bundle.bundle import Bundle
from resnetkit.cli.main import main
from resnetkit.data.datasets.dataset import Dataset
from resnetkit.errors import InputError
from resnetkit.evaluation.ambiguity_trial import SURE, _chance, _classes, try_facts
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import run_recipe

#: Small, with a stride in two of its blocks.
NETWORK = resnetkit.network(
    "resnet50", depths=(1, 1, 1), widths=(8, 16, 32), stem="3x3", stem_widths=(8,), stride_on="1x1"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = make_recipe("digits", NETWORK, size=16, epochs=4)
    return run_recipe(recipe, tmp_path_factory.mktemp("runs") / "run").folder


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    return resnetkit.load(run / "best.safetensors")


@pytest.fixture(scope="module")
def checkpoint(run: Path, bundle: Bundle) -> Path:
    """What another framework would have: names and tensors, and nothing about strides."""
    torch.save(dict(bundle.arrays), run / "theirs.pth")
    return run / "theirs.pth"


def test_the_right_stride_is_found(checkpoint: Path, bundle: Bundle) -> None:
    trial = try_facts(checkpoint, "digits", ["stride_on"], preprocess=bundle.preprocess)
    assert [c.facts for c in trial.candidates] == [{"stride_on": "1x1"}, {"stride_on": "3x3"}]
    assert trial.is_sure, trial.chance
    assert trial.candidates[0].accuracy == bundle.measured["test"]["accuracy"]
    assert trial.images == 359


def test_a_bundle_can_be_tried_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(run / "best.safetensors"), "digits", "--try", "stride-on"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "stride_on 1x1: stride_on 3x3 is this much worse by chance with p = " in shown
    assert main([*words, "--try", "dilation-entry", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["candidates"]) == 6
    assert document["candidates"][0]["facts"]["stride_on"] == "1x1"
    assert document["answer"] is None, "nothing is dilated, so that its entry changes nothing"


def test_what_is_not_open_is_one_line(
    run: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"widths is not open in .*; open facts are"):
        try_facts(checkpoint, "digits", ["widths"])
    with pytest.raises(InputError, match="stride_on is not open"):
        try_facts(checkpoint, "digits", ["stride_on"], stride_on="1x1")
    with pytest.raises(InputError, match="combinations; give facts with 2 to 32"):
        try_facts(checkpoint, "digits", ["stride_on", "norm_epsilon", "output_stride", "head_pool"])
    bundle = str(run / "best.safetensors")
    assert main(["evaluate", bundle, "digits", "--stride-on", "1x1"]) == 2
    assert "--stride-on requires --try" in capsys.readouterr().err
    assert main(["evaluate", bundle, "digits", "--try", "rounding", "--stride-on", "1x1"]) == 2
    assert "is a bundle, which is complete" in capsys.readouterr().err


def test_class_folders_stand_for_numbers_where_the_file_has_no_names(bundle: Bundle) -> None:
    def source(*classes: str) -> Dataset:
        return Dataset(name="data", classes=classes, parts={})

    animals = source(*"abcdefghij")
    assert _classes(bundle, animals) == (animals.classes, True)
    assert _classes(bundle, source("a", "b")) == (bundle.classes, False)
    assert _classes(bundle, source(*map(str, range(10)))) == (bundle.classes, False)
    named = replace(bundle, classes=tuple("klmnopqrst"))
    assert _classes(named, animals) == (named.classes, False)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_chance_is_symmetric_and_sure_of_large_differences(pairs: list[tuple[bool, bool]]) -> None:
    best, second = zip(*pairs, strict=True)
    assert _chance(best, second) == _chance(second, best)
    assert 0 < _chance(best, second) <= 1
    assert _chance(best, best) == 1
    assert _chance([True] * 8, [False] * 8) == 2 * 0.5**8 < SURE
