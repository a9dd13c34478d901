"""The first convolution's filters as a picture."""

from __future__ import annotations

import math

import numpy as np
import PIL.Image

from resnetkit.inspect.colours import enlarged, grid, scaled
from resnetkit.inspect.models import Model, as_bundle, check_count


def filters(model: Model, *, scale: int = 6) -> PIL.Image.Image:
    """The filters of the first convolution as one picture.

    Filters of three channels are in colour, in the order of rows; each weight is a square of
    ``scale`` pixels. Grey is zero, and each filter is scaled by its largest weight. With other
    numbers of channels each filter is a row of its channels in grey. ``model`` is as in
    ``feature_maps``.

    Raises ``ValueError`` for an unusable model, and a ``scale`` below 1.

    >>> filters(model).size
    (350, 350)
    """
    check_count("scale", scale)
    bundle = as_bundle(model)
    first = next(located.path for located in bundle.network.layers())
    weight = np.asarray(bundle.numbers[f"{first}.weight"], np.float32)
    count, channels, height, _ = weight.shape
    side = scale * height
    if channels != 3:
        rows = [grid([_tile(part, side) for part in one], channels) for one in weight]
        return grid(rows, max(1, round(math.sqrt(count / channels))))
    if bundle.preprocess.channels == "BGR":
        weight = weight[:, ::-1]
    tiles = [_tile(one.transpose(1, 2, 0), side) for one in weight]
    return grid(tiles, math.ceil(math.sqrt(count)))


def _tile(weights: np.ndarray[tuple[int, ...], np.dtype[np.float32]], side: int) -> PIL.Image.Image:
    most = float(np.abs(weights).max())
    if not most > 0:
        return enlarged(np.full(weights.shape, 128, np.uint8), side)
    return enlarged(scaled(weights, -most, most), side)
