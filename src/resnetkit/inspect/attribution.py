"""Attributions: which parts of a picture speak for a class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import PIL.Image

from resnetkit.bundle.bundle import Bundle
from resnetkit.data.decoding.decode import Image
from resnetkit.display import Displayed
from resnetkit.errors import NO_CLASSES, InputError
from resnetkit.inference.engines.engine import EngineName
from resnetkit.inference.engines.selection import open_engine
from resnetkit.inference.prediction import NOT_FINITE, finite
from resnetkit.inspect import gradients
from resnetkit.inspect.colours import coloured, resized
from resnetkit.inspect.layer_outputs import engine_for, open_outputs
from resnetkit.inspect.models import Model, as_bundle, check_count, class_number, hint
from resnetkit.inspect.photo import Photo, photo_of
from resnetkit.inspect.places import Place, place_named

Array = npt.NDArray[np.float32]
Method = Literal[
    "cam", "grad_cam", "grad_cam++", "hirescam", "eigen_cam", "occlusion", "integrated_gradients"
]
METHODS: tuple[Method, ...] = get_args(Method)
#: Methods that look at the input, not at a layer's map.
_OF_INPUT = ("occlusion", "integrated_gradients")
#: Occluded pictures in one batch.
_BATCH = 16
#: Points of the integral.
STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attribution(Displayed):
    """What speaks for a class, by a ``method``.

    ``map`` is float32 ``(h, w)``: of the size of the map at ``at``, or of the input for occlusion
    and integrated gradients. Values are in logits or proportional to them; the class activation
    map, occlusion and integrated gradients have negative ones, which speak against the class.
    ``target`` is the class's index and ``label`` its name; they are None, as ``probability``, if
    there is no classifier. ``photo`` is the picture.
    """

    method: Method
    at: str | None
    map: Array
    target: int | None
    label: str | None
    probability: float | None
    photo: Photo

    @property
    def heat(self) -> Array:
        """The map at the input's size, ``(size, size)``, resized bilinearly."""
        height, width = self.photo.pixels.shape[:2]
        return resized(self.map, width, height)

    def overlay(self, opacity: float = 0.5) -> PIL.Image.Image:
        """The original picture with the positive part of the map over its crop, bright where it is
        largest. Raises ``ValueError`` for an ``opacity`` outside 0 to 1."""
        if not 0 <= opacity <= 1:
            raise InputError(f"opacity is {opacity!r}; it must be from 0 to 1", field="opacity")
        left, top, width, height = self.photo.box
        sides = (round(left), round(top), round(left + width), round(top + height))
        size = (max(1, sides[2] - sides[0]), max(1, sides[3] - sides[1]))
        colours = coloured(resized(self.map, *size), low=0.0)
        found = self.photo.original.copy()
        under = found.crop((*sides[:2], sides[0] + size[0], sides[1] + size[1]))
        found.paste(PIL.Image.blend(under, PIL.Image.fromarray(colours), opacity), sides[:2])
        return found


