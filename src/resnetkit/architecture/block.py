"""Residual blocks: two or three convolutions plus a shortcut.

``Block`` is ``relu(shortcut(x) + main(x))``; with a gate (squeeze-excitation, efficient channel
attention) it is ``relu(shortcut(x) + main(x) * gate(main(x)))``. An empty shortcut is the identity.

Sources: He et al. 2015 (both blocks); Hu et al. 2018 and Wang et al. 2019 (the gates); He et al.
2019, "Bag of tricks" (the average-pool shortcut, ResNet-D); Zhang 2019 (the blur).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from resnetkit.architecture.layer import Activation, Add, Conv, Layer, Norm, Pool, Scale, Subsample
from resnetkit.architecture.option_fields import BlockKind
from resnetkit.architecture.options import Options
from resnetkit.architecture.rare_layer import Blur, ChannelConv
from resnetkit.architecture.sliding_window import SlidingWindow

Branch = Literal["main", "gate", "shortcut", "junction"]
#: The input path of the first layer: the image.
INPUT = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A layer with its path and inputs.

    ``path`` is the name of its torch submodule; ``inputs`` are the paths of its input layers, or
    ``INPUT``: in a junction, the main path comes first.
    """

    path: str
    layer: Layer
    inputs: tuple[str, ...]
    stage: str
    block: str | None = None
    branch: Branch = "main"


def chain(
    layers: Iterable[Layer],
    *inputs: str,
    stage: str,
    block: str | None = None,
    branch: Branch = "main",
) -> Generator[Located, None, str]:
    """Chain ``layers``, the first with ``inputs``; returns the path of the last, or the first of
    ``inputs`` if there are no layers."""
    for layer in layers:
        path = f"{block}.{layer.name}" if block else layer.name
        yield Located(
            path=path, layer=layer, inputs=inputs, stage=stage, block=block, branch=branch
        )
        inputs = (path,)
    return inputs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One residual block. ``name`` is its path in the network, e.g. ``layer1.0``."""

    name: str
    main: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()
    gate: tuple[Layer, ...] = ()

    @property
    def junction(self) -> tuple[Layer, ...]:
        """The layers that join the paths: scaling by the gate, addition, last activation."""
        convolutions = sum(isinstance(layer, Conv) for layer in self.main)
        scale = (Scale(name="scale"),) if self.gate else ()
        return *scale, Add(name="add"), Activation(name=f"relu{convolutions}")

    def layers(self, stage: str, before: str) -> Generator[Located, None, str]:
        """Every layer in the order of ``Network.layers``, with the input ``before``; returns the
        path of the last."""
        named = partial(chain, stage=stage, block=self.name)
        main = yield from named(self.main, before)
        gate = yield from named(self.gate, main, branch="gate")
        shortcut = yield from named(self.shortcut, before, branch="shortcut")
        *scale, add, activation = self.junction
        scaled = yield from named(scale, main, gate, branch="junction")
        return (yield from named((add, activation), scaled, shortcut, branch="junction"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The position of a block: its name, input channels, widths, stride and dilation.

    ``convs`` are the output channels of its main path's convolutions; ``expanded`` those of the
    block without pruning.
    """

    name: str
    kind: BlockKind
    inputs: int
    convs: tuple[int, ...]
    expanded: int
    stride: int = 1
    dilation: int = 1
    entry_dilation: int = 1


def residual_block(options: Options, place: Placement) -> Block:
    """Build the block of ``options`` at ``place``."""
    build = basic if place.kind == "basic" else bottleneck
    return build(options, place)


def basic(options: Options, place: Placement) -> Block:
    """Two 3x3 convolutions; the first has the stride.

    In a dilated stage, the second convolution is dilated too if ``dilation_entry`` is ``previous``
    (timm) or ``all`` (smp), but not if it is ``own`` (mmpretrain).
    """
    second = 1 if options.dilation_entry == "own" else place.dilation
    width, outputs = place.convs
    stride = place.stride if options.anti_alias == "none" else 1
    entry = place.entry_dilation
    main = (
        *conv_norm(
            options,
            ("conv1", "bn1"),
            (place.inputs, width),
            kernel=3,
            stride=stride,
            dilation=entry,
        ),
        Activation(name="relu1"),
        *_anti_alias(options, place, width),
        *conv_norm(options, ("conv2", "bn2"), (width, outputs), kernel=3, dilation=second),
    )
    return _with_shortcut(options, place, main, outputs)


def bottleneck(options: Options, place: Placement) -> Block:
    """1x1 down to the width, 3x3, 1x1 up to four times the width."""
    width, middle, outputs = place.convs
    first, second = (place.stride, 1) if options.stride_on == "1x1" else (1, place.stride)
    if options.anti_alias != "none":
        second = 1
    main = (
        *conv_norm(options, ("conv1", "bn1"), (place.inputs, width), stride=first),
        Activation(name="relu1"),
        *conv_norm(
            options,
            ("conv2", "bn2"),
            (width, middle),
            kernel=3,
            stride=second,
            dilation=place.entry_dilation,
            groups=options.groups,
        ),
        Activation(name="relu2"),
        *_anti_alias(options, place, middle),
        *conv_norm(options, ("conv3", "bn3"), (middle, outputs)),
    )
    return _with_shortcut(options, place, main, outputs)


