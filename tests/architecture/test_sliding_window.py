"""The arithmetic of windows against torch's own, and its formulas against itself."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from resnetkit.architecture.sliding_window import SlidingWindow

sizes = st.integers(1, 600)
kernels = st.integers(1, 7)
strides = st.integers(1, 3)


@given(sizes, kernels, strides, st.integers(0, 3), st.integers(1, 4))
def test_floor_is_torchs_convolution(size, kernel, stride, padding, dilation) -> None:
    window = SlidingWindow(kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    convolution = nn.Conv2d(1, 1, kernel, stride, padding, dilation, device="meta")
    image = torch.empty(1, 1, size, size, device="meta")
    if window.extent > size + 2 * padding:
        assert window.output(size) < 1
        with pytest.raises(RuntimeError):
            convolution(image)
    else:
        assert window.output(size) == convolution(image).shape[-1]


@given(sizes, kernels, strides, st.data())
def test_ceil_is_torchs_pool(size, kernel, stride, data) -> None:
    padding = data.draw(st.integers(0, kernel // 2))
    window = SlidingWindow(
        kernel=kernel, stride=stride, padding=padding, rounding="ceil", starts_inside=True
    )
    assume(window.output(size) >= 1)
    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=True)
    assert window.output(size) == pool(torch.empty(1, 1, size, size, device="meta")).shape[-1]


@given(sizes, kernels, strides, st.integers(0, 3))
def test_overhang_makes_floor_of_ceil(size, kernel, stride, padding) -> None:
    up = SlidingWindow(kernel=kernel, stride=stride, padding=padding, rounding="ceil")
    assume(up.output(size) >= 1)
    overhang = up.overhang(size)
    assert 0 <= overhang < max(stride, kernel + 1)
    padded = SlidingWindow(kernel=kernel, stride=stride, padding=padding, end_padding=overhang)
    assert padded.output(size) == up.output(size)


@given(sizes, kernels, strides, st.integers(0, 3), st.integers(1, 3), st.integers(0, 1), st.data())
def test_formula_computes_what_it_says(size, kernel, stride, padding, dilation, end, data) -> None:
    window = SlidingWindow(
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        end_padding=end,
        rounding=data.draw(st.sampled_from(["floor", "ceil"])),
        starts_inside=data.draw(st.booleans()),
    )
    left, right = window.formula(size).split(" = ")
    left = left.replace("(the last window would start outside)", "")
    value = eval(left, {"floor": math.floor, "ceil": math.ceil})
    assert value == int(right) == window.output(size)


def test_the_issues_own_example() -> None:
    window = SlidingWindow(kernel=3, stride=2, padding=1)
    assert window.formula(473) == "floor((473 + 2*1 - 3) / 2) + 1 = 237"
