"""The same network spelled by other exporters: every spelling is understood, and answers the same.

Each respelled graph is run by ONNX Runtime, so that a respelling that is wrong is noticed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
import torch
from graphs import Respelling, attributes
from onnx import helper, numpy_helper

from resnetkit.checkpoints.identification import identify
from resnetkit.errors import AssumptionWarning, InputError
from resnetkit.hub.weights import load
from resnetkit.preprocess import Preprocess

Change = Callable[[Respelling], None]
SAME = 1e-5
MAP = (-1, 1, 1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Graphs of opset 13 with all norms; ``images`` is for one size of images only."""
    folder = tmp_path_factory.mktemp("graphs")
    rich, plain = graphs.network(**graphs.RICH), graphs.network()
    made = {
        "rich": graphs.export(rich, folder / "rich.onnx", opset_version=13),
        "plain": graphs.export(plain, folder / "plain.onnx", opset_version=13),
        "fused": graphs.export(plain, folder / "fused.onnx", opset_version=13, fused=True),
    }
    path = folder / "images.onnx"
    made["images"] = graphs.export(plain, path, opset_version=13, dynamic_axes=None)
    return made


def norm_by(*steps: tuple[str, str]) -> Change:
    """Norms as operations channel by channel; the names are those of ``quantities``."""

    def quantities(model: Respelling, node: onnx.NodeProto) -> dict[str, np.ndarray]:
        weight, bias, mean, variance = (model.value(name) for name in node.input[1:])
        deviation = np.sqrt(variance + 1e-5)
        scale = weight / deviation
        found = {"weight": weight, "bias": bias, "mean": mean, "deviation": deviation}
        found |= {"scale": scale, "rest": bias - mean * scale, "shift": bias / scale - mean}
        return {name: array.reshape(MAP) for name, array in found.items()}

    def change(model: Respelling) -> None:
        def one(model: Respelling, node: onnx.NodeProto) -> list:
            by = quantities(model, node)
            chain = [(op, [model.constant(by[name])], {}) for op, name in steps]
            return model.chain(node.input[0], node.output[0], *chain)

        model.replace("BatchNormalization", one)

    return change


def norm_last(model: Respelling) -> None:
    """Norms in between of transposes, with the channels last."""

    def one(model: Respelling, node: onnx.NodeProto) -> list:
        weight, bias, mean, variance = (model.value(name) for name in node.input[1:])
        scale = weight / np.sqrt(variance + 1e-5)
        return model.chain(
            node.input[0],
            node.output[0],
            ("Transpose", [], {"perm": [0, 2, 3, 1]}),
            ("Mul", [model.constant(scale)], {}),
            ("Add", [model.constant((bias - mean * scale).reshape(1, 1, 1, -1))], {}),
            ("Transpose", [], {"perm": [0, 3, 1, 2]}),
        )

    model.replace("BatchNormalization", one)


def norm_of_computed_constants(model: Respelling) -> None:
    """TensorFlow without folding: the scale is worked out in the graph."""

    def one(model: Respelling, node: onnx.NodeProto) -> list:
        weight, bias, mean, variance = (model.constant(model.value(n)) for n in node.input[1:])
        turned = [model.fresh() for _ in range(8)]
        make, axes = helper.make_node, model.constant(np.array([1, 2]))
        return [
            make("Add", [variance, model.constant(np.float32(1e-5))], [turned[0]]),
            make("Sqrt", [turned[0]], [turned[1]]),
            make("Reciprocal", [turned[1]], [turned[2]]),
            make("Mul", [turned[2], weight], [turned[3]]),
            make("Mul", [turned[3], mean], [turned[4]]),
            make("Sub", [bias, turned[4]], [turned[5]]),
            make("Unsqueeze", [turned[3], axes], [turned[6]]),
            make("Unsqueeze", [turned[5], axes], [turned[7]]),
            *model.chain(
                node.input[0], node.output[0], ("Mul", [turned[6]], {}), ("Add", [turned[7]], {})
            ),
        ]

    model.replace("BatchNormalization", one)