def _anti_alias(options: Options, place: Placement, channels: int) -> tuple[Layer, ...]:
    """The subsampling after a 3x3; a block that starts a new dilation is also blurred (timm)."""
    if options.anti_alias == "none":
        return ()
    if place.stride == 1 and (
        options.anti_alias == "average" or place.entry_dilation == place.dilation
    ):
        return ()
    return (anti_alias(options, "aa", channels, place.stride),)


def anti_alias(options: Options, name: str, channels: int, stride: int) -> Layer:
    """The average pool or blur of ``options.anti_alias``."""
    if options.anti_alias == "average":
        window = SlidingWindow(kernel=stride, stride=stride)
        return Pool(name=name, function="average", slides=window)
    window = SlidingWindow(kernel=3, stride=stride, padding=1)
    return Blur(name=name, channels=channels, slides=window)


def _with_shortcut(
    options: Options, place: Placement, main: tuple[Layer, ...], outputs: int
) -> Block:
    return Block(
        name=place.name,
        main=main,
        shortcut=_shortcut(options, place, outputs),
        gate=_gate(options, place, outputs),
    )


def conv_norm(
    options: Options,
    names: tuple[str, str],
    channels: tuple[int, int],
    *,
    kernel: int = 1,
    stride: int = 1,
    padding: int | None = None,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[Layer, ...]:
    """A convolution, followed by a norm unless ``options.norm`` is ``none``.

    ``channels`` are the inputs and outputs. By default ``padding`` keeps the size at stride 1.
    """
    window = SlidingWindow(
        kernel=kernel,
        stride=stride,
        padding=dilation * (kernel // 2) if padding is None else padding,
        dilation=dilation,
        rounding=options.rounding,
    )
    conv = Conv(
        name=names[0],
        inputs=channels[0],
        outputs=channels[1],
        slides=window,
        groups=groups,
        bias=options.conv_bias,
    )
    if options.norm == "none":
        return (conv,)
    norm = Norm(
        name=names[1],
        channels=channels[1],
        epsilon=options.norm_epsilon,
        momentum=options.norm_momentum,
        groups=options.norm_groups if options.norm == "group" else None,
    )
    return conv, norm


def _shortcut(options: Options, place: Placement, outputs: int) -> tuple[Layer, ...]:
    """Empty if the shape does not change, else the kind in ``options.shortcut``."""
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
    averaged = options.shortcut == "avgpool+projection"
    before = _shortcut_pool(options, place) if averaged else ()
    kernel = 1 if place.stride == place.dilation == 1 else options.shortcut_kernel
    return *before, *conv_norm(
        options,
        (f"downsample.{len(before)}", f"downsample.{len(before) + 1}"),
        (place.inputs, outputs),
        kernel=kernel,
        stride=1 if averaged else place.stride,
        dilation=place.entry_dilation if kernel > 1 else 1,
    )


def _shortcut_pool(options: Options, place: Placement) -> tuple[Pool, ...]:
    """The 2x2 average pool of ResNet-D, with the output size of the main path.

    With stride 2 a partial window averages its pixels only. A dilated stage has a stride-1 pool
    that counts padded zeros if ``dilation_entry`` is ``previous`` (timm's ``AvgPool2dSame``), else
    none (mmpretrain).
    """
    dilated = place.dilation > 1
    if place.stride == 1 and (not dilated or options.dilation_entry != "previous"):
        return ()
    window = SlidingWindow(kernel=2, stride=place.stride, end_padding=1, rounding=options.rounding)
    return (Pool(name="downsample.0", function="average", slides=window, count_padding=dilated),)


def _gate(options: Options, place: Placement, channels: int) -> tuple[Layer, ...]:
    """Squeeze-excitation: pool, two 1x1 convolutions with bias, sigmoid; or efficient attention:
    pool, one convolution along the channels, sigmoid."""
    pool = Pool(name="se.pool", function="average", slides=None)
    sigmoid = Activation(name="se.gate", function="sigmoid")
    if options.efficient_attention:
        return pool, ChannelConv(name="se.conv", kernel=attention_kernel(place.expanded)), sigmoid
    if options.squeeze_excitation is None:
        return ()
    squeezed = squeeze_width(channels, options.squeeze_excitation, options.squeeze_multiple)
    point = SlidingWindow(kernel=1)
    return (
        pool,
        Conv(name="se.fc1", inputs=channels, outputs=squeezed, slides=point, bias=True),
        Activation(name="se.relu"),
        Conv(name="se.fc2", inputs=squeezed, outputs=channels, slides=point, bias=True),
        sigmoid,
    )


def attention_kernel(channels: int) -> int:
    """The odd kernel of efficient channel attention, about half of log2(channels) + 1.

    Wang et al. 2019 with gamma 2 and b 1, rounded up to odd and at least 3 (timm).
    """
    half = int((math.log(channels, 2) + 1) / 2)
    return max(half if half % 2 else half + 1, 3)


def squeeze_width(channels: int, reduction: int, multiple: int) -> int:
    """``channels / reduction`` rounded to a multiple of ``multiple``, at least ``multiple``.

    Multiple 8 is timm's rule; multiple 1 is the plain quotient of Hu et al. 2018.
    """
    return max(multiple, (channels // reduction + multiple // 2) // multiple * multiple)
