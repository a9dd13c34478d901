"""A container: arrays that are read one at a time, and metadata."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from resnetkit.errors import InputError
from resnetkit.formats.dtypes import SIZES

if TYPE_CHECKING:
    import numpy as np

#: Maximum number of arrays.
MOST_ARRAYS = 100_000
#: numpy's maximum number of dimensions.
MOST_DIMENSIONS = 64
#: Maximum bytes of metadata text (a header, a configuration).
MOST_TEXT = 16 << 20


class UnfitError(Exception):
    """A file cannot be read; the reason completes a sentence that starts with the file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayInfo:
    """An array in a file: ``path`` are its keys, ``name`` joins them by ``/``.

    ``dtype`` is the name in numpy or ml_dtypes (``"bfloat16"``, ``"float8_e4m3fn"``).
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def name(self) -> str:
        """The keys joined by ``/``."""
        return "/".join(self.path)

    @property
    def nbytes(self) -> int:
        """The size of the array in memory, in bytes."""
        return math.prod(self.shape) * SIZES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Container:
    """An opened file: its kind, its arrays in file order, and its metadata.

    ``facts`` are JSON values: epoch, arguments, metadata, configuration - everything besides the
    arrays. ``modules`` has, for each module that was pickled whole, by its key, the class and
    settings of every submodule; ``quantised`` are the arrays dequantised from integers and scales.
    The file is not kept open.
    """

    path: Path
    kind: str
    arrays: Mapping[str, ArrayInfo]
    facts: Mapping[str, Any]
    reader: Callable[[str], np.ndarray[Any, Any]] = field(repr=False)
    modules: Mapping[str, Any] = field(default_factory=dict, repr=False)
    quantised: frozenset[str] = frozenset()

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """Read one array, in native byte order, as a writable copy.

        Raises ``InputError`` for a name that is not in ``arrays`` and for a changed or damaged
        file.
        """
        if name not in self.arrays:
            some = ", ".join(list(self.arrays)[:3])
            raise InputError(
                f"{self.path} has no array {name!r}; it has {len(self.arrays)}, e.g. {some}"
            )
        with as_input_errors(self.path):
            return self.reader(name)


@contextmanager
def as_input_errors(path: Path) -> Iterator[None]:
    """Context in which ``UnfitError`` and disk errors become ``InputError`` with the name."""
    try:
        yield
    except UnfitError as error:
        raise InputError(f"{path} {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or short(error)}") from None


def listed(arrays: Iterable[ArrayInfo]) -> Mapping[str, ArrayInfo]:
    """The arrays by name. Raises ``UnfitError`` for duplicate and non-string names."""
    found: dict[str, ArrayInfo] = {}
    for info in arrays:
        name = info.name
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UnfitError(f"has an array whose name is not a string: {name!a}") from None
        if name in found:
            raise UnfitError(f"has two arrays named {short(name)}; names must be unique")
        found[name] = info
        if len(found) > MOST_ARRAYS:
            raise UnfitError(f"has more than {MOST_ARRAYS} arrays, too many for a network")
    return MappingProxyType(found)


def shape_of(value: object, name: str) -> tuple[int, ...]:
    """A list or tuple from a file as a shape. Raises ``UnfitError`` for anything else."""
    if not isinstance(value, (list, tuple)) or len(value) > MOST_DIMENSIONS:
        raise UnfitError(f"has no usable shape for {short(name)}: {short(value)}")
    for size in value:
        if type(size) is not int or not 0 <= size < 1 << 63:
            raise UnfitError(f"has no usable shape for {short(name)}: {short(value)}")
    return tuple(value)


def size_of(dtype: str, shape: tuple[int, ...]) -> int:
    """The bytes of an array."""
    return math.prod(shape) * SIZES[dtype]


def json_of(text: bytes | str, what: str) -> Any:
    """Parse JSON from a file. Raises ``UnfitError`` if it is too long, too deep or invalid."""
    if len(text) > MOST_TEXT:
        raise UnfitError(f"has {len(text)} bytes of {what}; {MOST_TEXT} are allowed")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnfitError(f"has a damaged {what} ({short(error)}); get the file again") from None


#: Containers may reference each other, so their full contents can be endless.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 90, 90, 60
_SHORT.maxtuple = _SHORT.maxlist = _SHORT.maxdict = _SHORT.maxset = _SHORT.maxfrozenset = 10


def short(value: object) -> str:
    """Format a value from a file for a message: one line, printable, truncated."""
    if isinstance(value, BaseException):
        text = " ".join(str(value).split()).encode("ascii", "backslashreplace").decode()
    else:
        text = _SHORT.repr(value).encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