def norm_in_two(model: Respelling) -> None:
    """Caffe: a norm without scale, and the scale as a layer of its own."""

    def one(model: Respelling, node: onnx.NodeProto) -> list:
        weight, bias = (model.value(name).reshape(MAP) for name in node.input[1:3])
        inner = model.fresh()
        ones, zeros = (
            model.constant(np.ones(weight.size, "f4")),
            model.constant(np.zeros(weight.size, "f4")),
        )
        norm = helper.make_node(
            "BatchNormalization",
            [node.input[0], ones, zeros, *node.input[3:]],
            [inner],
            epsilon=1e-5,
        )
        scale = ("Mul", [model.constant(weight)], {})
        return [
            norm,
            *model.chain(inner, node.output[0], scale, ("Add", [model.constant(bias)], {})),
        ]

    model.replace("BatchNormalization", one)


def half_fused(model: Respelling) -> None:
    """Every second norm is folded into its convolution."""
    makers = {node.output[0]: node for node in model.graph.node}
    count = 0

    def one(model: Respelling, node: onnx.NodeProto) -> list | None:
        nonlocal count
        count += 1
        if count % 2:
            return None
        conv = makers[node.input[0]]
        weight, bias, mean, variance = (model.value(name) for name in node.input[1:])
        scale = weight / np.sqrt(variance + 1e-5)
        kernel = model.value(conv.input[1]) * scale[:, None, None, None]
        kept = [conv.input[0], model.constant(kernel), model.constant(bias - mean * scale)]
        del conv.input[:]
        conv.input.extend(kept)
        return [helper.make_node("Identity", [node.input[0]], [node.output[0]])]

    model.replace("BatchNormalization", one)


def other_epsilon(model: Respelling) -> None:
    """One norm has another epsilon than all others."""
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    for attribute in norms[1].attribute:
        if attribute.name == "epsilon":
            attribute.f = 0.01


def relu_by(op: str, *inputs: Any, **given: float) -> Change:
    def change(model: Respelling) -> None:
        def one(model: Respelling, node: onnx.NodeProto) -> list:
            others = [model.constant(value) if value is not None else "" for value in inputs]
            return [helper.make_node(op, [node.input[0], *others], node.output, **given)]

        model.replace("Relu", one)

    return change


def added_by(op: str, swapped: bool) -> Change:
    def change(model: Respelling) -> None:
        def one(model: Respelling, node: onnx.NodeProto) -> list:
            inputs = list(node.input)[::-1] if swapped else list(node.input)
            return [helper.make_node(op, inputs, node.output)]

        model.replace("Add", one)

    return change


def pads_apart(value: float) -> Change:
    """Pads as operations of their own, before convolutions and before the pool."""

    def change(model: Respelling) -> None:
        def one(model: Respelling, node: onnx.NodeProto) -> list | None:
            given = attributes(node)
            top, left, bottom, right = given.get("pads", [0] * 4)
            if not top:
                return None
            pool = node.op_type == "MaxPool"
            pads = model.constant(np.array([0, 0, top, left, 0, 0, bottom, right]))
            with_value = [pads, model.constant(np.float32(value))] if pool else [pads]
            padded = model.fresh()
            given["pads"] = [0] * 4
            given.pop("auto_pad", None)
            rest = [padded, *node.input[1:]]
            return [
                helper.make_node("Pad", [node.input[0], *with_value], [padded]),
                helper.make_node(node.op_type, rest, node.output, **given),
            ]

        model.replace("Conv", one)
        model.replace("MaxPool", one)

    return change


def automatic_pads(model: Respelling) -> None:
    """Where the pads are the same at every size."""

    def one(model: Respelling, node: onnx.NodeProto) -> list | None:
        given = attributes(node)
        if given["strides"] != [1, 1]:
            return None
        given.pop("pads")
        kind = "SAME_UPPER" if given["kernel_shape"] == [3, 3] else "VALID"
        return [helper.make_node("Conv", node.input, node.output, auto_pad=kind, **given)]

    model.replace("Conv", one)


