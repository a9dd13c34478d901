"""`bench`: everybody takes part, answers the same, and bad input is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import resnetkit
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.evaluation.benchmarking import benchmark
from resnetkit.inference.engines.openvino import has_bf16

#: The engines of processors with bfloat16, whose answers are only near.
BF16 = ["openvino-bf16"] if has_bf16() else []
QUICK = ("--rounds", "2", "--seconds", "0.01", "--batch-sizes", "1,2")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    module = resnetkit.build("resnet18", num_classes=3).eval()
    path = tmp_path_factory.mktemp("bench") / "net.safetensors"
    preprocess = resnetkit.Preprocess(size=32)
    resnetkit.Bundle.from_module(module, preprocess=preprocess).save(path)
    return path


def test_all_take_part_and_answer_the_same(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    against = "torchvision,timm,transformers"
    assert main(["bench", str(model), *QUICK, "--against", against, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    names = ["torch", "onnxruntime", "openvino", *BF16, "torchvision", "timm", "transformers"]
    assert [(row["name"], row["batch"]) for row in told["rows"]] == [
        (name, batch) for batch in (1, 2) for name in names
    ]
    assert told["rows"][0]["ratio"] == 1
    assert all(row["rate"] > 0 and row["least"] <= row["ratio"] for row in told["rows"])
    assert told["differences"]["torch"] == 0
    near = {name: told["differences"].pop(name) for name in BF16}
    assert max(near.values(), default=0) < 0.05
    assert max(told["differences"].values()) < 1e-4
    assert main(["bench", str(model), *QUICK, "--engines", "openvino"]) == 0
    table = capsys.readouterr().out
    assert "resnet18 at 32x32" in table
    assert "to openvino" in table


def test_an_exported_file_is_raced_by_its_own_engines(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "net.onnx"
    assert main(["export", str(model), str(target), "--to", "onnx", "--dynamic-batch"]) == 0
    capsys.readouterr()
    assert main(["bench", str(target), *QUICK, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in told["rows"]} == {"onnxruntime", "openvino", *BF16}
    assert main(["bench", str(target), *QUICK, "--against", "timm"]) == 2
    assert "is an exported file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--engines", "fast"), "the engine is 'fast'"),
        (("--against", "keras"), "'keras' is not supported"),
        (("--batch-sizes", "0"), "--batch-sizes is [0]"),
        (("--batch-sizes", "x"), "--batch-sizes is 'x'"),
        (("--batch-sizes", "²"), "--batch-sizes is '²'"),
        (("--rounds", "0"), "0 rounds"),
        (("--seconds", "nan"), "rounds of nan s"),
        (("--seconds", "inf"), "rounds of inf s"),
    ],
)
def test_bad_input(
    arguments: tuple[str, str], line: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(model), *arguments]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1


def test_a_rival_that_has_no_such_network_says_why() -> None:
    module = resnetkit.build("resnet18", num_classes=3, stem="deep", stem_widths=(8, 8, 16)).eval()
    bundle = resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=32))
    with pytest.raises(InputError, match="torchvision does not support"):
        benchmark(bundle, engines=["torch"], against=["torchvision"], rounds=1, seconds=0.01)


def test_rivals_have_as_many_threads_as_the_engines(model: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        quick: dict[str, Any] = {"batch_sizes": [1], "rounds": 1, "seconds": 0.01, "threads": 1}
        benchmark(model, engines=["openvino"], against=["torchvision"], **quick)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
