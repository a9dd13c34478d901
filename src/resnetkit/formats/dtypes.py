"""The dtypes of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnetkit.errors import require

if TYPE_CHECKING:
    import numpy as np

#: Bytes per element, by the dtype's name in numpy or ml_dtypes.
SIZES = {
    **{"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4},
    **{"int64": 8, "uint64": 8, "float16": 2, "float32": 4, "float64": 8},
    **{"complex64": 8, "complex128": 16, "bfloat16": 2},
    **{"float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1},
}
_FROM_ML_DTYPES = ("bfloat16", "float8")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of that name. Raises ``InputError`` if ml_dtypes is needed and missing."""
    import numpy as np

    if not name.startswith(_FROM_ML_DTYPES):
        return np.dtype(name)
    found: np.dtype[Any] = np.dtype(getattr(require("ml_dtypes", f"an array of {name}"), name))
    return found
