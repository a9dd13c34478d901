"""An ONNX file as a parsed checkpoint; the names in the file are ignored.

Its container has the network's tensors under our names and in our layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from resnetkit.architecture.network import Network
from resnetkit.checkpoints.checkpoint import Reading, compare
from resnetkit.checkpoints.dialect import GREY, DialectPreprocess, fitting
from resnetkit.checkpoints.dialects import DIALECTS
from resnetkit.checkpoints.onnx_graph.network_options import described
from resnetkit.checkpoints.onnx_graph.nodes import Graph, Tensor
from resnetkit.checkpoints.onnx_graph.operations import Op, refuse
from resnetkit.checkpoints.onnx_graph.structure import Structure, matched
from resnetkit.checkpoints.onnx_graph.tensors import line, spread, tensors_of
from resnetkit.checkpoints.onnx_graph.translation import Translation
from resnetkit.checkpoints.onnx_graph.values import plain
from resnetkit.checkpoints.resolve_facts import preprocessing
from resnetkit.errors import InputError
from resnetkit.formats.container import ArrayInfo, Container
from resnetkit.preprocess import Channels, Preprocess

if TYPE_CHECKING:
    from resnetkit.checkpoints.dialect import Array

NAME = "onnx"
_FROM = "the graph"
#: Options that may still be given: a head can be omitted, and momentum only affects training.
_FREE = ("num_classes", "norm_momentum")
_OURS = next(dialect for dialect in DIALECTS if dialect.name == "resnetkit")
#: Dialects whose preprocessing is offered, as a graph may come from any of them.
_SOURCES = ("torchvision", "mmpretrain", "keras", "caffe2")
#: The norm epsilon of keras.applications.resnet, unique among frameworks.
_KERAS_EPSILON = 1.001e-5
#: ImageNet's means of red, green and blue in 0..1, which identify the channel order; and their
#: tolerance.
_IMAGENET, _NEAR = (0.485, 0.456, 0.406), 0.01
#: Larger means are for pixels in 0..255.
_LARGEST_UNIT_MEAN = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReading(Reading):
    """A parsed graph. ``settle`` rejects values that contradict the graph."""

    def settle(self, **facts: Any) -> Reading:
        """As ``Reading.settle``; facts of the graph may be given, but not changed."""
        options = self.network.options
        for name, value in facts.items():
            stated = getattr(options, name, value)
            if self.known.get(name) == _FROM and value != stated and name not in _FREE:
                raise InputError(
                    f"the graph has {name} {stated}, and {value} is given; leave it out"
                )
        return Reading.settle(self, **facts)


def read_graph(container: Container) -> tuple[Container, Reading, tuple[str, ...]]:
    """The network in a container of kind ``onnx``: its tensors, the reading, and warnings.

    Raises ``InputError`` with the operation at which the graph stops being a ResNet.
    """
    structure = matched(Translation(Graph(container)).output)
    found = described(structure)
    tensors = tensors_of(found)
    ours = _container(container, tensors)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    stated = _normalisation(structure)
    known = stated if len(stated) == 1 else ()
    offered = stated or _choices(structure.input, found.network)
    offered = () if known else offered
    dialect = replace(
        _OURS,
        name=NAME,
        about="a graph of operations, by its structure",
        source="https://onnx.ai/onnx/operators/",
        facts=(),
        preprocess=offered,
    )
    reading = compare(dialect, shapes, "", True, found.network)
    values = {field.name: getattr(reading, field.name) for field in fields(reading)}
    return (
        ours,
        GraphReading(
            **{
                **values,
                "known": _known(found.network, structure),
                "choices": known,
                "ambiguous": (preprocessing(dialect.preprocess),) if dialect.preprocess else (),
            }
        ),
        _warnings(structure),
    )


def _container(container: Container, tensors: Mapping[str, Tensor]) -> Container:
    infos = {
        name: ArrayInfo(path=(name,), shape=tensor.shape, dtype=tensor.dtype)
        for name, tensor in tensors.items()
    }

    def reader(name: str) -> Array:
        return tensors[name].read()

    return replace(container, arrays=MappingProxyType(infos), reader=reader)


def _known(network: Network, structure: Structure) -> dict[str, str]:
    """All options except those absent from the graph."""
    known = dict.fromkeys(network.options.to_dict(), _FROM)
    del known["norm_groups"]
    norms = [op for unit in structure.units() for op in unit.rest if op.kind == "norm"]
    if not norms:
        del known["norm_epsilon"]
    if len({op.momentum for op in norms} - {None}) != 1:
        del known["norm_momentum"]
    return known


def _choices(image: Op, network: Network) -> tuple[DialectPreprocess, ...]:
    """The usual preprocessings, for the graph's image size."""
    if network.options.in_chans == 1:
        return (replace(GREY, preprocess=_sized(GREY.preprocess, image)),)
    of_keras = math.isclose(network.options.norm_epsilon, _KERAS_EPSILON, rel_tol=1e-4)
    sources = ("keras",) if of_keras else _SOURCES
    documented = (c for d in DIALECTS if d.name in sources for c in d.preprocess)
    found = fitting(documented, network)
    return tuple(replace(choice, preprocess=_sized(choice.preprocess, image)) for choice in found)


