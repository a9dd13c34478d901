"""``.onnx``: the tensors of a graph, and its operations as metadata.

An ONNX file is one protobuf message. It is parsed by protobuf's wire format
(https://protobuf.dev/programming-guides/encoding/) with the field numbers of ``onnx.proto3``,
because onnx' own reader loads the whole file into memory.

The tensors are the initializers, by name, and those in attributes, as ``OUTPUT/ATTRIBUTE`` of their
node. External data is read only from a file in the same folder, with a plain name, that is not a
link.
"""

from __future__ import annotations

import math
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.formats.container import (
    MOST_ARRAYS,
    MOST_DIMENSIONS,
    ArrayInfo,
    Container,
    UnfitError,
    listed,
    shape_of,
    short,
)
from resnetkit.formats.dtypes import SIZES, numpy_dtype
from resnetkit.formats.file_window import TRUNCATED, Window, read_array, read_bytes, shaped
from resnetkit.formats.protobuf import Field, fields, varints

if TYPE_CHECKING:
    import numpy as np

#: The fields of ModelProto.
_MODEL = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
#: numpy's names of ``TensorProto.DataType``.
DTYPES = {
    **{1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64"},
    **{9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64"},
    **{15: "complex128", 16: "bfloat16", 17: "float8_e4m3fn", 18: "float8_e4m3fnuz"},
    **{19: "float8_e5m2", 20: "float8_e5m2fnuz"},
}
#: Fields of TensorProto with values as in memory, by type; 9 holds any type.
_PLAIN = {4: ("float32", "complex64"), 10: ("float64", "complex128")}
#: Fields of TensorProto with single values, and the types that use them.
_COUNTED = {
    7: ("int64",),
    11: ("uint32", "uint64"),
    5: tuple(name for name in DTYPES.values() if SIZES[name] < 4 or name == "int32"),
}


@dataclass(slots=True, kw_only=True)
class _Tensor:
    """A TensorProto: its description, and the one field with its values.

    ``beside`` is the external file that has them instead, at ``offset``.
    """

    name: str = ""
    path: tuple[str, ...] = ()
    dims: list[int] = field(default_factory=list)
    type: int = 0
    data: Field | None = None
    beside: Path | None = None
    offset: int = 0


def claims(head: bytes, path: Path) -> bool:
    """Protobuf has no magic bytes; the outermost fields must be those of a model."""
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
    facts: dict[str, Any] = {"opset": {}, "metadata": {}, "inputs": [], "outputs": [], "nodes": []}
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
            raise UnfitError(f"has more than {MOST_ARRAYS} operations, too many for a network")
        facts["nodes"].append(_node(part, file, tensors))
    elif part.number == 2:
        facts["graph"] = part.text(file)
    elif part.number == 5:
        tensor = _tensor(part, file)
        _add(tensors, tensor, (tensor.name,))
    elif part.number in (11, 12):
        facts["inputs" if part.number == 11 else "outputs"].append(_value(part, file))
    elif part.number == 15:
        raise UnfitError("has sparse initializers, which are not supported; export it without them")


def _add(tensors: dict[str, _Tensor], tensor: _Tensor, path: tuple[str, ...]) -> None:
    name = "/".join(path)
    if name in tensors:
        raise UnfitError(f"has two tensors {short(name)}; get it again")
    tensor.path = path
    tensors[name] = tensor


def _value(part: Field, file: Any) -> dict[str, Any]:
    """An input or output of the graph; its shape is None, or has None for dynamic sizes."""
    value: dict[str, Any] = {"name": "", "shape": None}
    for item in fields(part.window(file)):
        if item.number == 1:
            value["name"] = item.text(file)
        elif item.number == 2:
            for kind in _messages(item, file, 1):
                for shape in _messages(kind, file, 2):
                    sizes = [_size(size, file) for size in _messages(shape, file, 1)]
                    value["shape"] = sizes
    return value


def _messages(part: Field, file: Any, number: int) -> list[Field]:
    """The messages under one field number, at most as many as a shape has."""
    found = [item for item in fields(part.window(file)) if item.number == number and item.wire == 2]
    if len(found) > MOST_DIMENSIONS:
        raise UnfitError("has an input of too many dimensions; get it again")
    return found


def _size(part: Field, file: Any) -> int | None:
    sizes = [item.signed for item in fields(part.window(file)) if item.number == 1]
    return sizes[0] if sizes and sizes[0] > 0 else None


def _node(part: Field, file: Any, tensors: dict[str, _Tensor]) -> dict[str, Any]:
    """An operation, its inputs and outputs, and attributes that are numbers, strings or tensors.

    Operations outside ONNX' own domain are prefixed by theirs. The value of a tensor attribute is
    the tensor's name.
    """
    node: dict[str, Any] = {"op": "", "name": "", "inputs": [], "outputs": [], "attributes": {}}
    held: list[tuple[str, _Tensor]] = []
    domain = ""
    for item in fields(part.window(file)):
        if item.number in (1, 2):
            node["inputs" if item.number == 1 else "outputs"].append(item.text(file))
        elif item.number in (3, 4):
            node["name" if item.number == 3 else "op"] = item.text(file)
        elif item.number == 5:
            name, value = _attribute(item, file)
            if isinstance(value, _Tensor):
                held.append((name, value))
            elif value is not None:
                node["attributes"][name] = value
        elif item.number == 7:
            domain = item.text(file)
    if domain not in ("", "ai.onnx"):
        node["op"] = f"{domain}.{node['op']}"
    for name, tensor in held:
        path = (node["outputs"][0] if node["outputs"] else "", name)
        _add(tensors, tensor, path)
        node["attributes"][name] = "/".join(path)
    return node


def _attribute(part: Field, file: Any) -> tuple[str, Any]:
    value: Any = None
    name, kind = "", 0
    for item in fields(part.window(file)):
        if item.number == 1:
            name = item.text(file)
        elif item.number in (2, 7):
            numbers = _floats(item, file)
            value = numbers[0] if item.number == 2 else [*(value or []), *numbers]
        elif item.number == 3:
            value = item.signed
        elif item.number == 4:
            value = item.text(file)
        elif item.number == 5:
            value = _tensor(item, file)
        elif item.number == 8:
            value = [*(value or []), *item.integers(file)]
        elif item.number == 20:
            kind = item.integer
    # proto3 omits zeros.
    return name, {1: 0.0, 2: 0, 3: "", 7: []}.get(kind) if value is None else value


def _floats(item: Field, file: Any) -> list[float | str]:
    """Single or packed numbers; non-finite ones become strings, as JSON has none."""
    one = item.wire == 5
    data = item.integer.to_bytes(4, "little") if one else item.text_bytes(file)
    if not data or len(data) % 4:
        raise UnfitError(TRUNCATED)
    numbers = struct.unpack(f"<{len(data) // 4}f", data)
    return [number if math.isfinite(number) else str(number) for number in numbers]


def _tensor(part: Field, file: Any) -> _Tensor:
    tensor = _Tensor()
    entries: dict[str, str] = {}
    elsewhere = False
    for item in fields(part.window(file)):
        if item.number == 1:
            tensor.dims += item.integers(file)
            shape_of(tensor.dims, tensor.name)
        elif item.number == 2:
            tensor.type = item.integer
        elif item.number == 8:
            tensor.name = item.text(file)
        elif item.number == 13:
            elsewhere = True
            pair = {part.number: part.text(file) for part in fields(item.window(file))}
            entries[pair.get(1, "")] = pair.get(2, "")
        elif item.number == 14:
            elsewhere = elsewhere or item.integer != 0
        elif item.number in (4, 5, 6, 7, 9, 10, 11):
            if tensor.data is not None or item.wire != 2:
                raise UnfitError(
                    f"has the numbers of {short(tensor.name)} in pieces; save it again"
                )
            tensor.data = item
    if elsewhere:
        _find_beside(tensor, entries, Path(file.name))
    return tensor


def _find_beside(tensor: _Tensor, entries: dict[str, str], path: Path) -> None:
    """The location of external data in the same folder. Its length is checked with the shape."""
    place = entries.get("location", "")
    stated = f"keeps {short(tensor.name)} in another file, {short(place)}, which"
    if place != Path(place).name or place in ("", ".", "..") or set(place) & set("\\\0:"):
        raise UnfitError(
            f"{stated} is rejected: it is not a plain file name in the same folder; save it with "
            "onnx.save(onnx.load(PATH), NEW) to have all in one"
        )
    tensor.beside = path.parent / place
    try:
        there = stat.S_ISREG(tensor.beside.lstat().st_mode)
    except OSError:
        there = False
    if not there or tensor.data is not None:
        raise UnfitError(f"{stated} is not a file beside it; put both into one folder")
    offset = entries.get("offset", "0")
    if not (offset.isascii() and offset.isdigit() and len(offset) < 19):
        raise UnfitError(f"{stated} is not read at {short(offset)}; get it again")
    tensor.offset = int(offset)


def _info(tensor: _Tensor) -> ArrayInfo:
    dtype = DTYPES.get(tensor.type)
    if dtype is None:
        raise UnfitError(f"has {short(tensor.name)} in the unsupported ONNX type {tensor.type}")
    shape = shape_of(tensor.dims, tensor.name)
    info = ArrayInfo(path=tensor.path, shape=shape, dtype=dtype)
    if tensor.beside is not None:
        if tensor.offset + info.nbytes > tensor.beside.stat().st_size:
            raise UnfitError(
                f"keeps {short(tensor.name)} in {short(tensor.beside.name)}, which is too short "
                "for it; get both again"
            )
        return info
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
    if tensor.beside is not None:
        return read_array(tensor.beside, tensor.offset, info.dtype, info.shape)
    if data is None:
        return np.empty(info.shape, kind)
    if data.number not in _COUNTED:
        return read_array(path, data.offset, info.dtype, info.shape)
    packed = read_bytes(path, data.offset, data.length)
    count = int(np.count_nonzero(np.frombuffer(packed, np.uint8) < 128))
    if count != math.prod(info.shape):
        raise UnfitError(f"has {count} numbers for {short(info.name)}; get it again")
    wide = np.fromiter(varints(packed), np.uint64, count)
    # Narrow types and bit patterns (float16, bool) are in the low bytes of each number.
    narrow = wide.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : kind.itemsize]
    return shaped(np.ascontiguousarray(narrow).reshape(-1), kind, info.shape)
