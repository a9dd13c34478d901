"""A torch module for each kind of layer."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnetkit.architecture.layer import (
    Activation,
    Add,
    Conv,
    Flatten,
    Layer,
    Linear,
    Norm,
    Pool,
    Scale,
    Subsample,
)
from resnetkit.architecture.rare_layer import Blur, ChannelConv
from resnetkit.architecture.sliding_window import SlidingWindow


def leaf(layer: Layer, path: str) -> nn.Module:
    """The module that computes ``layer``; its attribute ``path`` is the layer's path.

    Raises ``TypeError`` for an unsupported kind of layer.
    """
    module = _module(layer)
    object.__setattr__(module, "path", path)
    return module


def _module(layer: Layer) -> nn.Module:
    match layer:
        case Conv():
            return _convolution(layer)
        case Norm(groups=int(groups)):
            return nn.GroupNorm(groups, layer.channels, eps=layer.epsilon)
        case Norm():
            return nn.BatchNorm2d(layer.channels, eps=layer.epsilon, momentum=layer.momentum)
        case Activation(function="relu"):
            return nn.ReLU(inplace=True)
        case Activation(function="sigmoid"):
            return nn.Sigmoid()
        case Pool():
            return _pool(layer)
        case Blur():
            return BlurPool(layer.slides)
        case ChannelConv():
            return ConvAlongChannels(1, 1, layer.kernel, padding=layer.kernel // 2, bias=False)
        case Subsample():
            return SubsampleChannels(layer)
        case Flatten():
            return nn.Flatten(1)
        case Linear():
            return nn.Linear(layer.inputs, layer.outputs)
        case Add():
            return Sum()
        case Scale():
            return Product()
    raise TypeError(f"unsupported layer kind for torch: {layer.kind}")


def _convolution(layer: Conv) -> nn.Conv2d:
    window = layer.slides
    rounds_up = window.rounding == "ceil" and window.stride > 1
    kind = RoundedUpConv2d if rounds_up else nn.Conv2d
    return kind(
        layer.inputs,
        layer.outputs,
        window.kernel,
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        groups=layer.groups,
        bias=layer.bias,
    )


def _pool(layer: Pool) -> nn.Module:
    window = layer.slides
    if window is None:
        return nn.AdaptiveAvgPool2d(1)
    if layer.function == "max":
        return nn.MaxPool2d(
            window.kernel,
            stride=window.stride,
            padding=window.padding,
            ceil_mode=window.rounding == "ceil",
        )
    if window.end_padding == 0:
        return nn.AvgPool2d(window.kernel, stride=window.stride)
    return EndPaddedAvgPool2d(window, layer.count_padding)


class RoundedUpConv2d(nn.Conv2d):
    """A strided convolution with rounded-up output size: zero-padded below and right.

    ``(N, C, H, W) -> (N, outputs, ceil(...) + 1, ceil(...) + 1)``, see ``SlidingWindow.output``.
    """

    def forward(self, input: Tensor) -> Tensor:
        padding, stride = cast(tuple[int, int], self.padding), self.stride
        below, right = (
            -(input.shape[2 + axis] + 2 * padding[axis] - self._extent(axis)) % stride[axis]
            for axis in (0, 1)
        )
        return super().forward(F.pad(input, (0, right, 0, below)))

    def _extent(self, axis: int) -> int:
        return self.dilation[axis] * (self.kernel_size[axis] - 1) + 1


class EndPaddedAvgPool2d(nn.Module):
    """The average pool of ResNet-D's shortcut, padded by one row below and one column right.

    Either the padded zeros count (timm's ``AvgPool2dSame``), or a partial window averages its
    pixels only (``ceil_mode`` with ``count_include_pad=False``) and a window without pixels, which
    occurs only when rounding up, is zero.
    """

    def __init__(self, window: SlidingWindow, count_padding: bool) -> None:
        super().__init__()
        self.kernel_size = window.kernel
        self.stride = window.stride
        self.end_padding = window.end_padding
        self.rounds_up = window.rounding == "ceil"
        self.count_padding = count_padding

    def extra_repr(self) -> str:
        return (
            f"{self.kernel_size}, stride={self.stride}, end_padding={self.end_padding}, "
            f"count_padding={self.count_padding}"
        )

    def forward(self, x: Tensor) -> Tensor:
        end = self.end_padding
        if self.count_padding:
            return F.avg_pool2d(F.pad(x, (0, end, 0, end)), self.kernel_size, self.stride)
        pooled = F.avg_pool2d(
            x, self.kernel_size, self.stride, ceil_mode=True, count_include_pad=False
        )
        if not self.rounds_up:
            return pooled
        below, right = (
            -((self.kernel_size - x.shape[axis] - end) // self.stride) + 1 - pooled.shape[axis]
            for axis in (2, 3)
        )
        return F.pad(pooled, (0, right, 0, below))


class BlurPool(nn.Module):
    """A strided depthwise convolution with (1, 2, 1) x (1, 2, 1) / 16 and reflection padding.

    The weights are not in the state dict; they follow the input's device and dtype.
    """

    def __init__(self, window: SlidingWindow) -> None:
        super().__init__()
        self.stride = window.stride
        self.padding = (window.padding,) * 4
        taps = torch.tensor([1.0, 2.0, 1.0], device="cpu") / 4
        object.__setattr__(self, "weight", torch.outer(taps, taps)[None, None])

    weight: Tensor

    def extra_repr(self) -> str:
        return f"stride={self.stride}"

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        weight = self.weight.to(x).expand(channels, 1, 3, 3)
        padded = F.pad(x, self.padding, mode="reflect")
        return F.conv2d(padded, weight, stride=self.stride, groups=channels)


class ConvAlongChannels(nn.Conv1d):
    """A 1-d convolution along the channels of one pixel, ``(N, C, 1, 1) -> (N, C, 1, 1)``."""

    def forward(self, input: Tensor) -> Tensor:
        along = super().forward(input.flatten(1).unsqueeze(1))
        return along.flatten(1)[:, :, None, None]


class SubsampleChannels(nn.Module):
    """Every ``stride``-th pixel, plus zero channels, ``(N, C, H, W) -> (N, C', H', W')``."""

    def __init__(self, layer: Subsample) -> None:
        super().__init__()
        self.stride = layer.stride
        self.added_channels = layer.outputs - layer.inputs
        self.rounds_up = layer.rounding == "ceil"

    def extra_repr(self) -> str:
        return f"stride={self.stride}, added_channels={self.added_channels}"

    def forward(self, x: Tensor) -> Tensor:
        kept = x[:, :, :: self.stride, :: self.stride]
        below, right = 0, 0
        if self.rounds_up:
            below, right = (
                -((1 - x.shape[axis]) // self.stride) - (x.shape[axis] - 1) // self.stride
                for axis in (2, 3)
            )
        return F.pad(kept, (0, right, 0, below, 0, self.added_channels))


class Sum(nn.Module):
    """Main path + shortcut, in place on the main path."""

    def forward(self, main: Tensor, shortcut: Tensor) -> Tensor:
        main += shortcut
        return main


class Product(nn.Module):
    """Main path * gate; the gate is ``(N, C, 1, 1)``."""

    def forward(self, main: Tensor, gate: Tensor) -> Tensor:
        return torch.mul(main, gate)
