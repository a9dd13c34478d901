"""Named values of a graph, with their origin and memory layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnetkit.checkpoints.onnx_graph.nodes import Tensor
from resnetkit.checkpoints.onnx_graph.operations import Op, Size

#: ``shape`` is no image any more, but sizes of one.
Layout = Literal["NCHW", "NHWC", "NC", "shape"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A named value of the graph: the operation that it comes from, and its layout."""

    op: Op
    layout: Layout


def may_be(one: Size, other: Size) -> bool:
    """Whether two sizes can be equal, as far as they are known."""
    return all(None in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True))


def times(tensor: Tensor, factor: float) -> Tensor:
    """Multiplied in float64 when it is read, and kept in its type."""
    if factor == 1:
        return tensor
    return tensor.map(tensor.shape, lambda array: (array.astype("f8") * factor).astype(array.dtype))


def plain(number: float) -> float:
    """The number of few digits that was stored in 32 bits, e.g. 1e-05."""
    return float(f"{number:.6g}")
