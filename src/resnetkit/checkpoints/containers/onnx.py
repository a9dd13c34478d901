"""``.onnx``: the initializers of a graph, and its operations as facts.

An ONNX file is one protobuf message. It is walked here by protobuf's wire format
(https://protobuf.dev/programming-guides/encoding/) with the field numbers of ``onnx.proto3``,
because onnx' own reader holds the whole file in memory to give one array.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.checkpoints.containers.contents import (
    MOST_ARRAYS,
    ArrayInfo,
    Container,
    UnfitError,
    listed,
    shape_of,
    short,
)
from resnetkit.checkpoints.containers.dtypes import SIZES, numpy_dtype
from resnetkit.checkpoints.containers.protobuf import Field, fields, varints
from resnetkit.checkpoints.containers.window import Window, read_array, read_bytes, shaped

if TYPE_CHECKING:
    import numpy as np

#: The fields of ModelProto.
_MODEL = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
#: TensorProto.DataType.
_DTYPES = {
    **{1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64"},
    **{9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64"},
    **{15: "complex128", 16: "bfloat16", 17: "float8_e4m3fn", 18: "float8_e4m3fnuz"},
    **{19: "float8_e5m2", 20: "float8_e5m2fnuz"},
}
#: Fields of TensorProto that hold numbers as they stand in memory, by type; 9 holds any.
_PLAIN = {4: ("float32", "complex64"), 10: ("float64", "complex128")}
#: Fields of TensorProto that hold numbers one by one, and the types that use them.
_COUNTED = {
    7: ("int64",),
    11: ("uint32", "uint64"),
    5: tuple(name for name in _DTYPES.values() if SIZES[name] < 4 or name == "int32"),
}


@dataclass(slots=True, kw_only=True)
class _Tensor:
    """A TensorProto: its description, and the one field that holds its numbers."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    type: int = 0
    data: Field | None = None


def claims(head: bytes, path: Path) -> bool:
    """A message has no first bytes of its own; its outermost fields have to be a model's."""
    if not head or head[0] & 7 not in (0, 2) or head[0] >> 3 not in _MODEL:
        return False
    found = set()
    try:
        with path.open("rb") as file:
            for item in fields(Window(file)):
                found.add(item.number)
                if item.number not in _MODEL:
                    return False
    except UnfitError:
        # Truncated: the version of the format, then the producer's name or the graph.
        return head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x3a") and head[1] < 32
    return 7 in found


def open_file(path: Path) -> Container:
    tensors: dict[str, _Tensor] = {}
    facts: dict[str, Any] = {"opset": {}, "metadata": {}, "nodes": []}
    with path.open("rb") as file:
        for item in fields(Window(file)):
            if item.number == 7:
                for part in fields(item.window(file)):
                    _graph_part(part, file, facts, tensors)
            else:
                _model_part(item, file, facts)

    def reader(name: str) -> np.ndarray[Any, Any]:
        return _read(path, tensors[name], arrays[name])

    arrays = listed(_info(tensor) for tensor in tensors.values())
    return Container(path=path, kind="onnx", arrays=arrays, facts=facts, reader=reader)


def _model_part(item: Field, file: Any, facts: dict[str, Any]) -> None:
    names = {1: "ir_version", 2: "producer", 3: "producer_version", 5: "model_version"}
    if item.number in (1, 5):
        facts[names[item.number]] = item.integer
    elif item.number in (2, 3):
        facts[names[item.number]] = item.text(file)
    elif item.number in (8, 14):
        pair: dict[int, Any] = {1: "", 2: ""}
        for part in fields(item.window(file)):
            if part.number in pair:
                pair[part.number] = part.value(file)
        facts["opset" if item.number == 8 else "metadata"][str(pair[1])] = pair[2]


def _graph_part(part: Field, file: Any, facts: dict[str, Any], tensors: dict[str, _Tensor]) -> None:
    if part.number == 1:
        if len(facts["nodes"]) >= MOST_ARRAYS:
            raise UnfitError(f"has more than {MOST_ARRAYS} operations, which no network has")
        facts["nodes"].append(_node(part, file))
    elif part.number == 2:
        facts["graph"] = part.text(file)
    elif part.number == 5:
        tensor = _tensor(part, file)
        if tensor.name in tensors:
            raise UnfitError(f"has two initializers {short(tensor.name)}; get it again")
        tensors[tensor.name] = tensor
    elif part.number == 15:
        raise UnfitError("has sparse initializers, which are not read; export it without them")


