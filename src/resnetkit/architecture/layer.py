"""Layers: output shape, parameters and MACs of each kind.

Shapes are ``(C, H, W)`` for maps and ``(C,)`` for vectors, without the batch dimension.

Conventions of the whole project:

* **MAC**: one multiply-add of a convolution or linear layer, blurs included. Bias, norm,
  activation, pool and addition are not counted. 1 MAC = 2 FLOPs.
* **Activations**: output elements of convolutions and linear layers, as counted by pycls, fvcore
  and timm; other layers count 0.
* **Parameters** are trained; **buffers** are stored but not trained (a norm's running mean,
  running variance and batch counter).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

from resnetkit.architecture.sliding_window import Rounding, SlidingWindow
from resnetkit.errors import InputError

Shape = tuple[int, ...]


class ShapeError(InputError):
    """A layer cannot process its input shape; the message says why."""


def shape_text(shape: Shape) -> str:
    """A shape as text, e.g. ``2048x15x15``."""
    return "x".join(str(size) for size in shape)


def map_size(shape: Shape, what: str) -> tuple[int, int, int]:
    """Channels, height and width. Raises ``ShapeError`` if it is not a map."""
    if len(shape) != 3:
        raise ShapeError(f"{what} requires a map (C, H, W), not {shape_text(shape)}")
    channels, height, width = shape
    return channels, height, width


def slide(window: SlidingWindow, shape: Shape, channels: int, what: str) -> Shape:
    """The output shape of a window. Raises ``ShapeError`` if it is empty."""
    _, height, width = map_size(shape, what)
    rows, columns = window.output(height), window.output(width)
    if rows < 1 or columns < 1:
        raise ShapeError(
            f"{what} covers {window.extent} pixels, and its input is {height}x{width} "
            f"with padding {window.padding}: the output is empty"
        )
    return channels, rows, columns


def axis_formulas(window: SlidingWindow, shape: Shape) -> str:
    """The formula of the size, or of height and width if they differ."""
    _, height, width = map_size(shape, "a window")
    if height == width:
        return window.formula(height)
    return f"height {window.formula(height)}; width {window.formula(width)}"


def check_channels(shape: Shape, expected: int, what: str) -> None:
    """Raise ``ShapeError`` for other numbers of channels."""
    if shape[0] != expected:
        raise ShapeError(f"{what} requires {expected} channels, not {shape[0]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Base class of layers.

    ``name`` is its name in its block or stage, and that of the torch submodule.
    """

    name: str
    kind: ClassVar[str]

    @property
    def window(self) -> SlidingWindow | None:
        """The sliding window, or None for pointwise and global layers."""
        return None

    @property
    def parameters(self) -> int:
        """Trainable values."""
        return 0

    @property
    def buffers(self) -> int:
        """Values stored but not trained."""
        return 0

    @property
    def text(self) -> str:
        """A short description."""
        return self.kind

    def output(self, shape: Shape) -> Shape:
        """The output shape for ``shape``. Raises ``ShapeError`` if ``shape`` is invalid."""
        return shape

    def macs(self, shape: Shape) -> int:
        """Multiply-adds for one image of input ``shape``."""
        return 0

    def activations(self, shape: Shape) -> int:
        """Output elements for one image, 0 except for convolutions and linear layers."""
        return 0

    def size_formula(self, shape: Shape) -> str:
        """The output size with its numbers filled in; empty if the size does not change."""
        return ""

    def parameters_formula(self) -> str:
        """The parameters with their numbers filled in; empty if there are none."""
        return ""

    def macs_formula(self, shape: Shape) -> str:
        """The MACs with their numbers filled in; empty if there are none."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Layer):
    """A 2-d convolution, ``(C, H, W) -> (outputs, H', W')``."""

    kind: ClassVar[str] = "conv"
    inputs: int
    outputs: int
    slides: SlidingWindow
    groups: int = 1
    bias: bool = False

    @property
    def window(self) -> SlidingWindow:
        return self.slides

    @property
    def parameters(self) -> int:
        weights = self.outputs * (self.inputs // self.groups) * self.slides.kernel**2
        return weights + self.outputs * self.bias

    @property
    def text(self) -> str:
        window = self.slides
        words = f"conv {window.kernel}x{window.kernel}, {self.inputs}->{self.outputs}"
        if self.groups > 1:
            words += f", groups {self.groups}"
        if window.stride > 1:
            words += f", stride {window.stride}"
        if window.dilation > 1:
            words += f", dilation {window.dilation}"
        return words

    def output(self, shape: Shape) -> Shape:
        check_channels(shape, self.inputs, f"the {self.slides.kernel}x{self.slides.kernel} conv")
        what = f"the {self.slides.kernel}x{self.slides.kernel} convolution"
        return slide(self.slides, shape, self.outputs, what)

    def macs(self, shape: Shape) -> int:
        per_output = (self.inputs // self.groups) * self.slides.kernel**2
        return prod(self.output(shape)) * per_output

    def activations(self, shape: Shape) -> int:
        return prod(self.output(shape))

    def size_formula(self, shape: Shape) -> str:
        return axis_formulas(self.slides, shape)

    def fan_in_formula(self) -> str:
        """The multiply-adds of one output with its numbers filled in, e.g. ``64*3*3``."""
        inputs = f"{self.inputs}/{self.groups}" if self.groups > 1 else f"{self.inputs}"
        return f"{inputs}*{self.slides.kernel}*{self.slides.kernel}"

    def parameters_formula(self) -> str:
        bias = f" + {self.outputs}" if self.bias else ""
        return f"{self.outputs}*{self.fan_in_formula()}{bias} = {self.parameters:,}"

    def macs_formula(self, shape: Shape) -> str:
        channels, rows, columns = self.output(shape)
        return f"{channels}*{rows}*{columns} * {self.fan_in_formula()} = {self.macs(shape):,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Layer):
    """Normalisation of ``channels``: batch norm (Ioffe & Szegedy 2015), or group norm.

    With ``groups`` the mean and variance are computed over groups of channels of each image (Wu &
    He 2018, arXiv:1803.08494), without running statistics. ``momentum`` is torch's: the weight of
    the new batch in the running statistics.
    """

    kind: ClassVar[str] = "norm"
    channels: int
    epsilon: float
    momentum: float
    groups: int | None = None

    @property
    def parameters(self) -> int:
        return 2 * self.channels

    @property
    def buffers(self) -> int:
        return 2 * self.channels + 1 if self.groups is None else 0

    @property
    def text(self) -> str:
        if self.groups is not None:
            return f"group norm, {self.channels}, groups {self.groups}"
        return f"batch norm, {self.channels}"

    def output(self, shape: Shape) -> Shape:
        check_channels(shape, self.channels, "the norm")
        return shape

    def parameters_formula(self) -> str:
        return f"2*{self.channels} = {self.parameters:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation(Layer):
    """A function of each element."""

    kind: ClassVar[str] = "activation"
    function: Literal["relu", "sigmoid"] = "relu"

    @property
    def text(self) -> str:
        return {"relu": "ReLU", "sigmoid": "sigmoid"}[self.function]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool(Layer):
    """The maximum or mean of each window; without a window, the mean of the whole map.

    ``count_padding`` includes padded zeros in a mean.
    """

    kind: ClassVar[str] = "pool"
    function: Literal["max", "average"]
    slides: SlidingWindow | None
    count_padding: bool = False

    @property
    def window(self) -> SlidingWindow | None:
        return self.slides

    @property
    def text(self) -> str:
        if self.slides is None:
            return "global average pool"
        kernel = f"{self.slides.kernel}x{self.slides.kernel}"
        stride = f", stride {self.slides.stride}"
        return f"{self.function} pool {kernel}{stride}"

    def output(self, shape: Shape) -> Shape:
        what = f"the {self.text}"
        if self.slides is None:
            return map_size(shape, what)[0], 1, 1
        return slide(self.slides, shape, shape[0], what)

    def size_formula(self, shape: Shape) -> str:
        if self.slides is None:
            _, height, width = map_size(shape, "the pool")
            return f"mean of {height}*{width} = {height * width} pixels"
        return axis_formulas(self.slides, shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subsample(Layer):
    """Every ``stride``-th pixel, with zero channels appended: the shortcut without parameters.

    Option A of He et al. 2015, section 4.2; zeros are appended as in fb.resnet.torch.
    """

    kind: ClassVar[str] = "subsample"
    inputs: int
    outputs: int
    stride: int
    rounding: Rounding = "floor"

    @property
    def window(self) -> SlidingWindow:
        return SlidingWindow(kernel=1, stride=self.stride, rounding=self.rounding)

    @property
    def text(self) -> str:
        kept = "" if self.stride == 1 else f"1 pixel in {self.stride}x{self.stride}, "
        return f"{kept}{self.inputs}->{self.outputs} with zeros"

    def output(self, shape: Shape) -> Shape:
        check_channels(shape, self.inputs, "the subsampling shortcut")
        return slide(self.window, shape, self.outputs, "the subsampling shortcut")

    def size_formula(self, shape: Shape) -> str:
        return axis_formulas(self.window, shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten(Layer):
    """A map as a vector, ``(C, H, W) -> (C*H*W,)``."""

    kind: ClassVar[str] = "flatten"

    def output(self, shape: Shape) -> Shape:
        return (prod(map_size(shape, "flatten")),)

    def size_formula(self, shape: Shape) -> str:
        return f"{'*'.join(str(size) for size in shape)} = {prod(shape)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Layer):
    """A fully connected layer, ``(inputs,) -> (outputs,)``, with bias."""

    kind: ClassVar[str] = "linear"
    inputs: int
    outputs: int

    @property
    def parameters(self) -> int:
        return (self.inputs + 1) * self.outputs

    @property
    def text(self) -> str:
        return f"linear, {self.inputs}->{self.outputs}"

    def output(self, shape: Shape) -> Shape:
        if shape != (self.inputs,):
            raise ShapeError(
                f"the fully connected layer requires {self.inputs} inputs, not {prod(shape)}"
            )
        return (self.outputs,)

    def macs(self, shape: Shape) -> int:
        return self.inputs * self.outputs

    def activations(self, shape: Shape) -> int:
        return self.outputs

    def size_formula(self, shape: Shape) -> str:
        return f"{self.inputs} -> {self.outputs}"

    def parameters_formula(self) -> str:
        return f"{self.inputs}*{self.outputs} + {self.outputs} = {self.parameters:,}"

    def macs_formula(self, shape: Shape) -> str:
        return f"{self.inputs}*{self.outputs} = {self.macs(shape):,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Layer):
    """The shortcut added to the main path."""

    kind: ClassVar[str] = "add"

    @property
    def text(self) -> str:
        return "add the shortcut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale(Layer):
    """The main path times its gate, channel by channel."""

    kind: ClassVar[str] = "scale"

    @property
    def text(self) -> str:
        return "times the gate"
