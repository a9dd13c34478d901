"""Recipes: there and back as TOML, sensible choices, and values that are refused."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photographs import write_classes
from resnetkit.errors import InputError
from resnetkit.training.plan import plan
from resnetkit.training.recipe import Recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"), 4, classes=("brick", "coffee"))


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    st.floats(1e-30, 1e30),
    st.integers(0, 2**62),
    st.none() | st.integers(1, 64),
)
def test_toml_there_and_back(data: str, lr: float, seed: int, threads: int | None) -> None:
    recipe = replace(DIGITS, data=data, lr=lr, seed=seed, threads=threads)
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert tomllib.loads(recipe.to_toml())["network"]["options"]["classes"] == 10


DIGITS = plan()


def test_digits_are_grey_and_never_flipped() -> None:
    assert DIGITS.network.name == "resnet20"
    assert DIGITS.network.options.input_channels == DIGITS.preprocess.channel_count == 1
    assert DIGITS.preprocess.size == DIGITS.network.input_size == 16
    assert not DIGITS.augment.flip
    assert DIGITS.augment.crop == 1


def test_photographs_are_cropped_and_flipped(folder: Path) -> None:
    recipe = plan(folder)
    assert recipe.network.name == "resnet18"
    assert recipe.network.options.classes == 2
    assert recipe.preprocess.size == 224
    assert recipe.augment.flip
    assert recipe.augment.crop < 1
    assert recipe.batch_size == 4
    assert Path(recipe.data) == folder.resolve()
    plain = plan(folder, "resnet20", size=40, augment=False, epochs=3, lr=0.5)
    assert (plain.preprocess.size, plain.epochs, plain.lr) == (40, 3, 0.5)
    assert not plain.augment.flip


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"epochs": 0}, "--epochs is 0"),
        ({"batch_size": 1}, "--batch-size is 1"),
        ({"lr": -1.0}, "--lr is -1"),
        ({"lr": float("nan")}, "--lr is nan"),
        ({"label_smoothing": 1.0}, "--label-smoothing is 1"),
        ({"weight_decay": -0.1}, "--weight-decay"),
        ({"warmup": 40.0}, "--warmup is 40"),
        ({"seed": -1}, "--seed is -1"),
        ({"threads": 0}, "--threads is 0"),
        ({"model": "resnet19"}, "no network is named"),
        ({"model": "resnet50_notes"}, "takes"),
        ({"size": 0}, "input_size is 0"),
        ({"model": "resnet50_deep", "size": 32}, "--size"),
        ({"device": "abacus"}, "--device abacus"),
        ({"test": 0.1}, "fixed split"),
    ],
)
def test_values_that_are_refused(choice: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        plan(**choice)
    assert "\n" not in str(caught.value)


def test_shares_that_leave_nothing(folder: Path) -> None:
    for shares in ({"validation": 0.0}, {"validation": 0.5, "test": 0.5}):
        with pytest.raises(InputError, match="--validation"):
            plan(folder, **shares)


@pytest.mark.parametrize("text", ["", "epochs = ", "data = 'x'", "[network]\nname = 3"])
def test_other_toml_is_no_recipe(text: str) -> None:
    with pytest.raises(InputError, match=r"no recipe|described by"):
        Recipe.from_toml(text)
