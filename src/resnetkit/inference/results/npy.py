"""Embeddings as a .npy file, with the names of its rows beside it."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resnetkit.files import atomic
from resnetkit.inference.prediction import Prediction

#: Header of each chunk: numbers of rows and bytes of names.
_SIZES = struct.Struct("<QQ")


class Numbers:
    """``OUT.npy``: float32 ``(images, features)``, NaN for an unreadable image; ``OUT.npy.jsonl``
    has one line per row with ``image`` and optionally ``problem``."""

    head = b""

    def __init__(self, features: int) -> None:
        self._features = features

    def chunk(self, rows: Sequence[Prediction], *, first: bool) -> bytes:
        lines = "".join(
            json.dumps({"image": row.name} | ({"problem": row.problem} if row.problem else {}))
            + "\n"
            for row in rows
        ).encode()
        empty = np.full(self._features, np.nan, "<f4")
        values = [empty if row.embedding is None else row.embedding for row in rows]
        numbers = np.asarray(values, "<f4").tobytes()
        return _SIZES.pack(len(rows), len(lines)) + lines + numbers

    def tail(self, *, empty: bool) -> bytes:
        return b""

    def convert(self, part: Path, target: Path) -> bool:
        names = target.with_name(target.name + ".jsonl")
        with (
            part.open("rb") as file,
            atomic(names) as lines,
            atomic(target) as array,
            lines.open("wb") as text,
            array.open("wb") as numbers,
        ):
            numbers.write(self._header(0))
            count = 0
            while sizes := file.read(_SIZES.size):
                rows, length = _SIZES.unpack(sizes)
                text.write(file.read(length))
                numbers.write(file.read(4 * rows * self._features))
                count += rows
            numbers.seek(0)
            numbers.write(self._header(count))
        return True

    def _header(self, count: int) -> bytes:
        """The 128-byte header (NEP 1, version 1.0)."""
        what = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {self._features}), }}"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + what.ljust(117).encode() + b"\n"
