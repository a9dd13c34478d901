"""Attributes that weights do not determine, and what each value means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from resnetkit.architecture.options import Options

#: The reduction of the output stride and its meaning.
_DILATED = {
    1: "no stage is dilated",
    2: "the last stage is dilated by 2 instead of having a stride",
    4: "the last two stages are dilated, by 2 and 4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """An option that no tensor shows: its values, their meaning, and the framework's default.

    The first value is the framework's default, documented in ``source``; ``natural`` computes it if
    it depends on the other options. ``each`` describes each value; ``applies`` selects the networks
    for which the fact matters, None for all.
    """

    option: str
    values: tuple[Any, ...]
    meaning: str
    source: str
    natural: Callable[[Options], Any] | None = None
    each: Mapping[Any, str] = field(default_factory=dict)
    applies: Callable[[Options], bool] | None = None

    def ordered(self, options: Options) -> tuple[Any, ...]:
        """The values, the framework's default for these options first.

        Output strides are for a natural stride of 32 and scaled to that of ``options``; norm groups
        must divide the channels.
        """
        values = self.values
        if self.option == "output_stride":
            scaled = (options.natural_stride * value // 32 for value in values)
            values = tuple(value for value in scaled if value > 0)
        if self.option == "norm_groups":
            values = tuple(v for v in values if not any(w % v for w in options.normed_widths))
        if self.natural is None:
            return values
        first = self.natural(options)
        return first, *(value for value in values if value != first)

    def means(self, value: Any, options: Options) -> str:
        """The meaning of ``value`` for a network of these options."""
        if self.option == "output_stride":
            return _DILATED.get(options.natural_stride // value, "more stages are dilated")
        return self.each.get(value, str(value))


def stride_on(default: str, source: str, natural: Callable[[Options], Any] | None = None) -> Fact:
    """The convolution of a bottleneck with the stride: names and shapes are the same for both."""
    other = "3x3" if default == "1x1" else "1x1"
    return Fact(
        option="stride_on",
        values=(default, other),
        meaning="the convolution of a bottleneck that has the stride",
        each={
            "1x1": "v1: the first convolution, so that the 3x3 sees a quarter of the pixels",
            "3x3": "v1.5: the second convolution; some 6 % more MACs in a ResNet-50",
        },
        source=source,
        natural=natural,
    )


def epsilon(source: str, *values: float) -> Fact:
    """The norms' epsilon, 1e-5 almost everywhere."""
    return Fact(
        option="norm_epsilon",
        values=values or (1e-5, 1.001e-5, 1e-3),
        meaning="added to the variance by norms; it matters if variances are small",
        each={
            1e-5: "torch's and Caffe's default",
            1.001e-5: "keras.applications",
            1e-3: "Keras' and TensorFlow's default",
        },
        source=source,
    )


def anti_alias(source: str) -> Fact:
    """The subsampling, which has no parameters."""
    return Fact(
        option="anti_alias",
        values=("none", "average", "blur"),
        meaning="the subsampling in place of strides; it has no tensors",
        each={
            "none": "strides alone",
            "average": "2x2 average pools after convolutions without a stride",
            "blur": "binomial filters after convolutions without a stride (Zhang 2019)",
        },
        source=source,
    )


def norm_groups(source: str) -> Fact:
    """The number of groups of group norms, which does not affect the weights."""
    return Fact(
        option="norm_groups",
        values=(32, 16, 8, 4, 2, 1),
        meaning="groups of channels that a group norm normalises together",
        each={n: f"{n} groups" if n > 1 else "all channels at once" for n in (32, 16, 8, 4, 2, 1)},
        source=source,
    )


def stem_pool(source: str, *values: str) -> Fact:
    """The stem's max-pool."""
    return Fact(
        option="stem_pool",
        values=values or ("padded", "caffe"),
        meaning="the stem's 3x3 max-pool of stride 2; it affects borders and sizes",
        each={
            "padded": "padded by 1 on all sides",
            "caffe": "without padding, its size rounded up, as in Caffe",
        },
        source=source,
        applies=lambda options: options.stem != "3x3",
    )


def small_stem_pool(source: str) -> Fact:
    """Whether a max-pool follows a single 3x3 convolution, which does not affect the tensors."""
    return Fact(
        option="stem_pool",
        values=("none", "padded"),
        meaning="the max-pool after a stem of one 3x3 convolution",
        each={
            "none": "no pool, as in networks for 32x32 images",
            "padded": "torchvision's pool kept: 3x3, stride 2, padded by 1",
        },
        source=source,
        applies=lambda options: options.stem == "3x3",
    )


def small_stem_stride(source: str) -> Fact:
    """The stride of a single 3x3 convolution."""
    return Fact(
        option="stem_conv_stride",
        values=(1, 2),
        meaning="the stride of a stem's one 3x3 convolution",
        each={1: "as in networks for 32x32 images", 2: "that of the 7x7 in its place"},
        source=source,
        applies=lambda options: options.stem == "3x3",
    )


def head_pool(source: str, *values: str) -> Fact:
    """The pool before the classifier; both are equal at 224x224."""
    return Fact(
        option="head_pool",
        values=values or ("global", "7x7"),
        meaning="the pool before the classifier; the same at 224x224",
        each={"global": "the mean of the whole map", "7x7": "means of 7x7 windows"},
        source=source,
    )


def output_stride(source: str, *values: int) -> Fact:
    """Dilation; values are halved with the natural stride of smaller stems."""
    return Fact(
        option="output_stride",
        values=values or (32, 16, 8),
        meaning="stride of the last map; dilation does not affect tensors",
        source=source,
    )


def dilation_entry(default: str, source: str) -> Fact:
    """The dilation of a dilated stage's first block."""
    others = tuple(value for value in ("previous", "own") if value != default)
    return Fact(
        option="dilation_entry",
        values=(default, *others),
        meaning="dilation of a dilated stage's first block",
        each={
            "previous": "that of the stage before it",
            "own": "that of its stage",
            "all": "that of its stage, in both convolutions of basic blocks",
        },
        source=source,
    )
