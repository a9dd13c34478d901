"""Parameter names and shapes of a network, and the network's name from its options.

A ``Place`` is the position of a layer with parameters, without a name. A dialect names places; the
places of a network are derived from its layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Literal

from resnetkit.architecture import registry
from resnetkit.architecture.families import Entry
from resnetkit.architecture.layer import Conv, Linear, Norm, Pool, Shape
from resnetkit.architecture.network import Network
from resnetkit.architecture.option_fields import StemKind
from resnetkit.architecture.options import Options
from resnetkit.architecture.rare_layer import ChannelConv

ParameterKind = Literal["conv", "norm", "linear"]
NetworkPart = Literal["stem", "main", "gate", "shortcut", "head"]

#: The tensors of each kind of layer, by torch's names; a convolution may also have a bias, and a
#: group norm has only the first two.
TENSORS: Mapping[ParameterKind, tuple[str, ...]] = {
    "conv": ("weight",),
    "norm": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    "linear": ("weight", "bias"),
}
#: Options that must equal those of a catalogue entry for a network to have its name.
_STRUCTURE = frozenset(
    "depths block blocks widths groups width_per_group reduce_first conv_widths stem stem_widths "
    "shortcut shortcut_kernel squeeze_excitation efficient_attention".split()
)
#: Options that matter least: those of how a network is used.
_INCIDENTAL = frozenset("num_classes in_chans output_stride dilation_entry norm_momentum".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The position of a layer with parameters.

    ``number`` counts the layers of its kind in its part of the block (or stem) from 1; ``stage``
    and ``block`` are those of ``layer1.0``. Names may also depend on the network's ``stem``, on
    ``averaged`` (its shortcuts have average pools), ``pooled`` (this shortcut has one) and
    ``efficient`` (a gate's convolution is along the channels). A convolution that replaces the
    stem's pool is numbered after the others.
    """

    kind: ParameterKind
    part: NetworkPart
    number: int = 1
    stage: int = 0
    block: int = 0
    stem: StemKind = "7x7"
    averaged: bool = False
    pooled: bool = False
    efficient: bool = False


def places(network: Network) -> dict[str, Place]:
    """The place of every layer with parameters, by the path of its torch submodule."""
    return dict(_places(network))


@lru_cache(maxsize=32)  # a file is tested with many dialects, often as the same network
def _places(network: Network) -> dict[str, Place]:
    found: dict[str, Place] = {}
    counts: Counter[tuple[str | None, NetworkPart, ParameterKind]] = Counter()
    stages = {stage.name: number for number, stage in enumerate(network.stages)}
    blocks = {
        block.name: (index, isinstance(next(iter(block.shortcut), None), Pool))
        for stage in network.stages
        for index, block in enumerate(stage.blocks)
    }
    options = network.options
    for located in network.layers():
        kind = _kind(located.layer)
        if kind is None:
            continue
        part: NetworkPart = "head" if kind == "linear" else "stem"
        if located.block is not None:
            assert located.branch != "junction"
            part = located.branch
        index, pooled = blocks.get(located.block or "", (0, False))
        counts[located.block, part, kind] += 1
        found[located.path] = Place(
            kind=kind,
            part=part,
            number=counts[located.block, part, kind],
            stage=stages.get(located.stage, 0),
            block=index,
            stem=options.stem,
            averaged=options.shortcut == "avgpool+projection",
            pooled=part == "shortcut" and pooled,
            efficient=isinstance(located.layer, ChannelConv),
        )
    return found


def _kind(layer: object) -> ParameterKind | None:
    if isinstance(layer, Conv | ChannelConv):
        return "conv"
    if isinstance(layer, Norm):
        return "norm"
    return "linear" if isinstance(layer, Linear) else None


def tensors(network: Network) -> dict[str, Shape]:
    """The tensors of the torch module of ``network`` by name, with their shapes."""
    return dict(_tensors(network))


@lru_cache(maxsize=32)
def _tensors(network: Network) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for located in network.layers():
        layer, path = located.layer, located.path
        if isinstance(layer, Conv):
            kernel = layer.slides.kernel
            found[f"{path}.weight"] = (layer.outputs, layer.inputs // layer.groups, kernel, kernel)
            if layer.bias:
                found[f"{path}.bias"] = (layer.outputs,)
        elif isinstance(layer, ChannelConv):
            found[f"{path}.weight"] = (1, 1, layer.kernel)
        elif isinstance(layer, Norm):
            for name in TENSORS["norm"] if layer.groups is None else TENSORS["norm"][:2]:
                found[f"{path}.{name}"] = () if name == "num_batches_tracked" else (layer.channels,)
        elif isinstance(layer, Linear):
            found[f"{path}.weight"] = (layer.outputs, layer.inputs)
            found[f"{path}.bias"] = (layer.outputs,)
    return found


@cache
def catalogued() -> tuple[tuple[Entry, Options], ...]:
    """The catalogue's entries with all of their options."""
    return tuple((entry, Options(**entry.options)) for entry in registry.catalog())


def named(options: Options) -> Network:
    """The network of ``options``, named after the nearest catalogue entry of that structure.

    The name is ``custom`` if there is none; ``registry.changes`` returns the differences.
    """
    entry = nearest_entry(options)
    if entry is None:
        return Network(name="custom", options=options, about="a ResNet read from its tensors")
    return replace(entry.network(), options=options)


def nearest_entry(options: Options) -> Entry | None:
    """The catalogue entry of the structure of ``options`` that differs least; None if none has
    it."""
    best: tuple[tuple[int, int], Entry] | None = None
    for entry, theirs in catalogued():
        if any(getattr(options, name) != getattr(theirs, name) for name in _STRUCTURE):
            continue
        differences = options.differences(theirs)
        distance = (len(set(differences) - _INCIDENTAL), len(differences))
        if best is None or distance < best[0]:
            best = distance, entry
    return None if best is None else best[1]