def mean_by(*steps: tuple[str, list, dict]) -> Change:
    def change(model: Respelling) -> None:
        def one(model: Respelling, node: onnx.NodeProto) -> list:
            given = [(op, [model.constant(i) for i in others], a) for op, others, a in steps]
            return model.chain(node.input[0], node.output[0], *given)

        model.replace("GlobalAveragePool", one)

    return change


def head_of(*steps: tuple[str, list[str], dict], flat: bool = True) -> Change:
    """Another classifier; ``W`` and ``b`` stand for its weights, ``WT`` for them turned."""

    def change(model: Respelling) -> None:
        gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
        weight, bias = (model.value(name) for name in gemm.input[1:])
        named = {
            **{"W": weight, "WT": weight.T.copy(), "2WT": weight.T * 2, "b/2": bias / 2, "b": bias},
            **{"W4": weight[:, :, None, None], "b1": bias[None], "b4": bias[:, None, None]},
        }

        def one(model: Respelling, node: onnx.NodeProto) -> list:
            given = [(op, [model.constant(named[i]) for i in others], a) for op, others, a in steps]
            return model.chain(start, node.output[0], *given)

        start = gemm.input[0]
        if not flat:
            (flatten,) = (node for node in model.graph.node if node.op_type == "Flatten")
            start = flatten.input[0]
            model.graph.node.remove(flatten)
        model.replace("Gemm", one)

    return change


def flat_by(op: str, *inputs: Any, **given: Any) -> Change:
    def change(model: Respelling) -> None:
        def one(model: Respelling, node: onnx.NodeProto) -> list:
            others = [model.constant(np.array(value)) for value in inputs]
            return [helper.make_node(op, [node.input[0], *others], node.output, **given)]

        model.replace("Flatten", one)

    return change


def reshaped_by_its_own_size(model: Respelling) -> None:
    def one(model: Respelling, node: onnx.NodeProto) -> list:
        shape, first, sizes = (model.fresh() for _ in range(3))
        return [
            helper.make_node("Shape", [node.input[0]], [shape]),
            helper.make_node("Gather", [shape, model.constant(np.array([0]))], [first], axis=0),
            helper.make_node("Concat", [first, model.constant(np.array([-1]))], [sizes], axis=0),
            helper.make_node("Reshape", [node.input[0], sizes], node.output),
        ]

    model.replace("Flatten", one)


def linear_gates(model: Respelling) -> None:
    """Gates of fully connected layers on vectors, and back to maps (Hu et al.'s own shape)."""
    convs = {node.output[0]: node for node in model.graph.node if node.op_type == "Conv"}

    def one(model: Respelling, node: onnx.NodeProto) -> list | None:
        kernel = model.value(node.input[1])
        if len(node.input) < 3:
            return None
        turned = model.constant(kernel[:, :, 0, 0].T.copy())
        return model.chain(
            node.input[0],
            node.output[0],
            ("Reshape", [model.constant(np.array([-1, kernel.shape[1]]))], {}),
            ("MatMul", [turned], {}),
            ("Add", [node.input[2]], {}),
            ("Reshape", [model.constant(np.array([-1, kernel.shape[0], 1, 1]))], {}),
        )

    assert convs
    model.replace("Conv", one)


def nothing_done(model: Respelling) -> None:
    """Copies, casts and dropout, which change nothing."""

    def one(model: Respelling, node: onnx.NodeProto) -> list:
        last = ("Cast", [], {"to": onnx.TensorProto.FLOAT})
        steps = (("Relu", [], {}), ("Identity", [], {}), ("Dropout", [], {}), last)
        return model.chain(node.input[0], node.output[0], *steps)

    model.replace("Relu", one)


