"""The fields of a network's options, and the widths and strides derived from them.

An option is one field: its type, default, meaning (``help``) and allowed values (``choices``).
The command line and the documentation are generated from these fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from resnetkit.architecture.sliding_window import Rounding

BlockKind = Literal["basic", "bottleneck"]
StemKind = Literal["7x7", "deep", "3x3"]
StemPool = Literal["padded", "caffe", "conv", "none"]
ShortcutKind = Literal["projection", "avgpool+projection", "pad"]
HeadPool = Literal["global", "7x7"]
NormKind = Literal["batch", "group", "none"]
AntiAlias = Literal["none", "average", "blur"]

#: Output channels of a block per channel of its width.
EXPANSION = {"basic": 1, "bottleneck": 4}
#: Convolutions on the main path of each kind of block.
CONVOLUTIONS = {"basic": 2, "bottleneck": 3}
#: Widths of the convolutions of each stem.
STEM_WIDTHS = {"7x7": (64,), "deep": (32, 32, 64), "3x3": (64,)}


def _option(default: Any, text: str, *choices: str) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionFields:
    """Every option with its default, unchecked; ``Options`` checks them."""

    depths: tuple[int, ...] = _option((3, 4, 6, 3), "blocks in each stage")
    block: BlockKind = _option(
        "bottleneck", "two 3x3 convolutions, or 1x1-3x3-1x1", "basic", "bottleneck"
    )
    blocks: tuple[BlockKind, ...] | None = _option(
        None, "block of each stage, if they differ, e.g. basic,bottleneck"
    )
    widths: tuple[int, ...] = _option(
        (64, 128, 256, 512), "width of each stage; a bottleneck outputs four times as much"
    )
    groups: int = _option(1, "groups of a bottleneck's 3x3 convolution (ResNeXt's cardinality)")
    width_per_group: int = _option(64, "width of each group at stage width 64 (ResNeXt, wide)")
    reduce_first: int = _option(
        1, "divide the width of a block's first convolution by this (SENet-154: 2)"
    )
    conv_widths: tuple[int, ...] | None = _option(
        None,
        "output channels of every main-path convolution in order, "
        "if not derived from the widths (pruned networks)",
    )
    stem: StemKind = _option(
        "7x7",
        "one 7x7, three 3x3, or one 3x3, by default without stride and pool",
        "7x7",
        "deep",
        "3x3",
    )
    stem_widths: tuple[int, ...] | None = _option(None, "one width, or three for a deep stem")
    stem_padding: int | None = _option(None, "padding of the stem's convolutions")
    stem_conv_stride: int | None = _option(
        None, "stride of the stem's first convolution, 1 or 2 (3x3: 1, others: 2)"
    )
    stem_pool: StemPool | None = _option(
        None,
        "3x3 max-pool of stride 2 with padding 1, or unpadded and rounded up (Caffe), "
        "or a 3x3 convolution of stride 2 (ResNet-RS), or none",
        "padded",
        "caffe",
        "conv",
        "none",
    )
    stride_on: Literal["1x1", "3x3"] = _option(
        "3x3", "convolution of a bottleneck with the stride (v1: 1x1)", "1x1", "3x3"
    )
    shortcut: ShortcutKind = _option(
        "projection",
        "shortcut if shapes change; pad is option A of the CIFAR networks",
        "projection",
        "avgpool+projection",
        "pad",
    )
    shortcut_kernel: int = _option(
        1, "kernel of a projection that changes the resolution, 1 or 3 (SENet-154)"
    )
    anti_alias: AntiAlias = _option(
        "none",
        "subsampling after a 3x3 convolution instead of its stride, and in the stem: "
        "2x2 average pool of stride 2, or a blur with fixed weights",
        "none",
        "average",
        "blur",
    )
    squeeze_excitation: int | None = _option(None, "reduction of squeeze-excitation, or none")
    squeeze_multiple: int = _option(8, "round the squeezed width to a multiple of this")
    efficient_attention: bool = _option(
        False, "gate blocks with a 1-d convolution over channel means (ECA)"
    )
    conv_bias: bool = _option(False, "give the convolutions a bias (Keras)")
    norm: NormKind = _option(
        "batch",
        "norm after each convolution: over the batch, over groups of channels, or none",
        "batch",
        "group",
        "none",
    )
    norm_groups: int = _option(32, "groups of channels of a group norm")
    norm_epsilon: float = _option(1e-5, "epsilon of the norms")
    norm_momentum: float = _option(0.1, "torch's momentum of the norms' running statistics")
    output_stride: int | None = _option(
        None, "total stride of the last map; below the default, stages are dilated"
    )
    dilation_entry: Literal["previous", "own", "all"] = _option(
        "previous",
        "dilation of a dilated stage's first block: the previous stage's (torchvision, timm), "
        "its own (semseg, mmpretrain), or its own in both convolutions of basic blocks (smp)",
        "previous",
        "own",
        "all",
    )
    head_pool: HeadPool = _option(
        "global", "global average pool, or AvgPool(7, stride 1)", "global", "7x7"
    )
    num_classes: int | None = _option(1000, "classes of the fully connected layer, or none")
    in_chans: int = _option(3, "channels of the input")
    rounding: Rounding = _option(
        "floor", "round the sizes of strided layers down or up", "floor", "ceil"
    )

    @property
    def stem_stride(self) -> int:
        """Total stride of the stem."""
        assert self.stem_conv_stride is not None
        return self.stem_conv_stride * (1 if self.stem_pool == "none" else 2)

    @property
    def natural_conv_stride(self) -> int:
        """Default stride of the stem's first convolution."""
        return 1 if self.stem == "3x3" else 2

    @property
    def natural_stride(self) -> int:
        """Stride of the last map without dilation: 32 for the ImageNet networks."""
        return int(self.stem_stride * 2 ** (len(self.depths) - 1))

    @property
    def stage_blocks(self) -> tuple[BlockKind, ...]:
        """The kind of block of each stage."""
        return self.blocks or (self.block,) * len(self.depths)

    @property
    def main_widths(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """Output channels of the main paths, by stage, block and convolution."""
        stages = list(zip(self.stage_blocks, self.widths, self.depths, strict=True))
        if self.conv_widths is None:
            return tuple((self._regular(kind, width),) * depth for kind, width, depth in stages)
        given = iter(self.conv_widths)
        return tuple(
            tuple(tuple(islice(given, CONVOLUTIONS[kind])) for _ in range(depth))
            for kind, _, depth in stages
        )

    def _regular(self, kind: BlockKind, width: int) -> tuple[int, ...]:
        if kind == "basic":
            return width // self.reduce_first, width
        middle = width * self.width_per_group // 64 * self.groups
        return middle // self.reduce_first, middle, width * EXPANSION[kind]

    @property
    def stage_outputs(self) -> tuple[int, ...]:
        """The output channels of each stage."""
        return tuple(stage[-1][-1] for stage in self.main_widths)

    @property
    def normed_widths(self) -> frozenset[int]:
        """The channels that norms may have."""
        assert self.stem_widths is not None
        main = (width for stage in self.main_widths for block in stage for width in block)
        return frozenset((*self.stem_widths, *main))
