"""The allowed globals of a pickle and their meaning; numpy and torch are never called.

These are the names that numpy and torch use to pickle arrays (``ndarray.__reduce__``,
``torch._utils``), plain containers, and ``argparse.Namespace``, in which timm stores training
arguments. Any other global is inert data (``machine.Inert``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from resnetkit.formats.container import UnfitError, short
from resnetkit.formats.dtypes import SIZES
from resnetkit.formats.unpickler.arrays import (
    Dtype,
    PickledArray,
    Quantised,
    Storage,
    Tensor,
    ints,
    is_number,
)
from resnetkit.formats.unpickler.machine import Built, Inert, Name, Span, key_of

#: torch's classes of storages, from ``torch/storage.py``.
STORAGES = {
    **{"torch.FloatStorage": "float32", "torch.DoubleStorage": "float64"},
    **{"torch.HalfStorage": "float16", "torch.BFloat16Storage": "bfloat16"},
    **{"torch.LongStorage": "int64", "torch.IntStorage": "int32", "torch.ShortStorage": "int16"},
    **{"torch.CharStorage": "int8", "torch.ByteStorage": "uint8", "torch.BoolStorage": "bool"},
    **{"torch.ComplexFloatStorage": "complex64", "torch.ComplexDoubleStorage": "complex128"},
    "torch.storage.UntypedStorage": "uint8",
    **{"torch.QInt8Storage": "int8", "torch.QUInt8Storage": "uint8"},
    "torch.QInt32Storage": "int32",
}


class Namespace(Built):
    """An ``argparse.Namespace``: names and values."""

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}

    def build(self, state: object) -> None:
        if not isinstance(state, dict):
            raise UnfitError("has an argparse.Namespace of an unknown form; get it again")
        self.values = state


def _odd(what: str, args: object) -> UnfitError:
    return UnfitError(f"calls {what} in an unknown way: {short(args)}; get it again")


def _plain_dict(args: tuple[Any, ...]) -> dict[Any, Any]:
    match args:
        case ():
            return {}
        case (dict() as items,):
            return dict(items)
        case (list() as pairs,):
            made: dict[Any, Any] = {}
            for pair in pairs:
                if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                    raise _odd("collections.OrderedDict", pair)
                made[key_of(pair[0])] = pair[1]
            return made
    raise _odd("collections.OrderedDict", args)


def _namespace(args: tuple[Any, ...]) -> Namespace:
    if args:
        raise _odd("argparse.Namespace", args)
    return Namespace()


def _set(args: tuple[Any, ...]) -> set[Any]:
    match args:
        case ():
            return set()
        case (list() | tuple() as items,):
            return set(map(key_of, items))
    raise _odd("set", args)


def _bytes(args: tuple[Any, ...]) -> bytes | str | Span:
    """Bytes in protocol 2: a string whose characters are the bytes. It is not copied."""
    match args:
        case ():
            return b""
        case (bytes() | Span() as data,):
            return data
        case (str() | Span() as text, "latin1" | "latin-1"):
            return text
    raise _odd("_codecs.encode", args)


def _complex(args: tuple[Any, ...]) -> complex:
    match args:
        case (float() as real, float() as imaginary):
            return complex(real, imaginary)
    raise _odd("complex", args)


def _dtype(args: tuple[Any, ...]) -> Dtype | Inert:
    match args:
        case (str() as code, *_) if len(args) <= 3:
            return Dtype(code) if is_number(code) else Inert(f"numpy.dtype {short(code)}")
    raise _odd("numpy.dtype", args)


def _array(args: tuple[Any, ...]) -> PickledArray | Inert:
    match args:
        case (Name(name="numpy.ndarray"), *_):
            return PickledArray()
        case (Name(name=name), *_):  # a subclass
            return Inert(name)
    raise _odd("numpy.core.multiarray._reconstruct", args)


def _array_of_buffer(args: tuple[Any, ...]) -> PickledArray | Inert:
    match args:
        case (_, Inert() as kind, *_):
            return kind
        case (data, Dtype() as dtype, tuple() as shape, "C" | "F" as order):
            array = PickledArray()
            array.build((1, shape, dtype, order == "F", data))
            return array
    raise _odd("numpy.core.numeric._frombuffer", args)


def _scalar(args: tuple[Any, ...]) -> Any:
    match args:
        case (Inert() as kind, *_):
            return kind
        case (Dtype() as dtype, bytes() | str() as data):
            try:
                raw = data.encode("latin-1") if isinstance(data, str) else data
                parts = struct.unpack((">" if dtype.big else "<") + dtype.letter, raw)
            except (UnicodeError, struct.error):
                raise _odd("numpy.core.multiarray.scalar", args) from None
            return parts[0] if len(parts) == 1 else complex(*parts)
    raise _odd("numpy.core.multiarray.scalar", args)


def _tensor(args: tuple[Any, ...]) -> Tensor:
    """``_rebuild_tensor_v2(storage, offset, size, stride, ...)``, and its predecessor."""
    match args:
        case (Storage() as storage, int() as offset, tuple() as shape, tuple() as strides, *_):
            return Tensor(storage, storage.dtype, offset, ints(shape), ints(strides))
    raise _odd("torch._utils._rebuild_tensor_v2", args)


def _tensor_of_dtype(args: tuple[Any, ...]) -> Tensor:
    """``_rebuild_tensor_v3``: the same with an untyped storage, and the dtype as seventh."""
    match args:
        case (Storage() as storage, int() as offset, tuple() as shape, tuple() as strides, *rest):
            if len(rest) >= 3 and isinstance(rest[2], Name) and rest[2].name in _DTYPES:
                dtype = rest[2].name.removeprefix("torch.")
                return Tensor(storage, dtype, offset, ints(shape), ints(strides))
    raise _odd("torch._utils._rebuild_tensor_v3", args)


def _quantised(args: tuple[Any, ...]) -> Quantised | Inert:
    """``_rebuild_qtensor``: integers, with one scale per tensor or per channel."""
    match args:
        case (Storage() as storage, int() as offset, tuple() as shape, tuple() as strides, how, *_):
            whole = Tensor(storage, storage.dtype, offset, ints(shape), ints(strides))
        case _:
            raise _odd("torch._utils._rebuild_qtensor", args)
    match how:
        case (Name(name="torch.per_tensor_affine"), float() as scale, int() as zero, *_):
            return Quantised(whole, scale, zero, 0)
        case (Name(name="torch.per_channel_affine"), Tensor() as scales, Tensor() as zeros,
              int() as axis) if 0 <= axis < len(shape):  # fmt: skip
            return Quantised(whole, scales, zeros, axis)
    return Inert("torch._utils._rebuild_qtensor", args)


def _parameter(args: tuple[Any, ...]) -> Tensor | Inert:
    match args:
        case (Tensor() | Inert() as tensor, *_):
            return tensor
    raise _odd("torch._utils._rebuild_parameter", args)


def _default_dict(_args: tuple[Any, ...]) -> dict[Any, Any]:
    """A defaultdict whose items follow; its factory is ignored."""
    return {}


def _size(args: tuple[Any, ...]) -> tuple[Any, ...]:
    match args:
        case ():
            return ()
        case (list() | tuple() as sizes,):
            return tuple(sizes)
    raise _odd("torch.Size", args)


def _device(args: tuple[Any, ...]) -> str:
    match args:
        case (str() as kind,) if len(kind) < 20:
            return kind
        case (str() as kind, int() as index) if len(kind) < 20:
            return f"{kind}:{index}"
    raise _odd("torch.device", args)


_DTYPES = {f"torch.{name}" for name in SIZES}

#: The meaning of calls by name; None for names that may only be arguments.
ALLOWED: Mapping[str, Callable[[tuple[Any, ...]], Any] | None] = {
    "_codecs.encode": _bytes,
    "argparse.Namespace": _namespace,
    "builtins.bytearray": _bytes,
    "builtins.bytes": _bytes,
    "builtins.complex": _complex,
    "builtins.frozenset": _set,
    "builtins.set": _set,
    "collections.Counter": _plain_dict,
    "collections.OrderedDict": _plain_dict,
    "collections.defaultdict": _default_dict,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _array_of_buffer,
    "numpy.dtype": _dtype,
    "numpy.ndarray": None,
    "torch.Size": _size,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch.device": _device,
    **dict.fromkeys(STORAGES),
    **dict.fromkeys(_DTYPES),
}
