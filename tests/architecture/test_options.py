"""Options: bad values and contradictions are refused with a reason, everything else composes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import resnetkit
from resnetkit.architecture.layer import Conv
from resnetkit.architecture.options import Options
from resnetkit.architecture.shape_inference import walk
from resnetkit.errors import InputError
from resnetkit.nn.resnet import ResNet

REFUSED = [
    ({"depths": ()}, "depths is .*whole numbers"),
    ({"depths": (3, 4, 0, 3)}, "depths is .*whole numbers from 1"),
    ({"depths": (3, 4, 6)}, "3 stages and widths has 4"),
    ({"depths": (9999, 1, 1, 1)}, "at most 2000"),
    ({"block": "wide"}, "it must be one of basic, bottleneck"),
    ({"groups": 0}, "groups is 0"),
    ({"block": "basic", "groups": 2}, "applies to bottlenecks"),
    ({"block": "basic", "width_per_group": 128}, "applies to bottlenecks"),
    ({"block": "basic", "stride_on": "1x1"}, "applies to bottlenecks"),
    ({"stem": "deep", "stem_widths": (64,)}, "deep stem has 3 convolution"),
    ({"stem": "7x7", "stem_widths": (32, 32, 64)}, "7x7 stem has 1 convolution"),
    ({"stem_conv_stride": 3}, "stem_conv_stride is 3; it must be 1 or 2"),
    ({"stem_padding": 7}, "stem_padding is 7; it must be 0 to 6 for a 7x7 convolution"),
    ({"stem_padding": -1}, "stem_padding is -1"),
    ({"output_stride": 4}, "it must be one of 32, 16, 8"),
    ({"output_stride": 12}, "it must be one of 32, 16, 8"),
    ({"shortcut": "pad", "widths": (64, 128, 32, 512)}, "can only add channels"),
    ({"width_per_group": 0}, "width_per_group is 0"),
    ({"widths": (1, 2, 4, 8), "width_per_group": 4}, "without channels; use at least 64"),
    ({"norm_epsilon": 0.0}, "between 0 and 1"),
    ({"norm_momentum": 1.5}, "at most 1"),
    ({"num_classes": 0}, "num_classes is 0"),
    ({"num_classes": True}, "num_classes is True"),
    ({"squeeze_excitation": -1}, "squeeze_excitation is -1"),
    ({"in_chans": 0}, "in_chans is 0"),
    ({"conv_bias": 1}, "true or false"),
    ({"efficient_attention": 1}, "efficient_attention is 1; it must be true or false"),
    ({"efficient_attention": True, "squeeze_excitation": 16}, "are both gates"),
    ({"norm": "none"}, "set conv_bias too"),
    ({"norm": "layer"}, "it must be one of batch, group, none"),
    ({"norm": "group", "norm_groups": 48}, "48 does not divide a norm of 64 channels"),
    ({"norm": "group", "width_per_group": 33}, "32 does not divide a norm of 33 channels"),
    ({"blocks": ("basic",)}, "4 stages and blocks has 1"),
    ({"blocks": ("basic", "wide")}, "it must be basic or bottleneck for each stage"),
    ({"blocks": ("bottleneck", "basic") * 2, "groups": 2}, "applies to bottlenecks"),
    ({"reduce_first": 65}, "reduce_first 65 leaves a block's first convolution with 0 channels"),
    ({"groups": 64, "width_per_group": 1, "reduce_first": 2}, "32 channels for 64 groups"),
    ({"conv_widths": (1, 2, 3)}, "has 3 widths and the blocks have 48 convolutions"),
    ({"conv_widths": (8,) * 48, "groups": 2}, "sets every width; remove groups"),
    ({"conv_widths": (8,) * 47 + (9,)}, "8, 9 output channels in stage 4"),
    ({"conv_widths": (8,) * 47 + (0,)}, "conv_widths is .*whole numbers from 1"),
    ({"shortcut_kernel": 2}, "it must be 1 or 3"),
    ({"shortcut_kernel": 3, "shortcut": "pad"}, "not to shortcut pad"),
    ({"anti_alias": "blur", "stride_on": "1x1"}, "use stride_on 3x3"),
    ({"anti_alias": "blur", "stem_pool": "conv"}, "conflicts with stem_pool conv"),
    ({"anti_alias": "average", "rounding": "ceil"}, "use rounding floor"),
    ({"anti_alias": "max"}, "it must be one of none, average, blur"),
    ({"stem": "3x3", "stem_pool": "conv"}, "use padded, caffe or none"),
    ({"rounding": "round"}, "floor, ceil"),
    ({"kernel": 5}, "'kernel' is not a network option"),
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


def test_what_old_documents_do_not_have_is_as_it_was() -> None:
    new = "norm norm_groups blocks reduce_first conv_widths shortcut_kernel anti_alias".split()
    new.append("efficient_attention")
    document = Options(num_classes=7).to_dict()
    old = {name: value for name, value in document.items() if name not in new}
    assert len(document) - len(old) == len(new)
    assert Options.from_dict(old) == Options(num_classes=7)


def test_one_kind_of_block_in_all_stages_is_said_in_one_way() -> None:
    told = Options(blocks=("basic",) * 4)
    assert told == Options(block="basic")
    assert told.blocks is None
    mixed = resnetkit.network("test_resnet")
    assert mixed.options.block == "basic"
    assert mixed.override(block="basic").options.blocks is None
    assert Options.from_dict(mixed.options.to_dict()) == mixed.options


def test_changed_widths_forget_what_was_pruned() -> None:
    pruned = resnetkit.network("ecaresnet50d_pruned")
    assert pruned.features == 2022
    assert pruned.override(num_classes=7).features == 2022
    assert pruned.override(widths=(8, 16, 32, 64)).features == 256


def test_average_pools_against_aliasing_want_even_maps() -> None:
    with pytest.raises(
        InputError, match=r"the main path gives .* and the shortcut .* multiples of"
    ):
        resnetkit.explain("resnetaa50", 200)
    assert resnetkit.explain("resnetaa50", 192).output == (1000,)
    with pytest.raises(InputError, match=r"at layer\d\.0\.aa, the blur requires at least 2 pixels"):
        resnetkit.explain("resnetblur18", 8)


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
        "stem_conv_stride": draw(st.sampled_from([None, None, 1, 2])),
        "stem_pool": draw(st.sampled_from([None, "padded", "caffe", "conv", "none"])),
        "stride_on": draw(st.sampled_from(["1x1", "3x3"])),
        "shortcut": draw(st.sampled_from(["projection", "avgpool+projection", "pad"])),
        "squeeze_excitation": draw(st.sampled_from([None, 4])),
        "efficient_attention": draw(st.sampled_from([False, False, True])),
        "anti_alias": draw(st.sampled_from(["none", "none", "average", "blur"])),
        "shortcut_kernel": draw(st.sampled_from([1, 1, 3])),
        "reduce_first": draw(st.sampled_from([1, 1, 2])),
        "blocks": draw(st.none() | st.tuples(*[st.sampled_from(["basic", "bottleneck"])] * stages)),
        "norm": draw(st.sampled_from(["batch", "batch", "group", "none"])),
        "norm_groups": draw(st.sampled_from([1, 4, 8])),
        "conv_bias": draw(st.booleans()),
        "output_stride": draw(st.sampled_from([None, 32, 16, 8, 4])),
        "dilation_entry": draw(st.sampled_from(["previous", "own", "all"])),
        "head_pool": draw(st.sampled_from(["global", "7x7"])),
        "num_classes": draw(st.sampled_from([None, 5])),
        "in_chans": draw(st.sampled_from([1, 3])),
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
    shape = (options.in_chans, height, width)
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
        assert "too small" in str(error) or "does not fit" in str(error)
        with pytest.raises(RuntimeError):
            module(image)
        return
    if walked.problem is None:
        assert tuple(module(image).shape[1:]) == walked.output
    else:
        with pytest.raises(RuntimeError):
            module(image)
    assert seen == {s.path: s.output for s in walked.steps if s.output is not None}


def test_names_of_before_are_read() -> None:
    """Bundles, exported files and recipes that were written before options were renamed."""
    network = resnetkit.network("resnet18", num_classes=7, in_chans=1)
    document = network.to_dict()
    options = document["options"]
    options["classes"], options["input_channels"] = (
        options.pop("num_classes"),
        options.pop("in_chans"),
    )
    assert type(network).from_dict(document) == network
