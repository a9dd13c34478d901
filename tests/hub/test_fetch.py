"""Sources to bundles, from a server that has generated weights under the real paths."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from torchvision.models import ResNet18_Weights

import resnetkit
from resnetkit.checkpoints.recognition import read
from resnetkit.cli.main import main
from resnetkit.errors import AssumptionWarning, InputError
from resnetkit.hub.torchvision_weights import imagenet, networks, published
from resnetkit.source import Source, parse
from running_statistics import draw_statistics
from server import COMMIT, Server

V1 = "/models/resnet18-f37072fd.pth"


@dataclass(frozen=True)
class Theirs:
    """A peer's module and its file."""

    module: torch.nn.Module
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def lively(module: torch.nn.Module) -> torch.nn.Module:
    """The module with statistics that are not fresh, for evaluation."""
    draw_statistics(module)
    return module.eval()


@pytest.fixture(scope="module")
def resnet18() -> Theirs:
    torch.manual_seed(0)
    module = lively(torchvision.models.resnet18())
    buffer = BytesIO()
    torch.save(module.state_dict(), buffer)
    return Theirs(module, buffer.getvalue())


@pytest.fixture(scope="module")
def small() -> Theirs:
    """resnet18 with a quarter of the width and seven classes, in torchvision's names."""
    torch.manual_seed(0)
    module = lively(resnetkit.build("resnet18", widths=(16, 32, 64, 128), num_classes=7))
    buffer = BytesIO()
    torch.save(module.state_dict(), buffer)
    return Theirs(module, buffer.getvalue())


@torch.inference_mode()
def same_answers(bundle: resnetkit.Bundle, module: torch.nn.Module, pixels: int = 64) -> bool:
    images = torch.randn(2, bundle.network.options.in_chans, pixels, pixels)
    theirs = module(images)
    theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.logits
    ours = bundle.module()(images)
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max())


def torchvision_bundle(server: Server, theirs: Theirs, **options: Any) -> resnetkit.Bundle:
    server.add(V1, theirs.content)
    return resnetkit.fetch(
        "torchvision:resnet18", mirror=server.url, sha256=theirs.sha256, **options
    )


def test_torchvisions_facts_are_known(server: Server, resnet18: Theirs) -> None:
    """The path is torchvision's own; a generated file has another checksum, which is told."""
    bundle = torchvision_bundle(server, resnet18)
    assert bundle.network.name == "resnet18"
    assert same_answers(bundle, resnet18.module)
    preset = ResNet18_Weights.IMAGENET1K_V1.transforms()
    assert bundle.preprocess.resize_to == preset.resize_size[0] == 256
    assert bundle.classes[:2] == ("tench", "goldfish")
    assert len(set(bundle.classes)) == 1000
    origin = bundle.origin
    assert origin["assumed"] == origin["given"] == {}
    assert origin["documented"]["norm_epsilon"] == 1e-5
    assert origin["preprocess"] == "torchvision's IMAGENET1K_V1"
    assert origin["fetched"] == {
        "source": "torchvision:resnet18",
        "url": server.url + V1,
        "sha256": resnet18.sha256,
        "checked": "against the given SHA-256",
        "weights": "IMAGENET1K_V1",
    }
    again = torchvision_bundle(server, resnet18, offline=True, norm_epsilon=1e-3, num_classes=3)
    assert again.network.options.norm_epsilon == 1e-3
    assert again.origin["given"] == {"norm_epsilon": 1e-3}
    assert "norm_epsilon" not in again.origin["documented"]
    assert again.classes == ("0", "1", "2")
    assert len(server.gets()) == 1


def test_the_checksum_in_torchvisions_name(server: Server, resnet18: Theirs, caches: Path) -> None:
    server.add(V1, resnet18.content)
    with pytest.raises(InputError, match=r"has the SHA-256 .*, expected f37072fd"):
        resnetkit.fetch("torchvision:resnet18@IMAGENET1K_V1", mirror=server.url)
    assert not list(caches.rglob("*.pth"))
    assert not list(caches.rglob("*.part"))