def caffe2(model: Respelling) -> None:
    """Initializers among the inputs, a weight made by ConstantOfShape, names that are numbers."""
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    bias = model.value(gemm.input[2])
    made, value = model.fresh(), helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [0.25])
    shape = model.constant(np.array(bias.shape))
    gemm.input[2] = made
    maker = helper.make_node("ConstantOfShape", [shape], [made], value=value)
    model.graph.node.insert(0, maker)
    kernel = gemm.input[1]
    constant = helper.make_node(
        "Constant", [], ["held"], value=numpy_helper.from_array(model.value(kernel))
    )
    gemm.input[1] = "held"
    model.graph.node.insert(0, constant)
    renamed(model)
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )


def renamed(model: Respelling) -> None:
    """Every name is another one, and those of nodes lie."""
    numbers = random.Random(0)
    names: dict[str, str] = {"": ""}

    def new(name: str) -> str:
        return names.setdefault(name, str(1000 + len(names)))

    for node in model.graph.node:
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
        node.name = f"layer{numbers.randrange(9)}.conv{len(node.output[0])}{node.output[0]}"
    for value in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        value.name = new(value.name)
    del model.graph.value_info[:]


def last_channels_first(model: Respelling) -> None:
    """TensorFlow: images with the channels last, kernels HWIO turned in the graph."""
    (image,) = model.graph.input
    image.CopyFrom(helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", "h", "w", 3]))
    turned = helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 3, 1, 2])
    for node in model.graph.node:
        node.input[:] = ["turned" if name == "x" else name for name in node.input]

    def one(model: Respelling, node: onnx.NodeProto) -> list:
        kernel = model.constant(model.value(node.input[1]).transpose(2, 3, 1, 0).copy())
        ours = model.fresh()
        turn = helper.make_node("Transpose", [kernel], [ours], perm=[3, 2, 0, 1])
        conv = [node.input[0], ours, *node.input[2:]]
        return [turn, helper.make_node("Conv", conv, node.output, **attributes(node))]

    model.replace("Conv", one)
    model.graph.node.insert(0, turned)


def tensorflow(model: Respelling) -> None:
    """All of it together, as graphs come from TensorFlow."""
    norm_last(model)
    mean = ("ReduceMean", [], {"axes": [1, 2], "keepdims": 0})
    mean_by(("Transpose", [], {"perm": [0, 2, 3, 1]}), mean)(model)
    flat_by("Identity")(model)
    head_of(("MatMul", ["WT"], {}), ("Add", ["b"], {}))(model)
    pads_apart(-np.inf)(model)
    last_channels_first(model)
    renamed(model)


