"""From the shapes of somebody's tensors to the options of a network, and from a network to places.

A ``Place`` says where a layer with parameters stands, without a name. A dialect names places; the
places of a network come from its layers. A ``Sketch`` is what names and shapes show of a network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from resnetkit.architecture import catalog
from resnetkit.architecture.block import EXPANSION, squeeze_width
from resnetkit.architecture.layer import Conv, Linear, Norm, Pool, Shape
from resnetkit.architecture.network import Network
from resnetkit.architecture.options import BlockKind, Options, StemKind

Kind = Literal["conv", "norm", "linear"]
Part = Literal["stem", "main", "gate", "shortcut", "head"]

#: The tensors of each kind of layer, by torch's names; a convolution may have a bias besides.
TENSORS: Mapping[Kind, tuple[str, ...]] = {
    "conv": ("weight",),
    "norm": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    "linear": ("weight", "bias"),
}
#: Options in which a network has to agree with one of the catalogue to be called by its name.
_STRUCTURE = frozenset(
    "depths block widths groups width_per_group "
    "stem stem_widths shortcut squeeze_excitation".split()
)
#: Options that matter least: what a network is used for, and how.
_INCIDENTAL = frozenset("classes input_channels output_stride dilation_entry norm_momentum".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a layer with parameters stands.

    ``number`` counts from 1 the layers of its kind in its part of the block (or of the stem);
    ``stage`` and ``block`` are those of ``layer1.0``. The rest is what a name may depend on:
    ``stem`` and ``kind_of_block`` of the network, ``averaged`` where its shortcuts have average
    pools, and ``pooled`` where this very shortcut has one.
    """

    kind: Kind
    part: Part
    number: int = 1
    stage: int = 0
    block: int = 0
    stem: StemKind = "7x7"
    averaged: bool = False
    pooled: bool = False


def places(network: Network) -> dict[str, Place]:
    """Every layer with parameters: the path of its torch submodule, and its place."""
    found: dict[str, Place] = {}
    counts: Counter[tuple[str | None, Part, Kind]] = Counter()
    stages = {stage.name: number for number, stage in enumerate(network.stages)}
    indices = {
        block.name: index for stage in network.stages for index, block in enumerate(stage.blocks)
    }
    pooled = {
        block.name: bool(block.shortcut) and isinstance(block.shortcut[0], Pool)
        for stage in network.stages
        for block in stage.blocks
    }
    options = network.options
    for located in network.layers():
        kind = _kind(located.layer)
        if kind is None:
            continue
        part: Part = "head" if kind == "linear" else "stem"
        if located.block is not None:
            assert located.branch != "junction"
            part = located.branch
        counts[located.block, part, kind] += 1
        found[located.path] = Place(
            kind=kind,
            part=part,
            number=counts[located.block, part, kind],
            stage=stages.get(located.stage, 0),
            block=0 if located.block is None else indices[located.block],
            stem=options.stem,
            averaged=options.shortcut == "avgpool+projection",
            pooled=part == "shortcut" and pooled[str(located.block)],
        )
    return found


def _kind(layer: object) -> Kind | None:
    for kind, cls in (("conv", Conv), ("norm", Norm), ("linear", Linear)):
        if isinstance(layer, cls):
            return kind  # type: ignore[return-value]
    return None