def _node(part: Field, file: Any) -> dict[str, Any]:
    """An operation, its inputs and outputs, and attributes that are numbers or texts."""
    node: dict[str, Any] = {"op": "", "inputs": [], "outputs": [], "attributes": {}}
    for item in fields(part.window(file)):
        if item.number in (1, 2):
            node["inputs" if item.number == 1 else "outputs"].append(item.text(file))
        elif item.number == 4:
            node["op"] = item.text(file)
        elif item.number == 5:
            name, value = _attribute(item, file)
            if value is not None:
                node["attributes"][name] = value
    return node


def _attribute(part: Field, file: Any) -> tuple[str, Any]:
    name, value = "", None
    for item in fields(part.window(file)):
        if item.number == 1:
            name = item.text(file)
        elif item.number == 2 and item.wire == 5:
            (value,) = struct.unpack("<f", item.integer.to_bytes(4, "little"))
            value = value if math.isfinite(value) else str(value)
        elif item.number == 3:
            value = item.signed
        elif item.number == 4:
            value = item.text(file)
        elif item.number == 8:
            value = [*(value or []), *item.integers(file)]
    return name, value


def _tensor(part: Field, file: Any) -> _Tensor:
    tensor = _Tensor()
    for item in fields(part.window(file)):
        if item.number == 1:
            tensor.dims += item.integers(file)
            shape_of(tensor.dims, tensor.name)
        elif item.number == 2:
            tensor.type = item.integer
        elif item.number == 8:
            tensor.name = item.text(file)
        elif item.number == 13 or (item.number == 14 and item.integer != 0):
            raise UnfitError(
                f"keeps {short(tensor.name)} in another file, which is not read; save it with "
                "onnx.save(onnx.load(PATH), NEW) to have all in one"
            )
        elif item.number in (4, 5, 6, 7, 9, 10, 11):
            if tensor.data is not None or item.wire != 2:
                raise UnfitError(
                    f"has the numbers of {short(tensor.name)} in pieces; save it again"
                )
            tensor.data = item
    return tensor


def _info(tensor: _Tensor) -> ArrayInfo:
    dtype = _DTYPES.get(tensor.type)
    if dtype is None:
        raise UnfitError(
            f"has {short(tensor.name)} in the ONNX type {tensor.type}, which is not read"
        )
    shape = shape_of(tensor.dims, tensor.name)
    info = ArrayInfo(path=(tensor.name,), shape=shape, dtype=dtype)
    have = 0 if tensor.data is None else tensor.data.length
    number = 9 if tensor.data is None else tensor.data.number
    if number == 9 or dtype in _PLAIN.get(number, ()):
        fits = have == info.nbytes
    else:
        fits = dtype in _COUNTED.get(number, ()) and math.prod(shape) <= have
    if not fits:
        raise UnfitError(
            f"has {short(tensor.name)} of shape {short(list(shape))} in {dtype}, which is "
            f"{info.nbytes} bytes, and holds {have} for it; get it again"
        )
    return info


def _read(path: Path, tensor: _Tensor, info: ArrayInfo) -> np.ndarray[Any, Any]:
    import numpy as np

    data = tensor.data
    kind = numpy_dtype(info.dtype)
    if data is None:
        return np.empty(info.shape, kind)
    if data.number not in _COUNTED:
        return read_array(path, data.offset, info.dtype, info.shape)
    packed = read_bytes(path, data.offset, data.length)
    count = int(np.count_nonzero(np.frombuffer(packed, np.uint8) < 128))
    if count != math.prod(info.shape):
        raise UnfitError(f"has {count} numbers for {short(info.name)}; get it again")
    wide = np.fromiter(varints(packed), np.uint64, count)
    # Narrow types and bit patterns (float16, bool) stand in the low bytes of each number.
    narrow = wide.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : kind.itemsize]
    return shaped(np.ascontiguousarray(narrow).reshape(-1), kind, info.shape)