EVERYWHERE: dict[str, Change] = {
    "norm: scale and add": norm_by(("Mul", "scale"), ("Add", "rest")),
    "norm: add and scale": norm_by(("Add", "shift"), ("Mul", "scale")),
    "norm: one by one": norm_by(
        ("Sub", "mean"), ("Div", "deviation"), ("Mul", "weight"), ("Add", "bias")
    ),
    "norm: channels last": norm_last,
    "norm: computed": norm_of_computed_constants,
    "norm: in two": norm_in_two,
    "norm: half of them fused": half_fused,
    "norm: another epsilon": other_epsilon,
    "relu: clip": relu_by("Clip", np.float32(0)),
    "relu: clip without end": relu_by("Clip", np.float32(0), np.float32(3.4028234e38)),
    "relu: larger than 0": relu_by("Max", np.zeros(1, "f4")),
    "add: sum": added_by("Sum", swapped=False),
    "add: swapped": added_by("Add", swapped=True),
    "pads: apart": pads_apart(0.0),
    "pads: apart, of the least": pads_apart(-np.inf),
    "pads: automatic": automatic_pads,
    "mean: of axes": mean_by(("ReduceMean", [], {"axes": [2, 3], "keepdims": 1})),
    "mean: of last axes": mean_by(("ReduceMean", [], {"axes": [-1, -2], "keepdims": 1})),
    "mean: and back": mean_by(
        ("ReduceMean", [], {"axes": [2, 3], "keepdims": 0}),
        ("Unsqueeze", [np.array([2, 3])], {}),
    ),
    "head: matmul": head_of(("MatMul", ["WT"], {}), ("Add", ["b1"], {})),
    "head: not turned": head_of(("Gemm", ["2WT", "b/2"], {"alpha": 0.5, "beta": 2.0})),
    "head: convolution": head_of(("Conv", ["W4", "b"], {}), ("Flatten", [], {}), flat=False),
    "head: convolution, added": head_of(
        ("Conv", ["W4"], {"kernel_shape": [1, 1]}),
        ("Add", ["b4"], {}),
        ("Squeeze", [], {}),
        flat=False,
    ),
    "flat: reshape": flat_by("Reshape", [0, -1]),
    "flat: squeeze": flat_by("Squeeze", [2, 3]),
    "flat: its own size": reshaped_by_its_own_size,
    "names": renamed,
    "nothing": nothing_done,
    "caffe2": caffe2,
    "channels last": last_channels_first,
    "tensorflow": tensorflow,
}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_spelling(name: str, exported: dict[str, Path], tmp_path: Path) -> None:
    model = Respelling(exported["plain"])
    EVERYWHERE[name](model)
    path = model.save(tmp_path / "net.onnx")
    wanted = identify(exported["plain"]).network.options
    found = identify(path).network.options
    assert {**found.to_dict(), "norm_momentum": 0.1} == wanted.to_dict()
    assert graphs.difference(path) <= SAME


def test_gates_of_linear_layers(exported: dict[str, Path], tmp_path: Path) -> None:
    model = Respelling(exported["rich"])
    linear_gates(model)
    path = model.save(tmp_path / "net.onnx")
    assert identify(path).network == identify(exported["rich"]).network
    assert graphs.difference(path) <= SAME


def test_everything_respelled_at_once(exported: dict[str, Path], tmp_path: Path) -> None:
    model = Respelling(exported["rich"])
    for name in ("norm: one by one", "relu: clip", "add: sum", "pads: apart", "head: not turned"):
        EVERYWHERE[name](model)
    path = model.save(tmp_path / "net.onnx")
    assert identify(path).network == identify(exported["rich"]).network
    assert graphs.difference(path) <= SAME


def test_spelled_norms_keep_their_numbers(exported: dict[str, Path], tmp_path: Path) -> None:
    """A mean taken off stays a mean; what scales and adds is kept bit by bit."""
    model = Respelling(exported["plain"])
    EVERYWHERE["norm: scale and add"](model)
    weight, bias = (model.value(f"new{number}").reshape(-1) for number in (1, 2))
    arrays = load(model.save(tmp_path / "a.onnx")).arrays
    assert np.array_equal(arrays["bn1.weight"], weight)
    assert np.array_equal(arrays["bn1.bias"], bias)
    model = Respelling(exported["plain"])
    EVERYWHERE["norm: one by one"](model)
    found = load(model.save(tmp_path / "b.onnx")).arrays
    original = load(exported["plain"]).arrays
    assert torch.equal(found["layer1.0.bn2.running_mean"], original["layer1.0.bn2.running_mean"])


def normalised(*steps: tuple[str, Any]) -> Change:
    def change(model: Respelling) -> None:
        for node in model.graph.node:
            node.input[:] = ["ready" if name == "x" else name for name in node.input]
        given = [(op, [model.constant(np.asarray(by, "f4"))], {}) for op, by in steps]
        for node in model.chain("x", "ready", *given)[::-1]:
            model.graph.node.insert(0, node)

    return change


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CAFFE = np.array([103.939, 116.779, 123.68])


