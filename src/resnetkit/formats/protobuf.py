"""Protobuf's wire format: fields by number, without a schema.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from resnetkit.formats.container import UnfitError, short
from resnetkit.formats.file_window import TRUNCATED, Window

#: Maximum bytes of names and attributes.
_MOST_TEXT = 1 << 20
#: Maximum number of fields of one message.
_MOST_FIELDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field: an integer (wire types 0, 1 and 5), or the location of its bytes (wire type 2)."""

    number: int
    wire: int
    integer: int = 0
    offset: int = 0
    length: int = 0

    @property
    def signed(self) -> int:
        return self.integer - (1 << 64) if self.integer >> 63 else self.integer

    def window(self, file: BinaryIO) -> Window:
        """The message within the field."""
        if self.wire != 2:
            raise UnfitError(TRUNCATED)
        return Window(file, self.offset, self.length)

    def text_bytes(self, file: BinaryIO) -> bytes:
        """The bytes of a short field."""
        if self.length > _MOST_TEXT:
            raise UnfitError(f"has a name of {self.length} bytes; {_MOST_TEXT} are allowed")
        return self.window(file).take(self.length)

    def text(self, file: BinaryIO) -> str:
        data = self.text_bytes(file)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise UnfitError(f"has an invalid name ({short(error)}); get it again") from None

    def value(self, file: BinaryIO) -> str | int:
        return self.text(file) if self.wire == 2 else self.signed

    def integers(self, file: BinaryIO) -> list[int]:
        """Single or packed integers."""
        if self.wire != 2:
            return [self.signed]
        if self.length > _MOST_TEXT:
            raise UnfitError(TRUNCATED)
        packed = self.window(file).take(self.length)
        return [n - (1 << 64) if n >> 63 else n for n in varints(packed)]


def fields(window: Window) -> Iterator[Field]:
    """The fields of the message in ``window``. Raises ``UnfitError`` if it is not a message."""
    for _ in range(_MOST_FIELDS):
        if not window.left:
            return
        tag = _varint(window)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            yield Field(number=number, wire=wire, integer=_varint(window))
        elif wire in (1, 5):
            yield Field(number=number, wire=wire, integer=window.number(8 if wire == 1 else 4))
        elif wire == 2:
            length = _varint(window)
            offset = window.skip(length)
            yield Field(number=number, wire=wire, offset=offset, length=length)
        else:
            raise UnfitError(TRUNCATED)
        # The caller may have moved the file position.
        window.skip(0)
    raise UnfitError(f"has more than {_MOST_FIELDS} fields, too many for a network")


def varints(data: bytes) -> Iterator[int]:
    """The numbers of a packed field. Raises ``UnfitError`` if the last one is truncated."""
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value & 0xFFFFFFFFFFFFFFFF
            value = shift = 0
        elif shift > 63:
            raise UnfitError(TRUNCATED)
    if shift:
        raise UnfitError(TRUNCATED)


def _varint(window: Window) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = window.number(1)
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF
    raise UnfitError(TRUNCATED)