def grad_cam(
    model: Model,
    image: Image,
    target: int | str | None = None,
    at: str | None = None,
    method: Method = "grad_cam",
    *,
    window: int | None = None,
    steps: int | None = None,
    engine: EngineName = "auto",
) -> Attribution:
    """Which parts of a picture speak for the class ``target``.

    ``model`` and ``image`` are as in ``feature_maps``. ``target`` is the index or name of a class,
    by default the most probable one. ``at`` is a stage, block or layer, by default the last stage.
    ``A`` is its map, ``g`` the gradient of the logit with respect to it:

    - ``grad_cam``: ``relu(sum_k mean(g_k) A_k)`` (Selvaraju et al. 2017, arXiv:1610.02391).
    - ``grad_cam++``: each gradient weighted by ``1 / (2 + g_k sum(A_k))`` (Chattopadhay et al.
      2018, arXiv:1710.11063), see ``grad_cam_plus_plus``.
    - ``hirescam``: ``relu(sum_k g_k A_k)`` (Draelos & Carin 2020, arXiv:2011.08891).
    - ``eigen_cam``: the positive part of the map's first principal component (Muhammad & Yeasin
      2020, arXiv:2008.00299); the same for all classes. Needs no torch.
    - ``cam``: the last map times the class's weights (Zhou et al. 2016, arXiv:1512.04150), whose
      mean plus bias is the logit. Needs no torch.
    - ``occlusion``: by how much the logit falls when a square of side ``window``, by default an
      eighth of the input, has the mean colour; the mean over all squares with a pixel, which are
      half a window apart (Zeiler & Fergus 2014, arXiv:1311.2901). Needs no torch.
    - ``integrated_gradients``: from the mean colour, at ``steps`` points, 50 by default
      (Sundararajan et al. 2017, arXiv:1703.01365), summed over the input's channels.

    ``engine`` computes the methods without gradients, as in ``predict``. Raises ``ValueError`` for
    an unknown method, class or place, an option of another method, an unreadable image, an
    unusable model, a network without a classifier, a map or output that is not finite, and without
    torch where gradients are needed.

    >>> found = grad_cam(model, "seven.png", method="cam")
    >>> found.map.shape
    (2, 2)
    """
    if method not in METHODS:
        raise InputError(
            f"method is {method!r}; {hint(str(method), METHODS)}it must be one of "
            f"{', '.join(METHODS)}",
            field="method",
        )
    _check_options(method, at, window, steps)
    bundle = as_bundle(model)
    place = _place(bundle, method, at)
    photo = photo_of(image, bundle.preprocess)
    if engine == "auto" and method in (*_FORMULAS, "integrated_gradients"):
        engine = "torch"  # it is needed anyway
    name = engine_for(model, engine)
    run = open_outputs(bundle, [] if place is None else [place.layer], name)
    values = run(photo.batch)
    if not all(map(finite, values.values())):
        raise InputError(NOT_FINITE, field="model")
    logits = values["logits"][0] if run.output == "logits" else None
    number = _class(bundle, logits, target, method)
    if method == "occlusion":
        found = occlusion(bundle, photo, _known(number), window, name)
    elif method == "integrated_gradients":
        found = gradients.integrated(bundle, photo.batch, _known(number), steps or STEPS)
    elif method == "eigen_cam":
        assert place is not None
        found = eigen_cam(values[place.layer][0])
    elif method == "cam":
        assert place is not None
        found = class_activation_map(bundle, values[place.layer][0], _known(number))
    else:
        assert place is not None
        maps, slopes = gradients.at_layer(bundle, photo.batch, place.layer, _known(number))
        found = _FORMULAS[method](maps, slopes)
    return Attribution(
        method=method,
        at=None if place is None else place.path,
        map=np.ascontiguousarray(found, np.float32),
        target=number,
        label=None if number is None else bundle.classes[number],
        probability=None if number is None or logits is None else _probability(logits, number),
        photo=photo,
    )


def plain_grad_cam(maps: Array, slopes: Array) -> Array:
    """``relu(sum_k mean(g_k) A_k)``."""
    weights = slopes.mean(axis=(1, 2), keepdims=True)
    return _positive((weights * maps).sum(0))


def grad_cam_plus_plus(maps: Array, slopes: Array) -> Array:
    """``relu(sum_k w_k A_k)`` with ``w_k = sum_ij a_kij relu(g_kij)``.

    The paper's ``a = g^2 / (2 g^2 + sum(A) g^3)`` for an exponential score, whose second and third
    derivatives are powers of the first (equation 19), is ``1 / (2 + g sum(A))`` where g is not 0.
    """
    below = 2 + slopes * maps.sum(axis=(1, 2), keepdims=True)
    share = np.divide(1, below, out=np.zeros_like(below), where=below != 0)
    weights = (share * _positive(slopes)).sum(axis=(1, 2), keepdims=True)
    return _positive((weights * maps).sum(0))


def hirescam(maps: Array, slopes: Array) -> Array:
    """``relu(sum_k g_k A_k)``."""
    return _positive((slopes * maps).sum(0))


def eigen_cam(maps: Array) -> Array:
    """The positive part of the first principal component of the positions' channels.

    Of the two directions it takes the one in which the sum of the channels rises.
    """
    channels, height, width = maps.shape
    rows = maps.reshape(channels, -1).T.astype(np.float64)
    rows = rows - rows.mean(axis=0)
    _, _, directions = np.linalg.svd(rows, full_matrices=False)
    found = rows @ directions[0]
    if found @ rows.sum(axis=1) < 0:
        found = -found
    return _positive(found.reshape(height, width).astype(np.float32))


