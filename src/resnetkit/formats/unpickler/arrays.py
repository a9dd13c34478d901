"""Arrays of a pickle: the location of their values in the file, and how to read them."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.formats.container import MOST_DIMENSIONS, UnfitError, shape_of, short
from resnetkit.formats.dtypes import SIZES, numpy_dtype
from resnetkit.formats.file_window import TRUNCATED, read_array, read_bytes, shaped
from resnetkit.formats.unpickler.machine import Built, Inert, Span, unescaped

if TYPE_CHECKING:
    import numpy as np

#: numpy's codes of supported dtypes, with their struct formats.
_CODES = {
    **{"b1": ("bool", "?"), "i1": ("int8", "b"), "u1": ("uint8", "B"), "i2": ("int16", "h")},
    **{"u2": ("uint16", "H"), "i4": ("int32", "i"), "u4": ("uint32", "I"), "i8": ("int64", "q")},
    **{"u8": ("uint64", "Q"), "f2": ("float16", "e"), "f4": ("float32", "f")},
    **{"f8": ("float64", "d"), "c8": ("complex64", "ff"), "c16": ("complex128", "dd")},
}
#: The maximum expansion of each encoding.
_LONGEST = {"raw": 1, "utf-8": 2, "escape": 4, "raw-unicode-escape": 6}
_ODD = "has a numpy array of an unknown form; get it again"


def is_number(code: str) -> bool:
    """Whether a numpy dtype code is numeric, not text, dates or records."""
    return code.lstrip("<>|=") in _CODES


class Dtype(Built):
    """A ``numpy.dtype`` of numbers."""

    def __init__(self, code: str) -> None:
        self.big = code[:1] == ">"
        self.name, self.letter = _CODES[code.lstrip("<>|=")]

    def build(self, state: object) -> None:
        match state:
            case (int(), "<" | "|" | "=" | ">" as order, None, None, None, *_):
                self.big = order == ">"
            case _:
                raise UnfitError(f"has a numpy type of an unknown form: {short(state)}")


class PickledArray(Built):
    """A ``numpy.ndarray`` of a pickle; its values are bytes, or a string of as many characters.

    Arrays of strings or objects have no ``dtype``, and cannot be read.
    """

    def __init__(self) -> None:
        self.dtype = ""
        self.shape: tuple[int, ...] = ()
        self.big = self.fortran = False
        self.data: bytes | str | Span = b""

    def build(self, state: object) -> None:
        match state:
            case (int(), tuple() as shape, Dtype() as dtype, int() as fortran, data):
                pass
            case (tuple() as shape, Dtype() as dtype, int() as fortran, data):
                pass  # version 0, of Python 2's numarray days
            case (int(), tuple(), Inert(), *_):
                return
            case _:
                raise UnfitError(_ODD)
        self.dtype, self.big, self.fortran = dtype.name, dtype.big, bool(fortran)
        self.shape = ints(shape)
        shape_of(self.shape, "an array")
        if not isinstance(data, (bytes, str, Span)):
            raise UnfitError(_ODD)
        self.data = data
        self._check(math.prod(self.shape) * SIZES[self.dtype])

    def _check(self, wanted: int) -> None:
        """Check the size against the data before allocating memory."""
        data = self.data
        coding = data.coding if isinstance(data, Span) else "raw"
        have = data.length if isinstance(data, Span) else len(data)
        least = have // _LONGEST[coding]
        if not least <= wanted <= have:
            raise UnfitError(
                f"has an array of shape {short(self.shape)} in {self.dtype}, which is {wanted} "
                f"bytes, and holds {have} for it; get it again"
            )

    def load(self, path: Path) -> np.ndarray[Any, Any]:
        import numpy as np

        shape = self.shape[::-1] if self.fortran else self.shape
        if isinstance(self.data, Span) and self.data.coding == "raw":
            array = read_array(path, self.data.offset, self.dtype, shape, big=self.big)
        else:
            raw = np.frombuffer(bytearray(self._bytes(path)), np.uint8)
            if raw.size != math.prod(shape) * SIZES[self.dtype]:
                raise UnfitError(_ODD)
            array = shaped(raw, numpy_dtype(self.dtype), shape, big=self.big)
        return np.ascontiguousarray(array.T).reshape(self.shape) if self.fortran else array

    def _bytes(self, path: Path) -> bytes:
        data = self.data
        if isinstance(data, bytes):
            return data
        try:
            if isinstance(data, str):
                return data.encode("latin-1")
            raw = read_bytes(path, data.offset, data.length)
            return (
                unescaped(raw)
                if data.coding == "escape"
                else raw.decode(data.coding).encode("latin-1")
            )
        except UnicodeError:
            raise UnfitError(_ODD) from None


@dataclass(slots=True, kw_only=True, eq=False)
class Storage:
    """A storage in a torch file; ``offset`` is set once known."""

    key: str
    dtype: str
    count: int
    offset: int | None = None
    #: The checksum of its bytes, 0 if there is none.
    crc: int = 0

    @property
    def nbytes(self) -> int:
        return self.count * SIZES[self.dtype]


class Tensor:
    """A view of a storage by offset, shape and strides, counted in elements."""

    def __init__(
        self,
        storage: Storage,
        dtype: str,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> None:
        shape_of(shape, "a tensor")
        shape_of(strides, "the strides of a tensor")
        count = math.prod(shape)
        reach = 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=False))
        self.extent = reach if count else 0
        whole = storage.nbytes // SIZES[dtype]
        if len(shape) != len(strides) or not 0 <= offset <= whole - self.extent or count > whole:
            raise UnfitError(
                f"has a tensor of shape {short(shape)} that reaches beyond its storage of "
                f"{whole} numbers; get it again"
            )
        self.storage, self.dtype, self.offset = storage, dtype, offset
        self.shape, self.strides = shape, strides

    @property
    def is_plain(self) -> bool:
        """Whether the view is C-contiguous."""
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step:
                return False
            step *= size
        return True

    @property
    def is_whole(self) -> bool:
        """Whether the view covers its whole storage."""
        return self.offset == 0 and self.extent * SIZES[self.dtype] == self.storage.nbytes

    def load(self, path: Path) -> np.ndarray[Any, Any]:
        import numpy as np

        if self.storage.offset is None:
            raise UnfitError(TRUNCATED)
        start = self.storage.offset + self.offset * SIZES[self.dtype]
        plain = self.is_plain or self.extent == 0
        array = read_array(path, start, self.dtype, self.shape if plain else (self.extent,))
        if self.is_whole and self.storage.crc not in (
            0,
            zlib.crc32(array.reshape(-1).view("u1").data),
        ):
            raise UnfitError("is damaged: the checksum of a tensor differs; get it again")
        if plain:
            return array
        steps = tuple(step * SIZES[self.dtype] for step in self.strides)
        return np.lib.stride_tricks.as_strided(array, self.shape, steps).copy()


class Quantised(Tensor):
    """Quantised integers, read as ``(number - zero) * scale`` in float32.

    ``scale`` and ``zero`` are numbers, or tensors with one value per index of ``axis``.
    """

    def __init__(self, whole: Tensor, scale: float | Tensor, zero: int | Tensor, axis: int) -> None:
        super().__init__(whole.storage, whole.dtype, whole.offset, whole.shape, whole.strides)
        self.whole, self.scale, self.zero, self.axis = whole, scale, zero, axis
        self.dtype = "float32"
        for each in (scale, zero):
            if isinstance(each, Tensor) and each.shape != whole.shape[axis : axis + 1]:
                raise UnfitError(
                    f"has a quantised tensor of shape {short(whole.shape)} with scales of shape "
                    f"{short(each.shape)}; get it again"
                )

    def load(self, path: Path) -> np.ndarray[Any, Any]:
        import numpy as np

        along = [-1 if at == self.axis else 1 for at in range(len(self.shape))]
        scale, zero = (
            each.load(path).astype(np.float64).reshape(along) if isinstance(each, Tensor) else each
            for each in (self.scale, self.zero)
        )
        return ((self.whole.load(path).astype(np.float64) - zero) * scale).astype(np.float32)


def ints(values: tuple[Any, ...]) -> tuple[int, ...]:
    """A tuple of integers from a file. Raises ``UnfitError`` for other tuples."""
    if len(values) > MOST_DIMENSIONS or any(type(value) is not int for value in values):
        raise UnfitError(f"has a tensor with the sizes {short(values)}; get it again")
    return values