def test_another_network_under_the_name(server: Server, small: Theirs) -> None:
    server.add(V1.replace("resnet18-f37072fd", "resnet34-b627a593"), small.content)
    with pytest.raises(InputError, match=r"is custom.*, expected torchvision's resnet34"):
        resnetkit.fetch("torchvision:resnet34", mirror=server.url, sha256=small.sha256)


def test_all_of_torchvisions_resnets() -> None:
    assert {"resnet18", "resnet152", "resnext101_64x4d", "wide_resnet50_2"} <= set(networks())
    for name in networks():
        for weights in torchvision.models.get_model_weights(name):
            found, preset = published(name, weights.name), weights.transforms()
            assert found.url == weights.url
            assert [found.preprocess.size] == preset.crop_size
            assert [found.preprocess.resize_to] == preset.resize_size
            assert len(set(found.classes)) == 1000
        with torch.device("meta"):
            state = torchvision.models.get_model(name).state_dict()
        reading = read({key: tuple(value.shape) for key, value in state.items()})
        assert (reading.dialect.name, reading.network.name) == ("torchvision", name)
        assert published(name).label == torchvision.models.get_model_weights(name).DEFAULT.name


def test_an_address_with_digits_in_its_name(server: Server, small: Theirs) -> None:
    path = f"/net-{small.sha256[:8]}.pth"
    server.add(path, small.content)
    bundle = resnetkit.fetch(server.url + path)
    assert bundle.origin["fetched"]["checked"] == "against the 8 digits in the file's name"
    assert bundle.origin["assumed"]["preprocess"] == "IMAGENET1K_V1"
    assert bundle.classes == tuple("0123456")
    assert same_answers(bundle, small.module)
    wrong = f"/net-{'0' * 8}.pth"
    server.add(wrong, small.content)
    with pytest.raises(InputError, match=r"expected 00000000"):
        resnetkit.fetch(server.url + wrong)


def test_what_an_address_leaves_open_is_taken_and_told(server: Server, small: Theirs) -> None:
    server.add("/net.pth", small.content)
    with pytest.raises(InputError, match=r"does not determine norm_epsilon .* preprocess"):
        resnetkit.fetch(f"{server.url}/net.pth", strict=True)
    with pytest.warns(AssumptionWarning, match="assumed as torchvision documents: norm_epsilon"):
        bundle = resnetkit.fetch(f"{server.url}/net.pth")
    assert bundle.origin["assumed"]["norm_epsilon"] == 1e-5
    assert bundle.origin["preprocess"] == "IMAGENET1K_V1"
    assert bundle.origin["fetched"]["checked"].startswith("against nothing")
    assert len(server.gets()) == 1, "the second time it came from the cache"


def test_a_bundle_says_all_of_itself(server: Server, small: Theirs, tmp_path: Path) -> None:
    size = resnetkit.Preprocess(size=64)
    own = resnetkit.Bundle.from_module(
        small.module, preprocess=size, classes=tuple("abcdefg"), origin={"mine": 1}
    )
    own.save(tmp_path / "own.safetensors")
    server.add("/own.safetensors", (tmp_path / "own.safetensors").read_bytes())
    bundle = resnetkit.fetch(f"{server.url}/own.safetensors")
    assert (bundle.classes, bundle.preprocess) == (own.classes, own.preprocess)
    assert bundle.origin["mine"] == 1
    assert bundle.origin["fetched"]["source"] == f"{server.url}/own.safetensors"


@pytest.fixture(scope="module")
def repositories() -> dict[str, tuple[torch.nn.Module, dict[str, bytes]]]:
    """What timm and transformers themselves write for the Hub, by the name of a repository."""
    torch.manual_seed(0)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        module = lively(timm.create_model("resnet10t"))
        timm.models.save_for_hf(module, folder, safe_serialization=True)
        found["timm/resnet10t.c3_in1k"] = (module, _files(folder))
    with tempfile.TemporaryDirectory() as folder:
        names = {0: "crane", 1: "tench, Tinca tinca", 2: "crane"}
        config = transformers.ResNetConfig(
            embedding_size=16, hidden_sizes=[32, 64, 96, 128], depths=[1, 1, 2, 1],
            downsample_in_bottleneck=True, num_labels=3, id2label=names,
            label2id={"tench, Tinca tinca": 1, "crane": 2},
        )  # fmt: skip
        model = lively(transformers.ResNetForImageClassification(config))
        model.save_pretrained(folder)
        size = {"shortest_edge": 64}
        transformers.ConvNextImageProcessor(size=size, crop_pct=0.8).save_pretrained(folder)
        found["somebody/resnet"] = (model, _files(folder))
    return found