def tensors(network: Network) -> dict[str, Shape]:
    """The tensors of the torch module of ``network`` by name, with their shapes."""
    found: dict[str, Shape] = {}
    for located in network.layers():
        layer, path = located.layer, located.path
        if isinstance(layer, Conv):
            kernel = layer.slides.kernel
            found[f"{path}.weight"] = (layer.outputs, layer.inputs // layer.groups, kernel, kernel)
            if layer.bias:
                found[f"{path}.bias"] = (layer.outputs,)
        elif isinstance(layer, Norm):
            for name in TENSORS["norm"]:
                found[f"{path}.{name}"] = () if name == "num_batches_tracked" else (layer.channels,)
        elif isinstance(layer, Linear):
            found[f"{path}.weight"] = (layer.outputs, layer.inputs)
            found[f"{path}.bias"] = (layer.outputs,)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvSketch:
    """A convolution and its norm: the kernel's shape, output first, and the votes for its width.

    A width is voted for by every tensor that has it, so that one wrong tensor is found to be wrong
    instead of changing the description.
    """

    kernel: Shape | None
    votes: tuple[int, ...]
    bias: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSketch:
    """The convolutions of one block; ``squeezed`` is the width inside its gate."""

    main: tuple[ConvSketch, ...]
    shortcut: ConvSketch | None = None
    pooled: bool = False
    gated: bool = False
    squeezed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What names and shapes show of a network."""

    stem: tuple[ConvSketch, ...]
    stages: tuple[tuple[BlockSketch, ...], ...]
    classes: int | None
    averaged: bool = False

    def blocks(self) -> Iterator[BlockSketch]:
        for stage in self.stages:
            yield from stage


def describe(sketch: Sketch) -> dict[str, Any]:
    """The options that the shapes show.

    Never raises for odd shapes: what does not agree is found when the tensors of the network that
    is described are compared with those that are there.
    """
    convolutions = max(len(block.main) for block in sketch.blocks())
    kind: BlockKind = "bottleneck" if convolutions > 2 else "basic"
    outputs = [_agreed(block.main[-1] for block in stage) for stage in sketch.stages]
    widths = tuple(max(1, width // EXPANSION[kind]) for width in outputs)
    stem = _stem(sketch)
    found: dict[str, Any] = {
        "depths": tuple(len(stage) for stage in sketch.stages),
        "block": kind,
        "widths": widths,
        **stem,
        "shortcut": _shortcut(sketch, (stem["stem_widths"][-1], *outputs)),
        "conv_bias": _most(conv.bias for conv in _convs(sketch)),
        "classes": sketch.classes,
    }
    if kind == "bottleneck":
        found["groups"], found["width_per_group"] = _middle(sketch, widths)
    if _most(block.gated for block in sketch.blocks()):
        found["squeeze_excitation"], found["squeeze_multiple"] = squeeze(
            (width, block.squeezed)
            for width, stage in zip(outputs, sketch.stages, strict=True)
            for block in stage
            if block.squeezed is not None
        )
    return {**found, **_dilation(sketch, found)}


def _convs(sketch: Sketch) -> Iterator[ConvSketch]:
    """The convolutions outside gates."""
    yield from sketch.stem
    for block in sketch.blocks():
        yield from block.main
        if block.shortcut is not None:
            yield block.shortcut


def _most(answers: Iterable[bool]) -> bool:
    """Whether more than half say yes."""
    given = list(answers)
    return 2 * sum(given) > len(given)


def _agreed(convs: Iterable[ConvSketch]) -> int:
    """The width that most tensors vote for; 1 where there is none."""
    votes = Counter(vote for conv in convs for vote in conv.votes)
    return max(1, votes.most_common(1)[0][0]) if votes else 1


def _stem(sketch: Sketch) -> dict[str, Any]:
    """Kind, widths and input channels; a single convolution is told by its kernel."""
    kernel = sketch.stem[0].kernel
    stem: StemKind = "deep" if len(sketch.stem) > 1 else "7x7"
    if stem == "7x7" and kernel is not None and kernel[2:] == (3, 3):
        stem = "3x3"
    return {
        "stem": stem,
        "stem_widths": tuple(_agreed([conv]) for conv in sketch.stem),
        "input_channels": 3 if kernel is None else max(1, kernel[1]),
    }


def _shortcut(sketch: Sketch, outputs: tuple[int, ...]) -> str:
    """By the shortcuts of blocks that change the width or the resolution: option A has no tensors.

    ``outputs`` are the widths after the stem and after each stage; from stage 2 on, the first
    block has a stride.
    """
    changing = [
        stage[0].shortcut is not None
        for index, stage in enumerate(sketch.stages)
        if index > 0 or outputs[index] != outputs[index + 1]
    ]
    if changing and not any(changing):
        return "pad"
    return "avgpool+projection" if sketch.averaged else "projection"


def _middle(sketch: Sketch, widths: tuple[int, ...]) -> tuple[int, int]:
    """Groups, and the smallest width per group that gives every stage's 3x3 convolution.

    ``middle = width * width_per_group // 64 * groups`` (Xie et al. 2017, as in torchvision).
    """
    groups: Counter[int] = Counter()
    wanted: list[tuple[int, int]] = []
    for width, stage in zip(widths, sketch.stages, strict=True):
        middle = _agreed(conv for block in stage for conv in block.main[:2])
        wanted.append((width, middle))
        groups.update(
            middle // block.main[1].kernel[1]
            for block in stage
            if block.main[1].kernel is not None and block.main[1].kernel[1] > 0
        )
    count = max(1, groups.most_common(1)[0][0]) if groups else 1
    candidates = Counter(max(1, -(-(middle // count) * 64 // width)) for width, middle in wanted)
    fits = {
        candidate: sum(width * candidate // 64 * count == middle for width, middle in wanted)
        for candidate in candidates
    }
    return count, max(candidates, key=lambda candidate: (fits[candidate], -candidate))


def squeeze(gates: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Reduction and multiple of squeeze-excitation from pairs of (channels, squeezed channels).

    Tried from the usual ones on: reduction 16 and multiple 8 (timm), multiple 1 (Hu et al. 2018).
    Several pairs can give the same widths, and then they are the same network.
    """
    pairs = Counter(gates)
    largest = max((channels for channels, _ in pairs), default=16)
    tried = ((r, m) for r in (16, *range(1, largest + 1)) for m in (8, 1, 4, 2, 16, 32))

    def score(choice: tuple[int, int]) -> int:
        return sum(n for (c, s), n in pairs.items() if squeeze_width(c, *choice) == s)

    best, most = (16, 8), -1
    for choice in tried:
        if (points := score(choice)) > most:
            best, most = choice, points
        if most == sum(pairs.values()):
            break
    return best


def _dilation(sketch: Sketch, found: Mapping[str, Any]) -> dict[str, Any]:
    """Dilated stages of ResNet-D have no pool in the shortcut, where the entry is dilated too.

    That is the one case in which a name shows the output stride (mmpretrain).
    """
    pooled = [stage[0].pooled for stage in sketch.stages[1:]]
    dilated = len(pooled) - sum(pooled)
    if not sketch.averaged or not any(pooled) or not 0 < dilated < 3 or any(pooled[-dilated:]):
        return {}
    natural = Options(**found).natural_stride
    return {"output_stride": natural // 2**dilated, "dilation_entry": "own"}


@cache
def _catalogued() -> tuple[tuple[catalog.Entry, Options], ...]:
    """The catalogue's entries with all of their options."""
    return tuple((entry, Options(**entry.options)) for entry in catalog.catalog())


def named(options: Options) -> Network:
    """The network of ``options`` with the name of the catalogue's nearest of that structure.

    ``custom`` is the name where the catalogue has none; ``catalog.changes`` tells the differences.
    """
    best: tuple[tuple[int, int], catalog.Entry] | None = None
    for entry, theirs in _catalogued():
        differences = options.differences(theirs)
        if _STRUCTURE & set(differences):
            continue
        distance = (len(set(differences) - _INCIDENTAL), len(differences))
        if best is None or distance < best[0]:
            best = distance, entry
    if best is None:
        return Network(name="custom", options=options, about="a ResNet read from its tensors")
    return replace(best[1].network(), options=options)
