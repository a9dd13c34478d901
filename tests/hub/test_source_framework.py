"""The source frameworks' own networks beside ours; Keras' is in tests/checkpoints/test_keras.py."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
import transformers

from resnetkit.bundle.bundle import load as load_bundle
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.hub.conversion import convert
from resnetkit.hub.source_framework import verify
from resnetkit.hub.weights import load
from resnetkit.preprocess import Preprocess
from running_statistics import draw_statistics

SIZE = Preprocess(size=64)
NARROW = {"channels": (16, 16, 32, 32), "layers": (1, 1, 1, 1), "num_classes": 4}
HF: dict[str, Any] = {
    "embedding_size": 16,
    "hidden_sizes": [32, 64, 128],
    "depths": [1, 2, 1],
    "num_labels": 5,
}


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    for value in model.parameters():  # timm's last norms of blocks are 0, which hides the blocks
        if value.ndim == 1:
            value.data.uniform_(0.5, 1)
    draw_statistics(model)
    return model


def saved(model: torch.nn.Module, path: Path) -> Path:
    """Wrapped as training scripts do it, but for safetensors."""
    state = randomised(model).state_dict()
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        wrapped = {f"module.{name}": value for name, value in state.items()}
        torch.save({"state_dict": wrapped, "args": argparse.Namespace(lr=1)}, path)
    return path


def torchvisions(**options: Any) -> torch.nn.Module:
    code = torchvision.models.resnet
    return code.ResNet(code.Bottleneck, [1, 1, 1, 1], num_classes=6, **options)


def timms(**options: Any) -> torch.nn.Module:
    code = timm.models.resnet
    return code.ResNet(code.Bottleneck, **NARROW, **options)


def huggingfaces(kind: str = "ResNetForImageClassification", **options: Any) -> torch.nn.Module:
    return getattr(transformers, kind)(transformers.ResNetConfig(**HF, **options))


def pytorchcvs(name: str) -> torch.nn.Module:
    return importlib.import_module("pytorchcv.model_provider").get_model(name)


SE = {"block_args": {"attn_layer": "se"}}
DEEP = {"stem_type": "deep_tiered", "stem_width": 32, "avg_down": True}
CASES: dict[str, tuple[Any, str, str, dict[str, Any]]] = {
    "torchvision": (torchvisions, "a.pth", "torchvision", {}),
    "torchvision, dilated": (
        lambda: torchvisions(replace_stride_with_dilation=[False, True, True]),
        "a.pth",
        "torchvision",
        {"output_stride": 8},
    ),
    "resnext": (
        lambda: torchvisions(groups=32, width_per_group=4),
        "a.safetensors",
        "torchvision",
        {},
    ),
    # torchvision has the names and not the widths; timm has both.
    "narrow": (timms, "a.pth", "timm", {}),
    "tiered": (lambda: timms(**DEEP, **SE), "a.safetensors", "timm", {}),
    "of timm's catalogue": (
        lambda: timm.create_model("resnet10t", num_classes=3, in_chans=1),
        "a.safetensors",
        "timm",
        {"preprocess": Preprocess(size=64, channels="L", mean=(0.5,), std=(0.5,))},
    ),
    "transformers": (huggingfaces, "a.safetensors", "transformers", {}),
    "transformers, early": (
        lambda: huggingfaces(downsample_in_bottleneck=True),
        "a.pth",
        "transformers",
        {"stride_on": "1x1"},
    ),
    "transformers, basic": (
        lambda: huggingfaces(layer_type="basic"),
        "a.safetensors",
        "transformers",
        {},
    ),
    "transformers, no head": (
        lambda: huggingfaces("ResNetModel"),
        "a.safetensors",
        "transformers",
        {},
    ),
    "pytorchcv": (lambda: pytorchcvs("resnet10"), "a.pth", "pytorchcv", {}),
    "pytorchcv, small": (lambda: pytorchcvs("resnet20_cifar10"), "a.pth", "pytorchcv", {}),
    "pytorchcv, squeezed": (lambda: pytorchcvs("seresnet10"), "a.pth", "pytorchcv", {}),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", CASES)
def test_the_own_network_of_the_source_agrees(case: str, tmp_path: Path) -> None:
    make, name, framework, facts = CASES[case]
    path = saved(make(), tmp_path / name)
    bundle = load(path, **{"preprocess": SIZE, **facts})
    found = verify(path, bundle)
    assert found.framework.partition(" ")[0] == framework
    assert found.found.relative <= 1e-5
    assert found.found.largest > 0


def test_weights_that_are_not_those_of_the_file_are_found_out(tmp_path: Path) -> None:
    path = saved(timms(), tmp_path / "a.pth")
    bundle = load(path, preprocess=SIZE)
    bundle.arrays["layer1.0.bn1.bias"].add_(1)  # all: what one does may end in a ReLU
    with pytest.raises(InputError, match=r"the network of timm .* differs by "):
        verify(path, bundle)


def test_a_configuration_beside_the_file_is_the_sources(tmp_path: Path) -> None:
    """What was given contradicts it; the tensors fit either way, the answers do not."""
    path = saved(huggingfaces(downsample_in_bottleneck=True), tmp_path / "a.safetensors")
    config = transformers.ResNetConfig(**HF, downsample_in_bottleneck=True)
    (tmp_path / "config.json").write_text(config.to_json_string())
    verify(path, load(path, preprocess=SIZE))
    bundle = load(path, preprocess=SIZE, stride_on="3x3")
    with pytest.raises(InputError, match="a given or assumed fact is wrong"):
        verify(path, bundle)


def reasons(path: Path, **facts: Any) -> str:
    with pytest.raises(InputError) as caught:
        verify(path, load(path, preprocess=SIZE, **facts))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_verified_is_told(tmp_path: Path, monkeypatch) -> None:
    path = saved(torchvisions(), tmp_path / "a.pth")
    told = reasons(path, stride_on="1x1")
    assert "torchvision has no such network: stride_on is 1x1, and torchvision has only" in told
    assert "timm has no such network" in told
    bundle = load(path, preprocess=SIZE)
    convert(bundle, tmp_path / "b.pth", to="detectron2")
    assert "detectron2 cannot be run; supported are torchvision, timm, tr" in reasons(
        tmp_path / "b.pth"
    )
    convert(bundle, tmp_path / "b.pkl", to="transformers")
    assert "it only loads torch and safetensors files" in reasons(tmp_path / "b.pkl")
    bundle.save(tmp_path / "c.safetensors")
    with pytest.raises(InputError, match="is a bundle; only other frameworks'"):
        verify(tmp_path / "c.safetensors", bundle)
    for package in ("torchvision", "timm"):
        monkeypatch.setitem(sys.modules, package, None)
    assert "torchvision, which is not installed; pip install 'resnetkit[train]'" in reasons(path)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


def test_the_command_prints_and_keeps_it(tmp_path: Path, capsys) -> None:
    path = saved(torchvision.models.resnet18(), tmp_path / "a.pth")
    target = tmp_path / "b.safetensors"
    words = ("convert", path, target, "--verify-with-source", "--num-classes", "3")
    code, out, _ = run(capsys, *words)
    assert code == 0
    version = f"torchvision {torchvision.__version__.partition('+')[0]}"
    assert f"verified with {version}: its logits differ by at most 0" in out
    bundle = load_bundle(target)
    assert bundle.network.options.num_classes == 3  # what was verified is what the file had
    assert bundle.origin["verified_with"]["framework"] == version
    assert bundle.origin["verified_with"]["difference"] == 0
    code, out, _ = run(capsys, *words, "--format", "json")
    assert json.loads(out)["origin"]["verified_with"]["framework"] == version


def test_the_command_writes_nothing_that_is_not_verified(tmp_path: Path, capsys) -> None:
    path = saved(torchvisions(), tmp_path / "a.pth")
    target = tmp_path / "b.safetensors"
    words = ("convert", path, target, "--verify-with-source", "--stride-on", "1x1")
    code, out, err = run(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "torchvision has no such network" in err
    assert not target.exists()
