"""A section of a file, read sequentially and never beyond its end."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from resnetkit.formats.container import UnfitError, size_of
from resnetkit.formats.dtypes import numpy_dtype

if TYPE_CHECKING:
    import numpy as np

TRUNCATED = "is truncated or damaged; get it again"


class Window:
    """``length`` bytes of ``file`` from ``start``. Nothing is read or allocated beyond them."""

    def __init__(self, file: BinaryIO, start: int = 0, length: int | None = None) -> None:
        size = os.fstat(file.fileno()).st_size
        if length is None:
            length = size - start
        if start < 0 or length < 0 or start + length > size:
            raise UnfitError(TRUNCATED)
        self._file = file
        self.position = start
        self.end = start + length
        file.seek(start)

    @property
    def left(self) -> int:
        return self.end - self.position

    def take(self, count: int) -> bytes:
        """The next bytes. Raises ``UnfitError`` if there are fewer."""
        if not 0 <= count <= self.left:
            raise UnfitError(TRUNCATED)
        data = self._file.read(count)
        if len(data) != count:
            raise UnfitError(TRUNCATED)
        self.position += count
        return data

    def skip(self, count: int) -> int:
        """Skip bytes; return their offset in the file."""
        if not 0 <= count <= self.left:
            raise UnfitError(TRUNCATED)
        begin = self.position
        self.position += count
        self._file.seek(self.position)
        return begin

    def skip_line(self) -> tuple[int, int]:
        """Skip a line; return its offset, and its length without the newline."""
        begin = self.position
        while True:
            part = self._file.readline(min(self.left, 1 << 16))
            if not part:
                raise UnfitError(TRUNCATED)
            self.position += len(part)
            if part.endswith(b"\n"):
                return begin, self.position - begin - 1

    def again(self, offset: int, length: int) -> bytes:
        """Bytes that were skipped already; the position is unchanged."""
        self._file.seek(offset)
        data = self._file.read(length)
        self._file.seek(self.position)
        return data

    def number(self, count: int, signed: bool = False) -> int:
        """The next bytes as a little-endian integer."""
        return int.from_bytes(self.take(count), "little", signed=signed)


def read_bytes(path: Path, offset: int, length: int) -> bytes:
    """A section of a file. Raises ``UnfitError`` if the file is shorter."""
    with path.open("rb") as file:
        return Window(file, offset, length).take(length)


def read_array(
    path: Path, offset: int, dtype: str, shape: tuple[int, ...], *, big: bool = False
) -> np.ndarray[Any, Any]:
    """Read the values at an offset, in C order, with one copy.

    Raises ``UnfitError`` if the file is shorter, before allocating memory.
    """
    import numpy as np

    kind = numpy_dtype(dtype)
    with path.open("rb", buffering=0) as file:
        Window(file, offset, size_of(dtype, shape))
        # numpy has no fromfile for ml_dtypes.
        raw = np.fromfile(file, dtype=np.uint8, count=size_of(dtype, shape))
    if raw.size != size_of(dtype, shape):
        raise UnfitError(TRUNCATED)
    return shaped(raw, kind, shape, big=big)


def shaped(
    raw: np.ndarray[Any, Any], kind: np.dtype[Any], shape: tuple[int, ...], *, big: bool = False
) -> np.ndarray[Any, Any]:
    """Bytes as an array. Raises ``UnfitError`` for booleans other than 0 and 1."""
    import numpy as np

    if kind == np.bool_ and raw.size and raw.max() > 1:
        raise UnfitError("has booleans other than 0 and 1; it is damaged, get it again")
    array = raw.view(kind) if math.prod(shape) else np.empty(0, kind)
    if big:
        array.byteswap(inplace=True)
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise UnfitError(f"has an array that numpy does not support ({error})") from None
