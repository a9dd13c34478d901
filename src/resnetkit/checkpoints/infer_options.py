"""Infers network options from the shapes of a checkpoint's tensors.

A ``Sketch`` is a network as far as names and shapes determine it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resnetkit.architecture.block import attention_kernel, squeeze_width
from resnetkit.architecture.layer import Shape
from resnetkit.architecture.option_fields import EXPANSION, BlockKind, NormKind, StemKind
from resnetkit.architecture.options import Options
from resnetkit.architecture.parameters import catalogued


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvSketch:
    """A convolution and its norm: the kernel's shape, output first, and the votes for its width.

    Every tensor with a width votes for it, so that one wrong tensor is reported instead of changing
    the description.
    """

    kernel: Shape | None
    votes: tuple[int, ...]
    bias: bool
    norm: NormKind = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSketch:
    """The convolutions of one block.

    ``squeezed`` is the width inside its gate; ``attention`` a gate's along the channels.
    """

    main: tuple[ConvSketch, ...]
    shortcut: ConvSketch | None = None
    pooled: bool = False
    gated: bool = False
    squeezed: int | None = None
    attention: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """A network by names and shapes; ``pool`` is a convolution in place of the stem's pool."""

    stem: tuple[ConvSketch, ...]
    stages: tuple[tuple[BlockSketch, ...], ...]
    classes: int | None
    averaged: bool = False
    pool: ConvSketch | None = None

    def blocks(self) -> Iterator[BlockSketch]:
        for stage in self.stages:
            yield from stage


