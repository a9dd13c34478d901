"""Writes ``.safetensors``, array by array, with room to amend the header.

The format is https://github.com/huggingface/safetensors#format; a header may end in spaces, and
here it always does, so that the result of verifying the written file can be added.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.errors import InputError
from resnetkit.formats.safetensors import DTYPES

if TYPE_CHECKING:
    import numpy as np

#: Bytes by which the metadata may grow later.
ROOM = 1024
_CODES = {name: code for code, name in DTYPES.items()}


def write(
    path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, str]
) -> None:
    """Write ``arrays``, copying at most one at a time.

    Raises ``InputError`` for a dtype that the format does not have.
    """
    import numpy as np

    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    # Larger dtypes first, as in the format's own library, for alignment.
    names = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    end = 0
    for name in names:
        array = arrays[name]
        code = _CODES.get(array.dtype.name)
        if code is None:
            raise InputError(f"{name} is in {array.dtype}, which safetensors does not support")
        begin, end = end, end + math.prod(array.shape) * array.dtype.itemsize
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    length = -(-(len(text) + ROOM) // 8) * 8
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.write(text.ljust(length))
        for name in names:
            file.write(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)


def amend(path: Path, metadata: Mapping[str, str]) -> None:
    """Replace the metadata of a written file; it may grow by ``ROOM`` bytes."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(metadata)
        text = json.dumps(header, separators=(",", ":")).encode()
        if len(text) > length:
            raise ValueError(f"{len(text) - length} bytes of metadata too many for {path}")
        file.seek(8)
        file.write(text.ljust(length))
