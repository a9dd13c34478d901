"""The reference manifests: recognised, described, and computed through the map."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
import torch
from manifests import REFERENCE, document, load, shapes_of

from resnetkit.architecture.parameters import tensors
from resnetkit.checkpoints.recognition import read
from resnetkit.nn.resnet import ResNet

BOTTLENECK = ["stride_on", "norm_epsilon", "stem_pool", "head_pool", "output_stride"]
BASIC = BOTTLENECK[1:]
#: timm has pools and blurs against aliasing, and shares torchvision's names.
TIMM = [*BOTTLENECK[:3], "anti_alias", *BOTTLENECK[3:]]
#: The manifest: dialect, network, what it is said to be besides, and the ambiguous facts.
MANIFESTS = {
    "torchvision-resnet18": ("torchvision", "resnet18", {}, TIMM[1:]),
    "torchvision-resnet34": ("torchvision", "resnet34", {}, TIMM[1:]),
    "torchvision-resnet50": ("torchvision", "resnet50", {}, TIMM),
    "torchvision-resnet101": ("torchvision", "resnet101", {}, TIMM),
    "torchvision-resnet152": ("torchvision", "resnet152", {}, TIMM),
    "torchvision-wide_resnet50_2": ("torchvision", "wide_resnet50_2", {}, TIMM),
    "torchvision-resnext50_32x4d": ("torchvision", "resnext50_32x4d", {}, TIMM),
    "timm-resnet50": ("torchvision", "resnet50", {}, TIMM),
    "timm-resnet50c": ("timm", "resnet50c", {}, TIMM),
    "timm-resnet50d": ("timm", "resnet50d", {}, TIMM),
    "timm-resnet26t": ("timm", "resnet26t", {}, TIMM),
    "timm-seresnet50": ("timm", "seresnet50", {}, TIMM),
    "transformers-resnet50": ("transformers", "resnet50", {}, BOTTLENECK[:-1]),
    "transformers-resnet50-stride1x1": (
        "transformers",
        "resnet50_v1",
        {"stride_on": "1x1"},
        BOTTLENECK[:-1],
    ),
    "transformers-resnet18": ("transformers", "resnet18", {}, BASIC[:-1]),
    "semseg-resnet50": ("semseg", "resnet50_deep", {}, BOTTLENECK),
    "semseg-pspnet50": (
        "semseg-pspnet",
        "resnet50_deep",
        {},
        [*BOTTLENECK, "dilation_entry"],
    ),
    "mmpretrain-resnet50": ("mmpretrain", "resnet50", {}, BOTTLENECK),
    "mmpretrain-resnet50-caffe": ("mmpretrain", "resnet50_v1", {"stride_on": "1x1"}, BOTTLENECK),
    "mmpretrain-resnetv1c50": ("mmpretrain", "resnet50c", {}, BOTTLENECK),
    "mmpretrain-resnetv1d50": ("mmpretrain", "resnet50d", {}, BOTTLENECK),
    "detectron2-resnet50-stride1x1": ("detectron2", "resnet50_v1", {}, BOTTLENECK),
    "detectron2-resnet50-stride3x3": (
        "detectron2",
        "resnet50",
        {"stride_on": "3x3"},
        BOTTLENECK,
    ),
    "detectron2-resnet50-fpn": ("detectron2", "resnet50_v1", {}, BOTTLENECK),
    "keras-resnet50": ("keras", "resnet50_keras", {}, []),
}
#: tests/nn/test_exactness.py computes the others, whose names are ours or tested there.
COMPUTED = [
    name
    for name in MANIFESTS
    if not name.startswith(("torchvision", "timm", "semseg-resnet")) or name == "timm-resnet50d"
]


@pytest.fixture(scope="module")
def weights() -> ModuleType:
    spec = importlib.util.spec_from_file_location("weights", REFERENCE / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_manifest_is_a_case() -> None:
    assert {path.stem for path in REFERENCE.glob("*.json")} == set(MANIFESTS)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_manifest_is_recognised(manifest: str) -> None:
    expected, name, facts, ambiguous = MANIFESTS[manifest]
    reading = read(shapes_of(manifest))
    assert reading.dialect.name == expected
    assert [fact.fact for fact in reading.ambiguous] == [*ambiguous, "preprocess"]
    backbone = document(manifest).get("backbone") or {"ignore": []}
    reading.check(drop=backbone["ignore"])
    assert all(name.startswith(tuple(backbone["ignore"])) for name in reading.leftover)
    assert reading.settle(**facts).network.name == name
    assert set(reading.names) | set(reading.created) == set(tensors(reading.network))
    assert len(set(reading.names.values())) == len(reading.names)
    assert reading.head == (
        "classifier"
        if document(manifest)["runs"][0]["logits"]
        else "other"
        if backbone["ignore"]
        else "none"
    )
    described = document(manifest)["architecture"]
    options = reading.settle(**facts).network.options
    assert list(options.depths) == described["depths"]
    assert list(options.stem_widths) == described["stem_widths"]
    assert options.norm_epsilon == described["bn_eps"]
    assert options.output_stride == described["output_stride"]
    assert options.groups == described["groups"]
    assert options.conv_bias == described["conv_bias"]
    if options.block == "bottleneck":
        assert options.stride_on == {"conv1": "1x1", "conv2": "3x3"}[described["stride_in"]]


@pytest.mark.parametrize("manifest", COMPUTED)
def test_manifest_computes_its_numbers(manifest: str, weights: ModuleType) -> None:
    told = document(manifest)
    _, _, facts, _ = MANIFESTS[manifest]
    reading = read(shapes_of(manifest)).settle(**facts)
    drop = (told.get("backbone") or {"ignore": []})["ignore"]
    plain = weights.state_dict(told["keys"])
    module = ResNet(reading.network).eval()
    ran = 0
    for run in told["runs"]:
        size = run["input"]["image"]
        if max(size[2:]) > 300:
            continue
        probe = run["weights"] == "eps_probe"
        theirs = weights.eps_probe(plain) if probe else plain
        load(module, reading.to_ours(theirs, drop))
        image = torch.from_numpy(weights.image(tuple(size)))
        with torch.inference_mode():
            maps = module.stages(image)
            last = maps[reading.network.stages[-1].name]
            if run["logits"]:
                y = last
                for layer in reading.network.head:
                    y = module.get_submodule(layer.name)(y)
                check_logits(y, run["logits"])
        maps["stem"] = maps["stage0"]
        stages = [stage for stage in run["stages"] if stage["name"] in maps]
        assert stages
        for stage in stages:
            check_stage(maps[stage["name"]], stage)
        ran += 1
    assert ran >= 2


def check_logits(logits: torch.Tensor, expected: dict) -> None:
    rows = zip(logits, expected["first16"], expected["argmax"], expected["max_abs"], strict=True)
    for row, first, top, scale in rows:
        assert (row[:16] - torch.tensor(first)).abs().max() <= 1e-5 * scale
        assert row.argmax() == top


def check_stage(actual: torch.Tensor, expected: dict) -> None:
    assert list(actual.shape) == expected["shape"]
    assert float(actual.double().norm()) == pytest.approx(expected["l2"], rel=1e-5)
    _, _, y, x = expected["sample"]["at"]
    rms = expected["l2"] / actual.numel() ** 0.5
    sample = expected["sample"]["values"]
    assert actual[0, 0:4, y, x].tolist() == pytest.approx(sample, abs=1e-4 * rms)
