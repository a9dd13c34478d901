"""What is said of a measurement: copies among the images, and a picture that cannot be saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from resnetkit.cli.main import main


def pictures(folder: Path, seeds: range) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for seed in seeds:
            chance = np.random.default_rng([seed, ord(name)])
            pixels = chance.integers(0, 255, (20, 20, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(folder / name / f"{seed}.png")


def test_copies_of_training_images_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path / "data" / "train", range(4))
    pictures(tmp_path / "data" / "val", range(10, 12))
    pictures(tmp_path / "data" / "test", range(2, 6))
    words = ["train", str(tmp_path / "data"), "--epochs", "1", "--size", "32", "--depths", "1",
             "--widths", "8"]  # fmt: skip
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    assert "4 test image(s) are copies of training images" in printed.err
    assert "of 8 images, 4 of which are copies of training images" in printed.out
    assert "took no part" not in printed.out


def test_numbers_are_not_lost_where_the_picture_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path / "data", range(6))
    words = ["train", str(tmp_path / "data"), "--epochs", "1", "--size", "32", "--depths", "1",
             "--widths", "8", "--out", str(tmp_path / "run")]  # fmt: skip
    assert main(words) == 0
    capsys.readouterr()
    (tmp_path / "file").write_text("")
    words = ["evaluate", str(tmp_path / "run" / "best.safetensors"), str(tmp_path / "data")]
    words += ["--out", str(tmp_path / "file"), "--format", "json"]
    assert main(words) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["accuracy"] >= 0
    assert "confusion.png cannot be written to" in printed.err
    assert printed.err.count("\n") == 1
