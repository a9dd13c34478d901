"""train, evaluate and predict as a user runs them, on photographs and on digits."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors

from forking import Forks
from photographs import CLASSES, add_odd_files, write_classes, write_divided
from resnetkit.bundle.bundle import load as resnetkit_load
from resnetkit.cli.main import main

FAST = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
QUICK = ["--model", "resnet20", "--size", "24", "--epochs", "10", "--batch-size", "16"]


def inside(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """The same in this process, for starting one takes seconds: code, stdout, stderr."""
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_divided(tmp_path_factory.mktemp("photographs") / "data", train=24, held=8)


@pytest.fixture(scope="module")
def run(data: Path, forks: Forks) -> Path:
    """A run on a divided folder with odd and broken files in one class."""
    add_odd_files(data / "train" / "coffee")
    folder = data.parent / "run"
    assert forks.run("train", data, "--out", folder, *QUICK) == 0, forks.errors
    assert "coffee/truncated.jpg" in forks.errors
    assert "coffee/empty.png" in forks.errors
    assert "2 of 206 images" in forks.errors
    assert "Traceback" not in forks.errors
    assert forks.printed.count("epoch ") >= 10
    assert "images/s" in forks.printed
    assert "test accuracy" in forks.printed
    return folder


def test_run_folder_is_complete(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == [
        "bad-images.txt",
        "best.safetensors",
        "confusion.png",
        "curves.png",
        "last.safetensors",
        "log.jsonl",
        "recipe.toml",
        "report.html",
        "split.json",
    ]
    trained = json.loads((run / "split.json").read_text())["parts"]["train"]
    assert len(trained) == 5 * 24 + 4


def test_the_network_has_learned(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("evaluate", run / "best.safetensors", data, "--format", "json")
    code, output, errors = inside(capsys, *words)
    assert (code, errors) == (0, "")
    figures = json.loads(output)
    assert (figures["split"], figures["images"]) == ("test", 40)
    assert figures["accuracy"] > 0.6, "chance is 0.2"
    assert [row["name"] for row in figures["classes"]] == list(CLASSES)
    assert sum(map(sum, figures["confusion"]["rows"])) == 40
    best = safetensors.safe_open(run / "best.safetensors", "pt").metadata()
    assert json.loads(best["resnetkit"])["measured"]["test"]["accuracy"] == figures["accuracy"]


def test_training_images_are_told_and_broken_ones_counted(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, best = run.parent / "plots", run / "best.safetensors"
    code, output, errors = inside(capsys, "evaluate", best, data, "--split", "train", "--out", out)
    assert code == 1
    assert "124 of the measured images were trained on" in errors
    assert errors.count("skipped") == 2
    assert "accuracy" in output
    assert (out / "confusion.png").stat().st_size > 1000


def test_predict_keeps_the_order_and_names_what_is_broken(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, one = data / "train" / "coffee", data / "test" / "rocket" / "01.jpg"
    words = ("predict", run / "best.safetensors", one, folder, "--topk", 3, "--batch-size", 5)
    code, output, errors = inside(capsys, *words, "--format", "json")
    assert code == 1
    assert errors.count("skipped") == 2
    rows = json.loads(output)
    assert [row["image"] for row in rows] == [str(one), *map(str, sorted(folder.iterdir()))]
    unreadable = [Path(row["image"]).stem for row in rows if "problem" in row]
    assert unreadable == ["empty", "truncated"]
    for row in (row for row in rows if "problem" not in row):
        probabilities = [guess["probability"] for guess in row["predictions"]]
        assert len(probabilities) == 3
        assert probabilities == sorted(probabilities, reverse=True)
    out = run.parent / "predictions.csv"
    assert inside(capsys, *words, "--format", "csv", "--out", out)[0] == 1
    lines = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [line["class"] for line in lines[:3]] == [g["label"] for g in rows[0]["predictions"]]
    code, table, _ = inside(capsys, "predict", run / "best.safetensors", one)
    assert code == 0
    assert table.splitlines()[0] == str(one)
    assert len(table.splitlines()) == 1 + len(CLASSES)


def test_bad_input_is_one_line(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_class = write_classes(tmp_path / "one", 1, classes=("brick",))
    empty_class = write_classes(tmp_path / "empty", 1, classes=("brick",))
    (empty_class / "void").mkdir()
    strange = write_classes(tmp_path / "strange", 1, classes=("brick",))
    (strange / "brick").rename(strange / "unicorn")
    best = run / "best.safetensors"
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(best.read_bytes()[:5000])
    image = data / "test" / "brick" / "00.png"
    cases: list[tuple[tuple[object, ...], str]] = [
        (("train", tmp_path / "nowhere"), "does not exist"),
        (("train", one_class), "one class folder"),
        (("train", empty_class), "one class folder with images"),
        (("train", "--out", run), "--resume"),
        (("train", "--resume", tmp_path), "is not a run"),
        (("train", "--resume", run, "--lr", 1), "leave --lr out"),
        (("train", "--model", "resnet1", "--out", tmp_path / "r"), "unknown network"),
        (("train", "--epochs", "many"), "--epochs"),
        (("train", "--resume", run, "--overwrite"), "leave --overwrite out"),
        (("train", "--max-bad", 2, "--out", tmp_path / "r"), "--max-bad"),
        (("train", "--batch-size", 5000, "--out", tmp_path / "r"), "--batch-size is 5000"),
        (("train", "--out", image / "run"), "--out"),
        (("evaluate", best, strange), "unicorn"),
        (("evaluate", cut, data), "truncated"),
        (("evaluate", best, data, "--batch-size", 0), "--batch-size"),
        (("predict", best, tmp_path / "nothing.png"), "does not exist"),
        (("predict", data, image), "is a folder"),
        (("predict", best, image, "--topk", 0), "topk"),
        (("predict", best, image, "--out", tmp_path / "no" / "file"), "cannot write"),
    ]
    said = []
    for words, message in cases:
        code, output, errors = inside(capsys, *words)
        assert (code, output, errors.count("\n")) == (2, "", 1), (words, errors)
        assert message in errors, (words, errors)
        said.append(errors)
    assert not (tmp_path / "r").exists()
    # The first as a process of its own as well.
    alone = subprocess.run(
        [sys.executable, "-m", "resnetkit", *map(str, cases[0][0])],
        capture_output=True, text=True, env=FAST, check=False,
    )  # fmt: skip
    assert (alone.returncode, alone.stderr) == (2, said[0])


def test_options_of_the_network_are_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = "--model resnet18 --stem 3x3 --depths 1,1 --widths 8,16 --size 8 --epochs 1".split()
    assert inside(capsys, "train", "--out", out, *words)[0] == 0
    options = resnetkit_load(out / "last.safetensors").network.options
    assert (options.stem, options.depths, options.widths) == ("3x3", (1, 1), (8, 16))
    assert (options.num_classes, options.in_chans) == (10, 1)
    code, _, errors = inside(capsys, "train", "--resume", out, "--stem", "3x3")
    assert (code, "leave --stem out" in errors) == (2, True)
    code, _, errors = inside(capsys, "train", "--out", tmp_path / "x", "--num-classes", "3")
    assert (code, "unrecognized arguments: --num-classes" in errors) == (2, True)
