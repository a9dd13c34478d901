"""Hostile graphs: one line, bounded memory and time; and networks of other kinds."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import torch
import torchvision
from onnx import helper, numpy_helper
from torch import nn

from resnetkit.checkpoints.identification import identify
from resnetkit.errors import InputError

FLOAT = onnx.TensorProto.FLOAT
node = helper.make_node


def graph(
    nodes: list, arrays: dict[str, np.ndarray] | None = None, **parts: list
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(value, name) for name, value in (arrays or {}).items()]
    image = helper.make_tensor_value_info("x", FLOAT, ["n", 3, "h", "w"])
    logits = helper.make_tensor_value_info("y", FLOAT, None)
    made = helper.make_graph(
        nodes, "g", parts.get("inputs", [image]), parts.get("outputs", [logits]), tensors
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])


def refused(model: onnx.ModelProto, tmp_path: Path, reason: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(InputError, match=reason) as caught:
            identify(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert path.name in str(caught.value)
    assert peak < 100 << 20 + 20 * path.stat().st_size
    assert time.process_time() - began < 20


KERNEL = {"w": np.ones((4, 3, 3, 3), "f4")}
SIZES = {"s": np.array([1 << 20, 1 << 20])}


def value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, ["n", 3, 8, 8])


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "empty": (lambda: graph([]), "needs 'y', which nothing in it produces"),
    "nothing given": (lambda: graph([node("Conv", ["x", "w"], ["y"])]), "needs 'w', which nothing"),
    "circle": (
        lambda: graph(
            [
                node("Add", ["x", "b"], ["a"]),
                node("Relu", ["a"], ["b"]),
                node("Relu", ["b"], ["y"]),
            ]
        ),
        "has a cycle through",
    ),
    "own output": (lambda: graph([node("Add", ["x", "y"], ["y"])]), "has a cycle"),
    "twice": (
        lambda: graph([node("Relu", ["x"], ["y"]), node("Relu", ["x"], ["y"])]),
        "produces 'y' twice",
    ),
    "initializer made": (lambda: graph([node("Relu", ["x"], ["w"])], KERNEL), "produces 'w' twice"),
    "two outputs": (
        lambda: graph([node("Relu", ["x"], ["y"])], outputs=[value("y"), value("x")]),
        "has 2 outputs",
    ),
    "two inputs": (
        lambda: graph([node("Add", ["x", "z"], ["y"])], inputs=[value("x"), value("z")]),
        "has 2 inputs",
    ),
    "no input": (lambda: graph([], inputs=[]), "has 0 inputs"),
    "no image": (
        lambda: graph([node("Identity", ["w"], ["y"])], KERNEL),
        "uses 'y', which is not a map of the image",
    ),
    "a million numbers of two": (
        lambda: graph(
            [node("ConstantOfShape", ["s"], ["k"]), node("Conv", ["x", "k"], ["y"])], SIZES
        ),
        "ConstantOfShape 'k' in the graph creates 1099511627776 numbers",
    ),
    "expanded": (
        lambda: graph(
            [node("Expand", ["one", "s"], ["k"]), node("Conv", ["x", "k"], ["y"])],
            {**SIZES, "one": np.ones((1, 1), "f4")},
        ),
        "creates 1099511627776 numbers",
    ),
    "negative": (
        lambda: graph(
            [node("ConstantOfShape", ["s"], ["k"]), node("Conv", ["x", "k"], ["y"])],
            {"s": np.array([-1, 5])},
        ),
        "ConstantOfShape 'k' in the graph",
    ),
    "doubled again and again": (
        lambda: graph(
            [
                *(node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(60)),
                node("Conv", ["x", "c60"], ["y"]),
            ],
            {"c0": np.ones((1024,), "f4")},
        ),
        "in the graph creates",
    ),
    "does not fit": (
        lambda: graph(
            [node("Add", ["w", "v"], ["k"]), node("Conv", ["x", "k"], ["y"])],
            {**KERNEL, "v": np.ones(5, "f4")},
        ),
        "Add 'k' in the graph has inconsistent inputs",
    ),
    "no inputs": (lambda: graph([node("Conv", [], ["y"])]), "uses '', which is not a map"),
    "no outputs": (
        lambda: graph([node("Relu", ["x"], []), node("Relu", ["x"], ["y"])]),
        "the image goes into Relu",
    ),
    "odd kernel": (
        lambda: graph([node("Conv", ["x", "w"], ["y"], strides=[0, 0])], KERNEL),
        "strides or dilations",
    ),
    "no groups": (lambda: graph([node("Conv", ["x", "w"], ["y"], group=0)], KERNEL), "takes 0"),
    "odd pads": (
        lambda: graph([node("Conv", ["x", "w"], ["y"], pads=[-1, 0, 0, 0])], KERNEL),
        r"pads '?\[-1, 0, 0, 0\]",
    ),
    "weights of the image": (
        lambda: graph([node("Conv", ["x", "x"], ["y"])]),
        "has weights that depend on the image",
    ),
    "a name of many lines": (
        lambda: graph([node("Elu", ["x"], ["y"], name="a\nb" * 50)]),
        r"matching stops at Elu 'a\\nba",
    ),
    "another domain": (
        lambda: graph([node("Conv", ["x", "w"], ["y"], domain="com.evil")], KERNEL),
        r"matching stops at com.evil.Conv 'y'",
    ),
    "a branch": (
        lambda: graph([node("If", ["x"], ["y"], then_branch=graph([]).graph)]),
        "matching stops at If",
    ),
    "only a stem": (
        lambda: graph([node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])], KERNEL),
        "after the stem comes nothing, but no block with a shortcut",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_hostile_graphs(name: str, tmp_path: Path) -> None:
    make, reason = MODELS[name]
    refused(make(), tmp_path, reason)


def test_work_is_bounded(tmp_path: Path) -> None:
    """A long chain of sums of constants: neither memory nor time grow with it."""
    count = 3000
    chain = [node("Add", [f"c{i}", f"c{i}"], [f"c{i + 1}"]) for i in range(count)]
    arrays = {"c0": np.ones((1 << 16,), "f4")}
    model = graph([*chain, node("Conv", ["x", f"c{count}"], ["y"])], arrays)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="creates 65536 numbers, more than a network needs"):
        identify(path)


def test_long_chains_are_followed_without_recursion(tmp_path: Path) -> None:
    count = 4_000
    chain = [node("Identity", [f"c{i}"], [f"c{i + 1}"]) for i in range(count)]
    images = [node("Identity", ["x"], ["i0"])]
    images += [node("Identity", [f"i{i}"], [f"i{i + 1}"]) for i in range(count)]
    last = node("Elu", [f"i{count}", f"c{count}"], ["y"])
    refused(graph([*chain, *images, last], {"c0": np.ones(4, "f4")}), tmp_path, "stops at Elu")


def test_too_many_operations(tmp_path: Path) -> None:
    """A million of them, two bytes each."""
    path = tmp_path / "net.onnx"
    body = b"\x0a\x00" * 1_000_000
    size = bytes([len(body) >> shift & 127 | 128 for shift in (0, 7)]) + bytes([len(body) >> 14])
    path.write_bytes(b"\x08\x08\x3a" + size + body)
    with pytest.raises(InputError, match="has more than 100000 operations"):
        identify(path)


class Segmenting(nn.Module):
    """A head that answers for every pixel, at the size of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.net = graphs.network(num_classes=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.net.forward_features(x), (32, 32), mode="bilinear")


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "perceptron": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)),
        "Flatten '/0/Flatten' reshapes a map of 32x32",
    ),
    "plain": (
        lambda: nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU()) for _ in range(4))),
        "is convolution 4 in a row without a shortcut",
    ),
    "mobilenet": (lambda: torchvision.models.mobilenet_v2(width_mult=0.1), r"clips to 0 \.\. 6"),
    "densenet": (
        lambda: torchvision.models.DenseNet(4, (2, 2), 8, num_classes=3),
        "matching stops at Concat '/features/denseblock1",
    ),
    "segmenting": (
        Segmenting,
        "no ResNet is recognised in the graph: matching stops at Resize",
    ),
    "regnet": (
        lambda: torchvision.models.regnet_x_400mf(num_classes=3),
        "the network cannot be described: output_stride is 32",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, reason = OTHERS[name]
    path = graphs.export(make().eval(), tmp_path / "net.onnx", dynamic_axes=None)
    with pytest.raises(InputError, match=reason) as caught:
        identify(path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return onnx.load(graphs.export(graphs.network(), tmp_path_factory.mktemp("graph") / "net.onnx"))


@pytest.mark.parametrize(
    ("op", "name", "value"),
    [
        ("Conv", "pads", 3),
        ("Conv", "strides", [1.5, 2.0]),
        ("Conv", "group", "x"),
        ("Conv", "dilations", 2),
        ("Conv", "auto_pad", [1]),
        ("MaxPool", "kernel_shape", 3),
        ("MaxPool", "ceil_mode", [1]),
        ("BatchNormalization", "epsilon", [1]),
        ("BatchNormalization", "momentum", "x"),
        ("Gemm", "transB", 2.5),
    ],
)
def test_attributes_of_another_kind(
    op: str, name: str, value: object, exported: onnx.ModelProto, tmp_path: Path
) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    changed = next(one for one in model.graph.node if one.op_type == op)
    kept = [attribute for attribute in changed.attribute if attribute.name != name]
    del changed.attribute[:]
    changed.attribute.extend([*kept, helper.make_attribute(name, value)])
    refused(model, tmp_path, f"the graph gives {name} of a '{op}' as ")


@pytest.mark.parametrize(
    ("op", "inputs", "reason"),
    [
        ("Clip", {"none": np.zeros(0, "f4")}, "has 0 numbers in 'none', expected 1"),
        ("Slice", {"two": np.array([0, 0]), "one": np.array([9])}, "different numbers of starts"),
    ],
)
def test_constants_of_another_size(
    op: str, inputs: dict[str, np.ndarray], reason: str, exported: onnx.ModelProto, tmp_path: Path
) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    relu = next(one for one in model.graph.node if one.op_type == "Relu")
    relu.op_type = op
    relu.input.extend(inputs)
    for constant, numbers in inputs.items():
        model.graph.initializer.append(numpy_helper.from_array(numbers, constant))
    refused(model, tmp_path, reason)
