"""Named values of a graph, with their origin and memory layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnetkit.checkpoints.onnx_graph.nodes import Tensor
from resnetkit.checkpoints.onnx_graph.operations import Op, Size

#: ``shape`` is a map's sizes instead of a map.
Layout = Literal["NCHW", "NHWC", "NC", "shape"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A named value of the graph: its operation and its layout."""

    op: Op
    layout: Layout


def may_be(one: Size, other: Size) -> bool:
    """Whether two sizes, possibly unknown, can be equal."""
    return all(None in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True))


def times(tensor: Tensor, factor: float) -> Tensor:
    """Multiply in float64 on read, and keep the dtype."""
    if factor == 1:
        return tensor
    return tensor.map(tensor.shape, lambda array: (array.astype("f8") * factor).astype(array.dtype))


def plain(number: float) -> float:
    """The short decimal number that was stored in 32 bits, e.g. 1e-05."""
    return float(f"{number:.6g}")