def _sized(preprocess: Preprocess, image: Op) -> Preprocess:
    """Scale to the graph's image size, with the same crop ratio."""
    size = image.size[0]
    if size is None or image.size[1] != size:
        return preprocess
    resized = preprocess.resize_to
    return replace(
        preprocess,
        size=size,
        resize_to=None if resized is None else round(resized * size / preprocess.size),
    )


def _normalisation(structure: Structure) -> tuple[DialectPreprocess, ...]:
    """The graph's own normalisation: means subtracted, a division per channel.

    Only ImageNet's means identify the channel order; for others there are two choices.
    """
    channels = structure.stem[0].layer.tensors["weight"].shape[1]
    if not structure.before:
        return ()
    if channels not in (1, 3):
        raise refuse(structure.before[0].text, f"prepares images of {channels} channels")
    mean, std = _mean_and_std(structure, channels)
    whole = max(map(abs, mean)) > _LARGEST_UNIT_MEAN or min(std) > _LARGEST_UNIT_MEAN
    source = "the graph's first operations; the usual resizing"

    def choice(label: str, order: Channels) -> DialectPreprocess:
        preprocess = Preprocess(
            size=224,
            resize_to=256,
            channels=order,
            divisor=1.0 if whole else 255.0,
            mean=mean,
            std=std,
        )
        preprocess = _sized(preprocess, structure.input)
        return DialectPreprocess(label=label, preprocess=preprocess, source=source)

    if channels == 1:
        return (choice("graph", "L"),)
    shares = [number / 255 if whole else number for number in mean]
    orders: Mapping[Channels, tuple[float, ...]] = {"RGB": _IMAGENET, "BGR": _IMAGENET[::-1]}
    for order, means in orders.items():
        if all(abs(one - other) < _NEAR for one, other in zip(shares, means, strict=True)):
            source += "; the channel order is that of ImageNet's means"
            return (choice("graph", order),)
    source += "; they do not determine the channel order"
    return choice("graph-rgb", "RGB"), choice("graph-bgr", "BGR")


def _mean_and_std(
    structure: Structure, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation from ``scale * x + offset``."""
    scale, offset = line(structure.before)
    scales, offsets = ([float(number) for number in spread(part, channels)]
                       for part in (scale, offset))  # fmt: skip
    if not all(map(math.isfinite, (*scales, *offsets))) or min(scales) <= 0:
        raise refuse(structure.before[0].text, "changes the image other than by normalisation")
    mean = tuple(plain(-add / factor) for factor, add in zip(scales, offsets, strict=True))
    return mean, tuple(plain(1 / factor) for factor in scales)


def _warnings(structure: Structure) -> tuple[str, ...]:
    found = [f"{op.text} at the end is removed; the output is logits" for op in structure.after]
    last = structure.linear.layer if structure.linear else None
    if structure.head_pool is None and (last is None or last.size != (1, 1)):
        found.append("the graph ends in a map; the network pools it as well")
    return tuple(found)
