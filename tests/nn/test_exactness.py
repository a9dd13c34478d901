"""Our modules against torchvision, timm, the reference manifests and other people's counters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

import resnetkit
from peers import renamed, timm_names
from resnetkit.architecture import registry
from resnetkit.nn.resnet import ResNet, build
from running_statistics import draw_statistics

REFERENCE = Path(__file__).parents[1] / "reference"
# Above this many parameters a comparison takes seconds and gigabytes: the slow sweep.
SMALL = 36_000_000
# Above this many blocks counting takes a second: the slow sweep.
DEEP = 30


def cases() -> list:
    found = []
    for entry in registry.catalog():
        slow = [] if entry.network().parameters < SMALL else [pytest.mark.slow]
        if hasattr(torchvision.models, entry.name) and entry.input_size == 224:
            found.append(pytest.param("torchvision", entry.name, marks=slow))
        if timm.is_model(entry.name):
            found.append(pytest.param("timm", entry.name, marks=slow))
    return found


def counted() -> list:
    """The catalogue; networks of many blocks take seconds to make."""
    deep = {e.name for e in registry.catalog() if sum(e.network().options.depths) > DEEP}
    return [
        pytest.param(e, marks=[pytest.mark.slow] if e.name in deep else [])
        for e in registry.catalog()
    ]


def peer(project: str, name: str, **options) -> torch.nn.Module:
    """The other project's network with statistics that are not the fresh 0 and 1."""
    create = getattr(torchvision.models, name) if project == "torchvision" else None
    module = create(**options) if create else timm.create_model(name, **options)
    draw_statistics(module)
    return module.eval()


def ours(project: str, name: str, state: dict, **options) -> ResNet:
    described = resnetkit.network(name, **options)
    module = ResNet(described).eval()
    names = timm_names(described) if project == "timm" else {}
    module.load_state_dict(renamed(state, names))
    return module


def test_every_namesake_is_a_case() -> None:
    projects = [case.values[0] for case in cases()]
    assert projects.count("torchvision") == 10
    assert projects.count("timm") == len(timm.list_models(module="resnet")) == 81


@pytest.mark.parametrize(("project", "name"), cases())
def test_logits_are_bit_equal(project: str, name: str) -> None:
    torch.manual_seed(0)
    theirs = peer(project, name)
    module = ours(project, name, theirs.state_dict())
    image = torch.randn(2, 3, 97, 129)
    with torch.inference_mode():
        expected, actual = theirs(image), module(image)
    assert expected.abs().max() > 0
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("name", ["resnet18", "resnet18d", "resnet26", "resnet26d", "resnet50"])
def test_dilated_logits_are_bit_equal_to_timm(name: str, output_stride: int) -> None:
    torch.manual_seed(0)
    theirs = peer("timm", name, output_stride=output_stride)
    module = ours("timm", name, theirs.state_dict(), output_stride=output_stride)
    image = torch.randn(1, 3, 97, 129)
    with torch.inference_mode():
        assert torch.equal(module(image), theirs(image))


@pytest.mark.parametrize(("flags", "stride"), [((0, 0, 1), 16), ((0, 1, 1), 8)])
def test_dilated_logits_are_bit_equal_to_torchvision(flags, stride: int) -> None:
    torch.manual_seed(0)
    dilate = [bool(flag) for flag in flags]
    theirs = peer("torchvision", "resnet50", replace_stride_with_dilation=dilate)
    module = ours("torchvision", "resnet50", theirs.state_dict(), output_stride=stride)
    image = torch.randn(1, 3, 97, 129)
    with torch.inference_mode():
        assert torch.equal(module(image), theirs(image))


@pytest.mark.parametrize("entry", counted(), ids=lambda e: e.name)
def test_parameter_and_buffer_counts(entry: registry.Entry) -> None:
    totals = resnetkit.explain(entry.name).totals
    makers = [lambda: ResNet(entry.network())]
    if hasattr(torchvision.models, entry.name) and entry.input_size == 224:
        makers.append(getattr(torchvision.models, entry.name))
    if timm.is_model(entry.name):
        makers.append(lambda: timm.create_model(entry.name))
    for make in makers:
        with torch.device("meta"):
            module = make()
        assert sum(p.numel() for p in module.parameters()) == totals.parameters
        # The fixed weights of a blur are a buffer of timm's, which it does not keep.
        kept = set(module.state_dict())
        buffers = sum(b.numel() for name, b in module.named_buffers() if name in kept)
        assert buffers == totals.buffers


