"""The kinds of operations in a ResNet, independent of the exporter."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from resnetkit.checkpoints.onnx_graph.nodes import Tensor
from resnetkit.errors import InputError

#: ``change`` adds or multiplies per channel, ``gate`` multiplies a map by a 1x1 map.
OpKind = Literal[
    "input",
    "conv",
    "linear",
    "norm",
    "change",
    "relu",
    "sigmoid",
    "max",
    "average",
    "mean",
    "add",
    "gate",
    "pad",
    "slice",
    "softmax",
]
#: Height and width; None if they depend on the image.
Size = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slide:
    """A window in a graph. ``pads`` are top, left, bottom and right, ``counted`` in means.

    ``ceil`` is ONNX' rounding up of the size of a pool.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    ceil: bool = False
    counted: bool = False

    def output(self, size: Size) -> Size:
        """The output size for a map of ``size``."""
        rows, columns = (self._positions(axis, size[axis]) for axis in (0, 1))
        return rows, columns

    def _positions(self, axis: int, size: int | None) -> int | None:
        if size is None:
            return None
        extent = self.dilations[axis] * (self.kernel[axis] - 1) + 1
        slack = size + self.pads[axis] + self.pads[axis + 2] - extent
        return (-(-slack // self.strides[axis]) if self.ceil else slack // self.strides[axis]) + 1

    def padded(self, pads: tuple[int, int, int, int]) -> Slide:
        """With further pads outside its own."""
        top, left, bottom, right = (a + b for a, b in zip(self.pads, pads, strict=True))
        return replace(self, pads=(top, left, bottom, right))

    def balanced(self, size: Size) -> Slide:
        """The same with equal pads, if at this size the window positions do not change.

        Below and right a map may be padded by more or less than is used.
        """
        top, left, _, _ = self.pads
        even = replace(self, pads=(top, left, top, left), ceil=False)
        same = None not in size and even.output(size) == self.output(size)
        return even if same else self


@dataclass(slots=True, kw_only=True, eq=False)
class Op:
    """An operation; ``text`` names its node, ``channels`` and ``size`` are its output's.

    ``tensors`` are a convolution's ``weight`` (OIHW) and ``bias``, a linear layer's ``weight``
    (out, in) and ``bias``, a norm's tensors by torch's names without the counter, or a change's
    ``by``; ``does`` is the change's operation. ``behind`` are appended zero channels, ``value`` is
    the padding value. A linear ``size`` is (1, 1).
    """

    kind: OpKind
    text: str
    inputs: tuple[Op, ...] = ()
    channels: int | None = None
    size: Size = (None, None)
    slide: Slide | None = None
    groups: int = 1
    tensors: dict[str, Tensor] = field(default_factory=dict)
    epsilon: float = 0.0
    momentum: float | None = None
    does: str = ""
    value: float = 0.0
    behind: int = 0


def refuse(text: str, why: str) -> InputError:
    """The error for the operation at which a graph stops being a ResNet."""
    return InputError(f"no ResNet is recognised in the graph: {text} {why}")
