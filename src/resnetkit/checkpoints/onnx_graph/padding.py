"""Windows, pads and strides of a graph's operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from resnetkit.checkpoints.onnx_graph.constant_folding import slices
from resnetkit.checkpoints.onnx_graph.nodes import Graph, Node
from resnetkit.checkpoints.onnx_graph.operations import Op, Size, Slide, refuse
from resnetkit.formats.container import short

#: Padding at or below this is minus infinity (float16 ends at -65504).
_LEAST = -65504
#: Exporters write "to the end" as a number larger than any map.
_MOST = 1 << 20


def slide(node: Node, before: Op, *, kernel: Sequence[int]) -> tuple[Op, Slide]:
    """The window of a convolution or pool, with the pads before it, and its input.

    Raises ``InputError`` if the window is not 2-dimensional, or its pads depend on the image.
    """
    if len(kernel) != 2 or min(kernel) < 1:
        raise refuse(node.text, f"has a window of {short(list(kernel))}, not two sizes")
    given = node.attributes
    pair = {name: given.get(name) or [1, 1] for name in ("strides", "dilations")}
    pads = given.get("pads") or [0] * 4
    if any(len(two) != 2 or min(two) < 1 for two in pair.values()):
        raise refuse(node.text, "has strides or dilations that are not two")
    if len(pads) != 4 or min(pads) < 0:
        raise refuse(node.text, f"pads {short(pads)}")
    found = Slide(
        kernel=(kernel[0], kernel[1]),
        strides=(pair["strides"][0], pair["strides"][1]),
        dilations=(pair["dilations"][0], pair["dilations"][1]),
        pads=(pads[0], pads[1], pads[2], pads[3]),
        ceil=bool(given.get("ceil_mode", 0)),
        counted=bool(given.get("count_include_pad", 0)),
    )
    auto = given.get("auto_pad", "NOTSET")
    if auto not in ("NOTSET", ""):
        found = replace(found, pads=_automatic(node, found, auto, before.size))
    return _merged(node, before, found)


def _merged(node: Node, before: Op, found: Slide) -> tuple[Op, Slide]:
    if before.kind == "pad" and not before.behind and _pads_well(node, before):
        assert before.slide is not None
        if node.op == "AveragePool":
            if any(found.pads) and not found.counted:
                raise refuse(node.text, "averages a padded map without its pads")
            found = replace(found, counted=any(before.slide.pads) or found.counted)
        found = found.padded(before.slide.pads)
        (before,) = before.inputs
    found = found.balanced(before.size)
    if not any(found.pads) and not found.ceil:
        found = replace(found, counted=False)
    return before, found


def _pads_well(node: Node, pad: Op) -> bool:
    """Whether it pads with the operation's own value; after a ReLU nothing is below 0."""
    if node.op != "MaxPool":
        return pad.value == 0
    return pad.value <= _LEAST or (pad.value == 0 and pad.inputs[0].kind == "relu")


def _automatic(node: Node, found: Slide, auto: str, size: Size) -> tuple[int, int, int, int]:
    """The pads of ``auto_pad``, if they are the same at every size or the size is known."""
    if auto == "VALID":
        return 0, 0, 0, 0
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise refuse(node.text, f"has auto_pad {short(auto)}")
    before, behind = [], []
    for axis in (0, 1):
        stride, extent = found.strides[axis], found.dilations[axis] * (found.kernel[axis] - 1) + 1
        known = size[axis]
        tried = range(_MOST, _MOST + stride) if known is None else (known,)
        totals = {max(0, (-(-n // stride) - 1) * stride + extent - n) for n in tried}
        if len(totals) > 1:
            raise refuse(
                node.text,
                f"pads by {auto} with stride {stride}, which depends on the size of the map; "
                "export it for images of one size",
            )
        half, rest = divmod(totals.pop(), 2)
        upper = auto == "SAME_UPPER"
        before.append(half if upper else half + rest)
        behind.append(half + rest if upper else half)
    return before[0], before[1], behind[0], behind[1]


def pad(graph: Graph, node: Node, before: Op, channels_last: bool) -> Op:
    """A Pad of the map with one value, or of zero channels at the end."""
    given = node.attributes
    pads = given.get("pads")
    if node.input(1):
        pads = graph.numbers(node.input(1)).reshape(-1).tolist()
    if given.get("mode", "constant") != "constant" or pads is None or len(pads) != 8:
        axes = " of some axes" if node.input(3) else ""
        raise refuse(
            node.text, f"pads{axes} by {short(given.get('mode', pads))}, which is not supported"
        )
    value = float(given.get("value", 0.0))
    if node.input(2):
        value = graph.number(node.input(2))
    order = (0, 3, 1, 2) if channels_last else (0, 1, 2, 3)
    front, behind = ([pads[start + axis] for axis in order] for start in (0, 4))
    if front[:2] != [0, 0] or behind[0] != 0 or min(pads) < 0 or (behind[1] and value):
        raise refuse(node.text, f"pads by {pads}, which no ResNet does")
    window = Slide(kernel=(1, 1), pads=(front[2], front[3], behind[2], behind[3]))
    return Op(
        kind="pad",
        text=node.text,
        inputs=(before,),
        channels=None if before.channels is None else before.channels + behind[1],
        size=window.output(before.size),
        slide=window,
        value=value,
        behind=behind[1],
    )


def subsample(graph: Graph, node: Node, before: Op, channel_axis: int) -> Op:
    """A Slice with strides; one that takes all pixels is removed."""
    inputs = [None, *(graph.numbers(name) if name else None for name in node.inputs[1:])]
    axes = {1: (2, 3), 3: (1, 2)}[channel_axis]
    strides = [1, 1]
    parts = slices(inputs, node.attributes)
    if len(set(map(len, parts))) > 1:
        raise refuse(node.text, "has different numbers of starts, ends, axes or steps")
    for start, end, axis, step in zip(*parts, strict=True):
        at = axis % 4
        size = before.size[axes.index(at)] if at in axes else before.channels
        whole = start == 0 and (end >= _MOST or (size is not None and end >= size))
        if not whole or step < 1 or (at not in axes and step != 1):
            raise refuse(node.text, f"slices the axis {axis} to {start}:{end}:{step}")
        if at in axes:
            strides[axes.index(at)] = step
    if strides == [1, 1]:
        return before
    window = Slide(kernel=(1, 1), strides=(strides[0], strides[1]))
    return Op(
        kind="slice",
        text=node.text,
        inputs=(before,),
        channels=before.channels,
        size=window.output(before.size),
        slide=window,
    )
