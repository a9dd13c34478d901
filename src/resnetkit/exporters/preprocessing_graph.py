"""Resize and crop as part of the graph: from one whole image to the network's pixels.

Written as two matrix products, one for the columns and one for the rows, whose matrices hold the
weights of Pillow's antialiasing filters (Pillow's ``src/libImaging/Resample.c``). ONNX has an
operation for it, Resize with ``antialias``, but runtimes disagree on it: OpenVINO 2026.4 silently
skips the antialiasing (up to 76 grey levels of 255), and ONNX Runtime 1.32 differs from Pillow by
up to 7 in float32. Products are the same everywhere. The matrices only have rows for the cropped
square, so the crop is free.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from resnetkit.inference.engines.conv_bn_fusion import Folded
from resnetkit.inference.engines.engine import Output
from resnetkit.inference.engines.onnx_builder import TYPES, GraphBuilder
from resnetkit.inference.engines.onnx_export import PIXELS, Float, as_maps, emit
from resnetkit.preprocess import Preprocess

#: Support of a filter, in output pixels, as in Pillow.
_SUPPORTS = {"bilinear": 1.0, "bicubic": 2.0}
_A = -0.5  # of Pillow's bicubic


def cutting_model(
    folded: Folded,
    preprocess: Preprocess,
    *,
    output: Output,
    float_type: Float = "float32",
    metadata: dict[str, str] | None = None,
) -> bytes:
    """The ONNX file of a network for one image, uint8 ``(1, H, W, C)`` of any size."""
    graph = GraphBuilder(folded.network.name)
    channels = preprocess.channel_count
    pixels = graph.input(PIXELS, "uint8", (1, "H", "W", channels))
    cut = _Cutter(graph, preprocess).cut(as_maps(graph, pixels))
    emit(graph, cut, folded, output=output, number=1, float_type=float_type)
    return graph.serialise(metadata or {})


class _Cutter:
    def __init__(self, graph: GraphBuilder, preprocess: Preprocess) -> None:
        self._graph, self._preprocess = graph, preprocess

    def cut(self, maps: str) -> str:
        """From ``(1, C, H, W)`` to ``(1, C, size, size)``, whole numbers from 0 to 255."""
        node, size = self._graph.node, self._preprocess.size
        sizes = node("Shape", [maps], "cut.sizes")
        height, width = (
            node(
                "Gather", [sizes, self._constant(f"cut.axis{axis}", [axis], "int64")], f"cut.{name}"
            )
            for axis, name in ((2, "height"), (3, "width"))
        )
        shorter = node("Min", [height, width], "cut.shorter")
        last = maps
        # Pillow also rounds between the passes, whose order depends on their cost; without that the
        # bilinear result is within one grey level of either.
        for name, side, axis in (("columns", width, 3), ("rows", height, 2)):
            if self._preprocess.interpolation == "nearest":
                last = node("Gather", [last, self._nearest(name, side, shorter)], name, axis=axis)
                continue
            weights = self._weights(name, side, shorter)
            if axis == 3:
                weights = node("Transpose", [weights], f"{name}.turned", perm=(1, 0))
            given = [last, weights] if axis == 3 else [weights, last]
            last = self._limited(node("MatMul", given, name), name)
        if self._preprocess.interpolation != "nearest":
            # Halves are rounded up, as in Pillow; Round rounds them to even.
            last = node("Add", [last, self._constant("cut.half", 0.5, "float32")], "cut.half.up")
            last = node("Floor", [last], "cut.rounded")
        shape = (1, self._preprocess.channel_count, size, size)
        return node("Reshape", [last, self._constant("cut.shape", shape, "int64")], "cut")

    def _limited(self, value: str, name: str) -> str:
        """Clip the overshoot of bicubic weights; other filters cannot leave 0 to 255."""
        if self._preprocess.interpolation != "bicubic":
            return value
        limits = [("cut.black", 0), ("cut.white", 255)]
        given = [self._constant(each, level, "float32") for each, level in limits]
        return self._graph.node("Clip", [value, *given], f"{name}.limited")

    def _resized(self, name: str, side: str, shorter: str) -> str:
        """The side after resizing: ``side * resize_to // shorter``, as torchvision rounds it."""
        facts = self._preprocess
        if facts.resize == "squash":
            return self._constant("cut.size", [facts.size], "int64")
        wanted = self._constant("cut.resize_to", [facts.resize_to], "int64")
        scaled = self._graph.node("Mul", [side, wanted], f"{name}.scaled")
        return self._graph.node("Div", [scaled, shorter], f"{name}.resized")

    def _first(self, name: str, resized: str) -> str:
        """The index of the crop's first pixel in the resized image."""
        node = self._graph.node
        size = self._constant("cut.size", [self._preprocess.size], "int64")
        margin = node("Sub", [resized, size], f"{name}.margin")
        if self._preprocess.centre == "floor":
            return node("Div", [margin, self._constant("cut.two", [2], "int64")], f"{name}.first")
        # ONNX rounds halves to even, as Python does.
        real = node("Cast", [margin], f"{name}.margin.float", to=TYPES["float32"])
        half = node("Mul", [real, self._constant("cut.half", 0.5, "float32")], f"{name}.half")
        even = node("Round", [half], f"{name}.even")
        return node("Cast", [even], f"{name}.first", to=TYPES["int64"])

    def _positions(self, name: str, side: str, shorter: str) -> tuple[str, str]:
        """The indices of the crop's pixels in the resized image, and the resized side."""
        resized = self._resized(name, side, shorter)
        numbers = self._constant("cut.numbers", range(self._preprocess.size), "int64")
        first = self._first(name, resized)
        return self._graph.node("Add", [numbers, first], f"{name}.numbers"), resized

    def _nearest(self, name: str, side: str, shorter: str) -> str:
        """``(2 * number + 1) * side // (2 * resized)``: the pixel under each centre."""
        node = self._graph.node
        numbers, resized = self._positions(name, side, shorter)
        two, one = (
            self._constant(f"cut.{word}", [n], "int64") for word, n in (("two", 2), ("one", 1))
        )
        doubled = node("Mul", [numbers, two], f"{name}.doubled")
        middle = node("Add", [doubled, one], f"{name}.middle")
        above = node("Mul", [middle, side], f"{name}.above")
        below = node("Mul", [resized, two], f"{name}.below")
        return node("Div", [above, below], f"{name}.nearest")

    def _weights(self, name: str, side: str, shorter: str) -> str:
        """The matrix ``(size, side)`` of the weights of each pixel for each cropped pixel."""
        node = self._graph.node
        numbers, resized = self._positions(name, side, shorter)

        def real(value: str, what: str) -> str:
            return node("Cast", [value], f"{name}.{what}", to=TYPES["float32"])

        half = self._constant("cut.half", 0.5, "float32")
        scale = node("Div", [real(side, "side"), real(resized, "target")], f"{name}.scale")
        one = self._constant("cut.unit", 1, "float32")
        stretch = node("Max", [scale, one], f"{name}.stretch")
        middles = node("Add", [real(numbers, "number"), half], f"{name}.middles")
        centres = node("Mul", [middles, scale], f"{name}.centres")
        column = self._constant("cut.column", (-1, 1), "int64")
        centres = node("Reshape", [centres, column], f"{name}.centred")
        scalar = self._constant("cut.scalar", np.zeros(0), "int64")
        count = node("Reshape", [side, scalar], f"{name}.count")
        steps = [self._constant(f"cut.from{n}", n, "int64") for n in (0, 1)]
        pixels = real(node("Range", [steps[0], count, steps[1]], f"{name}.range"), "pixels")
        pixels = node("Add", [pixels, half], f"{name}.pixel.middles")
        apart = node("Sub", [pixels, centres], f"{name}.apart")
        apart = node("Div", [apart, stretch], f"{name}.reach")
        apart = node("Abs", [apart], f"{name}.distance")
        raw = self._filter(name, apart)
        axis = self._constant("cut.last", [1], "int64")
        total = node("ReduceSum", [raw, axis], f"{name}.total", keepdims=1)
        return node("Div", [raw, total], f"{name}.weights")

    def _filter(self, name: str, x: str) -> str:
        """Pillow's ``bilinear_filter`` or ``bicubic_filter`` of distances from 0."""
        node = self._graph.node
        if self._preprocess.interpolation == "bilinear":
            falling = node("Sub", [self._constant("cut.unit", 1, "float32"), x], f"{name}.falling")
            return node("Relu", [falling], f"{name}.raw")
        near = self._polynomial(f"{name}.near", x, (_A + 2, -(_A + 3), 0, 1))
        far = self._polynomial(f"{name}.far", x, (_A, -5 * _A, 8 * _A, -4 * _A))
        for limit, inside, name_of in ((2, far, "far"), (1, near, "near")):
            edge = self._constant(f"cut.edge{limit}", limit, "float32")
            within = node("Less", [x, edge], f"{name}.{name_of}.within")
            other = self._constant("cut.black", 0, "float32") if limit == 2 else far
            far = node("Where", [within, inside, other], f"{name}.{name_of}.chosen")
        return far

    def _polynomial(self, name: str, x: str, factors: tuple[float, ...]) -> str:
        node = self._graph.node
        last = self._constant(f"{name}.0", factors[0], "float32")
        for number, factor in enumerate(factors[1:], start=1):
            last = node("Mul", [last, x], f"{name}.times{number}")
            each = self._constant(f"{name}.{number}", factor, "float32")
            last = node("Add", [last, each], f"{name}.plus{number}")
        return last

    def _constant(self, name: str, values: Any, dtype: str) -> str:
        return self._graph.array(name, np.array(values, dtype))