def _positive(values: Array) -> Array:
    return np.maximum(values, np.float32(0))


def class_activation_map(bundle: Bundle, maps: Array, target: int) -> Array:
    """``sum_k w_k A_k`` of the last map; its mean plus the class's bias is the logit."""
    weight = np.asarray(bundle.numbers["fc.weight"][target], np.float32)
    found: Array = np.tensordot(weight, maps, axes=1)
    return found


def occlusion(
    bundle: Bundle, photo: Photo, target: int, window: int | None, engine: EngineName
) -> Array:
    """By how much the logit falls, ``(size, size)``; see ``grad_cam``."""
    size, preprocess = bundle.preprocess.size, bundle.preprocess
    window = max(1, size // 8) if window is None else window
    if window > size:
        raise InputError(
            f"window is {window}, and the input has {size} pixels a side; give at most {size}",
            field="window",
        )
    mean = np.asarray(preprocess.mean, np.float32) * np.float32(preprocess.divisor)
    mean = mean[::-1] if preprocess.channels == "BGR" else mean
    stride = max(1, window // 2)
    starts = range(0, -(-(size - window) // stride) * stride + 1, stride)
    squares = [(slice(y, y + window), slice(x, x + window)) for y in starts for x in starts]
    whole = photo.pixels.astype(np.float32)

    def batches() -> Iterator[npt.NDArray[np.float32]]:
        yield whole[None]
        for first in range(0, len(squares), _BATCH):
            batch = np.stack([whole] * len(squares[first : first + _BATCH]))
            for pixels, square in zip(batch, squares[first:], strict=False):
                pixels[square] = mean
            yield batch

    opened = open_engine(bundle, engine, pixels="float32")
    rows = np.concatenate([opened.answer(batch)[:, target] for batch in batches()])
    falls, counts = np.zeros((size, size)), np.zeros((size, size))
    for square, logit in zip(squares, rows[1:].tolist(), strict=True):
        falls[square] += float(rows[0]) - logit
        counts[square] += 1
    return (falls / counts).astype(np.float32)


_FORMULAS = {
    "grad_cam": plain_grad_cam,
    "grad_cam++": grad_cam_plus_plus,
    "hirescam": hirescam,
}


def _check_options(method: Method, at: str | None, window: int | None, steps: int | None) -> None:
    """Options of another method would have no effect."""
    if at is not None and method in _OF_INPUT:
        raise InputError(f"{method} looks at the input; leave out at", field=("method", "at"))
    for name, value, its in (("window", window, "occlusion"),
                             ("steps", steps, "integrated_gradients")):  # fmt: skip
        if value is not None:
            check_count(name, value)
            if method != its:
                raise InputError(f"{name} is an option of {its}, not of {method}", field=name)


def _place(bundle: Bundle, method: Method, at: str | None) -> Place | None:
    """The place whose map is used; None for methods that look at the input."""
    if method in _OF_INPUT:
        return None
    last = bundle.network.stages[-1].name
    place = place_named(bundle.network, last if at is None else at)
    wanted = place_named(bundle.network, last)
    if method == "cam" and place.layer != wanted.layer:
        raise InputError(
            f"cam weighs the last map, {last}; leave out at, or give grad_cam for {at}", field="at"
        )
    if place.stage == "head":
        raise InputError(
            f"at is {at!r}, which has no map; give a stage, block or layer before the head",
            field="at",
        )
    return place


def _class(bundle: Bundle, logits: Array | None, target: Any, method: Method) -> int | None:
    if logits is None:
        if target is None and method == "eigen_cam":
            return None
        raise InputError(f"{bundle.network.name} {NO_CLASSES}", field="target")
    return int(logits.argmax()) if target is None else class_number(bundle, target)


def _known(number: int | None) -> int:
    assert number is not None, "only eigen_cam needs no class"
    return number


def _probability(logits: Array, number: int) -> float:
    shares = np.exp(logits - logits.max())
    return float(shares[number] / shares.sum())
