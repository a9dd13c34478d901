"""The nodes of an ONNX graph that its output depends on, in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnetkit.architecture.layer import Shape
from resnetkit.checkpoints.onnx_graph import constant_folding
from resnetkit.errors import InputError
from resnetkit.formats.container import Container, short

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

#: The first opset with numpy's broadcasting.
OLDEST_OPSET = 7
#: Maximum number of sizes, axes or pads.
_MOST_NUMBERS = 1 << 16
#: Types of attributes that are the same for all supported operations.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "numbers": tuple("axes dilations ends kernel_shape pads perm starts steps strides".split()),
    "number": tuple(
        "allowzero axis ceil_mode count_include_pad group keepdims spatial to training_mode "
        "transA transB".split()
    ),
    "fraction": ("alpha", "beta", "epsilon", "max", "min", "momentum"),
    "text": ("auto_pad", "mode"),
}
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinear", "Integer")

#: The axes of a channels-last map, in torch's order.
TO_NCHW = [0, 3, 1, 2]
#: More channels than images have.
_FEW = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """An operation in the file."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Kind and name, for messages."""
        return f"{short(self.op)[1:-1]} {short(self.name or ''.join(self.outputs[:1]))}"

    def input(self, index: int) -> str:
        """The name of an input; empty if omitted."""
        return self.inputs[index] if index < len(self.inputs) else ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """Numbers that do not depend on the image; ``read`` computes a fresh copy."""

    shape: Shape
    dtype: str
    read: Callable[[], Array]

    def map(self, shape: Shape, change: Callable[[Array], Array]) -> Tensor:
        """Apply a change on read; ``shape`` is the resulting shape."""
        return Tensor(shape=shape, dtype=self.dtype, read=lambda: change(self.read()))


