"""Translates ONNX operations to the few kinds in a ResNet.

Layouts are tracked, so a graph may be channels-last; casts, copies and reshapes without effect are
removed, and pads are merged into the windows that follow them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from resnetkit.checkpoints.onnx_graph import padding
from resnetkit.checkpoints.onnx_graph.constant_folding import axes_of
from resnetkit.checkpoints.onnx_graph.nodes import TO_NCHW, Graph, Node, Tensor, is_channels_last
from resnetkit.checkpoints.onnx_graph.operations import Op, OpKind, refuse
from resnetkit.checkpoints.onnx_graph.values import (
    Layout,
    Value,
    may_be,
    plain,
    times,
)
from resnetkit.formats.container import short

_TO_NHWC = [0, 2, 3, 1]
_CHANNEL_AXES = {"NCHW": 1, "NHWC": 3, "NC": 1}
#: TensorProto's codes of float32, float16, float64 and bfloat16.
_FRACTIONS = (1, 10, 11, 16)


class Translation:
    """``Translation(graph).output`` is the operation that produces the output of ``graph``.

    Raises ``InputError`` at the first operation that is not part of a ResNet.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._values: dict[str, Value] = {}
        self._values[graph.input["name"]] = self._start()
        for node in graph.nodes:
            made = self._translated(node)
            if node.outputs:
                self._values[node.outputs[0]] = made
        self.output = self.value(graph.output, "the graph").op

    def value(self, name: str, text: str) -> Value:
        if name not in self._values:
            raise refuse(text, f"uses {short(name)}, which is not a map of the image")
        return self._values[name]

    def _start(self) -> Value:
        sizes = list(self.graph.input["shape"] or [None] * 4)
        if len(sizes) != 4:
            raise refuse("the input", f"has {len(sizes)} dimensions; batches of images have 4")
        layout: Layout = "NHWC" if is_channels_last(self.graph, sizes) else "NCHW"
        if layout == "NHWC":
            sizes = [sizes[axis] for axis in TO_NCHW]
        _, channels, rows, columns = sizes
        op = Op(kind="input", text="the input", channels=channels, size=(rows, columns))
        return Value(op=op, layout=layout)

    def _translated(self, node: Node) -> Value:
        given = [self._values.get(name) for name in node.inputs]
        if node.op == "Shape" or (
            any(value is not None and value.layout == "shape" for value in given)
            and all(
                value is None or value.layout == "shape"
                for value in (given[:1] if node.op == "ConstantOfShape" else given)
            )
        ):
            return Value(op=Op(kind="input", text=node.text), layout="shape")
        function = _FUNCTIONS.get(node.op)
        if function is None:
            raise refuse("matching", f"stops at {node.text}, an unsupported operation")
        return function(self, node)

    def first(self, node: Node) -> Value:
        """The input of an operation with one map."""
        value = self.value(node.input(0), node.text)
        if value.layout == "shape":
            raise refuse(node.text, "uses the sizes of a map instead of the map")
        return value

    def map(self, node: Node) -> Op:
        """The input map of a convolution or pool, which is channels-first."""
        value = self.first(node)
        if value.layout != "NCHW":
            raise refuse(node.text, f"has an input in the layout {value.layout}, not NCHW")
        return value.op

    def _same(self, node: Node) -> Value:
        return self.first(node)

    def _cast(self, node: Node) -> Value:
        """A cast to floating point, which only changes the precision."""
        if node.attributes.get("to") not in _FRACTIONS:
            raise refuse(node.text, "casts a map to integers, which no ResNet does")
        return self.first(node)

    def _after(self, node: Node, kind: OpKind, **parts: Any) -> Value:
        """An operation of ``kind`` that keeps the shape."""
        value = self.first(node)
        op = Op(
            kind=kind,
            text=node.text,
            inputs=(value.op,),
            channels=value.op.channels,
            size=value.op.size,
            **parts,
        )
        return Value(op=op, layout=value.layout)

    def _relu(self, node: Node) -> Value:
        return self._after(node, "relu")

    def _sigmoid(self, node: Node) -> Value:
        return self._after(node, "sigmoid")

    def _softmax(self, node: Node) -> Value:
        return self._after(node, "softmax")

    def _clip(self, node: Node) -> Value:
        """A clip at 0 without an upper bound is a ReLU."""
        bounds = []
        for index, name in enumerate(("min", "max"), start=1):
            bound = node.attributes.get(name, (-1, 1)[index - 1] * math.inf)
            if node.input(index):
                bound = self.graph.number(node.input(index))
            bounds.append(bound)
        if bounds[0] != 0 or bounds[1] < 3e38:
            raise refuse(
                node.text, f"clips to {bounds[0]:g} .. {bounds[1]:g}, which no ResNet does"
            )
        return self._relu(node)

    def _max(self, node: Node) -> Value:
        names = [name for name in node.inputs if not self.graph.is_constant(name)]
        zeros = [name for name in node.inputs if self.graph.is_constant(name)]
        if len(names) != 1 or len(zeros) != 1 or self.graph.numbers(zeros[0]).any():
            raise refuse(node.text, "is not a ReLU: it is the maximum with another value than 0")
        return self._relu(replace(node, inputs=tuple(names)))

    def _dropout(self, node: Node) -> Value:
        if node.input(2) and self.graph.numbers(node.input(2)).any():
            raise refuse(node.text, "is in training mode; export the network after .eval()")
        return self.first(node)

    def _transpose(self, node: Node) -> Value:
        value, turn = self.first(node), node.attributes.get("perm")
        if (value.layout, turn) == ("NHWC", TO_NCHW):
            return Value(op=value.op, layout="NCHW")
        if (value.layout, turn) == ("NCHW", _TO_NHWC):
            return Value(op=value.op, layout="NHWC")
        raise refuse(node.text, f"transposes axes by {turn}; supported are NCHW and NHWC")

    def _conv(self, node: Node) -> Value:
        before, weight = self.map(node), self._weight(node, 1, 4)
        groups = node.attributes.get("group", 1)
        if groups < 1 or before.channels not in (None, weight.shape[1] * groups):
            raise refuse(
                node.text, f"takes {weight.shape[1] * groups} channels and has {before.channels}"
            )
        before, slide = padding.slide(node, before, kernel=weight.shape[2:])
        tensors = {"weight": weight}
        if node.input(2):
            tensors["bias"] = self._vector(node, node.input(2), weight.shape[0])
        op = Op(
            kind="conv",
            text=node.text,
            inputs=(before,),
            channels=weight.shape[0],
            size=slide.output(before.size),
            slide=slide,
            groups=groups,
            tensors=tensors,
        )
        return Value(op=op, layout="NCHW")

    def _weight(self, node: Node, index: int, dimensions: int) -> Tensor:
        name = node.input(index)
        if not self.graph.is_constant(name):
            raise refuse(node.text, "has weights that depend on the image")
        tensor = self.graph.tensor(name)
        if len(tensor.shape) != dimensions or 0 in tensor.shape:
            raise refuse(node.text, f"has weights of the unsupported shape {list(tensor.shape)}")
        return tensor

    def _vector(self, node: Node, name: str, channels: int | None) -> Tensor:
        """A constant with one number per channel, of any shape."""
        tensor = self.graph.tensor(name) if self.graph.is_constant(name) else None
        if tensor is None or channels is None or math.prod(tensor.shape) not in (1, channels):
            raise refuse(node.text, f"does not have one number for each of {channels} channels")
        length = math.prod(tensor.shape)
        return tensor.map((length,), lambda array: array.reshape(-1))

    def _norm(self, node: Node) -> Value:
        before, attributes = self.first(node), node.attributes
        if before.layout == "NHWC":
            raise refuse(node.text, "has a channels-last input")
        if attributes.get("training_mode", 0) or not attributes.get("spatial", 1):
            raise refuse(node.text, "is in training mode, or not spatial; export after .eval()")
        names = ("weight", "bias", "running_mean", "running_var")
        tensors = {
            name: self._vector(node, node.input(index), before.op.channels)
            for index, name in enumerate(names, start=1)
        }
        momentum = attributes.get("momentum", 0.9)
        return self._after(
            node,
            "norm",
            tensors=tensors,
            epsilon=plain(attributes.get("epsilon", 1e-5)),
            momentum=plain(1 - plain(momentum)) if "momentum" in attributes else None,
        )

    def _pool(self, node: Node) -> Value:
        before = self.map(node)
        kind: OpKind = "max" if node.op == "MaxPool" else "average"
        before, slide = padding.slide(node, before, kernel=node.attributes.get("kernel_shape", ()))
        size = slide.output(before.size)
        whole = size == (1, 1) and before.size == slide.kernel and not any(slide.pads)
        if kind == "average" and whole:
            kind = "mean"
        op = Op(
            kind=kind,
            text=node.text,
            inputs=(before,),
            channels=before.channels,
            size=size,
            slide=slide if kind != "mean" else None,
        )
        return Value(op=op, layout="NCHW")

    def _mean(self, node: Node) -> Value:
        """The mean of the whole map, as a 1x1 map or as a vector."""
        value = self.first(node)
        layout: Layout = value.layout
        if node.op == "ReduceMean":
            given = [None, self.graph.numbers(node.input(1)) if node.input(1) else None]
            axes = axes_of(given, node.attributes) or ()
            wanted = {"NCHW": {2, 3}, "NHWC": {1, 2}}.get(layout)
            if {axis % 4 for axis in axes} != wanted:
                raise refuse(node.text, f"is a mean over the axes {list(axes)}, not over the map")
            if not node.attributes.get("keepdims", 1):
                layout = "NC"
        elif layout != "NCHW":
            raise refuse(node.text, "has a channels-last input")
        op = Op(
            kind="mean",
            text=node.text,
            inputs=(value.op,),
            channels=value.op.channels,
            size=(1, 1),
        )
        return Value(op=op, layout=layout)

    def _reshape(self, node: Node) -> Value:
        """Between a 1x1 map and a vector; other reshapes are not part of a ResNet."""
        value = self.first(node)
        if value.layout != "NC" and not may_be(value.op.size, (1, 1)):
            rows, columns = value.op.size
            raise refuse(node.text, f"reshapes a map of {rows}x{columns}, without a pool before")
        return Value(op=value.op, layout=self._reshaped(node, value))

    def _reshaped(self, node: Node, value: Value) -> Layout:
        flat = value.layout == "NC"
        if node.op in ("Flatten", "Squeeze"):
            return "NC"
        if node.op == "Unsqueeze":
            axes = axes_of(
                [None, self.graph.numbers(node.input(1)) if node.input(1) else None],
                node.attributes,
            )
            return "NHWC" if axes is not None and tuple(axes) == (1, 2) else "NCHW"
        if not self.graph.is_constant(node.input(1)):
            return "NCHW" if flat else "NC"
        sizes = self.graph.numbers(node.input(1)).reshape(-1).tolist()
        if len(sizes) == 2:
            return "NC"
        if len(sizes) != 4:
            raise refuse(node.text, f"reshapes to {sizes}")
        return "NCHW" if sizes[2:] == [1, 1] else "NHWC"

    def _gemm(self, node: Node) -> Value:
        value, attributes = self.first(node), node.attributes
        weight = self._weight(node, 1, 2)
        if attributes.get("transA", 0):
            raise refuse(node.text, "transposes the image's values")
        if not attributes.get("transB", 0):
            weight = weight.map(weight.shape[::-1], lambda array: array.T)
        alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
        tensors = {"weight": times(weight, alpha)}
        if node.input(2):
            tensors["bias"] = times(self._vector(node, node.input(2), weight.shape[0]), beta)
        return self._linear(node, value, tensors)

    def _matmul(self, node: Node) -> Value:
        value, weight = self.first(node), self._weight(node, 1, 2)
        turned = weight.map(weight.shape[::-1], lambda array: array.T)
        return self._linear(node, value, {"weight": turned})

    def _linear(self, node: Node, value: Value, tensors: dict[str, Tensor]) -> Value:
        outputs, inputs = tensors["weight"].shape
        if value.layout not in ("NC", "NHWC") or not may_be(value.op.size, (1, 1)):
            raise refuse(node.text, "has a map as input, not a vector of pooled channels")
        if value.op.channels != inputs:
            raise refuse(node.text, f"takes {inputs} inputs and gets {value.op.channels}")
        op = Op(
            kind="linear",
            text=node.text,
            inputs=(value.op,),
            channels=outputs,
            size=(1, 1),
            tensors=tensors,
        )
        return Value(op=op, layout=value.layout)

    def _join(self, node: Node) -> Value:
        """Two maps added or multiplied, or a per-channel change of a map."""
        names = [name for name in node.inputs if not self.graph.is_constant(name)]
        if len(names) == 1 and len(node.inputs) == 2:
            return self._change(node, names[0])
        if len(names) == len(node.inputs) == 1:
            return self.first(node)
        if len(names) != 2 or len(node.inputs) != 2 or node.op not in ("Add", "Sum", "Mul"):
            raise refuse(node.text, f"combines {len(names)} maps, which no ResNet does")
        one, other = (self.value(name, node.text) for name in names)
        if one.layout != other.layout or one.layout == "shape":
            raise refuse(node.text, "combines maps of different layouts")
        if node.op == "Mul" and "sigmoid" in (one.op.kind, other.op.kind):
            kind: OpKind = "gate"
            one, other = (other, one) if one.op.kind == "sigmoid" else (one, other)
            fits = other.op.size == (1, 1)
        else:
            kind = "add"
            fits = node.op != "Mul" and may_be(one.op.size, other.op.size)
        if not fits or one.op.channels != other.op.channels:
            raise refuse(node.text, "combines maps unlike any ResNet")
        op = Op(
            kind=kind,
            text=node.text,
            inputs=(one.op, other.op),
            channels=one.op.channels,
            size=one.op.size,
        )
        return Value(op=op, layout=one.layout)

    def _change(self, node: Node, name: str) -> Value:
        value = self.value(name, node.text)
        second = node.input(0) == name
        if value.layout == "shape" or (node.op in ("Sub", "Div") and not second):
            raise refuse(node.text, "subtracts or divides by the image's values")
        tensor = self.graph.tensor(node.input(1) if second else node.input(0))
        axis = _CHANNEL_AXES[value.layout] - (2 if value.layout == "NC" else 4)
        sizes = [size for at, size in enumerate(tensor.shape) if at - len(tensor.shape) != axis]
        if any(size != 1 for size in sizes):
            raise refuse(node.text, f"changes a map by a tensor of shape {list(tensor.shape)}")
        by = self._vector(node, node.input(1) if second else node.input(0), value.op.channels)
        does = "Add" if node.op == "Sum" else node.op
        return self._after(replace(node, inputs=(name,)), "change", does=does, tensors={"by": by})

    def _pad(self, node: Node) -> Value:
        value = self.first(node)
        op = padding.pad(self.graph, node, value.op, value.layout == "NHWC")
        return Value(op=op, layout=value.layout)

    def _slice(self, node: Node) -> Value:
        value = self.first(node)
        op = padding.subsample(self.graph, node, value.op, _CHANNEL_AXES[value.layout])
        return Value(op=op, layout=value.layout)


_FUNCTIONS: dict[str, Callable[[Translation, Node], Value]] = {
    **dict.fromkeys(("Identity", "Expand"), Translation._same),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sum"), Translation._join),
    **dict.fromkeys(("MaxPool", "AveragePool"), Translation._pool),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), Translation._mean),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), Translation._reshape),
    **dict.fromkeys(("Softmax", "LogSoftmax"), Translation._softmax),
    "BatchNormalization": Translation._norm,
    "Cast": Translation._cast,
    "Clip": Translation._clip,
    "Conv": Translation._conv,
    "Dropout": Translation._dropout,
    "Gemm": Translation._gemm,
    "MatMul": Translation._matmul,
    "Max": Translation._max,
    "Pad": Translation._pad,
    "Relu": Translation._relu,
    "Sigmoid": Translation._sigmoid,
    "Slice": Translation._slice,
    "Transpose": Translation._transpose,
}
