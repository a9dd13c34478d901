"""Network options from the structure of a graph, checked against every layer.

Shapes are interpreted as for any checkpoint; strides, pads, pools, dilation and epsilon are in the
graph. Then the described network is compared with the graph, layer by layer, so that unsupported
structures are rejected and never misread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from resnetkit.architecture.block import Located
from resnetkit.architecture.layer import Conv, Pool, Subsample
from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options
from resnetkit.architecture.parameters import Place, named, places
from resnetkit.checkpoints.infer_options import BlockSketch, ConvSketch, Sketch, describe
from resnetkit.checkpoints.onnx_graph.operations import Op, Slide, refuse
from resnetkit.checkpoints.onnx_graph.structure import Block, Structure, Unit
from resnetkit.errors import InputError

_PADDED = Slide(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
_CAFFE = Slide(kernel=(3, 3), strides=(2, 2), ceil=True)
#: The equivalent by exporters without rounding up: the same at every size.
_CAFFE_PADDED = Slide(kernel=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchedNetwork:
    """A network, and the units of the graph by the paths of its convolutions and its ``fc``."""

    network: Network
    units: dict[str, Unit]


def described(structure: Structure) -> MatchedNetwork:
    """The network of ``structure``. Raises ``InputError`` if no options describe it."""
    stages = _stages(structure.blocks)
    found = _found(structure, stages)
    refused: InputError | None = None
    for entry in ("previous", "own", "all"):
        try:
            options = Options(**{**found, "dilation_entry": entry})
        except InputError as error:
            raise refuse("the network", f"cannot be described: {error}") from None
        network = named(options)
        try:
            return MatchedNetwork(network=network, units=_compared(network, structure, stages))
        except InputError as error:
            refused = refused or error
            if options.output_stride == options.natural_stride:
                break  # no stage is dilated
    assert refused is not None
    raise refused


def _stages(blocks: tuple[Block, ...]) -> list[list[Block]]:
    """A stage begins where a shortcut changes the map, or where the dilation changes."""
    stages: list[list[Block]] = []
    dilation = 0
    for block in blocks:
        here = _dilation(block)
        if not stages or block.starts or here != dilation != 0:
            stages.append([])
        # The first block of a stage may have the dilation of the previous stage.
        dilation = 0 if len(stages[-1]) == 0 and block.starts else here
        stages[-1].append(block)
    return stages


def _dilation(block: Block) -> int:
    dilations = [
        unit.layer.slide.dilations[0]
        for unit in block.main
        if unit.layer.slide and unit.layer.slide.kernel != (1, 1)
    ]
    return max(dilations, default=1)


def _found(structure: Structure, stages: list[list[Block]]) -> dict[str, Any]:
    averaged = any(block.pool is not None for block in structure.blocks)
    sketch = Sketch(
        stem=tuple(map(_sketched, structure.stem)),
        stages=tuple(
            tuple(
                BlockSketch(
                    main=tuple(map(_sketched, block.main)),
                    shortcut=_sketched(block.shortcut) if block.shortcut else None,
                    pooled=averaged,
                    gated=bool(block.gate),
                    squeezed=block.gate[0].layer.channels if block.gate else None,
                )
                for block in stage
            )
            for stage in stages
        ),
        classes=structure.linear.layer.channels if structure.linear else None,
        averaged=averaged,
    )
    found = describe(sketch)
    pool = _stem_pool(structure)
    stem = structure.stem[0].layer.slide
    assert stem is not None
    stride = 1
    for unit in structure.stem:
        assert unit.layer.slide is not None
        stride *= unit.layer.slide.strides[0]
    stride *= 1 if pool == "none" else 2
    for stage in stages:
        stride *= stage[0].stride
    return {
        **found,
        "stem_padding": stem.pads[0],
        "stem_conv_stride": 2 if stem.strides[0] == 2 else 1,
        "stem_pool": pool,
        "stride_on": _stride_on(stages),
        "output_stride": stride,
        "head_pool": _head_pool(structure),
        **_norms(structure),
    }


def _sketched(unit: Unit) -> ConvSketch:
    kernel = unit.layer.tensors["weight"].shape
    return ConvSketch(kernel=kernel, votes=(kernel[0],), bias=False, norm="batch")


def _stem_pool(structure: Structure) -> str:
    op = structure.stem_pool
    if op is None:
        return "none"
    assert op.slide is not None
    size = op.inputs[0].size
    for name, slides in (("padded", (_PADDED,)), ("caffe", (_CAFFE, _CAFFE_PADDED))):
        for slide in slides:
            same = (op.slide.kernel, op.slide.strides) == (slide.kernel, slide.strides)
            same = same and op.slide.pads[:2] == slide.pads[:2] and op.slide.dilations == (1, 1)
            equal = (op.slide.pads, op.slide.ceil) == (slide.pads, slide.ceil)
            if same and (equal or (None not in size and slide.output(size) == op.size)):
                return name
    raise refuse(
        op.text,
        f"{_stated(op.slide)}; a stem's pool is 3x3 with stride 2, padded by 1 or by Caffe's rule",
    )


def _stated(slide: Slide) -> str:
    rows, columns = slide.kernel
    pads = ",".join(map(str, slide.pads))
    steps = ",".join(map(str, slide.strides))
    apart = ",".join(map(str, slide.dilations))
    up = ", rounded up" if slide.ceil else ""
    return f"is {rows}x{columns} and pads {pads}, strides {steps}, dilations {apart}{up}"


def _stride_on(stages: list[list[Block]]) -> str:
    """Determined by the strided bottlenecks; 3x3 if there are none."""
    first = [
        block.main[0].layer.slide
        for stage in stages
        for block in stage
        if len(block.main) == 3 and block.stride > 1
    ]
    return "1x1" if first and all(s is not None and s.strides[0] > 1 for s in first) else "3x3"


def _head_pool(structure: Structure) -> str:
    op = structure.head_pool
    if op is None or op.kind == "mean":
        return "global"
    assert op.slide is not None
    if op.slide.kernel == (7, 7) and not any(op.slide.pads):
        return "7x7"
    raise refuse(op.text, f"{_stated(op.slide)}; a head's pool is global or 7x7")


def _norms(structure: Structure) -> dict[str, Any]:
    """Kind, epsilon and momentum of the norms, and whether convolutions also have biases."""
    units = list(structure.units())
    norms = [op for unit in units for op in unit.rest if op.kind == "norm"]
    scaled = [unit for unit in units if _has_norm(unit)]
    found: dict[str, Any] = {"norm": "batch", "conv_bias": any(map(_has_bias, scaled))}
    if not scaled:
        found = {"norm": "none", "conv_bias": True}
    if norms:
        ((epsilon, _),) = Counter(op.epsilon for op in norms).most_common(1)
        found["norm_epsilon"] = epsilon
    momenta = {op.momentum for op in norms}
    if len(momenta) == 1 and 0 < (momentum := momenta.pop() or 0) <= 1:
        found["norm_momentum"] = momentum
    return found


def _has_norm(unit: Unit) -> bool:
    """Whether its channels are scaled, by a norm or the remains of one."""
    return any(op.kind == "norm" or op.does in ("Mul", "Div") for op in unit.rest)


def before_norm(unit: Unit) -> tuple[Op, ...]:
    """An addition before a norm, i.e. a bias."""
    added = unit.rest[0].does in ("Add", "Sub") if unit.rest else False
    normed = any(op.kind == "norm" for op in unit.rest)
    return unit.rest[:1] if added and normed else ()


def _has_bias(unit: Unit) -> bool:
    return "bias" in unit.layer.tensors or bool(before_norm(unit))


def _compared(network: Network, structure: Structure, stages: list[list[Block]]) -> dict[str, Unit]:
    """Compare the network with the graph: the units by path. Raises at the first difference."""
    units: dict[str, Unit] = {}
    layers = {located.path: located for located in network.layers()}
    for path, place in places(network).items():
        if place.kind == "norm":
            continue
        unit = _unit(place, structure, stages)
        layer = layers[path].layer
        if unit is None:
            what = "fully connected layer" if place.kind == "linear" else "convolution"
            raise refuse("the network", f"lacks the {what} {path}")
        if isinstance(layer, Conv):
            _check_conv(path, layer, unit.layer)
        units[path] = unit
    for stage, blocks in enumerate(stages, start=1):
        for index, block in enumerate(blocks):
            here = [
                found for path, found in layers.items() if found.block == f"layer{stage}.{index}"
            ]
            _check_block(block, here)
    used = {id(unit.layer) for unit in units.values()}
    for unit in _all(structure):
        if id(unit.layer) not in used:
            raise refuse(unit.layer.text, f"does not belong in {_said(network.options)}")
    return units


def _all(structure: Structure) -> Iterator[Unit]:
    yield from structure.units()
    for block in structure.blocks:
        yield from block.gate
    if structure.linear is not None:
        yield structure.linear


def _said(options: Options) -> str:
    return f"a network of {options.block} blocks {','.join(map(str, options.depths))}"


def _unit(place: Place, structure: Structure, stages: list[list[Block]]) -> Unit | None:
    if place.part == "head":
        return structure.linear
    if place.part == "stem":
        found = structure.stem
    else:
        block = stages[place.stage - 1][place.block]
        if place.part == "shortcut":
            return block.shortcut
        found = block.gate if place.part == "gate" else block.main
    return found[place.number - 1] if place.number <= len(found) else None


def _check_conv(path: str, layer: Conv, op: Op) -> None:
    weight, window = op.tensors["weight"].shape, layer.slides
    shape = (layer.outputs, layer.inputs // layer.groups, window.kernel, window.kernel)
    if op.kind == "linear":  # of a gate
        weight = (*weight, 1, 1)
    if weight != shape or op.groups != layer.groups:
        raise refuse(
            op.text,
            f"has weights {'x'.join(map(str, weight))} in {op.groups} groups; in the network "
            f"described so far {path} has {'x'.join(map(str, shape))} in {layer.groups}",
        )
    if op.slide is None:
        return
    dilation = window.dilation if window.kernel > 1 else op.slide.dilations[0]
    wanted = Slide(
        kernel=(window.kernel,) * 2,
        strides=(window.stride,) * 2,
        pads=(window.padding,) * 4,
        dilations=(dilation,) * 2,
    )
    if op.slide != wanted:
        raise refuse(
            op.text,
            f"{_stated(op.slide)}; this network cannot be described: {path} {_stated(wanted)}",
        )


def _check_block(block: Block, layers: list[Located]) -> None:
    """The parts without weights: the shortcut's pool, or its slice and pad."""
    shortcut = [located.layer for located in layers if located.branch == "shortcut"]
    pools = [layer for layer in shortcut if isinstance(layer, Pool)]
    subsamples = [layer for layer in shortcut if isinstance(layer, Subsample)]
    main = sum(located.branch == "main" and isinstance(located.layer, Conv) for located in layers)
    if len(block.main) != main or (block.shortcut is not None and not shortcut):
        raise refuse(block.add.text, f"adds {len(block.main)} convolutions, but others {main}")
    gated = any(located.branch == "gate" for located in layers)
    if bool(block.gate) != gated:
        raise refuse(block.add.text, "differs from other blocks in its gate")
    if bool(pools) != (block.pool is not None):
        raise refuse(block.add.text, "differs from other blocks in the pool of its shortcut")
    if bool(subsamples) != bool(block.changed):
        raise refuse(block.add.text, "differs from other blocks in its shortcut")
    if block.pool is not None:
        _check_pool(block.pool, pools[0])
    if block.changed:
        _check_subsample(block, subsamples[0])