def _files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_timm_on_the_hub(server: Server, repositories: dict[str, Any]) -> None:
    module, files = repositories["timm/resnet10t.c3_in1k"]
    server.add_hub("timm/resnet10t.c3_in1k", files)
    bundle = resnetkit.fetch("hf:timm/resnet10t.c3_in1k", mirror=server.url)
    assert bundle.network.name == "resnet10t"
    assert same_answers(bundle, module)
    assert bundle.origin["assumed"] == bundle.origin["given"] == {}
    told = timm.data.resolve_model_data_config(module)
    assert bundle.preprocess.size == told["input_size"][1]
    assert bundle.preprocess.interpolation == told["interpolation"]
    assert bundle.origin["preprocess"] == "pretrained_cfg"
    assert bundle.origin["fetched"]["revision"] == COMMIT
    assert bundle.classes == imagenet()
    assert "as the source has none" in bundle.origin["class_names"]
    asked = len(server.requests)
    offline = resnetkit.fetch("hf:timm/resnet10t.c3_in1k", mirror=server.url, offline=True)
    assert len(server.requests) == asked
    assert offline.preprocess == bundle.preprocess


def test_transformers_on_the_hub(server: Server, repositories: dict[str, Any]) -> None:
    model, files = repositories["somebody/resnet"]
    server.add_hub("somebody/resnet", files, revision="v2")
    server.files["/somebody/resnet/resolve/v2/model.safetensors"].faults = [("cut", 10_000)]
    bundle = resnetkit.fetch("hf:somebody/resnet@v2", mirror=server.url)
    assert bundle.network.options.stride_on == "1x1"
    assert same_answers(bundle, model)
    assert bundle.origin["assumed"] == {}
    assert bundle.classes == ("crane (0)", "tench, Tinca tinca", "crane (2)")
    assert (bundle.preprocess.size, bundle.preprocess.resize_to) == (64, 80)
    assert bundle.preprocess.mean == (0.5, 0.5, 0.5)
    named = resnetkit.fetch("hf:somebody/resnet/model.safetensors@v2", mirror=server.url)
    assert named.network == bundle.network


def test_the_hubs_digest_is_compared(
    server: Server, repositories: dict[str, Any], tmp_path: Path
) -> None:
    _, files = repositories["somebody/resnet"]
    server.add_hub("somebody/resnet", files)
    for path, file in server.files.items():
        if path.endswith("model.safetensors"):
            file.content = file.content[:-1] + bytes([file.content[-1] ^ 1])
    for _ in range(2):
        with pytest.raises(InputError, match=r"safetensors has the digest .* was removed"):
            resnetkit.fetch("hf:somebody/resnet", mirror=server.url)
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.stat().st_size > 10_000]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:nobody/nothing", "hf:nobody/nothing does not exist or is private"),
        ("hf:somebody/resnet@old", "hf:somebody/resnet has no revision 'old'"),
        ("hf:somebody/resnet/x.bin", "hf:somebody/resnet: x.bin is not in the repository"),
    ],
)
def test_what_the_hub_does_not_have(
    server: Server, repositories: dict[str, Any], source: str, message: str
) -> None:
    server.add_hub("somebody/resnet", repositories["somebody/resnet"][1])
    with pytest.raises(InputError, match=message):
        resnetkit.fetch(source, mirror=server.url)