@pytest.mark.parametrize(
    ("steps", "order", "divisor", "mean", "std"),
    [
        ([("Sub", MEAN.reshape(MAP)), ("Div", STD.reshape(MAP))], "RGB", 255.0, MEAN, STD),
        ([("Sub", CAFFE.reshape(MAP))], "BGR", 1.0, CAFFE, [1.0] * 3),
        (
            [("Div", 255), ("Sub", MEAN.reshape(MAP)), ("Div", STD.reshape(MAP))],
            "RGB",
            1.0,
            MEAN * 255,
            STD * 255,
        ),
        ([("Mul", 2), ("Add", -1)], None, 255.0, [0.5] * 3, [0.5] * 3),
        ([("Sub", 127.5), ("Mul", 1 / 127.5)], None, 1.0, [127.5] * 3, [127.5] * 3),
    ],
)
def test_normalising_in_the_graph_is_known(
    steps: list,
    order: str | None,
    divisor: float,
    mean: Any,
    std: Any,
    exported: dict[str, Path],
    tmp_path: Path,
) -> None:
    """The order of the colours is known where the means are ImageNet's, and asked for elsewhere."""
    model = Respelling(exported["images"])
    normalised(*steps)(model)
    path = model.save(tmp_path / "net.onnx")
    found = identify(path)
    label = "graph"
    if order is None:
        (fact,) = found.reading.ambiguous
        assert (fact.fact, fact.candidates) == ("preprocess", ("graph-rgb", "graph-bgr"))
        assert "preprocess" not in found.to_dict()["known"]
        with pytest.raises(
            InputError, match=r"does not determine preprocess \(graph-rgb or graph-bgr"
        ):
            load(path, strict=True)
        with pytest.warns(AssumptionWarning, match="graph-rgb is a guess that changes the outputs"):
            load(path)
        order, label = "BGR", "graph-bgr"
    else:
        assert found.reading.ambiguous == ()
        assert found.to_dict()["known"]["preprocess"]["value"] == "graph"
    preprocess = load(path, preprocess=label).preprocess
    assert preprocess.channels == order
    assert (preprocess.size, preprocess.resize_to, preprocess.divisor) == (32, 37, divisor)
    assert preprocess.mean == pytest.approx(tuple(mean), rel=1e-5)
    assert preprocess.std == pytest.approx(tuple(std), rel=1e-5)
    scale, offset = (
        torch.tensor(part).float().reshape(MAP) for part in (preprocess.std, preprocess.mean)
    )
    prepared = graphs.difference(path, prepare=lambda x: (x - offset) / scale, preprocess=label)
    assert prepared <= SAME
    told = Preprocess(size=64)
    assert load(path, preprocess=told).preprocess == told


def test_a_softmax_is_left_out_and_told(exported: dict[str, Path], tmp_path: Path) -> None:
    model = Respelling(exported["plain"])
    gemm = model.graph.node[-1]
    (output,) = gemm.output
    gemm.output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], [output], name="prob", axis=-1))
    found = identify(model.save(tmp_path / "net.onnx"))
    assert found.warnings == ("Softmax 'prob' at the end is removed; the output is logits",)


def strided_same(kind: str) -> Change:
    def change(model: Respelling) -> None:
        def one(model: Respelling, node: onnx.NodeProto) -> list | None:
            given = attributes(node)
            if given["strides"] != [2, 2] or given["kernel_shape"] == [1, 1]:
                return None
            given.pop("pads")
            return [
                helper.make_node(
                    node.op_type, node.input, node.output, node.name, auto_pad=kind, **given
                )
            ]

        model.replace("Conv", one)

    return change


def test_pads_that_are_equal_at_this_size(exported: dict[str, Path], tmp_path: Path) -> None:
    """Pads of 3,3,2,2 look at what 3,3,3,3 look at where the size is even."""
    model = Respelling(exported["images"])
    strided_same("SAME_LOWER")(model)
    path = model.save(tmp_path / "net.onnx")
    assert identify(path).network == identify(exported["images"]).network
    assert graphs.difference(path) <= SAME


def first(op: str, **changes: Any) -> Change:
    """Other attributes for the first operation of a kind."""

    def change(model: Respelling) -> None:
        node = next(node for node in model.graph.node if node.op_type == op)
        given = {**attributes(node), **changes}
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())

    return change


