"""Tensors of the Open Inference Protocol, as JSON and as binary data.

Nothing here allocates more than what was received: a shape is compared with the number of elements
before they are converted.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from resnetkit.errors import InputError, shown

Datatype = Literal["BYTES", "UINT8", "FP32"]
#: What a request holds of a tensor: binary data, or a list of elements, which may be nested.
Content = bytes | memoryview | Sequence[Any]
#: Numbers ``shape``, or the elements of a tensor of BYTES in row-major order.
Elements = npt.NDArray[Any] | list[bytes]
#: Little-endian, as the protocol has them.
_DTYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}
#: The Python types of the elements in a list.
_TYPES: dict[str, frozenset[type]] = {
    "BYTES": frozenset({str, bytes}),
    "UINT8": frozenset({int}),
    "FP32": frozenset({int, float}),
}
#: An element of BYTES follows its length, a little-endian integer of as many bytes.
_PREFIX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """The name, datatype and shape of an input or output; -1 is any number."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """The protocol's metadata of a tensor."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """An output with its elements."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    elements: Elements

    def to_bytes(self) -> bytes:
        """The elements as binary data."""
        if isinstance(self.elements, list):
            return b"".join(
                part for e in self.elements for part in (len(e).to_bytes(_PREFIX, "little"), e)
            )
        return self.elements.astype(_DTYPES[self.datatype], copy=False).tobytes()

    def to_list(self) -> list[Any]:
        """The elements as a flat list; those of BYTES are text."""
        if isinstance(self.elements, list):
            return [element.decode() for element in self.elements]
        return list(self.elements.reshape(-1).tolist())


def numbers(content: Content, datatype: Datatype, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The numbers ``shape`` of an input.

    Raises ``InputError`` for another number of elements, another type and values out of range.
    """
    dtype = _DTYPES[datatype]
    if isinstance(content, bytes | memoryview):
        expected = math.prod(shape) * dtype.itemsize
        if len(content) != expected:
            raise InputError(
                f"{len(content):,} bytes; {datatype} of shape {list(shape)} has {expected:,}"
            )
        return np.frombuffer(content, dtype).reshape(shape)
    flat = _flat(content, datatype, shape)
    if datatype == "UINT8":
        try:
            return np.frombuffer(bytes(flat), dtype).reshape(shape)
        except ValueError:
            raise InputError("an element is not from 0 to 255, the range of UINT8") from None
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype).reshape(shape)
    except OverflowError:
        raise InputError("an element is too large for FP32") from None


def byte_strings(content: Content, shape: tuple[int, ...]) -> list[bytes]:
    """The elements of an input of BYTES; strings are base64.

    Raises ``InputError`` as ``numbers``, and for invalid base64.
    """
    if isinstance(content, bytes | memoryview):
        return _split(content, math.prod(shape))
    return [
        element if isinstance(element, bytes) else _from_base64(number, element)
        for number, element in enumerate(_flat(content, "BYTES", shape))
    ]


def _from_base64(number: int, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise InputError(
            f"element {number} is {shown(text)}; it must be base64, or sent as binary data"
        ) from None


def _split(data: bytes | memoryview, count: int) -> list[bytes]:
    """The elements of BYTES in binary data, each behind its length."""
    found, at = [], 0
    for number in range(count):
        start = at + _PREFIX
        at = start + int.from_bytes(data[at:start], "little")
        if at > len(data) or start > len(data):
            raise InputError(
                f"{len(data):,} bytes end within element {number} of {count}; each element must "
                "follow its length, a little-endian integer of 4 bytes"
            )
        found.append(bytes(data[start:at]))
    if at != len(data):
        raise InputError(f"{len(data):,} bytes; {count} elements end after {at:,}")
    return found


def _flat(content: Sequence[Any], datatype: Datatype, shape: tuple[int, ...]) -> Sequence[Any]:
    """The elements of a list, which is flat or nested as ``shape`` is."""
    expected, values, sizes = math.prod(shape), content, [len(content)]
    while len(values) <= expected and set(map(type, values)) == {list}:
        lengths = set(map(len, values))
        sizes.append(lengths.pop())
        if lengths:
            raise InputError("lists of different lengths; give a flat list")
        values = list(chain.from_iterable(values))
    if len(values) != expected or (len(sizes) > 1 and tuple(sizes) != shape):
        raise InputError(
            f"a list of {' x '.join(map(str, sizes))} elements; shape {list(shape)} has "
            f"{expected:,}, in a flat list or nested as the shape"
        )
    if not (kinds := set(map(type, values))) <= _TYPES[datatype]:
        names = ", ".join(sorted(kind.__name__ for kind in kinds - _TYPES[datatype]))
        raise InputError(f"elements of type {names}; {datatype} does not take them")
    return values
