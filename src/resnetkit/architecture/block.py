"""Blocks: two or three convolutions and a shortcut, added.

``Block`` is ``relu(shortcut(x) + main(x))``; with a gate (squeeze-excitation) it is
``relu(shortcut(x) + main(x) * gate(main(x)))``. An empty shortcut is the identity.

Sources: He et al. 2015 (both blocks); Hu et al. 2018 (the gate); He et al. 2019, "Bag of tricks"
(the average pool of the shortcut, ResNet-D).
"""

from __future__ import annotations

from dataclasses import dataclass

from resnetkit.architecture.layer import Activation, Add, Conv, Layer, Norm, Pool, Scale, Subsample
from resnetkit.architecture.options import Options
from resnetkit.architecture.window import Window

#: Output channels of a block for each channel of its width.
EXPANSION = {"basic": 1, "bottleneck": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One residual block. ``name`` is its path in the network, e.g. ``layer1.0``."""

    name: str
    main: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()
    gate: tuple[Layer, ...] = ()

    @property
    def junction(self) -> tuple[Layer, ...]:
        """What joins the paths: the scaling by the gate, the addition, the last activation."""
        convolutions = sum(isinstance(layer, Conv) for layer in self.main)
        scale = (Scale(name="scale"),) if self.gate else ()
        return *scale, Add(name="add"), Activation(name=f"relu{convolutions}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a block stands: what it is given and what it has to do to the resolution."""

    name: str
    inputs: int
    width: int
    stride: int = 1
    dilation: int = 1
    entry_dilation: int = 1


def residual_block(options: Options, place: Placement) -> Block:
    """The block that ``options`` ask for at ``place``."""
    build = basic if options.block == "basic" else bottleneck
    return build(options, place)


def basic(options: Options, place: Placement) -> Block:
    """Two 3x3 convolutions; the first has the stride.

    Dilated, the second convolution is dilated where the entry keeps the previous dilation (timm)
    and plain where a stage is dilated from its first block on (mmpretrain).
    """
    second = place.dilation if options.dilation_entry == "previous" else 1
    outputs = place.width * EXPANSION["basic"]
    main = (
        _conv(options, "conv1", place.inputs, place.width, 3, place.stride, place.entry_dilation),
        _norm(options, "bn1", place.width),
        Activation(name="relu1"),
        _conv(options, "conv2", place.width, outputs, 3, 1, second),
        _norm(options, "bn2", outputs),
    )
    return _with_shortcut(options, place, main, outputs)


def bottleneck(options: Options, place: Placement) -> Block:
    """1x1 down to the width, 3x3, 1x1 up to four times the width."""
    middle = place.width * options.width_per_group // 64 * options.groups
    outputs = place.width * EXPANSION["bottleneck"]
    first, second = (place.stride, 1) if options.stride_on == "1x1" else (1, place.stride)
    main = (
        _conv(options, "conv1", place.inputs, middle, 1, first),
        _norm(options, "bn1", middle),
        Activation(name="relu1"),
        _conv(
            options, "conv2", middle, middle, 3, second, place.entry_dilation, groups=options.groups
        ),
        _norm(options, "bn2", middle),
        Activation(name="relu2"),
        _conv(options, "conv3", middle, outputs, 1),
        _norm(options, "bn3", outputs),
    )
    return _with_shortcut(options, place, main, outputs)


def _with_shortcut(
    options: Options, place: Placement, main: tuple[Layer, ...], outputs: int
) -> Block:
    return Block(
        name=place.name,
        main=main,
        shortcut=_shortcut(options, place, outputs),
        gate=_gate(options, outputs),
    )


def _conv(
    options: Options,
    name: str,
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> Conv:
    window = Window(
        kernel=kernel,
        stride=stride,
        padding=dilation * (kernel // 2),
        dilation=dilation,
        rounding=options.rounding,
    )
    return Conv(
        name=name,
        inputs=inputs,
        outputs=outputs,
        slides=window,
        groups=groups,
        bias=options.conv_bias,
    )


def _norm(options: Options, name: str, channels: int) -> Norm:
    return Norm(
        name=name,
        channels=channels,
        epsilon=options.norm_epsilon,
        momentum=options.norm_momentum,
    )


def _shortcut(options: Options, place: Placement, outputs: int) -> tuple[Layer, ...]:
    """Nothing where shape and width stay; else one of the three kinds of ``options.shortcut``."""
    if place.stride == 1 and place.inputs == outputs:
        return ()
    if options.shortcut == "pad":
        return (
            Subsample(
                name="downsample",
                inputs=place.inputs,
                outputs=outputs,
                stride=place.stride,
                rounding=options.rounding,
            ),
        )
    pool = _shortcut_pool(options, place) if options.shortcut == "avgpool+projection" else None
    stride = 1 if options.shortcut == "avgpool+projection" else place.stride
    before: tuple[Layer, ...] = (pool,) if pool else ()
    return (
        *before,
        _conv(options, f"downsample.{len(before)}", place.inputs, outputs, 1, stride),
        _norm(options, f"downsample.{len(before) + 1}", outputs),
    )


def _shortcut_pool(options: Options, place: Placement) -> Pool | None:
    """The 2x2 average pool of ResNet-D, always as large as the main path's output.

    With stride 2 a partial window averages the pixels it has. A dilated stage keeps a stride-1
    pool that counts padded zeros where the entry keeps the previous dilation (timm's
    ``AvgPool2dSame``), and has none otherwise (mmpretrain).
    """
    dilated = place.dilation > 1
    if place.stride == 1 and (not dilated or options.dilation_entry == "own"):
        return None
    window = Window(kernel=2, stride=place.stride, end_padding=1, rounding=options.rounding)
    return Pool(name="downsample.0", function="average", slides=window, count_padding=dilated)


def _gate(options: Options, channels: int) -> tuple[Layer, ...]:
    """Squeeze-excitation: pool, two 1x1 convolutions with bias, sigmoid."""
    if options.squeeze_excitation is None:
        return ()
    squeezed = squeeze_width(channels, options.squeeze_excitation, options.squeeze_multiple)
    point = Window(kernel=1)
    return (
        Pool(name="se.pool", function="average", slides=None),
        Conv(name="se.fc1", inputs=channels, outputs=squeezed, slides=point, bias=True),
        Activation(name="se.relu"),
        Conv(name="se.fc2", inputs=squeezed, outputs=channels, slides=point, bias=True),
        Activation(name="se.gate", function="sigmoid"),
    )


def squeeze_width(channels: int, reduction: int, multiple: int) -> int:
    """``channels / reduction`` to the nearest multiple of ``multiple``, at least one of it.

    timm's rule with multiple 8; with multiple 1 it is the plain quotient of Hu et al. 2018.
    """
    return max(multiple, (channels // reduction + multiple // 2) // multiple * multiple)
