"""Writes HDF5 files for Keras, array by array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.errors import require

if TYPE_CHECKING:
    import numpy as np

#: Attributes by group name, ``""`` for the file.
Attributes = Mapping[str, Mapping[str, str | Sequence[str]]]
#: Maximum bytes of names in one attribute; Keras splits and joins longer lists.
MOST_NAMES = 64512


def write(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], attributes: Attributes) -> None:
    """Write ``arrays``, whose names are group paths, and the groups' attributes.

    HDF5 has no bfloat16: as in Keras 3, two bytes are written with a note of the dtype.
    """
    import numpy as np

    h5py = require("h5py", "an HDF5 file")

    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            data = file.create_dataset(name, data=np.ascontiguousarray(array))
            if array.dtype.name == "bfloat16":
                data.attrs["dtype"] = "bfloat16"
        _describe(file, attributes)


def amend(path: Path, attributes: Attributes) -> None:
    """Add attributes to a written file."""
    import h5py

    with h5py.File(path, "r+") as file:
        _describe(file, attributes)


def _describe(file: Any, attributes: Attributes) -> None:
    import numpy as np

    for group, values in attributes.items():
        attrs = (file.require_group(group) if group else file).attrs
        for name, value in values.items():
            if isinstance(value, str):
                attrs[name] = value
                continue
            names = np.array([part.encode() for part in value])
            pieces = -(-names.nbytes // MOST_NAMES)
            if pieces <= 1:
                attrs[name] = names
                continue
            for number, part in enumerate(np.array_split(names, pieces)):
                attrs[f"{name}{number}"] = part
