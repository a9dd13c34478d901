"""Writes a network as an ONNX graph, from the description and numpy arrays, for every engine but
torch, for export and for quantisation.

Pixels ``(N, H, W, C)`` in RGB or grey, 0 to 255 -> float32 rows ``(N, classes)`` or
``(N, features)``.
All sizes but N are known, so rounding up is written as plain padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from resnetkit.architecture.block import INPUT
from resnetkit.architecture.layer import (
    Activation,
    Add,
    Conv,
    Flatten,
    Linear,
    Norm,
    Pool,
    Scale,
    Shape,
    Subsample,
)
from resnetkit.architecture.rare_layer import Blur, ChannelConv
from resnetkit.architecture.shape_inference import Step, walk
from resnetkit.architecture.sliding_window import SlidingWindow
from resnetkit.inference.engines.conv_bn_fusion import Array, Folded, check_output, rounded
from resnetkit.inference.engines.engine import Output, PixelType
from resnetkit.inference.engines.onnx_builder import TYPES, GraphBuilder

Float = Literal["float32", "float16"]
#: The name of the graph's input; its output is named ``logits`` or ``embeddings``.
PIXELS = "pixels"
#: The name of a dynamic batch dimension.
BATCH = "N"


def onnx_model(
    folded: Folded,
    *,
    output: Output = "logits",
    batch: int | None = None,
    float_type: Float = "float32",
    pixels: PixelType = "uint8",
    metadata: Mapping[str, str] | None = None,
    intermediate: Sequence[str] = (),
) -> bytes:
    """The ONNX file of a network; ``batch`` None makes the batch size dynamic.

    ``intermediate`` are paths of layers whose outputs are outputs of the graph too, in float32,
    named by their paths. Those of fused convolutions are those of their norms: see ``folded``.

    Raises ``ValueError`` for logits of a network without a classifier.
    """
    size, channels = folded.size, folded.network.options.in_chans
    number: int | str = BATCH if batch is None else batch
    graph = GraphBuilder(folded.network.name)
    given = graph.input(PIXELS, pixels, (number, size, size, channels))
    maps = as_maps(graph, given)
    values = emit(graph, maps, folded, output=output, number=number, float_type=float_type)
    for path in intermediate:
        graph.output(path, "float32", (number, *values[path]))
    return graph.serialise(metadata or {})


def as_maps(graph: GraphBuilder, pixels: str) -> str:
    """From pixels ``(N, H, W, C)`` to float32 ``(N, C, H, W)``, still from 0 to 255."""
    last = graph.node("Transpose", [pixels], "input.transposed", perm=(0, 3, 1, 2))
    return graph.node("Cast", [last], "input.float", to=TYPES["float32"])


def emit(
    graph: GraphBuilder,
    maps: str,
    folded: Folded,
    *,
    output: Output,
    number: int | str,
    float_type: Float,
) -> Mapping[str, Shape]:
    """Add the network to ``graph``, from the value ``maps``, float32 ``(N, C, size, size)``.

    Returns the shapes of its layers' outputs, by their paths.
    """
    check_output(folded.network, output)
    writer = _Writer(graph, folded.arrays, float_type)
    last, shapes = writer.network(writer.centred(maps, folded.mean), folded, output)
    name = output if float_type == "float32" else f"{output}.half"
    graph.node("Flatten", [last], name, axis=1)
    if name != output:
        graph.node("Cast", [name], output, to=TYPES["float32"])
    graph.output(output, "float32", (number, int(np.prod(shapes[last]))))
    return shapes


class _Writer:
    """Adds the nodes layer by layer. Values have the names of their layers."""

    def __init__(self, graph: GraphBuilder, arrays: Mapping[str, Array], float_type: Float) -> None:
        self._graph, self._arrays, self._float = graph, arrays, float_type
        self._shared: set[str] = set()

    def centred(self, maps: str, mean: Array) -> str:
        """Maps minus the mean, subtracted in float32."""
        each = self._graph.array("input.mean", mean.reshape(1, -1, 1, 1))
        last = self._graph.node("Sub", [maps, each], "input.centred")
        if self._float == "float32":
            return last
        return self._graph.node("Cast", [last], "input.half", to=TYPES[self._float])

    def network(self, value: str, folded: Folded, output: Output) -> tuple[str, dict[str, Shape]]:
        """All layers up to the output: its value, and the shapes of all values."""
        network = folded.network
        channels, size = network.options.in_chans, folded.size
        values, shapes = {INPUT: value}, dict[str, Shape]()
        for step in walk(network, (channels, size, size)).steps:
            inputs = [values[path] for path in step.located.inputs]
            if step.located.stage == "head" and output == "embeddings":
                pooled = self._graph.node("GlobalAveragePool", inputs, "embeddings.pool")
                return pooled, {**shapes, pooled: (network.features, 1, 1)}
            last = values[step.path] = self._layer(step, inputs)
            assert step.output is not None
            shapes[last] = step.output
        return last, shapes

    def _layer(self, step: Step, inputs: list[str]) -> str:
        layer, path, shape, value = step.layer, step.path, step.input, inputs[0]
        assert shape is not None
        match layer:
            case Add():
                return self._graph.node("Add", inputs, path)
            case Scale():
                return self._graph.node("Mul", inputs, path)
            case Conv():
                return self._convolution(layer, path, value, shape)
            case Norm(groups=int(groups)):
                return self._group_norm(layer, groups, path, value, shape)
            case Norm():
                return self._batch_norm(layer, path, value)
            case Activation(function="relu"):
                return self._graph.node("Relu", [value], path)
            case Activation(function="sigmoid"):
                return self._graph.node("Sigmoid", [value], path)
            case Pool():
                return self._pool(layer, path, value, shape)
            case Blur():
                return self._blur(layer, path, value)
            case ChannelConv():
                return self._channel_conv(layer, path, value, shape)
            case Subsample():
                return self._subsample(layer, path, value, shape)
            case Flatten():
                return self._graph.node("Flatten", [value], path, axis=1)
            case Linear():
                weights = [self._tensor(f"{path}.{name}") for name in ("weight", "bias")]
                return self._graph.node("Gemm", [value, *weights], path, transB=1)
        raise TypeError(f"unsupported layer kind for ONNX: {layer.kind}")

    def _tensor(self, name: str) -> str:
        return self._graph.array(name, rounded(self._arrays[name], self._float))

    def _constant(self, name: str, values: object, dtype: str) -> str:
        """An array shared by several nodes."""
        if name not in self._shared:
            self._shared.add(name)
            self._graph.array(name, np.asarray(values, dtype))
        return name

    def _convolution(self, layer: Conv, path: str, value: str, shape: Shape) -> str:
        inputs = [value, self._tensor(f"{path}.weight")]
        if f"{path}.bias" in self._arrays:  # a fused norm has added one
            inputs.append(self._tensor(f"{path}.bias"))
        window = layer.slides
        return self._graph.node(
            "Conv",
            inputs,
            path,
            kernel_shape=(window.kernel,) * 2,
            strides=(window.stride,) * 2,
            dilations=(window.dilation,) * 2,
            pads=_pads(window, shape),
            group=layer.groups,
        )

    def _batch_norm(self, layer: Norm, path: str, value: str) -> str:
        if f"{path}.weight" not in self._arrays:  # it is fused
            return self._graph.node("Identity", [value], path)
        names = ("weight", "bias", "running_mean", "running_var")
        inputs = [value, *(self._tensor(f"{path}.{name}") for name in names)]
        return self._graph.node("BatchNormalization", inputs, path, epsilon=layer.epsilon)

    def _group_norm(self, layer: Norm, groups: int, path: str, value: str, shape: Shape) -> str:
        node = self._graph.node
        ones = self._constant(f"groups{groups}.ones", np.ones(groups), self._float)
        zeros = self._constant(f"groups{groups}.zeros", np.zeros(groups), self._float)
        apart = self._constant(f"groups{groups}.shape", (0, groups, -1), "int64")
        last = node("Reshape", [value, apart], f"{path}.apart")
        last = node("InstanceNormalization", [last, ones, zeros], f"{path}.norm",
                    epsilon=layer.epsilon)  # fmt: skip
        back = self._constant(f"{'x'.join(map(str, shape))}.shape", (-1, *shape), "int64")
        last = node("Reshape", [last, back], f"{path}.back")
        for kind, name in (("Mul", "weight"), ("Add", "bias")):
            each = rounded(self._arrays[f"{path}.{name}"], self._float).reshape(1, -1, 1, 1)
            given = self._graph.array(f"{path}.{name}", each)
            last = node(kind, [last, given], path if kind == "Add" else f"{path}.scaled")
        return last

    def _pool(self, layer: Pool, path: str, value: str, shape: Shape) -> str:
        window = layer.slides
        if window is None:
            return self._graph.node("GlobalAveragePool", [value], path)
        sizes = {"kernel_shape": (window.kernel,) * 2, "strides": (window.stride,) * 2}
        if layer.function == "max":
            pads = _pads(window, shape)
            return self._graph.node("MaxPool", [value], path, pads=pads, **sizes)
        if window.end_padding == 0 or layer.count_padding:
            pads, counted = _pads(window, shape), int(layer.count_padding)
            return self._graph.node(
                "AveragePool", [value], path, pads=pads, count_include_pad=counted, **sizes
            )
        # A partial window averages its pixels; a window made only by rounding up is zero.
        inside = SlidingWindow(
            kernel=window.kernel, stride=window.stride, rounding="ceil", starts_inside=True
        )
        missing = _missing(layer.output(shape), tuple(inside.output(side) for side in shape[1:]))
        name = f"{path}.inside" if missing else path
        pooled = self._graph.node("AveragePool", [value], name, pads=_pads(inside, shape), **sizes)
        return self._padded(pooled, path, 0, missing) if missing else pooled

    def _blur(self, layer: Blur, path: str, value: str) -> str:
        window = layer.slides
        edge = self._constant(
            f"mirror{window.padding}", ([0, 0] + [window.padding] * 2) * 2, "int64"
        )
        mirrored = self._graph.node("Pad", [value, edge], f"{path}.mirrored", mode="reflect")
        taps = np.array([1, 2, 1]) / 4
        weights = np.broadcast_to(np.outer(taps, taps), (layer.channels, 1, 3, 3))
        each = self._constant(f"blur{layer.channels}", weights, self._float)
        return self._graph.node(
            "Conv",
            [mirrored, each],
            path,
            kernel_shape=(3, 3),
            strides=(window.stride,) * 2,
            group=layer.channels,
        )

    def _channel_conv(self, layer: ChannelConv, path: str, value: str, shape: Shape) -> str:
        node, channels = self._graph.node, shape[0]
        along = self._constant(f"along{channels}", (-1, 1, channels, 1), "int64")
        back = self._constant(f"back{channels}", (-1, channels, 1, 1), "int64")
        weight = rounded(self._arrays[f"{path}.weight"], self._float)[..., None]
        half = layer.kernel // 2
        last = node("Reshape", [value, along], f"{path}.along")
        last = node(
            "Conv",
            [last, self._graph.array(f"{path}.weight", weight)],
            f"{path}.conv",
            kernel_shape=(layer.kernel, 1),
            pads=(half, 0, half, 0),
        )
        return node("Reshape", [last, back], path)

    def _subsample(self, layer: Subsample, path: str, value: str, shape: Shape) -> str:
        last = value
        if layer.stride > 1:
            given = [
                self._constant("slice.starts", (0, 0), "int64"),
                self._constant("slice.ends", (2**31 - 1,) * 2, "int64"),
                self._constant("slice.axes", (2, 3), "int64"),
                self._constant(f"slice.steps{layer.stride}", (layer.stride,) * 2, "int64"),
            ]
            last = self._graph.node("Slice", [last, *given], f"{path}.slice")
        kept = tuple(-(-side // layer.stride) for side in shape[1:])
        missing = _missing(layer.output(shape), kept) or (0, 0)
        return self._padded(last, path, layer.outputs - layer.inputs, missing)

    def _padded(self, value: str, path: str, channels: int, ends: tuple[int, int]) -> str:
        """Zero-pad the channels at the end, and rows and columns below and right."""
        pads = (0, 0, 0, 0, 0, channels, *ends)
        name = self._constant(f"zeros{channels}x{ends[0]}x{ends[1]}", pads, "int64")
        return self._graph.node("Pad", [value, name], path)


def _pads(window: SlidingWindow, shape: Shape) -> tuple[int, ...]:
    """ONNX pads, begins and ends of both axes; rounding up is padded at the ends."""
    ends = tuple(window.padding + window.end_padding + window.overhang(side) for side in shape[1:])
    return window.padding, window.padding, *ends


def _missing(wanted: Shape, have: tuple[int, ...]) -> tuple[int, int] | None:
    """Missing rows and columns of a map below and right, or None."""
    below, right = (want - has for want, has in zip(wanted[1:], have, strict=True))
    return (below, right) if below or right else None
