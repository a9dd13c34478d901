"""Few images: one of a class without held-out ones, batches of one, and what is said of both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch

import resnetkit
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import run_recipe

PHOTOGRAPHS = {"cat": skimage.data.chelsea, "cup": skimage.data.coffee}


def pictures(folder: Path, count: int = 1, first: int = 0) -> Path:
    """``count`` crops of a photograph for each class, from the crop ``first`` on."""
    for name, load in PHOTOGRAPHS.items():
        (folder / name).mkdir(parents=True)
        for number in range(first, first + count):
            crop = PIL.Image.fromarray(load()[number * 20 : number * 20 + 200, :200])
            crop.resize((40, 40)).save(folder / name / f"{number}.png")
    return folder


def called(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """A command's exit code, stdout and stderr."""
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("flag", ["--validation", "--val"])
def test_one_picture_of_a_class(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = pictures(tmp_path / "data"), tmp_path / "run"
    words = ["train", data, "--model", "resnet20", "--epochs", 3, flag, "none", "--test", "none"]
    code, printed, errors = called(capsys, *words, "--out", out, "--tensorboard")
    assert code == 0, errors
    assert "2 train, 0 validation, 0 test" in printed
    assert "kept: epoch 3, the last, as no images were held out for selection" in printed
    assert "training images, which says little about other images" in printed
    assert "validation accuracy" not in printed
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["validation_accuracy"] for row in rows] == [None] * 3
    assert [row["validation_loss"] for row in rows] == [None] * 3
    best, last = (resnetkit.load(out / f"{name}.safetensors") for name in ("best", "last"))
    assert best.measured == {}
    assert all(np.array_equal(best.arrays[name], last.arrays[name]) for name in last.arrays)
    page = (out / "report.html").read_text()
    assert "the last, as no images were held out" in page
    assert "measured on the training images" in page
    assert called(capsys, "train", "--resume", out)[0] == 0
    assert called(capsys, "evaluate", out / "best.safetensors", data)[0] == 0
    _, listed, _ = called(capsys, "runs", tmp_path, "--format", "json")
    assert json.loads(listed)["runs"][0]["validation_accuracy"] is None


def test_one_picture_is_refused_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = called(capsys, "train", pictures(tmp_path / "data"), "--model", "resnet20")
    assert code == 2
    assert "--validation none --test none" in errors


def test_nothing_to_be_patient_by(tmp_path: Path) -> None:
    recipe = make_recipe(
        pictures(tmp_path / "data", 2), "resnet20", size=32, epochs=2, validation=0.0, patience=1
    )
    with pytest.raises(InputError, match="no validation images"):
        run_recipe(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_parts_of_few_pictures(tmp_path: Path) -> None:
    """The usual batch is no larger than a small training part."""
    pictures(tmp_path / "data/train")
    pictures(tmp_path / "data/val", first=1)
    recipe = make_recipe(tmp_path / "data", "resnet20", size=32, epochs=1)
    assert recipe.batch_size == 2
    assert run_recipe(recipe, tmp_path / "run").counts == {"train": 2, "validation": 2, "test": 0}


@pytest.mark.parametrize(
    ("model", "size", "norm", "least"),
    [
        ("resnet20", 32, "batch", 1),
        ("resnet20", 4, "batch", 2),
        ("resnet18", 32, "batch", 2),
        ("resnet18", 32, "group", 1),
        ("resnet18", 64, "batch", 1),
    ],
)
def test_smallest_batch(model: str, size: int, norm: str, least: int, tmp_path: Path) -> None:
    """It is what torch can train on: a batch norm refuses one image with maps of 1x1."""
    network = resnetkit.network(model, num_classes=2, norm=norm)
    data = pictures(tmp_path / "data", 3)
    recipe = make_recipe(data, network, size=size, epochs=1, batch_size=2)
    assert recipe.smallest_batch == least
    module = resnetkit.build(recipe.network).train()
    image = torch.zeros(1, 3, size, size)
    if least == 1:
        module(image)
        alone = make_recipe(data, network, size=size, epochs=2, batch_size=1, augment=False)
        result = run_recipe(alone, tmp_path / "run")
        assert result.counts["train"] == 2
        # A step for each image, none of them dropped or joined.
        assert all(row.loss > 0 for row in result.rows)
    else:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            module(image)
        with pytest.raises(InputError, match="batch_size is 1"):
            make_recipe(data, network, size=size, epochs=1, batch_size=1)


def test_frozen_norms_need_no_batch(tmp_path: Path) -> None:
    recipe = make_recipe(
        pictures(tmp_path / "data", 3), "resnet18", size=32, freeze=5, batch_size=1
    )
    assert recipe.smallest_batch == 1
