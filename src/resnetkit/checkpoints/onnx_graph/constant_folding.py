"""Constant folding of ONNX graphs. https://onnx.ai/onnx/operators/"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from resnetkit.architecture.layer import Shape
from resnetkit.formats.onnx import DTYPES

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

#: Maximum number of values created besides those in the file, e.g. with ConstantOfShape: twice
#: ResNet-152's.
MOST_MADE = 1 << 27
#: Maximum number of values computed in total, so that a small file does not take hours.
_MOST_WORK = 1 << 32
#: Operations that only reorder or reshape.
_VIEWS = frozenset("Identity Transpose Unsqueeze Squeeze Reshape Flatten".split())
#: What a Cast may make: numpy's own types, without the complex ones.
_CASTS = {number: name for number, name in DTYPES.items() if number < 14}


class OddError(Exception):
    """A constant cannot be computed; the reason completes a sentence about the operation."""


class Budget:
    """Remaining budgets: for one constant, and for all of them."""

    def __init__(self) -> None:
        self._left = _MOST_WORK
        self._made = 0
        self.start()

    def start(self) -> None:
        """Reset before the next constant."""
        self._here = MOST_MADE

    def spend(self, count: int) -> None:
        """Reserve values before allocation. Raises ``OddError`` above the limit."""
        self._here -= count
        self._left -= count
        if self._here < 0 or self._left < 0:
            raise OddError(f"creates {count} numbers, more than a network needs")

    def keep(self, count: int) -> None:
        """Reserve values that are kept but not in the file."""
        self._made += max(0, count)
        if self._made > MOST_MADE:
            raise OddError(f"creates {count} numbers, more than a network needs")


def count(shape: Sequence[int]) -> int:
    """The number of values of that shape."""
    return math.prod(shape)


Inputs = Sequence["Array | None"]
Attributes = Mapping[str, Any]


def evaluate(
    op: str,
    inputs: Inputs,
    attributes: Attributes,
    stored: Callable[[str], Array],
    budget: Budget,
) -> Array:
    """The first output of an operation of ``FUNCTIONS``; ``stored`` reads a tensor by its name."""
    import numpy as np

    try:
        if op == "Constant":
            return _constant(attributes, stored)
        size = _size(op, inputs)
        if size > MOST_MADE:
            raise OddError(f"creates {size} numbers, more than a network needs")
        if op not in ("ConstantOfShape", "Expand") and not _is_view(op, inputs):
            budget.spend(size)
        if op == "ConstantOfShape":
            name = attributes.get("value")
            value = np.zeros(1, np.float32) if name is None else stored(name)
            return np.broadcast_to(value.reshape(()), _sizes(inputs[0]))
        with np.errstate(all="ignore"):
            return np.asarray(FUNCTIONS[op](inputs, attributes))
    except (ValueError, IndexError, TypeError, KeyError, OverflowError, AttributeError):
        raise OddError("has inconsistent inputs; get the graph again") from None


def _is_view(op: str, inputs: Inputs) -> bool:
    """Whether nothing is allocated; reshaping non-contiguous values copies."""
    array = inputs[0]
    assert array is not None
    return op in _VIEWS and (op not in ("Reshape", "Flatten") or array.flags.c_contiguous)


def _size(op: str, inputs: Inputs) -> int:
    """Upper bound of the number of output values."""
    import numpy as np

    shapes = [array.shape for array in inputs if array is not None]
    if op == "ConstantOfShape":
        return count(_sizes(inputs[0]))
    if op == "Expand":
        return count(np.broadcast_shapes(shapes[0], _sizes(inputs[1])))
    if op == "Gather":
        return count(shapes[0]) * max(1, count(shapes[1]))
    if op in ("Concat", "Slice"):
        return sum(map(count, shapes))
    return count(np.broadcast_shapes(*shapes)) if op in _ARITHMETIC else count(shapes[0])


def _sizes(array: Array | None) -> Shape:
    assert array is not None
    return tuple(int(size) for size in array.reshape(-1)[:64])


def _constant(attributes: Attributes, stored: Callable[[str], Array]) -> Array:
    import numpy as np

    if "value" in attributes:
        return stored(attributes["value"])
    for name, kind in (("value_float", "f4"), ("value_floats", "f4")):
        if name in attributes:
            return np.array(attributes[name], dtype=kind)
    for name in ("value_int", "value_ints"):
        if name in attributes:
            return np.array(attributes[name], dtype="i8")
    raise OddError("has unsupported numbers")


def axes_of(inputs: Inputs, attributes: Attributes) -> tuple[int, ...] | None:
    """Axes are an attribute in older opsets and the second input in newer ones."""
    if "axes" in attributes:
        return tuple(attributes["axes"])
    given = inputs[1] if len(inputs) > 1 else None
    return None if given is None else tuple(int(axis) for axis in given.reshape(-1))


def _reshape(inputs: Inputs, attributes: Attributes) -> Array:
    array, wanted = inputs
    assert array is not None
    sizes = list(_sizes(wanted))
    if not attributes.get("allowzero"):
        sizes = [array.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return array.reshape(sizes)


def _unsqueeze(inputs: Inputs, attributes: Attributes) -> Array:
    import numpy as np

    array = inputs[0]
    assert array is not None
    return np.expand_dims(array, axes_of(inputs, attributes) or ())


def _flatten(inputs: Inputs, attributes: Attributes) -> Array:
    array = inputs[0]
    assert array is not None
    axis = attributes.get("axis", 1)
    return array.reshape(count(array.shape[:axis]), -1)


def slices(
    inputs: Inputs, attributes: Attributes
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Starts, ends, axes and steps of a Slice."""

    def of(index: int, name: str) -> tuple[int, ...] | None:
        given = inputs[index] if len(inputs) > index else None
        if given is not None:
            return tuple(int(number) for number in given.reshape(-1))
        return tuple(attributes[name]) if name in attributes else None

    starts, ends = of(1, "starts") or (), of(2, "ends") or ()
    axes = of(3, "axes") or tuple(range(len(starts)))
    steps = of(4, "steps") or (1,) * len(starts)
    return starts, ends, axes, steps


