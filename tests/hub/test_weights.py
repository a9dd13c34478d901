"""What training starts from: a file that is there, or a source that is fetched."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

import resnetkit
from photographs import write_classes
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.hub.fetching import FetchOptions
from resnetkit.hub.load_options import LoadOptions
from resnetkit.hub.weights import load_or_fetch
from resnetkit.source import is_source, short_name
from server import Server

V1 = "/models/resnet18-f37072fd.pth"
CLASSES = ("brick", "chelsea")


def saved(module: torch.nn.Module) -> bytes:
    buffer = BytesIO()
    torch.save(module.state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def small() -> bytes:
    torch.manual_seed(0)
    return saved(resnetkit.build("resnet18", depths=(1, 1), widths=(8, 16), num_classes=7))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "data", 4, classes=CLASSES)


def train(*words: object) -> int:
    return main([str(word) for word in ("train", *words, "--size", 32, "--epochs", 1)])


def test_a_published_network_is_trained_further(server: Server, data: Path, tmp_path: Path) -> None:
    """Cut once on its way; its preprocessing is kept, its head is new."""
    torch.manual_seed(0)
    content = saved(torchvision.models.resnet18())
    server.add(V1, content).faults = [("cut", 1_000_000)]
    digest = hashlib.sha256(content).hexdigest()
    words = [data, "--from", "torchvision:resnet18@IMAGENET1K_V1", "--mirror", server.url]
    words += ["--sha256", digest]
    assert train(*words, "--lr", 1e-30, "--weight-decay", 0) == 0
    assert [r.status for r in server.gets()] == [200, 206]
    last = resnetkit.load(tmp_path / "runs" / "data-resnet18" / "last.safetensors")
    assert last.network.name == "resnet18"
    assert last.classes == CLASSES
    assert last.preprocess.resize_to == 256 * 32 // 224
    start = last.origin["start"]
    assert start["new_head"] is True
    assert start["fetched"]["source"] == "torchvision:resnet18@IMAGENET1K_V1"
    assert start["fetched"]["sha256"] == digest
    theirs = torch.load(BytesIO(content), weights_only=True)
    assert torch.equal(last.arrays["layer4.1.conv2.weight"], theirs["layer4.1.conv2.weight"])
    asked = len(server.requests)
    again = load_or_fetch(
        words[2], FetchOptions(mirror=server.url, sha256=digest, offline=True), LoadOptions()
    )
    assert again.classes[0] == "tench"
    assert len(server.requests) == asked


def test_an_address_leaves_facts_open(
    server: Server, data: Path, small: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add("/net.pth", small)
    words = [data, "--from", f"{server.url}/net.pth", "--out", "run"]
    assert train(*words, "--strict") == 2
    assert "does not determine norm_epsilon" in capsys.readouterr().err
    assert not Path("run").exists()
    assert train(*words, "--preprocess", "IMAGENET1K_V1") == 0
    assert "assumed as torchvision documents: norm_epsilon" in capsys.readouterr().err
    start = resnetkit.load("run/best.safetensors").origin["start"]
    assert start["preprocess"] == "IMAGENET1K_V1"
    assert len(server.gets()) == 1


def test_a_file_that_is_there_wins(server: Server, small: bytes, tmp_path: Path) -> None:
    """Whatever its name: nothing is asked for."""
    Path("hf:a").mkdir()
    Path("hf:a", "b").write_bytes(small)
    assert not is_source("hf:a/b")
    assert resnetkit.load("hf:a/b").network.options.num_classes == 7
    assert server.requests == []
    with pytest.raises(InputError, match=r"hf:a/b is a file; sha256 and mirror"):
        load_or_fetch("hf:a/b", FetchOptions(mirror=server.url), LoadOptions())


@pytest.mark.parametrize(
    ("start", "words", "message"),
    [
        ("nowhere.pth", [], "nowhere.pth does not exist and is not a source of weights; give"),
        ("torchvision:resnet81", [], "did you mean resnet18"),
        ("torchvsion:resnet18", [], "not a source of weights"),
        ("hf:a/b", ["--offline"], "is not in the cache"),
    ],
)
def test_what_is_neither(
    start: str, words: list[str], message: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, "--from", start, *words) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not Path("runs").exists()


def test_what_is_about_a_start_takes_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--offline"]) == 2
    assert "--offline applies to the file of --from" in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--ema"]) == 2
    assert "a resumed run keeps its recipe; leave --ema out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("start", "wanted"),
    [
        ("hf:a/b", True),
        ("HTTPS://host/net.pth", True),
        ("torchvsion:resnet18", True),
        ("C:\\nets\\net.pth", False),
        ("runs/12:30/net.pth", False),
        ("net.pth", False),
    ],
)
def test_what_is_a_source(start: str, wanted: bool) -> None:
    """By one rule for weights, and for models that are opened."""
    assert is_source(start) == wanted


@pytest.mark.parametrize("opening", [resnetkit.load, resnetkit.open_model])
def test_a_misspelt_source(opening: Any) -> None:
    with pytest.raises(InputError, match=r"is not a source of weights; give e\.g\. torchvision:"):
        opening("torchvsion:resnet18")


def test_short_names() -> None:
    assert short_name("hf:timm/resnet50.a1_in1k") == "resnet50.a1_in1k"
    assert short_name("torchvision:resnet50@IMAGENET1K_V2") == "resnet50"
    assert short_name("https://host/a/net.pth?x=1") == "net"
    assert short_name("folder/net.pth") == "net"


def test_pretrained_weights_in_a_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=7).state_dict()
    torch.save(theirs, tmp_path / "theirs.pth")
    same = resnetkit.build("resnet18", pretrained=tmp_path / "theirs.pth")
    assert same.training
    assert all(torch.equal(same.state_dict()[name], theirs[name]) for name in theirs)
    fresh = resnetkit.build("resnet18", pretrained=tmp_path / "theirs.pth", num_classes=3)
    assert fresh.fc.out_features == 3
    assert torch.equal(fresh.conv1.weight, theirs["conv1.weight"])
    bundle = resnetkit.load(tmp_path / "theirs.pth")
    for none in (None, 0):
        body = resnetkit.build("resnet18", pretrained=bundle, num_classes=none)
        assert body.num_classes == 0
        assert torch.equal(body.state_dict()["layer4.1.bn2.weight"], theirs["layer4.1.bn2.weight"])
    maps = resnetkit.build("resnet18", pretrained=bundle, features_only=True)
    assert torch.equal(maps.state_dict()["conv1.weight"], theirs["conv1.weight"])
    with pytest.raises(InputError, match="differs from resnet34 in depths"):
        resnetkit.build("resnet34", pretrained=bundle)
    with pytest.raises(InputError, match="in_chans"):
        resnetkit.build("resnet18", pretrained=bundle, in_chans=1)
    assert resnetkit.build("resnet18", num_classes=None).num_classes == 0