def describe(sketch: Sketch) -> dict[str, Any]:
    """The options determined by the shapes.

    Never raises for odd shapes: mismatches are found when the described network's tensors are
    compared with those in the file.
    """
    kinds = tuple(_block(stage) for stage in sketch.stages)
    outputs = [_agreed(block.main[-1] for block in stage) for stage in sketch.stages]
    widths = tuple(
        max(1, width // EXPANSION[kind]) for width, kind in zip(outputs, kinds, strict=True)
    )
    stem = _stem(sketch)
    found: dict[str, Any] = {
        "depths": tuple(len(stage) for stage in sketch.stages),
        "block": kinds[-1],
        "blocks": kinds if len(set(kinds)) > 1 else None,
        "widths": widths,
        "reduce_first": 1,
        "conv_widths": None,
        **stem,
        "shortcut": _shortcut(sketch, (stem["stem_widths"][-1], *outputs)),
        "shortcut_kernel": _shortcut_kernel(sketch),
        "efficient_attention": False,
        "conv_bias": _most(conv.bias for conv in _convs(sketch)),
        "norm": Counter(conv.norm for conv in _convs(sketch)).most_common(1)[0][0],
        "num_classes": sketch.classes,
    }
    if sketch.pool is not None:
        found["stem_pool"] = "conv"
    found |= _widths(sketch, kinds, widths)
    if _most(block.gated for block in sketch.blocks()):
        attentive = _most(block.attention is not None for block in sketch.blocks())
        found |= {"efficient_attention": True} if attentive else _squeezed(sketch, outputs)
    if found["efficient_attention"] and found["conv_widths"] is not None:
        found["widths"] = _unpruned(sketch, kinds, found)
    return {**found, **_dilation(sketch, found)}


def _block(stage: tuple[BlockSketch, ...]) -> BlockKind:
    return "bottleneck" if max(len(block.main) for block in stage) > 2 else "basic"


def _squeezed(sketch: Sketch, outputs: Sequence[int]) -> dict[str, int]:
    reduction, multiple = squeeze(
        (width, block.squeezed)
        for width, stage in zip(outputs, sketch.stages, strict=True)
        for block in stage
        if block.squeezed is not None
    )
    return {"squeeze_excitation": reduction, "squeeze_multiple": multiple}


def _convs(sketch: Sketch) -> Iterator[ConvSketch]:
    """The convolutions outside gates."""
    yield from sketch.stem
    if sketch.pool is not None:
        yield sketch.pool
    for block in sketch.blocks():
        yield from block.main
        if block.shortcut is not None:
            yield block.shortcut


def _most(answers: Iterable[bool]) -> bool:
    """Whether more than half are true."""
    given = list(answers)
    return 2 * sum(given) > len(given)


def _agreed(convs: Iterable[ConvSketch]) -> int:
    """The width with most votes; 1 if there are none."""
    votes = Counter(vote for conv in convs for vote in conv.votes)
    return max(1, votes.most_common(1)[0][0]) if votes else 1


def _stem(sketch: Sketch) -> dict[str, Any]:
    """Kind, widths and input channels; a single convolution is recognised by its kernel."""
    kernel = sketch.stem[0].kernel
    stem: StemKind = "deep" if len(sketch.stem) > 1 else "7x7"
    if stem == "7x7" and kernel is not None and kernel[2:] == (3, 3):
        stem = "3x3"
    return {
        "stem": stem,
        "stem_widths": tuple(_agreed([conv]) for conv in sketch.stem),
        "in_chans": 3 if kernel is None else max(1, kernel[1]),
    }


def _shortcut(sketch: Sketch, outputs: tuple[int, ...]) -> str:
    """By the shortcuts of blocks that change width or resolution; option A has no tensors.

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


def _shortcut_kernel(sketch: Sketch) -> int:
    """The kernel of the strided projections, i.e. from stage 2 on."""
    first = (stage[0].shortcut for stage in sketch.stages[1:])
    kernels = [conv.kernel[2:] for conv in first if conv is not None and conv.kernel is not None]
    wide = not sketch.averaged and _most(kernel == (3, 3) for kernel in kernels)
    return 3 if wide else 1


def _widths(
    sketch: Sketch, kinds: tuple[BlockKind, ...], widths: tuple[int, ...]
) -> dict[str, Any]:
    """A rule for the widths inside the blocks, or if none fits most of them, all widths."""
    found: dict[str, Any] = {}
    if set(kinds) == {"bottleneck"}:
        found["groups"], found["width_per_group"] = _middle(sketch, widths)
        middles = tuple(w * found["width_per_group"] // 64 * found["groups"] for w in widths)
    else:
        middles = widths
    stages = list(zip(sketch.stages, kinds, middles, strict=True))
    seen = [
        (_agreed([block.main[at]]), middle, at)
        for stage, kind, middle in stages
        for block in stage
        for at in range(1 if kind == "basic" else 2)
    ]
    found["reduce_first"] = reduce = _reduction([(w, middle) for w, middle, at in seen if at == 0])
    irregular = [width != (middle // reduce if at == 0 else middle) for width, middle, at in seen]
    if found.get("groups", 1) > 1 or not _most(irregular):
        return found
    return {
        "conv_widths": tuple(
            _agreed(c for block in stage for c in [block.main[-1]])
            if at == len(block.main) - 1
            else _agreed([conv])
            for stage in sketch.stages
            for block in stage
            for at, conv in enumerate(block.main)
        )
    }


def _reduction(pairs: Sequence[tuple[int, int]]) -> int:
    """The smallest divisor that fits most of the first convolutions, of (width, middle)."""
    largest = max(max(1, middle // width) for width, middle in pairs)
    tried = range(1, min(largest, 64) + 1)
    fits = {by: sum(middle // by == width for width, middle in pairs) for by in tried}
    return max(fits, key=lambda by: (fits[by], -by))


def _unpruned(
    sketch: Sketch, kinds: tuple[BlockKind, ...], found: Mapping[str, Any]
) -> tuple[int, ...]:
    """The widths before pruning, from the kernels along the channels: the catalogue's, or the
    nearest powers of two with the same kernels."""
    for _, options in catalogued():
        if options.conv_widths == found["conv_widths"]:
            return options.widths
    widths = []
    for stage, kind, width in zip(sketch.stages, kinds, found["widths"], strict=True):
        ((kernel, _),) = Counter(block.attention for block in stage).most_common(1)
        powers = (2**power for power in range(24))
        fitting = [w for w in powers if attention_kernel(w * EXPANSION[kind]) == kernel]
        widths.append(min(fitting, key=lambda w: abs(w - width), default=width))
    return tuple(widths)


def _middle(sketch: Sketch, widths: tuple[int, ...]) -> tuple[int, int]:
    """Groups, and the smallest width per group that fits every stage's 3x3 convolution.

    ``middle = width * width_per_group // 64 * groups`` (Xie et al. 2017, as in torchvision). The
    first convolution has the same width, or a part of it that is outvoted by the 3x3.
    """
    groups: Counter[int] = Counter()
    wanted: list[tuple[int, int]] = []
    for width, stage in zip(widths, sketch.stages, strict=True):
        middle = _agreed(block.main[1] for block in stage)
        wanted.append((width, middle))
        groups.update(
            _agreed([block.main[0]]) // block.main[1].kernel[1]
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

    The usual ones are tried first: reduction 16 and multiple 8 (timm), multiple 1 (Hu et al. 2018).
    Pairs that give the same widths are the same network.
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
    """Dilated stages of ResNet-D have no pool in the shortcut if the entry is dilated too.

    Only in this case do names determine the output stride (mmpretrain).
    """
    pooled = [stage[0].pooled for stage in sketch.stages[1:]]
    dilated = len(pooled) - sum(pooled)
    if not sketch.averaged or not any(pooled) or not 0 < dilated < 3 or any(pooled[-dilated:]):
        return {}
    natural = Options(**found).natural_stride
    return {"output_stride": natural // 2**dilated, "dilation_entry": "own"}