@pytest.mark.parametrize("switch", ["option", "environment"])
@pytest.mark.parametrize("source", ["torchvision:resnet18", "hf:a/b", "https://a.invalid/net.pth"])
def test_offline_without_the_file(
    monkeypatch: pytest.MonkeyPatch, source: str, switch: str
) -> None:
    if switch == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"not in the cache.* and downloads are disabled"):
        resnetkit.fetch(source, offline=switch == "option")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("resnet50", "not a source of weights; give e.g. torchvision:resnet50"),
        ("torchvision:", "not a source of weights"),
        ("torchvision:resnet18@", "nothing after the @"),
        ("torchvision:resnet81", "no ResNet 'resnet81'; did you mean resnet18"),
        ("torchvision:resnet50@imagenet1k_v3", "did you mean IMAGENET1K_V2"),
        ("torchvision:vgg16", "it has resnet101, "),
        ("hf:resnet-50", "is not a repository"),
        ("hf:../..", "is not a repository"),
        ("https://host/", "is not the URL of a file"),
        ("http://example.invalid/net.pth", "is not encrypted; give the file's checksum"),
        ("ftp://host/net.pth", "is not a source of weights"),
    ],
)
def test_what_is_no_source(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        resnetkit.fetch(source)
    assert "\n" not in str(error.value)


def test_sources_are_read() -> None:
    assert parse("torchvision:resnet50@IMAGENET1K_V1") == Source(
        kind="torchvision", name="resnet50", version="IMAGENET1K_V1"
    )
    whole = parse("hf:timm/resnet50.a1_in1k/sub/x.bin@v1")
    assert (whole.name, whole.file, whole.version) == ("timm/resnet50.a1_in1k", "sub/x.bin", "v1")
    assert parse("https://h/a/net%20b.pth?x=1").short == "net b"


@pytest.mark.parametrize(
    ("source", "recorded"),
    [
        ("hf:a/b/sub/x.bin@v1", "hf:a/b/sub/x.bin@v1"),
        ("torchvision:resnet50@IMAGENET1K_V1", "torchvision:resnet50@IMAGENET1K_V1"),
        ("torchvision:resnet50", "torchvision:resnet50"),
        ("HTTPS://me:se@cret@host:8443/a/net%20b.pth?key=1#x", "https://host:8443/a/net%20b.pth"),
    ],
)
def test_what_is_recorded_of_a_source(source: str, recorded: str) -> None:
    assert parse(source).text == recorded


def test_no_secret_of_a_url_is_recorded(server: Server, small: Theirs, tmp_path: Path) -> None:
    server.add("/small.pth", small.content)
    login = server.url.replace("//", "//me:hunter2@")
    bundle = resnetkit.fetch(f"{login}/small.pth?key=hunter2", norm_epsilon=1e-5)
    address = f"{server.url}/small.pth"
    assert bundle.origin["fetched"]["source"] == bundle.origin["fetched"]["url"] == address
    bundle.save(tmp_path / "small.safetensors")
    assert b"hunter2" not in (tmp_path / "small.safetensors").read_bytes()


def test_the_command(
    server: Server, small: Theirs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add("/small.pth", small.content)
    words = ["fetch", f"{server.url}/small.pth", "--sha256", small.sha256]
    assert main([*words, "--preprocess", "IMAGENET1K_V1"]) == 0
    shown = capsys.readouterr().out
    assert f"sha256   {small.sha256}" in shown
    assert "assumed norm_epsilon 1e-05" in shown
    bundle = resnetkit.load(tmp_path / "small.safetensors")
    assert bundle.preprocess.resize_to == 256
    assert main(words) == 2
    assert (
        "small.safetensors already exists; choose another path with --out"
        in capsys.readouterr().err
    )
    assert main([*words, "--out", "other.safetensors", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["origin"]["fetched"]["sha256"] == small.sha256
    assert main([*words, "--out", "nowhere/other.safetensors"]) == 2
    assert main([*words[:3], "0" * 64, "--out", "wrong.safetensors"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert not (tmp_path / "wrong.safetensors").exists()
    assert main(["fetch", "torchvision:resnet50@V3"]) == 2
    assert "it has IMAGENET1K_V1, IMAGENET1K_V2" in capsys.readouterr().err


def test_numbers_that_are_none_are_told(
    small: Theirs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {name: value.clone() for name, value in small.module.state_dict().items()}
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = np.nan
    state["fc.bias"][1] = np.inf
    torch.save(state, tmp_path / "broken.pth")
    bundle = resnetkit.load(tmp_path / "broken.pth")
    (warning,) = bundle.origin["warnings"]
    assert warning == ("2 tensors have NaN or infinite values: layer2.0.conv1.weight, fc.bias")
    torch.save(small.module.state_dict(), tmp_path / "sound.pth")
    assert resnetkit.load(tmp_path / "sound.pth").origin["warnings"] == []
