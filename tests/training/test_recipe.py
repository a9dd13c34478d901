"""Recipes: there and back as TOML, sensible choices, and values that are refused."""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photographs import write_classes
from resnetkit.cli.main import main
from resnetkit.cli.recipe_options import NAMES, add_choices
from resnetkit.errors import InputError
from resnetkit.training.recipe.augmentation import Augment
from resnetkit.training.recipe.published import RECIPES
from resnetkit.training.recipe.recipe import SUBJECT, Recipe
from resnetkit.training.recipe_defaults import make_recipe


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
    recipe = DIGITS.override(data=data, lr=lr, seed=seed, threads=threads)
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert tomllib.loads(recipe.to_toml())["network"]["options"]["num_classes"] == 10


DIGITS = make_recipe()


def test_digits_are_grey_and_never_flipped() -> None:
    assert DIGITS.network.name == "resnet20"
    assert DIGITS.network.options.in_chans == DIGITS.preprocess.channel_count == 1
    assert DIGITS.preprocess.size == DIGITS.network.input_size == 16
    assert not DIGITS.augment.flip
    assert DIGITS.augment.crop == 1


def test_photographs_are_cropped_and_flipped(folder: Path) -> None:
    recipe = make_recipe(folder)
    assert recipe.network.name == "resnet18"
    assert recipe.network.options.num_classes == 2
    assert recipe.preprocess.size == 224
    assert recipe.augment.flip
    assert recipe.augment.crop < 1
    assert recipe.batch_size == 4
    assert Path(recipe.data) == folder.resolve()
    plain = make_recipe(folder, "resnet20", size=40, augment=False, epochs=3, lr=0.5)
    assert (plain.preprocess.size, plain.epochs, plain.optimizer.lr) == (40, 3, 0.5)
    assert not plain.augment.flip


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": -1.0}, "lr is -1"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"warmup": 40.0}, "warmup is 40"),
        ({"seed": -1}, "seed is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"model": "resnet19"}, "unknown network"),
        ({"model": "resnet50_notes"}, "covers 7 pixels"),
        ({"size": 0}, "input_size is 0"),
        ({"model": "resnet50_deep", "size": 32}, "size"),
        ({"device": "abacus"}, "device abacus"),
        ({"test": 0.1}, "fixed split"),
        ({"optimizer": "adam"}, "optimizer is adam; it must be one of sgd"),
        ({"schedule": "step"}, "schedule is step"),
        ({"milestones": (0.5,)}, "schedule is cosine and milestones is"),
        ({"schedule": "step", "milestones": (0.7, 0.5)}, "rising shares"),
        ({"progressive_resizing": (0.9, 0.5)}, "progressive_resizing is"),
        ({"grad_accum_steps": 40}, "grad_accum_steps is 40"),
        ({"freeze": 5}, "freeze is 5; resnet20 has 4"),
        ({"ema_decay": 1.0}, "ema_decay is 1"),
        ({"aug_repeats": 0}, "aug_repeats is 0"),
        ({"crop": 1.5}, "crop is 1.5"),
        ({"shortest": (1.2,)}, "shortest"),
        ({"shortest": (1.2, 2.0), "crop": 0.5}, "give one of them"),
        ({"policy": "auto"}, "policy is auto"),
        ({"magnitude": 31}, "magnitude 31"),
        ({"erase": -1.0}, "erase"),
        ({"eps": 0.0}, "eps is 0.0; it must be a number above 0"),
        ({"train_size": 0}, "train_size is 0"),
        ({"recipe": "a9"}, "no recipe or file a9"),
        ({"learning_rate": 1.0}, "has no field learning_rate"),
    ],
)
def test_values_that_are_refused(choice: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_recipe(**choice)
    assert "\n" not in str(caught.value)


def test_shares_that_leave_nothing(folder: Path) -> None:
    with pytest.raises(InputError, match=r"validation=0\.5 and test=0\.5 leave no images"):
        make_recipe(folder, validation=0.5, test=0.5)


@pytest.mark.parametrize("text", ["", "epochs = ", "data = 'x'", "[network]\nname = 3"])
def test_other_toml_is_no_recipe(text: str) -> None:
    with pytest.raises(InputError, match=r"not a training recipe|must have the fields"):
        Recipe.from_toml(text)


def test_unknown_fields_name_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    for text, message in (
        ("label_smooting = 0.2", "no field label_smooting; did you mean label_smoothing"),
        (
            "[loss]\nsmoothing = 0.2",
            r"\[loss\] has no field smoothing; did you mean label_smoothing",
        ),
        ("[augment]\nflips = true", "no field flips; did you mean flip"),
        ("zzz = 1", "no field zzz; it has data, pretrained, network"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message) as caught:
            make_recipe(recipe=path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_may_have_some_fields(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = 3\nlabel_smoothing = 0.3\ndrops = [0.5]\n"
                    "schedule = 'step'\n[augment]\nflip = true\n")  # fmt: skip
    recipe = make_recipe(recipe=path)
    assert (recipe.epochs, recipe.loss.label_smoothing, recipe.schedule.milestones) == (
        3,
        0.3,
        (0.5,),
    )
    assert recipe.augment.flip
    assert recipe.augment.shift == 1
    assert make_recipe(recipe=path, epochs=4, flip=False).epochs == 4
    assert make_recipe(recipe=path, schedule="linear").schedule.milestones == ()


def test_recipes_of_before_the_groups_load(tmp_path: Path) -> None:
    """Runs and bundles of earlier versions have flat options, some by other names."""
    choices = {"sync_bn": True, "clip_grad": 1.0, "weight_decay_scope": "all", "flip_tta": True}
    recipe = make_recipe(
        optimizer="adamw", eps=1e-4, grad_accum_steps=2, aug_repeats=2, schedule="step",
        milestones=(0.3, 0.6), progressive_resizing=(0.1, 0.2), **choices,
    )  # fmt: skip
    old = {
        "clip_grad": "clip", "eps": "epsilon", "grad_accum_steps": "accumulate",
        "aug_repeats": "repeats", "milestones": "drops", "progressive_resizing": "ramp",
        "sync_bn": "sync_norms", "weight_decay_scope": "decayed", "flip_tta": "test_flip",
        "pretrained": "start",
    }  # fmt: skip
    tables = {name: recipe.to_dict()[name] for name in ("network", "preprocess", "augment")}
    flat = {"data": recipe.data, "pretrained": None, **recipe.options()}
    document = {**{old.get(name, name): value for name, value in flat.items()}, **tables}
    assert "milestones" not in document
    assert Recipe.from_dict(document) == recipe
    path = tmp_path / "old.toml"
    path.write_text("test_flip = true\noptimizer = 'lamb'\n[augment]\nshift = 2\n")
    mixed = make_recipe(recipe=path)
    assert (mixed.images.flip_tta, mixed.optimizer.name, mixed.augment.shift) == (True, "lamb", 2)


def test_a_whole_file_makes_the_same_recipe(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    choices = {"size": 40, "epochs": 7, "mixup": 0.3, "crop": 0.6}
    recipe = make_recipe(folder, "resnet20", **choices)
    path.write_text(recipe.to_toml())
    assert make_recipe(folder, recipe=path) == recipe
    assert make_recipe("digits", recipe=path).network.options.num_classes == 10


@pytest.mark.parametrize("name", RECIPES)
def test_published_recipes(name: str, folder: Path) -> None:
    recipe = make_recipe(
        folder, "resnet50", recipe=name, batch_size=RECIPES[name].values["batch_size"]
    )
    assert recipe.optimizer.lr == RECIPES[name].values["lr"]
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert recipe.override(**RECIPES[name].values) == recipe
    small = make_recipe(folder, "resnet50", recipe=name)
    assert small.batch_size < recipe.batch_size
    assert small.optimizer.lr < recipe.optimizer.lr


def test_what_the_papers_say(folder: Path) -> None:
    """The facts of each source once more, at its own size."""

    def of(name: str) -> Recipe:
        batch = RECIPES[name].values["batch_size"]
        size = 256 if name == "ffcv" else 224
        return make_recipe(folder, "resnet50", recipe=name, size=size, batch_size=batch)

    paper = of("paper")
    assert paper.augment.shortest == pytest.approx((256 / 224, 480 / 224))
    assert (paper.preprocess.resize_to, paper.schedule.name) == (256, "step")
    assert (paper.optimizer.name, paper.optimizer.weight_decay_scope) == ("sgd", "all")
    vision = of("tv-v2")
    assert (vision.preprocess.resize_to, vision.size_in(0), vision.images.aug_repeats) == (
        232,
        176,
        4,
    )
    assert vision.model.ema_decay == pytest.approx(1 - 2e-5 * 1024 * 32 / 600, abs=1e-4)
    for name, side in (("a1", 224), ("a2", 224), ("a3", 160)):
        recipe = of(name)
        assert (recipe.preprocess.resize_to, recipe.size_in(0)) == (236, side)
        assert (recipe.optimizer.name, recipe.loss.name) == ("lamb", "bce")
    ffcv = of("ffcv")
    assert [ffcv.size_in(epoch) for epoch in (0, 11, 12, 13, 15)] == [160, 160, 192, 192, 192]
    assert ffcv.images.flip_tta


def test_the_rate_follows_the_batch(folder: Path) -> None:
    assert make_recipe(recipe="paper", batch_size=64).optimizer.lr == pytest.approx(0.1 / 4)
    assert make_recipe(recipe="a3", batch_size=128).optimizer.lr == pytest.approx(8e-3 / 4)
    assert make_recipe(recipe="paper", batch_size=64, lr=0.7).optimizer.lr == 0.7


def test_flags_are_made_from_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    words = "train digits --recipe a3 --epochs 2 --no-flip --crop 0.9 --drop-path 0.2 --milestones "
    words += "0.5 --schedule step --flip-tta --progressive-resizing 0.1,0.2 --show-recipe"
    assert main(words.split()) == 0
    recipe = Recipe.from_toml(capsys.readouterr().out)
    changes = {
        "flip": False,
        "crop": 0.9,
        "drop_path": 0.2,
        "milestones": (0.5,),
        "progressive_resizing": (0.1, 0.2),
    }
    assert recipe == make_recipe(recipe="a3", epochs=2, schedule="step", flip_tta=True, **changes)
    parser = argparse.ArgumentParser()
    add_choices(parser)
    flags = {action.dest for action in parser._actions}
    assert flags - {"help"} == set(NAMES)
    groups = {f.name for f in fields(Recipe)} - set(SUBJECT) - {"epochs", "batch_size"}
    within = [f for group in groups for f in fields(getattr(recipe, group)) if f.name != "name"]
    assert set(NAMES) == {f.name for f in (*within, *fields(Augment))} | {
        *("optimizer", "schedule", "loss", "epochs", "batch_size")
    }
