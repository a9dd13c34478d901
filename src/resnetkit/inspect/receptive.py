"""Receptive fields: which input pixels one unit of a map depends on, and how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from resnetkit.architecture import registry
from resnetkit.architecture.layer import shape_text
from resnetkit.architecture.network import Network
from resnetkit.architecture.shape_inference import walk
from resnetkit.bundle.bundle import Bundle
from resnetkit.data.decoding.decode import Image
from resnetkit.display import Displayed
from resnetkit.errors import InputError, require
from resnetkit.inspect import gradients
from resnetkit.inspect.backward_walk import Span, traced
from resnetkit.inspect.colours import coloured, enlarged
from resnetkit.inspect.models import Model, as_bundle
from resnetkit.inspect.photo import Box
from resnetkit.inspect.places import place_named

#: The share of the energy that the width of an effective field holds: two standard deviations of a
#: Gaussian (Luo et al. 2016).
SHARE = 0.9545
#: Noise images of an effective field, and images in one pass.
NOISE, _BATCH = 16, 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EffectiveField:
    """How much each pixel matters: the mean squared gradient ``energy`` ``(H, W)`` over ``images``
    images, whose sum is 1, and ``width``, the side of the smallest square around the centre of the
    receptive field that has 95.45 % of it."""

    energy: npt.NDArray[np.float64]
    width: int
    images: int

    def image(self, side: int = 448) -> PIL.Image.Image:
        """The square root of the energy as a picture, dark to bright."""
        return enlarged(coloured(np.sqrt(self.energy), low=0.0), side)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReceptiveField(Displayed):
    """The input pixels that the unit at ``position`` (row, column) of a map depends on.

    ``box`` is the receptive field in input pixels; at the edges it reaches beyond the picture, into
    the padding. ``clipped`` is the smallest rectangle with all pixels that the unit depends on;
    None if there are none, in padding that rounding up has added. ``stride`` is the distance of
    neighbouring units. ``everywhere`` says through what the unit depends on all other pixels too;
    it is None if it does not. ``effective`` is None unless it was asked for.
    """

    network: Network
    path: str
    input: tuple[int, int, int]
    output: tuple[int, ...]
    position: tuple[int, int]
    box: Box
    clipped: Box | None
    stride: int
    everywhere: str | None
    effective: EffectiveField | None = None

    @property
    def side(self) -> int:
        """The longer side of the box."""
        return int(max(self.box.width, self.box.height))

    @property
    def centre(self) -> tuple[float, float]:
        """The centre of the box (row, column); that of the first pixel is 0.5."""
        return self.box.top + self.box.height / 2, self.box.left + self.box.width / 2

    def __str__(self) -> str:
        row, column = self.position
        lines = [
            f"{self.network.name} at {shape_text(self.input)}: the unit ({row}, {column}) of "
            f"{self.path}, {shape_text(self.output)}",
            f"sees {_text(self.box)}",
        ]
        if self.clipped is None:
            lines.append("none of them in the picture")
        elif self.clipped != self.box:
            lines.append(f"of which {_text(self.clipped)} in the picture")
        if self.everywhere is not None:
            lines.append(f"and all other pixels through {self.everywhere}")
        if self.effective is not None:
            found = self.effective
            lines.append(
                f"{SHARE:.2%} of the gradient's energy in {found.width}x{found.width} pixels, over "
                f"{found.images} images"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without the energy of single pixels."""
        found = self.effective
        return {
            "network": self.network.name,
            "path": self.path,
            "input": list(self.input),
            "output": list(self.output),
            "position": list(self.position),
            "side": self.side,
            "stride": self.stride,
            "centre": list(self.centre),
            "box": list(self.box),
            "clipped": None if self.clipped is None else list(self.clipped),
            "everywhere": self.everywhere,
            "effective": None
            if found is None
            else {"width": found.width, "share": SHARE, "images": found.images},
        }


def receptive_field(
    model: Model | Network,
    at: str,
    position: tuple[int, int] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    effective: bool = False,
    images: Sequence[Image] | None = None,
) -> ReceptiveField:
    """The receptive field of one unit of the map at ``at``, a stage, block or layer.

    ``model`` is a network or the name of one, a bundle or its path, or a module. ``position`` is
    (row, column), by default the middle. ``size`` is the input's side, or (height, width); by
    default that of the bundle or network. It is computed from the description, without torch, and
    exact for strides, padding, dilation, rounding and all paths.

    ``effective`` adds how much each pixel matters, by the gradients of the unit's channels, summed,
    with respect to the input (Luo et al. 2016, arXiv:1701.04128), over ``images``, by default 16 of
    normal noise; requires torch. A network without weights is initialised with seed 0.

    Raises ``ValueError`` for an unknown name or path, a position outside the map, a size that the
    network cannot take, and without torch for an effective one.

    >>> found = receptive_field("resnet50", "stage4")
    >>> found.side, found.stride
    (427, 32)
    """
    network, bundle = _given(model, images is not None)
    place = place_named(network, at)
    shape = _shape(network, bundle, size)
    steps = {step.path: step for step in walk(network, shape).steps}
    output = steps[place.layer].output
    if output is None:
        raise InputError(
            f"the head cannot process {shape_text(shape)}; give another size", field="size"
        )
    where = _position(position, output, place.path)
    (rows, columns), everywhere = traced(steps, place.layer, where, shape)
    found = ReceptiveField(
        network=network,
        path=place.path,
        input=shape,
        output=output,
        position=where,
        box=_box(rows.free, columns.free),
        clipped=None
        if rows.inside is None or columns.inside is None
        else _box(rows.inside, columns.inside),
        stride=steps[place.layer].stride,
        everywhere=everywhere,
    )
    if not effective:
        if images is not None:
            raise InputError("images have no effect without effective", field="images")
        return found
    return replace(found, effective=_effective(found, bundle, place.layer, images))


