"""Graphs are recognised by their structure, whoever exported them, and answer the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs
import onnx
import pytest
import timm
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import resnetkit
from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options
from resnetkit.bundle.bundle import Bundle
from resnetkit.checkpoints.identification import identify
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.hub.conversion import convert
from resnetkit.hub.weights import load

#: Relative to the largest logit, where operations are the same, and where norms were folded.
SAME, FUSED = 1e-5, 1e-4
NETWORKS: dict[str, dict[str, Any]] = {
    "bottleneck": {},
    "basic": {"block": "basic"},
    "v1": {"stride_on": "1x1"},
    "rich": graphs.RICH,
    "dilated": {"output_stride": 4, "widths": (8, 16, 24)},
    "dilated from the entry": {"output_stride": 4, "dilation_entry": "own"},
    "dilated basic": {"block": "basic", "output_stride": 8, "dilation_entry": "own"},
    "dilated D": {**graphs.RICH, "output_stride": 4},
    "caffe": {"stem_pool": "caffe", "stem_padding": 2},
    "keras": {"conv_bias": True, "norm_epsilon": 1.001e-5},
    "no pool": {"stem_pool": "none", "norm_momentum": 0.01},
    "cifar": {"block": "basic", "stem": "3x3", "shortcut": "pad", "in_chans": 1},
    "backbone": {"num_classes": None},
}


def described(path: Path) -> Network:
    return identify(path).network


def layers(network: Network) -> list[Any]:
    return list(network.layers())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    module = graphs.network(**NETWORKS[name])
    path = graphs.export(module, tmp_path / "net.onnx")
    assert described(path).options == module.network.options
    assert graphs.difference(path) <= SAME
    bundle = load(path)
    for key, value in module.state_dict().items():
        assert torch.equal(bundle.arrays[key], value), key


@pytest.mark.parametrize("name", ["bottleneck", "rich", "cifar", "keras", "dilated basic"])
def test_fused_norms_become_biases(name: str, tmp_path: Path) -> None:
    module = graphs.network(**NETWORKS[name])
    path = graphs.export(module, tmp_path / "net.onnx", fused=True)
    found = described(path).options
    changed = {**module.network.options.to_dict(), "norm": "none", "conv_bias": True}
    changed["norm_epsilon"] = 1e-5
    assert found.to_dict() == changed
    assert graphs.difference(path) <= SAME
    images = torch.rand(2, found.in_chans, 32, 32)
    with torch.inference_mode():
        expected = module(images)
        answer = load(path).module()(images)
    assert (answer - expected).abs().max() <= FUSED * expected.abs().max()


@pytest.mark.parametrize(
    ("opset", "size"), [(7, 32), (8, 33), (9, 32), (11, 32), (18, 32), (20, 32)]
)
def test_opsets(opset: int, size: int, tmp_path: Path) -> None:
    """Before opset 10 pools cannot round up, and their pads depend on the size of the image."""
    module = graphs.network(**{**graphs.RICH, "stem_pool": "caffe"})
    fixed = {"dynamic_axes": None} if opset < 10 else {}
    if opset < 10 and size % 2:
        module = graphs.network(stem_pool="caffe")
    path = graphs.export(module, tmp_path / "a.onnx", opset_version=opset, size=size, **fixed)
    assert onnx.load(path).opset_import[0].version == opset
    assert described(path).options == module.network.options
    assert graphs.difference(path, size=size) <= SAME


def test_older_opsets_are_named(tmp_path: Path) -> None:
    path = graphs.export(graphs.network(), tmp_path / "a.onnx", opset_version=7)
    model = onnx.load(path)
    model.opset_import[0].version = 6
    onnx.save(model, path)
    with pytest.raises(InputError, match="opset 6; 7 or newer is required"):
        identify(path)


@pytest.mark.slow
def test_the_second_exporter_with_its_weights_beside(tmp_path: Path) -> None:
    module = graphs.network(**graphs.RICH)
    path = graphs.export_dynamo(module, tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx.data").is_file()
    wanted = module.network.override(norm="none", conv_bias=True)
    assert described(path).options == wanted.options
    assert graphs.difference(path) <= SAME
    (tmp_path / "net.onnx.data").rename(tmp_path / "gone")
    with pytest.raises(
        InputError, match=r"in another file, 'net\.onnx\.data', which is not a file"
    ):
        identify(path)
    (tmp_path / "net.onnx.data").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="is not a file beside it"):
        identify(path)
    (tmp_path / "net.onnx.data").unlink()
    (tmp_path / "net.onnx.data").write_bytes((tmp_path / "gone").read_bytes()[:-8])
    with pytest.raises(InputError, match="which is too short for it"):
        identify(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_second_exporter(name: str, tmp_path: Path) -> None:
    if name == "cifar":
        module = graphs.network(**{**NETWORKS[name], "in_chans": 3})
    else:
        module = graphs.network(**NETWORKS[name])
    path = graphs.export_dynamo(module, tmp_path / "net.onnx", external_data=False)
    wanted = module.network.override(norm="none", conv_bias=True, norm_epsilon=1e-5)
    assert described(path).options == wanted.override(norm_momentum=0.1).options
    assert graphs.difference(path) <= SAME


def peers() -> dict[str, Any]:
    small = {"block": torchvision.models.resnet.Bottleneck, "layers": [1, 2, 1, 1]}
    return {
        "torchvision": lambda: torchvision.models.ResNet(**small, num_classes=5),
        "torchvision dilated": lambda: torchvision.models.ResNet(
            **small, num_classes=5, replace_stride_with_dilation=[False, True, True]
        ),
        "torchvision resnext": lambda: torchvision.models.ResNet(
            **small, num_classes=5, groups=32, width_per_group=4
        ),
        "timm resnet10t": lambda: timm.create_model("resnet10t", num_classes=5),
        "timm seresnet": lambda: timm.create_model("seresnet18", num_classes=5),
    }


@pytest.mark.parametrize("name", peers())
@pytest.mark.parametrize("fused", [False, True])
def test_networks_of_others(name: str, fused: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = graphs.settled(peers()[name]())
    path = graphs.export(module, tmp_path / "net.onnx", fused=fused)
    assert graphs.difference(path) <= (FUSED if fused else SAME)
    assert (
        described(path).parameters >= sum(p.numel() for p in module.parameters()) - 100_000 * fused
    )


def test_real_size(tmp_path: Path) -> None:
    """torchvision's ResNet-50 v1.5 is told from v1, which has the same names and shapes."""
    module = graphs.settled(torchvision.models.resnet50(num_classes=10))
    path = graphs.export(module, tmp_path / "net.onnx", size=64)
    found = identify(path)
    assert (found.network.name, found.network.options.stride_on) == ("resnet50", "3x3")
    assert found.to_dict()["known"]["stride_on"] == {"value": "3x3", "from": "the graph"}
    assert [fact.fact for fact in found.reading.ambiguous] == ["preprocess"]
    assert graphs.difference(path, size=64) <= SAME


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 3))
    stem = draw(st.sampled_from(["7x7", "deep", "3x3"]))
    start = draw(st.sampled_from([4, 8]))
    block = draw(st.sampled_from(["basic", "bottleneck"]))
    options: dict[str, Any] = {
        "depths": tuple(draw(st.integers(1, 2)) for _ in range(count)),
        "widths": tuple(8 * 2**n for n in range(count)),
        "block": block,
        "stem": stem,
        "stem_widths": (start, start, 8) if stem == "deep" else (8,),
        "shortcut": draw(st.sampled_from(["projection", "avgpool+projection"])),
        "squeeze_excitation": draw(st.sampled_from([None, 2, 4])),
        "squeeze_multiple": 1,
        "norm_epsilon": draw(st.sampled_from([1e-5, 1e-3, 1.001e-5])),
        "num_classes": draw(st.sampled_from([None, 1, 5])),
        "in_chans": draw(st.sampled_from([1, 3])),
        "dilation_entry": draw(st.sampled_from(["previous", "own"])),
    }
    if stem != "3x3":
        options["stem_pool"] = draw(st.sampled_from(["padded", "caffe", "none"]))
    if block == "bottleneck":
        options["stride_on"] = draw(st.sampled_from(["1x1", "3x3"]))
        options["groups"] = draw(st.sampled_from([1, 2]))
    natural = Options(**options).natural_stride
    halvings = draw(st.integers(0, min(2, count - 1)))
    return {**options, "output_stride": natural // 2**halvings}


@pytest.mark.parametrize(
    "examples", [pytest.param(8, id="some"), pytest.param(150, id="many", marks=pytest.mark.slow)]
)
def test_any_description_comes_back(examples: int, tmp_path: Path) -> None:
    """Layer by layer: several options can describe the same network, e.g. where nothing strides."""

    @settings(max_examples=examples, deadline=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(options=choices())
    def check(options: dict[str, Any]) -> None:
        path = graphs.export(graphs.network(**options), tmp_path / "net.onnx")
        assert layers(described(path)) == layers(resnetkit.network("resnet50", **options))
        assert graphs.difference(path) <= SAME

    check()


def test_facts_of_the_graph_are_not_overruled(tmp_path: Path) -> None:
    path = graphs.export(graphs.network(), tmp_path / "net.onnx")
    with pytest.raises(InputError, match="the graph has stride_on 3x3, and 1x1 is given"):
        load(path, stride_on="1x1")
    assert load(path, stride_on="3x3", norm_momentum=0.2).network.options.num_classes == 7
    assert len(load(path, num_classes=3).classes) == 3
    with pytest.raises(InputError, match="without wrappers"):
        identify(path, prefix="module.")
    with pytest.raises(InputError, match=r"does not determine preprocess \(IMAGENET1K_V2 or "):
        load(path, strict=True)


def test_half_precision_is_kept(tmp_path: Path) -> None:
    module = graphs.network()
    path = graphs.export(module, tmp_path / "net.onnx")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == "float32":
            half = onnx.numpy_helper.from_array(array.astype("float16"), tensor.name)
            tensor.CopyFrom(half)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, path)
    bundle = load(path, dtype=None)
    assert {a.dtype for a in bundle.arrays.values()} == {torch.float16, torch.int64}
    assert torch.equal(bundle.arrays["fc.weight"], module.state_dict()["fc.weight"].half())
    assert graphs.difference(path) <= 2e-2  # ONNX Runtime computes in half precision


@pytest.mark.parametrize("to", ["torchvision", "keras"])
def test_a_fused_graph_is_written_with_norms(
    to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bias goes into a norm that does nothing; Keras' convolutions keep it."""
    options = {"stem_widths": (64,), "depths": (1, 1, 1, 1), "widths": (8, 16, 24, 32)}
    if to == "keras":
        options["stride_on"] = "1x1"
    path = graphs.export(graphs.network(**options), tmp_path / "net.onnx", fused=True)
    bundle = load(path)
    target = tmp_path / "out.pth"
    done = convert(bundle, target, to=to)
    assert done.difference <= SAME * done.largest
    assert done.bundle.origin["norms"] == "of mean 0 and scale 1 added; there were none"
    if to == "torchvision":
        assert "norms" in done.to_dict()["origin"]
        state = torch.load(target, weights_only=True)
        assert torch.equal(state["bn1.bias"], bundle.arrays["conv1.bias"])
        assert torch.equal(state["bn1.weight"], torch.ones(64))
        assert torch.allclose(state["bn1.running_var"], torch.full((64,), 1 - 1e-5))
    assert main(["convert", str(path), str(target), "--to", "onnx"]) == 2
    assert "resnetkit export" in capsys.readouterr().err


def test_a_bundle_of_a_graph(tmp_path: Path) -> None:
    path = graphs.export(graphs.network(**graphs.RICH), tmp_path / "net.onnx")
    bundle = load(path)
    assert (bundle.origin["dialect"], bundle.origin["container"]) == ("onnx", "onnx")
    bundle.save(tmp_path / "net.safetensors")
    assert isinstance(load(tmp_path / "net.safetensors"), Bundle)


def test_the_norms_of_keras_tell_whose_colours_they_are(tmp_path: Path) -> None:
    """Keras' networks take blue first; ``load`` took torchvision's red first for their graphs."""
    path = graphs.export(graphs.network(**NETWORKS["keras"]), tmp_path / "net.onnx")
    assert load(path).preprocess.channels == "BGR"
    other = graphs.export(graphs.network(), tmp_path / "other.onnx")
    assert load(other).preprocess.channels == "RGB"


def test_identify_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = graphs.export(graphs.network(), tmp_path / "net.onnx")
    assert main(["identify", str(path)]) == 0
    printed = capsys.readouterr().out
    for line in ("dialect         onnx", "the graph", "preprocess  IMAGENET1K_V2  or "):
        assert line in printed