def _check_pool(op: Op, layer: Pool) -> None:
    """ResNet-D's average pool; at odd sizes the network only works if it rounds up."""
    window, slide = layer.window, op.slide
    assert window is not None
    if slide is None:
        raise refuse(op.text, "is a global pool in a shortcut")
    end = window.end_padding if window.stride == 1 else 0
    wanted = Slide(kernel=(2, 2), strides=(window.stride,) * 2, pads=(0, 0, end, end))
    fits = (slide.kernel, slide.strides, slide.pads) == (wanted.kernel, wanted.strides, wanted.pads)
    if layer.count_padding:
        fits = fits and slide.counted and not slide.ceil
    elif slide.ceil:
        fits = fits and not slide.counted
    if not fits or slide.dilations != (1, 1):
        raise refuse(op.text, f"{_stated(slide)}; this network cannot be described")


def _check_subsample(block: Block, layer: Subsample) -> None:
    """Option A: strided pixels, zeros after the channels."""
    strides, behind = [1, 1], 0
    for op in block.changed:
        assert op.slide is not None or op.kind == "mean"
        if op.slide is None or op.slide.kernel != (1, 1) or any(op.slide.pads) or op.value:
            raise refuse(op.text, "is not a shortcut of strided pixels and zero channels")
        strides = [one * two for one, two in zip(strides, op.slide.strides, strict=True)]
        behind += op.behind
    if strides != [layer.stride] * 2 or behind != layer.outputs - layer.inputs:
        raise refuse(
            block.changed[-1].text,
            f"takes 1 pixel in {strides[0]}x{strides[1]} and adds {behind} channels; "
            f"expected {layer.stride}x{layer.stride} and {layer.outputs - layer.inputs}",
        )
