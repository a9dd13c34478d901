"""What a web page shows of one picture, as plain JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import PIL.Image

from resnetkit.bundle.bundle import Bundle
from resnetkit.data.decoding.decode import Image
from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import EngineName
from resnetkit.inference.prediction import NOT_FINITE, finite
from resnetkit.inspect.attribution import class_activation_map
from resnetkit.inspect.colours import limits, scaled
from resnetkit.inspect.layer_outputs import Array, engine_for, open_outputs
from resnetkit.inspect.maps import strongest
from resnetkit.inspect.models import Model, as_bundle, check_count
from resnetkit.inspect.photo import Photo, photo_of
from resnetkit.inspect.places import Place, chosen

#: The longer side of the photo, and the largest side of a map, in pixels.
PHOTO, LARGEST = 640, 64

#: A JSON object.
Object = dict[str, Any]


class Picture(TypedDict):
    """What a page shows of one picture; all values are JSON types.

    ``photo`` is the upright original as a data URL of a JPEG, its longer side at most 640 pixels;
    ``width`` and ``height`` are the original's. ``cut`` is ``[left, top, width, height]`` of the
    crop in the original's pixels, ``input`` the resized crop, ``size`` pixels a side, as a data URL
    of a PNG.

    ``top`` has the most probable classes, ``cams`` their class activation maps. ``places`` has each
    stage and block with its strongest channels; ``main`` and ``shortcut`` of a block are the
    outputs that it adds: their root mean square, and a ``map`` of the channels' mean magnitude;
    ``kind`` is the kind of its shortcut. They are None for a stage.

    A map has ``height``, ``width`` and ``values``, base64 of a byte for each pixel, row by row: 0
    is ``low``, 255 is ``high``. One that was larger than 64 pixels is the mean of squares of
    ``averaged`` pixels a side; others lack that key.

    ``mistake`` is only there for a picture of ``resnetkit.evaluation.mistake_pictures``.
    """

    name: str
    photo: str
    width: int
    height: int
    cut: list[float]
    size: int
    input: str
    top: list[Object]
    cams: list[Object]
    places: list[Object]
    mistake: NotRequired[Object]


def look(
    model: Model,
    image: Image,
    *,
    classes: int = 5,
    channels: int = 8,
    engine: EngineName = "auto",
) -> Picture:
    """What a web page shows of one picture: see ``Picture``. Needs no torch.

    ``classes`` are the most probable classes, each with its class activation map, and ``channels``
    the strongest of each stage and block. ``model``, ``image`` and ``engine`` are as in
    ``feature_maps``. Without a classifier there are no classes.

    Raises ``ValueError`` as ``feature_maps`` does, and if the network's output is not finite.

    >>> page = look(model, "seven.png", classes=1)
    >>> len(page["top"]), page["places"][0]["path"]
    (1, 'stage0')
    """
    check_count("classes", classes)
    check_count("channels", channels)
    return looked(as_bundle(model), image, engine_for(model, engine), classes, channels)


def looked(
    bundle: Bundle,
    image: Image,
    engine: EngineName,
    classes: int = 5,
    channels: int = 8,
    also: Sequence[int] = (),
) -> Picture:
    """``look``; ``also`` are classes that have a map even if they are not among the first."""
    photo = photo_of(image, bundle.preprocess)
    found = chosen(bundle.network, ("stage", "block"), "stage")
    run = open_outputs(bundle, [layer for place in found for layer in place.layers], engine)
    values = {path: batch[0] for path, batch in run(photo.batch).items()}
    if not finite(values[run.output]):
        raise InputError(NOT_FINITE, field="model")
    last = next(place.layer for place in reversed(found) if place.level == "stage")
    top = _top(bundle, values["logits"], classes) if run.output == "logits" else []
    numbers = dict.fromkeys([*(one["class"] for one in top), *also])
    return Picture(
        name=photo.name,
        photo=photo_url(photo),
        width=photo.original.width,
        height=photo.original.height,
        cut=[float(side) for side in photo.box],
        size=bundle.preprocess.size,
        input=_url(photo.crop, "PNG"),
        top=top,
        cams=[
            {"class": number} | _map(class_activation_map(bundle, values[last], number))
            for number in numbers
        ],
        places=[_place(place, values, channels) for place in found],
    )


def _top(bundle: Bundle, logits: Array, count: int) -> list[Object]:
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    return [
        {"class": number, "label": bundle.classes[number], "probability": float(shares[number])}
        for number in np.argsort(-logits, kind="stable")[:count].tolist()
    ]


def _place(place: Place, values: dict[str, Array], channels: int) -> Object:
    output = values[place.layer]
    return {
        "path": place.path,
        "stage": place.stage,
        "level": place.level,
        "shape": list(output.shape),
        "channels": [
            {"index": one.index, "mean": one.mean} | _map(one.values)
            for one in strongest(output, channels)
        ],
        "main": None if place.main is None else _branch(values[place.main]),
        "shortcut": None if place.shortcut is None else _branch(values[place.shortcut]),
        "kind": place.kind,
    }


def _branch(values: Array) -> Object:
    rms = float(np.sqrt(np.square(values, dtype=np.float64).mean()))
    return {"rms": rms, "map": _map(np.abs(values).mean(axis=0))}


def _map(values: Array) -> Object:
    """A map ``(h, w)`` as JSON; see ``Picture``."""
    factor = -(-max(values.shape) // LARGEST)
    if factor > 1:
        values = _averaged(values, factor)
    low, high = limits(values)
    height, width = values.shape
    return {
        "height": height,
        "width": width,
        "values": base64.b64encode(scaled(values, low, high).tobytes()).decode(),
        "low": low,
        "high": high,
    } | ({"averaged": factor} if factor > 1 else {})


def _averaged(values: Array, factor: int) -> npt.NDArray[np.float32]:
    """The means of squares of ``factor`` pixels a side; those at the edges may be smaller."""
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], factor)
        sizes = np.diff(np.append(starts, values.shape[axis])).astype(np.float32)
        sums = np.add.reduceat(values, starts, axis=axis)
        values = (sums / (sizes[:, None] if axis == 0 else sizes)).astype(np.float32)
    return values


def photo_url(photo: Photo, side: int = PHOTO) -> str:
    """The original as a data URL of a JPEG, its longer side at most ``side`` pixels."""
    small = photo.original
    if max(small.size) > side:
        small = small.copy()
        small.thumbnail((side, side))
    return _url(small, "JPEG")


def _url(picture: PIL.Image.Image, kind: str) -> str:
    buffer = BytesIO()
    picture.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