def quantised(model: Respelling) -> None:
    def one(model: Respelling, node: onnx.NodeProto) -> list:
        scale, zero = model.constant(np.float32(0.1)), model.constant(np.int8(0))
        steps = (("QuantizeLinear", [scale, zero], {}), ("DequantizeLinear", [scale, zero], {}))
        return model.chain(node.input[0], node.output[0], ("Relu", [], {}), *steps)

    model.replace("Relu", one)


def pre_activated(model: Respelling) -> None:
    """The ReLU after the first addition is left out."""
    makers = {node.output[0]: node.op_type for node in model.graph.node}

    def one(model: Respelling, node: onnx.NodeProto) -> list | None:
        if makers[node.input[0]] != "Add":
            return None
        makers.clear()
        return [helper.make_node("Identity", node.input, node.output)]

    model.replace("Relu", lambda model, node: one(model, node) if makers else None)


def tapped(model: Respelling) -> None:
    """Something is added from inside of another block."""
    adds = [node for node in model.graph.node if node.op_type == "Add"]
    relus = [node for node in model.graph.node if node.op_type == "Relu"]
    adds[1].input[1] = relus[1].output[0]


def hard_gates(model: Respelling) -> None:
    model.replace(
        "Sigmoid", lambda _, n: [helper.make_node("HardSigmoid", n.input, n.output, n.name)]
    )


def gate_scaled(model: Respelling) -> None:
    """Between the gate's ReLU and its second layer, where nothing of the network has a place."""

    def one(model: Respelling, node: onnx.NodeProto) -> list | None:
        if "/se/" not in node.name:
            return None
        inside, after = model.fresh(), model.constant(np.float32(3))
        relu = helper.make_node("Relu", node.input, [inside], node.name)
        return [relu, *model.chain(inside, node.output[0], ("Mul", [after], {}))]

    model.replace("Relu", one)


def image_rounded(model: Respelling) -> None:
    for node in model.graph.node:
        node.input[:] = ["ready" if name == "x" else name for name in node.input]
    steps = (("Cast", [], {"to": 6}), ("Cast", [], {"to": 1}))
    for node in model.chain("x", "ready", *steps)[::-1]:
        model.graph.node.insert(0, node)


def mean_of_padding(model: Respelling) -> None:
    """One position of the window, which misses the last pixels and counts the padding."""
    given = {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1]}
    model.replace(
        "GlobalAveragePool",
        lambda _, n: [helper.make_node("AveragePool", n.input, n.output, n.name, **given)],
    )


