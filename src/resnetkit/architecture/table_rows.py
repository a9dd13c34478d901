"""Rows of an explanation: a network, stage, block or layer with its output and its costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from resnetkit.architecture.block import Block
from resnetkit.architecture.layer import Conv, Layer, Shape
from resnetkit.architecture.network import Network, Stage
from resnetkit.architecture.rare_layer import ChannelConv
from resnetkit.architecture.shape_inference import Step

Level = Literal["network", "stage", "block", "layer"]
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A layer, block, stage or network with its output and costs.

    ``output`` is None if the layer is not reached. ``parameters`` and the other counts are sums
    over the row's layers; ``receptive_field`` and ``stride`` are those of its output, in input
    pixels.
    """

    level: Level
    stage: str
    path: str
    what: str
    output: Shape | None
    parameters: int
    buffers: int
    macs: int
    activations: int
    receptive_field: int
    stride: int
    formula: str = ""
    parameters_formula: str = ""
    macs_formula: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over all layers of the network."""

    parameters: int
    buffers: int
    macs: int
    activations: int


class Explained(Protocol):
    """The part of an ``Explanation`` that text renderers use."""

    network: Network
    input: Shape
    output: Shape
    problem: str | None

    @property
    def totals(self) -> Totals: ...

    @property
    def title(self) -> str: ...

    def rows(self, level: Level = "block") -> tuple[TableRow, ...]: ...


def stage_text(stage: Stage) -> str:
    """A stage in a few words, e.g. ``4 bottlenecks, 128->128->512, stride 2, projection``."""
    if stage.blocks:
        kind, widths, facts = _block_facts(stage.blocks[0])
        number = len(stage.blocks)
        kind = f"{kind} block" if kind == "basic" else kind
        return ", ".join((f"{number} {kind}{'s' * (number > 1)}", "->".join(widths[1:]), *facts))
    convolutions = [layer for layer in stage.layers if isinstance(layer, Conv)]
    kernel = convolutions[0].slides.kernel
    chain = "->".join(str(layer.outputs) for layer in convolutions)
    pool = "".join(f", {layer.text}" for layer in stage.layers if layer.kind in ("pool", "blur"))
    return f"conv {kernel}x{kernel}, {convolutions[0].inputs}->{chain}{pool}"


def head_text(layers: tuple[Layer, ...]) -> str:
    """A head in a few words, e.g. ``global average pool, linear, 2048->1000``."""
    return ", ".join(layer.text for layer in layers if layer.kind != "flatten")


def block_text(block: Block) -> str:
    """A block and its shortcut, e.g. ``bottleneck 256->128->128->512, stride 2, projection``."""
    kind, widths, facts = _block_facts(block)
    return ", ".join((f"{kind} {'->'.join(widths)}", *facts))


def _block_facts(block: Block) -> tuple[str, list[str], list[str]]:
    """A block's kind, its widths including the input's, and its other properties."""
    convolutions = [layer for layer in block.main if isinstance(layer, Conv)]
    kind = "bottleneck" if len(convolutions) == 3 else "basic"
    widths = [str(n) for n in (convolutions[0].inputs, *(c.outputs for c in convolutions))]
    groups = max(c.groups for c in convolutions)
    windows = [layer.window for layer in block.main if layer.window is not None]
    stride = max(window.stride for window in windows)
    dilation = max(c.slides.dilation for c in convolutions)
    facts = [f"groups {groups}"] * (groups > 1)
    facts += [f"stride {stride}"] * (stride > 1)
    facts += [f"dilation {dilation}"] * (dilation > 1)
    kinds = {layer.kind for layer in block.main}
    facts += ["anti-aliased"] * bool(kinds & {"pool", "blur"})
    if block.gate:
        efficient = any(isinstance(layer, ChannelConv) for layer in block.gate)
        facts.append("channel attention" if efficient else "squeeze-excitation")
    return kind, widths, [*facts, shortcut_text(block)]


def shortcut_text(block: Block) -> str:
    """The kind of shortcut: ``identity``, ``projection``, ``avgpool+projection`` or ``pad``."""
    kinds = [layer.kind for layer in block.shortcut]
    if not kinds:
        return "identity"
    if kinds == ["subsample"]:
        return "pad"
    return "avgpool+projection" if kinds[0] == "pool" else "projection"


def layer_row(step: Step) -> TableRow:
    """The row of one layer."""
    return TableRow(
        level="layer",
        stage=step.located.stage,
        path=step.path,
        what=step.layer.text,
        output=step.output,
        parameters=step.layer.parameters,
        buffers=step.layer.buffers,
        macs=step.macs,
        activations=step.activations,
        receptive_field=step.receptive_field,
        stride=step.stride,
        formula=step.formula,
        parameters_formula=step.layer.parameters_formula(),
        macs_formula=step.macs_formula,
    )
