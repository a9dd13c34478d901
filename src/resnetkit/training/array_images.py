"""Arrays of numbers as 8-bit images."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from resnetkit.errors import AssumptionWarning, InputError

#: ``(H, W)``, or ``(H, W, C)`` with one or three channels.
Shape = tuple[int, ...]
#: The values of black and white.
ValueRange = tuple[float, float]
#: The share of clipped values above which images to predict have another scale.
_CLIPPED = 0.05


def shape_for(features: int, shape: Shape | None) -> Shape:
    """The shape of images whose pixels are ``features`` numbers in a row.

    By default that of a square grey image, the smallest that holds them, with a warning if it has
    more pixels. Raises ``ValueError`` for
    a ``shape`` of another number of values.
    """
    if shape is None:
        side = math.isqrt(max(0, features - 1)) + 1
        if side**2 != features:
            third = math.isqrt(features // 3)
            colour = f", e.g. {third, third, 3}" if 3 * third**2 == features else ""
            warnings.warn(
                f"X has {features} features, which are taken as grey images of {side}x{side} "
                f"pixels, the last {side**2 - features} black; image_shape is the shape of other "
                f"images{colour}",
                AssumptionWarning,
                stacklevel=4,
            )
        return side, side
    shape = tuple(shape)
    check_shape(shape, "image_shape is", field="image_shape")
    if math.prod(shape) != features:
        raise InputError(
            f"image_shape is {shape}, {math.prod(shape)} values, and X has {features} features; "
            "give the shape of the images",
            field="image_shape",
        )
    return shape


def check_shape(shape: Shape, what: str, *, field: str | tuple[str, ...] = ()) -> None:
    """Raise ``ValueError`` unless it is ``(H, W)`` or ``(H, W, C)`` with 1 or 3 channels."""
    sizes = all(type(number) is int and number > 0 for number in shape)
    if not sizes or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise InputError(
            f"{what} {shape}; it must be (H, W) or (H, W, C) with 1 or 3 channels", field=field
        )


def check_range(value_range: ValueRange) -> ValueRange:
    """Raise ``ValueError`` unless it is a lower and a higher number."""
    try:
        low, high = value_range
        if low < high:
            return low, high
        problem = "give the lower value first"
    except (TypeError, ValueError):
        problem = "it must be two numbers, the values of black and white"
    raise InputError(f"value_range is {value_range}; {problem}", field="value_range")


def warn_of_scale(values: npt.NDArray[Any], value_range: ValueRange) -> None:
    """Warn if values have another scale than those that ``value_range`` is of."""
    low, high = value_range
    least, most = float(values.min()), float(values.max())
    if low <= least and most <= high and most - least >= (high - low) / 100:
        return
    outside = float(np.mean((values < low) | (values > high)))
    if outside > _CLIPPED or most - least < (high - low) / 100:
        warnings.warn(
            f"X has values from {least:g} to {most:g}, and in fit they were from {low:g} to "
            f"{high:g}: {outside:.0%} are clipped; scale X as in fit, or give value_range",
            AssumptionWarning,
            stacklevel=4,
        )


def range_of(values: npt.NDArray[Any]) -> ValueRange:
    """0 and 255 of bytes; of other numbers the smallest and the largest."""
    if values.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1.0


def to_images(
    values: npt.NDArray[Any], shape: Shape, value_range: ValueRange
) -> npt.NDArray[np.uint8]:
    """Rows ``(N, features)`` as images ``(N, H, W)`` or ``(N, H, W, 3)``.

    ``value_range`` becomes 0 to 255, rounded; values outside are clipped. Pixels that a row does
    not have are black.
    """
    low, high = value_range
    pixels = np.zeros((len(values), math.prod(shape)), np.uint8)
    # One at a time, as float64 takes eight times the memory.
    for image, row in zip(pixels, values, strict=True):
        shares = (row.astype(np.float64) - low) / (high - low)
        image[: len(row)] = np.rint(shares.clip(0, 1) * 255)
    return pixels.reshape(-1, *(shape[:2] if shape[2:] == (1,) else shape))