@pytest.mark.parametrize("entry", counted(), ids=lambda e: e.name)
def test_macs_agree_with_torchs_flop_counter(entry: registry.Entry) -> None:
    """1 MAC = 2 FLOPs; torch counts convolutions and matrix products, as we do."""
    explanation = resnetkit.explain(entry.name)
    with torch.device("meta"):
        module = ResNet(entry.network()).eval()
        image = torch.empty(1, *explanation.input)
    with FlopCounterMode(display=False) as counter:
        module(image)
    assert counter.get_total_flops() == 2 * explanation.totals.macs


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # fvcore uses it on import
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["resnet18", "resnet50_v1", "seresnet50", "resnext50_32x4d"])
def test_macs_and_activations_agree_with_fvcore(name: str) -> None:
    """fvcore calls a MAC a flop, and counts norms and pools too: two operators are compared."""
    from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

    explanation = resnetkit.explain(name)
    module = build(name).eval()
    image = torch.zeros(1, *explanation.input)
    flops, put_out = FlopCountAnalysis(module, image), ActivationCountAnalysis(module, image)
    for analysis in (flops, put_out):
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = flops.by_operator()
    assert by_operator["conv"] + by_operator["linear"] == explanation.totals.macs
    assert put_out.total() == explanation.totals.activations


def test_published_counts() -> None:
    """pycls's model_complexity.json counts the same, with the bias of the fc layer on top."""
    totals = resnetkit.explain("resnet50").totals
    assert (totals.macs + 1000, totals.parameters) == (4_089_185_256, 25_557_032)
    assert resnetkit.explain("resnext50_32x4d").totals.macs + 1000 == 4_230_480_872
    assert resnetkit.explain("resnet20").totals.parameters == 269_722


MANIFESTS = {
    **{
        f"torchvision-{name}": (name, {})
        for name in (
            "resnet18",
            "resnet34",
            "resnet50",
            "resnet101",
            "resnet152",
            "resnext50_32x4d",
            "wide_resnet50_2",
        )
    },
    **{
        f"timm-{name}": (name, {})
        for name in ("resnet50", "resnet50c", "resnet50d", "resnet26t", "seresnet50")
    },
    "semseg-resnet50": ("resnet50_deep", {}),
    "semseg-pspnet50": (
        "resnet50_deep",
        {"output_stride": 8, "dilation_entry": "own", "num_classes": None},
    ),
}
SEMSEG_STEM = {
    "conv1": "module.layer0.0",
    "bn1": "module.layer0.1",
    "conv2": "module.layer0.3",
    "bn2": "module.layer0.4",
    "conv3": "module.layer0.6",
    "bn3": "module.layer0.7",
}


def manifest_state(manifest: str, document: dict, tensors: dict, network) -> dict:
    """A manifest's tensors under our names; what is not the backbone is left out by its prefix."""
    backbone = document.get("backbone") or {"prefix": "", "ignore": []}
    kept = {k: v for k, v in tensors.items() if not k.startswith(tuple(backbone["ignore"]))}
    names: dict[str, str] = {}
    if manifest.startswith("timm"):
        names = timm_names(network)
    elif manifest == "semseg-pspnet50":
        paths = {key.rpartition(".")[0] for key in kept}
        names = {p.removeprefix(backbone["prefix"]): p for p in paths} | SEMSEG_STEM
    state = {key: torch.from_numpy(np.asarray(value)) for key, value in kept.items()}
    if not any("num_batches_tracked" in key for key in kept):
        raise AssertionError("the manifest has no batch counters")
    return renamed(state, names)


#: Those of the networks that are quick to compute; the others are the slow sweep.
QUICK = ("torchvision-resnet18", "torchvision-resnet50", "timm-resnet50d", "semseg-resnet50")


@pytest.mark.parametrize(
    "manifest",
    [pytest.param(m, marks=[] if m in QUICK else [pytest.mark.slow]) for m in MANIFESTS],
)
def test_manifest(manifest: str, reference_weights) -> None:
    document = json.loads((REFERENCE / f"{manifest}.json").read_text())
    name, options = MANIFESTS[manifest]
    described = resnetkit.network(name, **options)
    plain = reference_weights.state_dict(document["keys"])
    for run in document["runs"]:
        probe = run["weights"] == "eps_probe"
        tensors = reference_weights.eps_probe(plain) if probe else plain
        module = ResNet(described).eval()
        module.load_state_dict(manifest_state(manifest, document, tensors, described))
        image = torch.from_numpy(reference_weights.image(tuple(run["input"]["image"])))
        with torch.inference_mode():
            maps = module.stages(image)
            if run["logits"]:
                check_logits(module(image), run["logits"])
        maps["stem"] = maps["stage0"]
        stages = [stage for stage in run["stages"] if stage["name"] in maps]
        assert stages
        for stage in stages:
            check_stage(maps[stage["name"]], stage)


def check_logits(logits: torch.Tensor, expected: dict) -> None:
    rows = zip(logits, expected["first16"], expected["argmax"], expected["max_abs"], strict=True)
    for row, first, top, scale in rows:
        assert (row[:16] - torch.tensor(first)).abs().max() <= 1e-5 * scale
        assert row.argmax() == top


def check_stage(actual: torch.Tensor, expected: dict) -> None:
    assert list(actual.shape) == expected["shape"]
    size = actual.numel() ** 0.5
    assert float(actual.double().norm()) == pytest.approx(expected["l2"], rel=1e-5)
    sample = expected["sample"]
    _, _, y, x = sample["at"]
    rms = expected["l2"] / size
    assert actual[0, 0:4, y, x].tolist() == pytest.approx(sample["values"], abs=1e-4 * rms)
