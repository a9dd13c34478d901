"""predict as a process that is interrupted and killed, and goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path

import PIL.Image
import pytest
import skimage.data
import torch
import torchvision

import resnetkit
from forking import Forks
from resnetkit.cli.main import main

COUNT = 1500


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bundle") / "net.safetensors"
    module = resnetkit.build("resnet20", num_classes=3).eval()
    facts = resnetkit.Preprocess(size=32)
    names = ("rose", "tulip", "lily")
    resnetkit.Bundle.from_module(module, preprocess=facts, classes=names).save(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many names, of a few photographs large enough to take a while."""
    folder = tmp_path_factory.mktemp("pictures")
    photograph = PIL.Image.fromarray(skimage.data.coffee()).resize((500, 375))
    for number in range(20):
        photograph.rotate(number).save(folder / f"{number:05}.jpg", quality=90)
    for number in range(20, COUNT):
        os.link(folder / f"{number % 20:05}.jpg", folder / f"{number:05}.jpg")
    return folder


def recorded(out: Path) -> int:
    """How many images an unfinished file is known to have."""
    try:
        return int(json.loads(Path(f"{out}.progress").read_text())["state"]["images"])
    except (OSError, ValueError):
        return 0


@pytest.mark.slow
def test_interrupted_and_killed_no_row_is_lost_or_repeated(
    bundle: Path, pictures: Path, forks: Forks, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    words = ["predict", bundle, pictures, "--engine", "torch", "--batch-size", 4, "--exact"]
    assert forks.run(*words, "--out", whole) == 0, forks.errors
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = recorded(out)
        process = forks.start(*words, "--out", out)
        until = time.monotonic() + 60
        while recorded(out) <= before and time.monotonic() < until:
            time.sleep(0.005)
        forks.kill(process, number)
        assert forks.end() == code, forks.errors
        assert "Traceback" not in forks.errors
        assert before < recorded(out) < COUNT
        assert not out.exists()
    assert forks.run(*words, "--out", out) == 0, forks.errors
    assert out.read_bytes() == whole.read_bytes()
    with out.open(newline="") as file:
        names = [Path(row["image"]).name for row in csv.DictReader(file)]
    assert sorted(set(names)) == [f"{number:05}.jpg" for number in range(COUNT)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "whole.csv"]


def test_numbered_classes_say_how_they_get_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=3)
    torch.save(module.state_dict(), "net.pth")
    PIL.Image.fromarray(skimage.data.coffee()).save("coffee.png")

    def predicted() -> tuple[str, str]:
        assert main(["convert", "net.pth", "net.safetensors"]) == 0
        capsys.readouterr()
        assert main(["predict", "net.safetensors", "coffee.png", "--topk", "1"]) == 0
        printed = capsys.readouterr()
        return printed.out.split()[-1], printed.err

    label, told = predicted()
    assert label in "012"
    assert "the 3 classes have no names, only numbers; to name them, convert the" in told
    names = {"architecture": "resnet18", "num_classes": 3, "label_names": ["red", "green", "blue"]}
    Path("config.json").write_text(json.dumps(names))
    named, told = predicted()
    assert named == names["label_names"][int(label)]
    assert "names" not in told
    assert main(["predict", "net.safetensors", "coffee.png", "--embeddings"]) == 0