def _given(model: Model | Network, pictures: bool) -> tuple[Network, Bundle | None]:
    if isinstance(model, Network):
        return model, None
    if isinstance(model, str) and not Path(model).exists() and model in registry.names():
        return registry.network(model), None
    if isinstance(model, str) and not Path(model).suffix and not Path(model).exists():
        registry.network(model)  # raises the error that fits a name
    bundle = as_bundle(model, pictures=pictures)
    return bundle.network, bundle


def _shape(
    network: Network, bundle: Bundle | None, size: int | tuple[int, int] | None
) -> tuple[int, int, int]:
    if size is None:
        size = network.input_size if bundle is None else bundle.preprocess.size
    height, width = (size, size) if isinstance(size, int) else size
    return network.options.in_chans, height, width


def _position(
    position: tuple[int, int] | None, output: tuple[int, ...], path: str
) -> tuple[int, int]:
    height, width = output[1:] if len(output) == 3 else (1, 1)
    if position is None:
        return height // 2, width // 2
    row, column = position
    if not (0 <= row < height and 0 <= column < width):
        raise InputError(
            f"position is {position!r}, and {path} has {height} rows and {width} columns, from 0",
            field="position",
        )
    return row, column


def _box(rows: Span, columns: Span) -> Box:
    return Box(
        left=columns.low,
        top=rows.low,
        width=columns.high - columns.low + 1,
        height=rows.high - rows.low + 1,
    )


def _effective(
    field: ReceptiveField, bundle: Bundle | None, layer: str, images: Sequence[Image] | None
) -> EffectiveField:
    torch = require("torch", "an effective receptive field")
    from resnetkit.nn.resnet import build

    if bundle is not None:
        module = bundle.module()
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = build(field.network).eval()
    module = module.float().requires_grad_(False)
    if images is None:
        noise = np.random.default_rng(0).standard_normal((NOISE, *field.input), np.float32)
        inputs = list(torch.from_numpy(noise))
    else:
        inputs = _inputs_of(images, bundle, field.input)
    total = np.zeros(field.input[1:])
    for first in range(0, len(inputs), _BATCH):
        batch = torch.stack(inputs[first : first + _BATCH])
        energy = gradients.input_energy(module, batch, layer, field.position)
        total += energy.sum(axis=0, dtype=np.float64)
    if not total.sum() > 0 or not np.isfinite(total).all():
        raise InputError(
            f"the gradient of {field.path} is zero or not finite, so it has no effective field; "
            "give other images or weights",
            field="at",
        )
    energy = total / total.sum()
    return EffectiveField(energy=energy, width=_width(energy, field.centre), images=len(inputs))


def _inputs_of(
    images: Sequence[Image], bundle: Bundle | None, shape: tuple[int, int, int]
) -> list[Any]:
    if bundle is None:
        raise InputError(
            "images require preprocessing, which a network lacks; give a bundle", field="images"
        )
    if not len(images):
        raise InputError("images is empty; give at least one", field="images")
    if shape[1:] != (bundle.preprocess.size,) * 2:
        raise InputError(
            f"images are {bundle.preprocess.size} pixels a side after the preprocessing, not "
            f"{shape_text(shape[1:])}; leave out size",
            field=("images", "size"),
        )
    from resnetkit.data.decoding.tensors import to_input

    return [to_input(image, bundle.preprocess) for image in images]


def _width(energy: npt.NDArray[np.float64], centre: tuple[float, float]) -> int:
    """The side of the smallest square of pixels around the centre's with the share."""
    rows, columns = map(int, energy.shape)
    row, column = (
        min(max(math.floor(at), 0), side - 1)
        for at, side in zip(centre, (rows, columns), strict=True)
    )
    for half in range(max(rows, columns)):
        part = energy[
            max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1
        ]
        if part.sum() >= SHARE:
            return 2 * half + 1
    return 2 * max(rows, columns) - 1


def _text(box: Box) -> str:
    return (
        f"{box.width:g}x{box.height:g} pixels, columns {box.left:g} to {box.left + box.width - 1:g}"
        f" and rows {box.top:g} to {box.top + box.height - 1:g}"
    )