def classifier_of_windows(model: Respelling) -> None:
    """A convolution over the whole map in the place of pool and classifier."""
    gemm = model.graph.node[-1]
    weight = model.value(gemm.input[1])
    kernel = np.tile(weight.reshape(*weight.shape, 1, 1), (1, 1, 2, 2)) / 4
    (pool,) = (node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    given = [pool.input[0], model.constant(kernel.astype("f4")), gemm.input[2]]
    del model.graph.node[list(model.graph.node).index(pool) :]
    model.graph.node.append(helper.make_node("Conv", given, gemm.output, "head"))


def padded_by_ones(op: str) -> Change:
    """The first operation of a kind slides over a border of ones, not of what it pads with."""

    def change(model: Respelling) -> None:
        def one(model: Respelling, node: onnx.NodeProto) -> list | None:
            given = attributes(node)
            (top, left, bottom, right), given["pads"] = given["pads"], [0] * 4
            if done or not top:
                return None
            done.append(node)
            border = model.constant(np.array([0, 0, top, left, 0, 0, bottom, right]))
            padded = model.fresh()
            inputs = [node.input[0], border, model.constant(np.float32(1))]
            return [
                helper.make_node("Pad", inputs, [padded], f"pad {node.name}"),
                helper.make_node(op, [padded, *node.input[1:]], node.output, **given),
            ]

        done: list[onnx.NodeProto] = []
        model.replace(op, one)

    return change


def shortcut_with_relu(model: Respelling) -> None:
    def one(model: Respelling, node: onnx.NodeProto) -> list | None:
        if "downsample" not in node.name:
            return None
        (output,), node.output[0] = list(node.output), model.fresh()
        return [node, helper.make_node("Relu", [node.output[0]], [output], "shortcut relu")]

    model.replace("BatchNormalization", one)


REFUSED: dict[str, tuple[str, Change, str]] = {
    "same, any size": ("plain", strided_same("SAME_UPPER"), "SAME_UPPER with stride 2"),
    "same, this size": ("images", strided_same("SAME_UPPER"), "2,2,3,3, .*this network cannot"),
    "pads": ("plain", first("Conv", pads=[2, 2, 3, 3]), "Conv '/conv1/Conv' is 7x7 and pads 2,2"),
    "stride": ("plain", first("Conv", strides=[2, 1]), "strides 2,1"),
    "dilation": ("plain", first("Conv", dilations=[2, 2]), "dilations 2,2"),
    "pool": ("plain", first("MaxPool", kernel_shape=[2, 2]), "is 2x2 and .*a stem's pool is"),
    "ones around the image": ("plain", padded_by_ones("Conv"), "Pad 'pad /conv1/Conv'"),
    "ones around the pool": ("plain", padded_by_ones("MaxPool"), "Pad 'pad /maxpool/MaxPool'"),
    "relu6": ("plain", relu_by("Clip", np.float32(0), np.float32(6)), r"clips to 0 \.\. 6"),
    "leaky": ("plain", relu_by("LeakyRelu"), "matching stops at LeakyRelu"),
    "maximum": ("plain", relu_by("Max", np.ones(1, "f4")), "the maximum with another value than 0"),
    "hard gates": ("rich", hard_gates, "HardSigmoid '/layer1/layer1.0/se/gate"),
    "scaled inside a gate": ("rich", gate_scaled, "Mul .* is in a gate, but not after"),
    "rounded": ("plain", image_rounded, "Cast .* casts a map to integers"),
    "padded mean": ("images", mean_of_padding, "2x2 and pads 1,1,1,1.* a head's pool is"),
    "windows": ("images", classifier_of_windows, "Conv 'head' is a classifier, but not a 1x1"),
    "quantised": ("plain", quantised, "the graph is quantised .QuantizeLinear"),
    "training": ("plain", first("BatchNormalization", training_mode=1), "is in training mode"),
    "no relu": ("plain", pre_activated, "Add .* is followed by .*, but a block ends in a ReLU"),
    "relu in a shortcut": ("plain", shortcut_with_relu, "Relu 'shortcut relu' is in a short"),
    "taps": ("plain", tapped, "Add .* adds something that begins at|combines maps"),
    "shifted": ("plain", flat_by("Softmax"), "softmax|reshapes|not a vector"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_described_is_refused(
    name: str, exported: dict[str, Path], tmp_path: Path
) -> None:
    base, change, reason = REFUSED[name]
    model = Respelling(exported[base])
    change(model)
    path = tmp_path / "net.onnx"
    onnx.save(model.model, path)
    with pytest.raises(InputError, match=reason) as caught:
        identify(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_map_of_classes_is_told(exported: dict[str, Path], tmp_path: Path) -> None:
    model = Respelling(exported["images"])
    gemm = model.graph.node[-1]
    (pool,) = (node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    weight = model.value(gemm.input[1])
    kernel = model.constant(weight.reshape(*weight.shape, 1, 1))
    del model.graph.node[list(model.graph.node).index(pool) :]
    conv = helper.make_node("Conv", [pool.input[0], kernel, gemm.input[2]], gemm.output, "head")
    model.graph.node.append(conv)
    path = tmp_path / "net.onnx"
    onnx.save(model.model, path)
    assert identify(path).warnings == ("the graph ends in a map; the network pools it as well",)