class Graph:
    """The graph of a container of kind ``onnx``.

    ``nodes`` are the operations between its one input and its one output, in topological order.
    Raises ``InputError`` for an invalid graph.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        facts = container.facts
        _check_opset(facts["opset"])
        self._nodes = [
            Node(
                op=node["op"],
                name=node["name"],
                inputs=tuple(node["inputs"]),
                outputs=tuple(node["outputs"]),
                attributes={
                    name: _checked(node["op"], name, value)
                    for name, value in node["attributes"].items()
                },
            )
            for node in facts["nodes"]
        ]
        for node in self._nodes:
            if any(word in node.op for word in _QUANTISED):
                raise InputError(
                    f"the graph is quantised ({node.text}), so its weights are not those "
                    "of a network; give the unquantised graph"
                )
        self._makers: dict[str, Node] = {}
        for node in self._nodes:
            for output in filter(None, node.outputs):
                if output in self._makers or output in container.arrays:
                    raise InputError(f"the graph produces {short(output)} twice; get it again")
                self._makers[output] = node
        self.input = self._only("inputs", facts["inputs"])
        self.output = self._only("outputs", facts["outputs"])["name"]
        self._forms: dict[str, tuple[Shape, str]] = {}
        self._kept: set[str] = set()
        self._budget = constant_folding.Budget()
        ordered = self._ordered(self.output)
        self._constant: set[str] = set()
        for node in ordered:
            known = (not name or self.is_constant(name) for name in node.inputs)
            if node.op in constant_folding.FUNCTIONS and all(known):
                self._constant.update(filter(None, node.outputs))
        self.nodes = [node for node in ordered if not self._constant & set(node.outputs)]

    def _only(self, what: str, values: list[dict[str, Any]]) -> dict[str, Any]:
        # Until version 3 of the format, initializers are inputs too.
        values = [value for value in values if value["name"] not in self._container.arrays]
        if len(values) != 1:
            some = ", ".join(short(value["name"]) for value in values[:3]) or "none"
            raise InputError(f"the graph has {len(values)} {what} ({some}); a classifier has one")
        return values[0]

    def _ordered(self, wanted: str) -> list[Node]:
        """The operations that ``wanted`` depends on, in topological order."""
        done: list[Node] = []
        state: dict[int, bool] = {}  # False while an operation waits for its inputs
        stack: list[tuple[str, Node | None]] = [(wanted, None)]
        while stack:
            name, finished = stack.pop()
            if finished is not None:
                state[id(finished)] = True
                done.append(finished)
                continue
            if not name or name == self.input["name"] or name in self._container.arrays:
                continue
            node = self._makers.get(name)
            if node is None:
                raise InputError(f"the graph needs {short(name)}, which nothing in it produces")
            if id(node) in state:
                if not state[id(node)]:
                    raise InputError(f"the graph has a cycle through {node.text}")
                continue
            state[id(node)] = False
            stack.append((name, node))
            stack += [(needed, None) for needed in node.inputs]
        return done

    def is_constant(self, name: str) -> bool:
        """Whether it is independent of the image; an omitted name is not."""
        return name in self._container.arrays or name in self._constant

    def tensor(self, name: str) -> Tensor:
        """A constant. Only its shape is computed now, its numbers on read."""
        shape, dtype = self._form(name)
        return Tensor(shape=shape, dtype=dtype, read=lambda: self._value(name))

    def numbers(self, name: str) -> Array:
        """A small constant's numbers: sizes, axes, pads."""
        if not self.is_constant(name):
            raise InputError(
                f"the graph computes {short(name)} from the image; it must be constant"
            )
        tensor = self.tensor(name)
        if constant_folding.count(tensor.shape) > _MOST_NUMBERS:
            raise InputError(f"the graph has {tensor.shape} numbers in {short(name)}; get it again")
        return tensor.read()

    def number(self, name: str) -> float:
        """A scalar constant."""
        numbers = self.numbers(name).reshape(-1)
        if numbers.size != 1:
            raise InputError(f"the graph has {numbers.size} numbers in {short(name)}, expected 1")
        return float(numbers[0])

    def _form(self, name: str) -> tuple[Shape, str]:
        if name in self._container.arrays:
            info = self._container.arrays[name]
            return info.shape, info.dtype
        if name not in self._forms:
            value = self._value(name)
            self._forms[name] = value.shape, value.dtype.name
        return self._forms[name]

    def _value(self, name: str) -> Array:
        """A constant's numbers. Intermediate results are not kept."""
        import numpy as np

        container, budget = self._container, self._budget
        if name in container.arrays:
            return container.read(name)
        values: dict[str, Array] = {}
        held = 0
        text = short(name)

        def stored(wanted: str) -> Array:
            nonlocal held
            held += math.prod(container.arrays[wanted].shape)
            return container.read(wanted)

        budget.start()
        try:
            for node in self._ordered(name):
                text = node.text
                for needed in node.inputs:
                    if needed and needed not in values:
                        values[needed] = stored(needed)
                inputs = [values[needed] if needed else None for needed in node.inputs]
                made = constant_folding.evaluate(node.op, inputs, node.attributes, stored, budget)
                values[node.outputs[0]] = made
            if name not in self._kept:
                budget.keep(values[name].size - held)
            self._kept.add(name)
            budget.spend(values[name].size)
        except constant_folding.OddError as error:
            raise InputError(f"{text} in the graph {error}") from None
        return np.array(values[name], order="C")


def _checked(op: str, name: str, value: Any) -> Any:
    """An attribute of its ONNX type. Raises ``InputError`` for another type."""
    kind = next((kind for kind, names in _KINDS.items() if name in names), None)
    if kind == "fraction":
        if isinstance(value, int | float):
            return float(value)
        if value in ("inf", "-inf", "nan"):  # as the container represents non-finite numbers
            return float(value)
    fits = {
        "numbers": isinstance(value, list) and all(type(number) is int for number in value),
        "number": type(value) is int,
        "fraction": False,
        "text": isinstance(value, str),
        None: True,
    }
    if not fits[kind]:
        raise InputError(f"the graph gives {name} of a {short(op)} as {short(value)}; get it again")
    return value


def _check_opset(opset: Mapping[str, Any]) -> None:
    number = opset.get("", opset.get("ai.onnx"))
    if not isinstance(number, int) or number < OLDEST_OPSET:
        raise InputError(
            f"the graph has opset {number}; {OLDEST_OPSET} or newer is required; convert it with "
            "onnx.version_converter.convert_version(MODEL, 13)"
        )


def is_channels_last(graph: Graph, sizes: list[int | None]) -> bool:
    """Determined by the input layout of the first convolution, or by the sizes."""
    for node in graph.nodes:
        if node.op == "Conv":
            break
        if node.op == "Transpose":
            return bool(node.attributes.get("perm") == TO_NCHW)
    return (sizes[1] or 0) > _FEW >= (sizes[3] or _FEW + 1)
