"""``.safetensors``: a JSON header, then the data.

The format and its rules (no overlap, no hole, header at most 100 MB) are from
https://github.com/huggingface/safetensors#format; here a header is limited to 16 MiB. It is read
with the standard library, so that opening a file imports neither numpy nor torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.formats.container import (
    MOST_TEXT,
    ArrayInfo,
    Container,
    UnfitError,
    json_of,
    listed,
    shape_of,
    short,
    size_of,
)
from resnetkit.formats.file_window import TRUNCATED, Window, read_array

if TYPE_CHECKING:
    import numpy as np

#: The format's dtype names, from safetensors' ``Dtype``.
DTYPES = {
    **{"BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16"},
    **{"F16": "float16", "BF16": "bfloat16", "I32": "int32", "U32": "uint32", "F32": "float32"},
    **{"F64": "float64", "I64": "int64", "U64": "uint64", "C64": "complex64"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"},
}


def claims(head: bytes, _path: Path) -> bool:
    return len(head) > 8 and head[5:9] == b"\0\0\0{"


def open_file(path: Path) -> Container:
    with path.open("rb") as file:
        window = Window(file)
        length = window.number(8)
        if length > MOST_TEXT:
            raise UnfitError(f"has a header of {length} bytes; {MOST_TEXT} are allowed")
        header = json_of(window.take(length), "header")
        start, size = window.position, window.left
    if not isinstance(header, dict):
        raise UnfitError("has a header that is not a JSON object; get it again")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(type(v) is not str for v in metadata.values()):
        raise UnfitError("has metadata that does not map strings to strings; get it again")
    places = {name: _place(name, entry) for name, entry in header.items()}
    _check_cover([(begin, end) for _, begin, end in places.values()], size)

    def reader(name: str) -> np.ndarray[Any, Any]:
        info, begin, _ = places[name]
        return read_array(path, start + begin, info.dtype, info.shape)

    return Container(
        path=path,
        kind="safetensors",
        arrays=listed(info for info, _, _ in places.values()),
        facts={"metadata": metadata} if metadata else {},
        reader=reader,
    )


def _place(name: str, entry: object) -> tuple[ArrayInfo, int, int]:
    """An entry of the header: the array with its begin and end."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise UnfitError(f"has a header entry {short(name)} that is not an array; get it again")
    kind = entry["dtype"]
    dtype = DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        raise UnfitError(f"has {short(name)} in {short(kind)}; supported are {', '.join(DTYPES)}")
    shape = shape_of(entry["shape"], name)
    offsets = shape_of(entry["data_offsets"], name)
    if len(offsets) != 2 or offsets[1] - offsets[0] != size_of(dtype, shape):
        raise UnfitError(
            f"gives {short(name)} the bytes {short(list(offsets))}, "
            f"and {kind} {short(list(shape))} has {size_of(dtype, shape)}; get it again"
        )
    return ArrayInfo(path=(name,), shape=shape, dtype=dtype), offsets[0], offsets[1]


def _check_cover(spans: list[tuple[int, int]], size: int) -> None:
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise UnfitError("has arrays that overlap or leave holes; get it again")
        at = end
    if at > size:
        raise UnfitError(TRUNCATED)
    if at < size:
        raise UnfitError(f"has {size - at} bytes after its last array; get it again")
