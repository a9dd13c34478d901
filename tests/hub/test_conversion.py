"""Conversions: there and back bit for bit, with proof, and nothing resolved silently."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision

import resnetkit
from resnetkit.bundle import equivalence
from resnetkit.bundle.bundle import load as load_bundle
from resnetkit.checkpoints.identification import identify
from resnetkit.cli.main import main
from resnetkit.errors import AssumptionWarning, InputError
from resnetkit.hub.conversion import convert
from resnetkit.hub.weights import load
from running_statistics import draw_statistics

SMALL: dict[str, Any] = {"depths": (2, 1, 1, 1), "widths": (16, 16, 32, 32), "num_classes": 7}
NETWORKS = {
    "torchvision": ("resnet50", {}),
    "timm": ("seresnext26t_32x4d", {"width_per_group": 64, "groups": 2}),
    "semseg": ("resnet50_deep", {}),
    "transformers": ("resnet50", {}),
    "mmpretrain": ("resnet50d", {}),
    "detectron2": ("resnet50_v1", {}),
    "pytorchcv": ("resnet50", {}),
    "resnetkit": ("resnet50_notes", {"squeeze_excitation": 16}),
    "bundle": ("resnet50_notes", {"squeeze_excitation": 16}),
    "caffe2": ("resnet50_v1", {}),
}


def bundle_of(name: str, **options: Any) -> resnetkit.Bundle:
    """A small network with weights and statistics that are not fresh."""
    torch.manual_seed(1)
    module = resnetkit.build(name, **{**SMALL, **options})
    draw_statistics(module)
    size = 224 if module.network.options.head_pool == "7x7" else 64
    if name == "resnet50_notes":
        module = resnetkit.build(module.network.override(head_pool="global"))
    return resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=size))


def facts(bundle: resnetkit.Bundle) -> dict[str, Any]:
    names = "stride_on norm_epsilon stem_pool stem_padding head_pool output_stride dilation_entry"
    options = bundle.network.options
    return {name: getattr(options, name) for name in (*names.split(), "rounding", "norm_momentum")}


TARGETS = [
    (to, suffix)
    for to in NETWORKS
    for suffix in (".safetensors", ".pth", ".pkl")
    if to != "bundle" or suffix == ".safetensors"
]


@pytest.mark.parametrize(("to", "suffix"), TARGETS)
def test_there_and_back(to: str, suffix: str, tmp_path: Path) -> None:
    name, options = NETWORKS[to]
    bundle = bundle_of(name, **options)
    target = tmp_path / f"there{suffix}"
    done = convert(bundle, target, to=to)
    told = {} if to == "bundle" else {"preprocess": bundle.preprocess, **facts(bundle)}
    again = load(target, **told)
    assert again.network.options == bundle.network.options
    assert done.largest > 0
    if to == "caffe2":  # norms are folded into scale and bias, and come back as such
        assert done.difference <= 1e-5 * done.largest
        return
    assert done.difference == 0
    assert set(again.arrays) == set(bundle.arrays)
    frozen = [k for k in again.arrays if k.endswith("num_batches_tracked")]
    for key, value in bundle.arrays.items():
        assert torch.equal(again.arrays[key], value) or key in frozen, key


def test_a_bundle_is_saved_for_another_framework(tmp_path: Path) -> None:
    bundle = bundle_of("resnet50")
    path = tmp_path / "net.safetensors"
    bundle.save(path, dialect="transformers")
    with safetensors.safe_open(path, framework="pt") as file:
        assert "resnet.embedder.embedder.convolution.weight" in file.keys()  # noqa: SIM118
        origin = json.loads(file.metadata()["origin"])
    assert (origin["converted_to"], origin["proof"]["difference"]) == ("transformers", 0)
    again = load(path, preprocess=bundle.preprocess)
    assert all(torch.equal(again.arrays[name], value) for name, value in bundle.arrays.items())
    before = path.read_bytes()
    for dialect, reason in (("semseg", "semseg does not support"), ("mxnet", "unknown dialect")):
        with pytest.raises(InputError, match=reason):
            bundle.save(path, dialect=dialect)
    with pytest.raises(InputError, match=r"ends in '\.bin'"):
        bundle.save(tmp_path / "net.bin", dialect="timm")
    assert path.read_bytes() == before


def test_the_proof_sees_what_tensors_do_not() -> None:
    """The same tensors with the stride elsewhere: names and shapes agree, the answers do not."""
    bundle = bundle_of("resnet50")
    other = replace(bundle, network=bundle.network.override(stride_on="1x1"))
    pixels = equivalence.images(3, 64)
    first, second = (equivalence.answers(b.network, b.numbers, pixels) for b in (bundle, other))
    assert equivalence.compare(first, second).relative > 1e-3
    assert equivalence.compare(first, first).relative == 0
    expected = bundle.module()(torch.from_numpy(pixels)).detach().numpy()
    assert np.array_equal(first, expected)


def test_statistics_that_are_fresh_or_broken_are_told(tmp_path: Path) -> None:
    module = resnetkit.build("resnet18", **{**SMALL, "block": "basic"})
    path = tmp_path / "net.pth"
    torch.save(module.state_dict(), path)
    (warning,) = identify(path).warnings
    assert "norms have mean 0 and variance 1" in warning
    module.bn1.running_mean.fill_(0.5)
    torch.save(module.state_dict(), path)
    assert identify(path).warnings == ()
    module.bn1.running_var[3] = float("nan")
    torch.save(module.state_dict(), path)
    (warning,) = identify(path).warnings
    assert "1 norms have statistics that are not finite or negative: bn1.running_mean" in warning


def test_torchvisions_own_file(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18()
    path = tmp_path / "resnet18.pth"
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, path
    )
    bundle = load(path)
    assert bundle.network.name == "resnet18"
    assert bundle.origin["wrappers"] == ["state_dict", "module"]
    assert bundle.origin["assumed"]["preprocess"] == "IMAGENET1K_V1"
    assert bundle.preprocess.resize_to == 256
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(bundle.module()(image), theirs.eval()(image))


def test_timm_to_torchvision_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    safetensors.torch.save_file(timm.create_model("resnet26d").state_dict(), path)
    bundle = load(path)
    assert bundle.network.name == "resnet26d"
    with pytest.raises(InputError, match=r"torchvision does not support resnet26d: .*deep"):
        convert(bundle, tmp_path / "out.pth", to="torchvision")
    assert not (tmp_path / "out.pth").exists()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "small.pth"
    convert(bundle_of("resnet50"), path, to="torchvision")
    return path


def test_nothing_is_resolved_silently(checkpoint: Path) -> None:
    with pytest.raises(
        InputError, match=r"does not determine stride_on .3x3 or 1x1.*without strict"
    ):
        load(checkpoint, strict=True)
    with pytest.warns(AssumptionWarning, match=r"assumed as torchvision documents: stride_on 3x3"):
        bundle = load(checkpoint)
    assert bundle.network.options.stride_on == "3x3"
    assert bundle.origin["assumed"]["preprocess"] == "IMAGENET1K_V2"
    told = {fact.fact: fact.default for fact in identify(checkpoint).reading.ambiguous}
    told |= {"stride_on": "1x1", "norm_epsilon": 1e-3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # all is told, so there is nothing to say
        bundle = load(checkpoint, strict=True, **told)
    assert bundle.network.options.stride_on == "1x1"
    assert bundle.network.options.norm_epsilon == 1e-3
    assert bundle.origin["given"]["stride_on"] == "1x1"
    assert bundle.origin["assumed"] == {}


def test_a_new_head_is_explicit(checkpoint: Path) -> None:
    bundle = load(checkpoint, num_classes=3)
    assert bundle.network.options.num_classes == 3
    assert bundle.arrays["fc.weight"].shape == (3, 128)
    assert bundle.origin["new_head"] is True
    old = load(checkpoint)
    assert all(torch.equal(bundle.arrays[k], old.arrays[k]) for k in old.arrays if "fc" not in k)


def test_a_bundle_says_all_of_itself(tmp_path: Path) -> None:
    bundle = bundle_of("resnet50")
    path = tmp_path / "bundle.safetensors"
    bundle.save(path)
    with pytest.raises(InputError, match=r"is a bundle, .* leave out stride_on"):
        load(path, stride_on="1x1")
    fresh = load(path, num_classes=2)
    assert fresh.classes == ("0", "1")
    assert fresh.measured == {}
    assert torch.equal(fresh.arrays["conv1.weight"], bundle.arrays["conv1.weight"])


def test_grey_images_have_no_coloured_preprocessing(tmp_path: Path) -> None:
    module = resnetkit.build("resnet18", depths=(1, 1), widths=(8, 16), in_chans=1)
    path = tmp_path / "grey.pth"
    torch.save(module.state_dict(), path)
    (fact,) = (f for f in identify(path).reading.ambiguous if f.fact == "preprocess")
    assert fact.candidates == ("grey",)
    others = {f.fact: f.default for f in identify(path).reading.ambiguous if f is not fact}
    with pytest.raises(InputError, match=r"does not determine preprocess \(grey\)"):
        load(path, strict=True, **{k: v for k, v in others.items() if k != "preprocess"})
    bundle = load(path)
    assert (bundle.preprocess.channels, bundle.preprocess.mean) == ("L", (0.0,))


def test_leftovers_are_told_and_with_strict_an_error(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    path = tmp_path / "more.pth"
    torch.save({**state, "decoder.weight": torch.zeros(2, 2)}, path)
    told = {fact.fact: fact.default for fact in identify(path).reading.ambiguous}
    with pytest.raises(InputError, match=r"1 tensors are not part of .*decoder\.weight.*drop=\["):
        load(path, strict=True, **told)
    with pytest.warns(AssumptionWarning, match=r"1 tensors .* skipped: decoder\.weight"):
        assert load(path).origin["left_out"] == ["decoder.weight"]
    assert load(path, drop=["decoder."]).origin["dropped"] == ["decoder."]
    backbone = load(path, drop=["decoder.", "fc"])
    assert backbone.network.options.num_classes is None
    assert backbone.origin["dropped"] == ["decoder.", "fc"]
    with pytest.raises(InputError, match=r"begins with 'fc\.w'"):
        load(path, drop=["decoder.", "fc.w"])
    with pytest.raises(InputError, match="no leftover tensor begins with 'x'"):
        load(path, drop=["decoder.", "x"])
    del state["layer2.0.bn1.weight"]
    torch.save(state, path)
    with pytest.raises(InputError, match=r"layer2\.0\.bn1\.weight is missing"):
        load(path)


def test_what_is_ignored_may_be_dropped(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "training.pth"
    state = torch.load(checkpoint, weights_only=True)
    torch.save({"state_dict": state, "optimizer": {"state": {0: torch.zeros(3)}}}, path)
    assert load(path, drop=["optimizer"]).origin["dropped"] == ["optimizer"]


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.complex64])
def test_quantised_weights_are_refused(
    dtype: torch.dtype, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"].to(dtype)
    path = tmp_path / "quantised.pth"
    torch.save(state, path)
    words = ["convert", str(path), str(tmp_path / "out.safetensors")]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert f"has layer1.0.conv1.weight in {str(dtype).removeprefix('torch.')}" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_scales_that_are_not_finite_are_told(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["layer1.0.bn1.weight"][3] = torch.nan
    path = tmp_path / "diverged.pth"
    torch.save(state, path)
    found = " ".join(identify(path).warnings)
    assert "1 norms have a scale or bias that is NaN or infinite: layer1.0.bn1.weight" in found


def test_weights_and_their_average(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    average = {k: v + 1 if v.is_floating_point() else v for k, v in state.items()}
    path = tmp_path / "ema.pth"
    torch.save({"state_dict": state, "state_dict_ema": average}, path)
    with pytest.raises(InputError, match="choose with ema=True or ema=False"):
        load(path)
    plain, averaged = (load(path, ema=ema) for ema in (False, True))
    assert torch.equal(plain.arrays["fc.bias"], state["fc.bias"])
    assert torch.equal(averaged.arrays["fc.bias"], average["fc.bias"])
    with pytest.raises(InputError, match="there are no averaged weights"):
        load(checkpoint, ema=True)


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    bundle = bundle_of("resnet50")
    half = {
        k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in bundle.arrays.items()
    }
    for name in ("half.safetensors", "half.pth"):
        path = tmp_path / name
        state = half
        safetensors.torch.save_file(state, path) if "safe" in name else torch.save(state, path)
        again = load(path, dtype=None)
        assert again.arrays["fc.weight"].dtype is torch.bfloat16
        single = load(path)
        assert single.arrays["fc.weight"].dtype is torch.float32, "as torch's load_state_dict does"
        assert torch.equal(single.arrays["fc.weight"], half["fc.weight"].float())
        assert load(path, dtype="float16").arrays["fc.weight"].dtype is torch.float16
        with pytest.raises(InputError, match="dtype is 'int8'; it must be one of float32"):
            load(path, dtype="int8")
        done = convert(again, tmp_path / f"hf-{name}", to="transformers")
        assert done.difference == 0


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


def test_commands(checkpoint: Path, tmp_path: Path, capsys) -> None:
    code, out, _ = run(capsys, "identify", checkpoint, "--format", "json")
    found = json.loads(out)
    assert code == 0
    wanted = "container wrapper dialect network parameters num_classes known assumed ambiguous"
    assert {*wanted.split(), "leftover", "missing", "warnings"} <= set(found)
    assert (found["dialect"], found["num_classes"]) == ("torchvision", 7)
    stride = next(fact for fact in found["ambiguous"] if fact["fact"] == "stride_on")
    assert stride["candidates"] == ["3x3", "1x1"]
    assert [text.partition(":")[0] for text in stride["means"]] == ["v1.5", "v1"]
    code, out, _ = run(capsys, "identify", checkpoint)
    assert re.search(r"stride_on +3x3 +or 1x1", out)
    target = tmp_path / "out.safetensors"
    code, _, err = run(capsys, "convert", checkpoint, target, "--strict")
    assert (code, err.count("\n")) == (2, 1)
    assert "e.g. --stride-on 3x3, or accept the documented values" in err
    assert not target.exists()
    code, out, _ = run(capsys, "convert", checkpoint, target)
    assert code == 0
    assert "assumed as torchvision documents, as no tensor shows it: stride_on 3x3" in out
    code, out, _ = run(capsys, "convert", checkpoint, target, "--stride-on", "1x1")
    assert code == 0
    assert "the logits differ by at most 0" in out
    bundle = load_bundle(target)
    assert bundle.network.options.stride_on == "1x1"
    assert bundle.origin["proof"] == {
        "images": 4,
        "difference": 0.0,
        "largest": pytest.approx(bundle.origin["proof"]["largest"]),
    }
    code, out, _ = run(
        capsys, "convert", target, tmp_path / "hf.pth", "--to", "transformers", "--format", "json"
    )
    assert json.loads(out)["proof"]["difference"] == 0
    code, out, _ = run(capsys, "identify", target)
    assert "the bundle's header" in out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--to", "keras2"), "unknown dialect 'keras2'"),
        (
            ("--to", "torchvision"),
            "ends in '.bin'; torchvision requires .safetensors, .pth, .pt, .pkl",
        ),
        ((), "give a name that ends in .safetensors"),
        (("--preprocess", "V9"), "has no preprocessing 'V9'; it has IMAGENET1K_V2, IMAGENET1K_V1"),
        (("--stride-on", "5x5"), "invalid choice"),
    ],
)
def test_bad_conversions(checkpoint: Path, tmp_path: Path, capsys, words, reason: str) -> None:
    target = tmp_path / "out.bin"
    code, _, err = run(capsys, "convert", checkpoint, target, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert reason in err
    assert not target.exists()


def test_identify_loads_no_torch(checkpoint: Path) -> None:
    program = (
        "import sys; from resnetkit.cli.main import main\n"
        f"code = main(['identify', {str(checkpoint)!r}])\n"
        "sys.exit(code or int('torch' in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