def _slice(inputs: Inputs, attributes: Attributes) -> Array:
    array = inputs[0]
    assert array is not None
    where = [slice(None)] * array.ndim
    for start, end, axis, step in zip(*slices(inputs, attributes), strict=True):
        # An end before the first element is left open, as -1 would mean the last.
        stop = None if step < 0 and end < -array.shape[axis] else end
        where[axis] = slice(start, stop, step)
    return array[tuple(where)]


def _divide(above: Array, below: Array) -> Array:
    import numpy as np

    whole = above.dtype.kind in "iu"
    return np.floor_divide(above, below) if whole else np.divide(above, below)


def _function(name: str) -> Callable[[Inputs, Attributes], Array]:
    return _plain(lambda inputs, _: getattr(_numpy(), name)(*inputs))


def _cast(inputs: Inputs, attributes: Attributes) -> Array:
    assert inputs[0] is not None
    return inputs[0].astype(_CASTS[attributes["to"]])


def _plain(work: Callable[[Any, Attributes], Any]) -> Callable[[Inputs, Attributes], Array]:
    def function(inputs: Inputs, attributes: Attributes) -> Array:
        result: Array = work(inputs, attributes)
        return result

    return function


def _numpy() -> Any:
    import numpy as np

    return np


_ARITHMETIC = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Pow": "power"}
#: Operations on constants by name. Constant and ConstantOfShape are handled in ``evaluate``.
FUNCTIONS: dict[str, Callable[[Inputs, Attributes], Array]] = {
    "Constant": _function("array"),
    "ConstantOfShape": _function("array"),
    "Identity": _plain(lambda inputs, _: inputs[0]),
    "Cast": _cast,
    "Transpose": _plain(lambda inputs, a: inputs[0].transpose(a.get("perm"))),
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _plain(lambda inputs, a: inputs[0].squeeze(axes_of(inputs, a))),
    "Flatten": _flatten,
    "Concat": _plain(lambda inputs, a: _numpy().concatenate(inputs, axis=a["axis"])),
    "Slice": _slice,
    "Gather": _plain(lambda inputs, a: _numpy().take(inputs[0], inputs[1], axis=a.get("axis", 0))),
    "Shape": _plain(lambda inputs, _: _numpy().array(inputs[0].shape, dtype="i8")),
    "Expand": _plain(
        lambda inputs, _: _numpy().broadcast_to(
            inputs[0], _numpy().broadcast_shapes(inputs[0].shape, _sizes(inputs[1]))
        )
    ),
    "Div": _plain(lambda inputs, _: _divide(*inputs)),
    "Sqrt": _function("sqrt"),
    "Neg": _function("negative"),
    "Reciprocal": _function("reciprocal"),
    **{op: _function(name) for op, name in _ARITHMETIC.items()},
}
_ARITHMETIC["Div"] = "divide"
