"""Rarely used layers: anti-aliasing blur, and the convolution of ECA gates."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from resnetkit.architecture.layer import (
    Layer,
    Shape,
    ShapeError,
    axis_formulas,
    check_channels,
    map_size,
    slide,
)
from resnetkit.architecture.sliding_window import SlidingWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class Blur(Layer):
    """A depthwise convolution with fixed weights and reflection padding, for anti-aliasing.

    The weights are (1, 2, 1) x (1, 2, 1) / 16 (Zhang 2019, arXiv:1904.11486, as in timm).
    """

    kind: ClassVar[str] = "blur"
    channels: int
    slides: SlidingWindow

    @property
    def window(self) -> SlidingWindow:
        return self.slides

    @property
    def text(self) -> str:
        return f"blur {self.slides.kernel}x{self.slides.kernel}, stride {self.slides.stride}"

    def output(self, shape: Shape) -> Shape:
        check_channels(shape, self.channels, "the blur")
        _, height, width = map_size(shape, "the blur")
        if min(height, width) <= self.slides.padding:
            raise ShapeError(f"the blur requires at least 2 pixels per side, not {height}x{width}")
        return slide(self.slides, shape, self.channels, "the blur")

    def macs(self, shape: Shape) -> int:
        return prod(self.output(shape)) * self.slides.kernel**2

    def activations(self, shape: Shape) -> int:
        return prod(self.output(shape))

    def size_formula(self, shape: Shape) -> str:
        return axis_formulas(self.slides, shape)

    def macs_formula(self, shape: Shape) -> str:
        channels, rows, columns = self.output(shape)
        kernel = self.slides.kernel
        return f"{channels}*{rows}*{columns} * {kernel}*{kernel} = {self.macs(shape):,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConv(Layer):
    """A 1-d convolution along the channels of one pixel, ``(C, 1, 1) -> (C, 1, 1)``, no bias.

    Part of efficient channel attention (Wang et al. 2019, arXiv:1910.03151).
    """

    kind: ClassVar[str] = "conv1d"
    kernel: int

    @property
    def parameters(self) -> int:
        return self.kernel

    @property
    def text(self) -> str:
        return f"1-d conv {self.kernel}, along the channels"

    def macs(self, shape: Shape) -> int:
        return shape[0] * self.kernel

    def activations(self, shape: Shape) -> int:
        return shape[0]

    def parameters_formula(self) -> str:
        return f"1*1*{self.kernel} = {self.parameters:,}"

    def macs_formula(self, shape: Shape) -> str:
        return f"{shape[0]} * {self.kernel} = {self.macs(shape):,}"
