"""Options: bad values and contradictions are refused with a reason, everything else composes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import resnetkit
from resnetkit.architecture.layer import Conv
from resnetkit.architecture.options import Options
from resnetkit.architecture.walk import walk
from resnetkit.errors import InputError
from resnetkit.module.build import ResNet

REFUSED = [
    ({"depths": ()}, "depths is .*whole numbers"),
    ({"depths": (3, 4, 0, 3)}, "depths is .*whole numbers from 1"),
    ({"depths": (3, 4, 6)}, "3 stages and widths has 4"),
    ({"depths": (9999, 1, 1, 1)}, "at most 2000"),
    ({"block": "wide"}, "it may be basic, bottleneck"),
    ({"groups": 0}, "groups is 0"),
    ({"block": "basic", "groups": 2}, "middle of a bottleneck"),
    ({"block": "basic", "width_per_group": 128}, "middle of a bottleneck"),
    ({"block": "basic", "stride_on": "1x1"}, "middle of a bottleneck"),
    ({"stem": "deep", "stem_widths": (64,)}, "deep stem has 3 convolution"),
    ({"stem": "7x7", "stem_widths": (32, 32, 64)}, "7x7 stem has 1 convolution"),
    ({"stem": "3x3", "stem_pool": "padded"}, "has no pool"),
    ({"stem_padding": -1}, "stem_padding is -1"),
    ({"output_stride": 4}, "it may be 32, 16, 8"),
    ({"output_stride": 12}, "it may be 32, 16, 8"),
    ({"shortcut": "pad", "widths": (64, 128, 32, 512)}, "can only add channels"),
    ({"width_per_group": 0}, "width_per_group is 0"),
    ({"widths": (1, 2, 4, 8), "width_per_group": 4}, "without channels; give at least 64"),
    ({"norm_epsilon": 0.0}, "between 0 and 1"),
    ({"norm_momentum": 1.5}, "up to 1"),
    ({"classes": 0}, "classes is 0"),
    ({"classes": True}, "classes is True"),
    ({"squeeze_excitation": -1}, "squeeze_excitation is -1"),
    ({"input_channels": 0}, "input_channels is 0"),
    ({"conv_bias": 1}, "true or false"),
    ({"rounding": "round"}, "floor, ceil"),
    ({"kernel": 5}, "'kernel' is no option"),
]


@pytest.mark.parametrize(("options", "reason"), REFUSED, ids=lambda v: str(v)[:40])
def test_refused(options: dict, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        resnetkit.network("resnet50", **options)
    assert "\n" not in str(caught.value)


def strides_and_dilations(**options) -> list[tuple[int, int]]:
    described = resnetkit.network("resnet50", **options)
    return [
        (layer.slides.stride, layer.slides.dilation)
        for stage in described.stages[1:]
        for block in stage.blocks[:2]
        for layer in block.main
        if isinstance(layer, Conv) and layer.slides.kernel == 3
    ]


def test_dilation_conventions() -> None:
    plain = [(1, 1), (1, 1), (2, 1), (1, 1)]
    assert strides_and_dilations() == [*plain, (2, 1), (1, 1), (2, 1), (1, 1)]
    assert strides_and_dilations(output_stride=8) == [*plain, (1, 1), (1, 2), (1, 2), (1, 4)]
    own = strides_and_dilations(output_stride=8, dilation_entry="own")
    assert own == [*plain, (1, 2), (1, 2), (1, 4), (1, 4)]


@st.composite
def composed(draw) -> dict:
    """Any options, small enough to run; contradictions included."""
    stages = draw(st.integers(1, 4))
    widths = st.sampled_from([8, 16, 24])
    return {
        "depths": tuple(draw(st.integers(1, 2)) for _ in range(stages)),
        "widths": tuple(sorted(draw(widths) for _ in range(stages))),
        "block": draw(st.sampled_from(["basic", "bottleneck"])),
        "groups": draw(st.sampled_from([1, 1, 2])),
        "width_per_group": draw(st.sampled_from([64, 64, 32])),
        "stem": draw(st.sampled_from(["7x7", "deep", "3x3"])),
        "stem_padding": draw(st.sampled_from([None, 0, 1])),
        "stem_pool": draw(st.sampled_from([None, "padded", "caffe", "none"])),
        "stride_on": draw(st.sampled_from(["1x1", "3x3"])),
        "shortcut": draw(st.sampled_from(["projection", "avgpool+projection", "pad"])),
        "squeeze_excitation": draw(st.sampled_from([None, 4])),
        "conv_bias": draw(st.booleans()),
        "output_stride": draw(st.sampled_from([None, 32, 16, 8, 4])),
        "dilation_entry": draw(st.sampled_from(["previous", "own"])),
        "head_pool": draw(st.sampled_from(["global", "7x7"])),
        "classes": draw(st.sampled_from([None, 5])),
        "input_channels": draw(st.sampled_from([1, 3])),
        "rounding": draw(st.sampled_from(["floor", "ceil"])),
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(composed(), st.integers(1, 90), st.integers(33, 90))
def test_whatever_is_not_refused_runs_as_described(choices, height, width) -> None:
    try:
        options = Options(**choices)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert Options.from_dict(options.to_dict()) == options
    described = resnetkit.Network(name="composed", options=options)
    module = ResNet(described).eval()
    assert sum(p.numel() for p in module.parameters()) == described.parameters
    shape = (options.input_channels, height, width)
    seen: dict[str, tuple[int, ...]] = {}
    for leaf in module.modules():
        if hasattr(leaf, "path"):
            leaf.register_forward_hook(
                lambda leaf, _, out: seen.__setitem__(leaf.path, tuple(out.shape[1:]))
            )
    image = torch.rand(2, *shape)
    try:
        walked = walk(described, shape)
    except InputError as error:
        assert "too small" in str(error)
        with pytest.raises(RuntimeError):
            module(image)
        return
    if walked.problem is None:
        assert tuple(module(image).shape[1:]) == walked.output
    else:
        with pytest.raises(RuntimeError):
            module(image)
    assert seen == {s.path: s.output for s in walked.steps if s.output is not None}
