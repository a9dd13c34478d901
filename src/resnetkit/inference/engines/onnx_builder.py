"""Builds ONNX files: nodes and arrays as protobuf, without the onnx package.

The messages and their field numbers are https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
A graph is built whenever an engine starts; importing onnx would take as long as the build itself,
and OpenVINO users would have to install it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resnetkit.formats.onnx import DTYPES

if TYPE_CHECKING:
    import numpy as np

#: Opset 18 is needed for Resize with antialiasing; IR 8 goes with it.
OPSET, IR = 18, 8
#: ``TensorProto.DataType`` by numpy's names.
TYPES = {name: number for number, name in DTYPES.items()}
#: ``AttributeProto.AttributeType``.
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7
#: A protobuf message cannot be longer.
MOST = (1 << 31) - 1

Attribute = int | float | str | Sequence[int]
#: The shape of a value; a string names a dynamic dimension.
Sizes = Sequence[int | str]


@dataclass(slots=True)
class GraphBuilder:
    """Nodes in execution order, and the arrays that they use."""

    name: str
    _nodes: list[bytes] = field(default_factory=list)
    _arrays: dict[str, list[bytes | memoryview]] = field(default_factory=dict)
    _inputs: list[bytes] = field(default_factory=list)
    _outputs: list[bytes] = field(default_factory=list)

    def node(self, kind: str, inputs: Iterable[str], output: str, **attributes: Attribute) -> str:
        """Add a node named after its only output; returns that name."""
        parts = [_text(1, name) for name in inputs]
        parts += [_text(2, output), _text(3, output), _text(4, kind)]
        parts += [_message(5, _attribute(name, value)) for name, value in attributes.items()]
        self._nodes.append(_message(1, b"".join(parts)))
        return output

    def array(self, name: str, values: np.ndarray[Any, Any]) -> str:
        """Add an array; returns its name."""
        import numpy as np

        raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        head = b"".join(_varint_field(1, size) for size in values.shape)
        head += _varint_field(2, TYPES[values.dtype.name]) + _text(8, name)
        head += _key(9, 2) + _varint(raw.nbytes)
        begin = _key(5, 2) + _varint(len(head) + raw.nbytes) + head
        self._arrays[name] = [begin, raw.data]
        return name

    def input(self, name: str, dtype: str, sizes: Sizes) -> str:
        """Declare an input of the graph."""
        self._inputs.append(_message(11, _value(name, dtype, sizes)))
        return name

    def output(self, name: str, dtype: str, sizes: Sizes) -> None:
        """Declare an output of the graph."""
        self._outputs.append(_message(12, _value(name, dtype, sizes)))

    def serialise(self, metadata: Mapping[str, str], producer: str = "resnetkit") -> bytes:
        """The model as bytes. Raises ``OverflowError`` above the protobuf size limit."""
        arrays = [part for parts in self._arrays.values() for part in parts]
        graph = [*self._nodes, _text(2, self.name), *arrays, *self._inputs, *self._outputs]
        length = sum(map(len, graph))
        entries = (_message(14, _text(1, k) + _text(2, v)) for k, v in metadata.items())
        opset = _message(8, _text(1, "") + _varint_field(2, OPSET))
        head = _varint_field(1, IR) + _text(2, producer) + opset + b"".join(entries)
        if length + len(head) > MOST:
            raise OverflowError(f"{length:,} bytes exceed the size limit of an ONNX file")
        return b"".join([head, _key(7, 2), _varint(length), *graph])


def _attribute(name: str, value: Attribute) -> bytes:
    head = _text(1, name)
    if isinstance(value, str):
        return head + _text(4, value) + _varint_field(20, _STRING)
    if isinstance(value, int):
        return head + _varint_field(3, value) + _varint_field(20, _INT)
    if isinstance(value, float):
        return head + _key(2, 5) + struct.pack("<f", value) + _varint_field(20, _FLOAT)
    return head + b"".join(_varint_field(8, n) for n in value) + _varint_field(20, _INTS)


def _value(name: str, dtype: str, sizes: Sizes) -> bytes:
    dims = b"".join(
        _message(1, _text(2, size) if isinstance(size, str) else _varint_field(1, size))
        for size in sizes
    )
    tensor = _varint_field(1, TYPES[dtype]) + _message(2, dims)
    return _text(1, name) + _message(2, _message(1, tensor))


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _varint_field(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value)


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode())


def _message(number: int, content: bytes) -> bytes:
    return _key(number, 2) + _varint(len(content)) + content
