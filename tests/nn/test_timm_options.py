"""Every option of timm's ResNet in small: the same logits, its tensors through its dialect."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timm.layers import BlurPool2d, GroupNorm, SEModule
from timm.models.resnet import BasicBlock, Bottleneck
from timm.models.resnet import ResNet as TimmResNet
from torch import nn

from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options
from resnetkit.checkpoints.recognition import dialect, read
from resnetkit.nn.resnet import ResNet

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}
POOLS = {"none": None, "average": nn.AvgPool2d, "blur": BlurPool2d}
#: Small networks, one for each choice.
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "basic": {"block": "basic"},
    "mixed": {"blocks": ("basic", "bottleneck", "basic", "bottleneck")},
    "grouped": {"groups": 4, "width_per_group": 32},
    "deep": {"stem": "deep", "stem_widths": (8, 8, 16)},
    "tiered": {"stem": "deep", "stem_widths": (6, 8, 16), "shortcut": "avgpool+projection"},
    "strided stem": {"stem_pool": "conv"},
    "strided deep stem": {"stem": "deep", "stem_widths": (8, 8, 16), "stem_pool": "conv"},
    "half first": {"reduce_first": 2},
    "half first, basic": {"reduce_first": 2, "block": "basic"},
    "wide shortcut": {"shortcut_kernel": 3},
    "wide shortcut, dilated": {"shortcut_kernel": 3, "output_stride": 8},
    "squeeze-excitation": {"squeeze_excitation": 4},
    "channel attention": {"efficient_attention": True},
    "channel attention, basic": {"efficient_attention": True, "block": "basic"},
    "average": {"anti_alias": "average"},
    "average, basic": {"anti_alias": "average", "block": "basic"},
    "average, dilated": {"anti_alias": "average", "output_stride": 8},
    "blur": {"anti_alias": "blur"},
    "blur, basic": {"anti_alias": "blur", "block": "basic"},
    "blur, dilated": {"anti_alias": "blur", "output_stride": 8},
    "group norm": {"norm": "group", "norm_groups": 4, "norm_epsilon": 1e-3},
}


def options_of(**chosen: Any) -> Options:
    small = {"depths": (2, 1, 2, 1), "widths": (16, 24, 32, 40), "num_classes": 5}
    return Options(**{**small, "stem_widths": (64,), **chosen})


def timms(options: Options) -> TimmResNet:
    """timm's own class with the same choices, and statistics that are not fresh."""
    deep, gate = options.stem == "deep", {}
    if options.squeeze_excitation is not None:
        gate["attn_layer"] = partial(SEModule, rd_ratio=1 / options.squeeze_excitation)
    if options.efficient_attention:
        gate["attn_layer"] = "eca"
    norm = partial(nn.BatchNorm2d, eps=options.norm_epsilon)
    if options.norm == "group":
        norm = partial(GroupNorm, num_groups=options.norm_groups, eps=options.norm_epsilon)
    first, width = options.stem_widths[:2] if deep else (64, 64)
    module = TimmResNet(
        [BLOCKS[kind] for kind in options.stage_blocks],
        options.depths,
        num_classes=options.num_classes,
        in_chans=options.in_chans,
        output_stride=options.output_stride,
        cardinality=options.groups,
        base_width=options.width_per_group,
        stem_width=width,
        stem_type=("deep" if first == width else "deep_tiered") if deep else "",
        replace_stem_pool=options.stem_pool == "conv",
        block_reduce_first=options.reduce_first,
        down_kernel_size=options.shortcut_kernel,
        avg_down=options.shortcut == "avgpool+projection",
        channels=options.widths,
        norm_layer=norm,
        aa_layer=POOLS[options.anti_alias],
        zero_init_last=False,
        block_args=gate,
    )
    with torch.no_grad():
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            if name.endswith("running_var") or value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return module.eval()


def arrays(state: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in state.items()}


def check(options: Options, image: torch.Tensor) -> None:
    """Read from timm, the same logits, and written back bit for bit."""
    theirs = timms(options)
    given = arrays(theirs.state_dict())
    reading = read({name: value.shape for name, value in given.items()})
    reading.check()
    assert "timm" in (reading.dialect.name, *reading.also)
    unseen = ("stride_on", "norm_epsilon", "norm_groups", "anti_alias", "output_stride")
    told = {name: getattr(options, name) for name in unseen}
    settled = reading.settle(**told)
    # Several reductions give the same widths, and then they are the same network.
    same = {"squeeze_excitation", "squeeze_multiple"}
    assert settled.network.options.differences(options).keys() <= same
    network = Network(name="small", options=options)
    ours = settled.to_ours(given)
    module = ResNet(network).eval()
    module.load_state_dict({name: torch.from_numpy(value) for name, value in ours.items()})
    with torch.inference_mode():
        expected, actual = theirs(image), module(image)
    assert expected.abs().max() > 0
    assert torch.equal(actual, expected)
    written = dialect("timm").write(network, ours)
    assert list(written) == list(dialect("timm").names(network).values())
    assert written.keys() == given.keys()
    assert all(np.array_equal(written[name], value) for name, value in given.items())


@pytest.mark.parametrize("name", CASES)
def test_every_option_in_small(name: str) -> None:
    torch.manual_seed(0)
    check(options_of(**CASES[name]), torch.randn(2, 3, 32, 64))


@st.composite
def composed(draw: st.DrawFn) -> Options:
    """Any of timm's choices together."""
    kinds = st.sampled_from(["basic", "bottleneck"])
    blocks = draw(st.none() | st.tuples(kinds, kinds, kinds, kinds))
    # A dilated stage of the same width as the one before it has no shortcut: names show that.
    widths = st.lists(st.sampled_from([16, 24, 32, 40, 48]), min_size=4, max_size=4, unique=True)
    chosen: dict[str, Any] = {
        "depths": tuple(draw(st.integers(1, 2)) for _ in range(4)),
        "widths": tuple(draw(widths)),
        "block": draw(kinds),
        "blocks": blocks,
        "stem_pool": draw(st.sampled_from(["padded", "padded", "conv"])),
        "reduce_first": draw(st.sampled_from([1, 2])),
        "shortcut": draw(st.sampled_from(["projection", "avgpool+projection"])),
        "output_stride": draw(st.sampled_from([32, 16, 8])),
        "norm": draw(st.sampled_from(["batch", "group"])),
        "norm_groups": 2,
    }
    if draw(st.booleans()):
        chosen |= {"stem": "deep", "stem_widths": draw(st.sampled_from([(8, 8, 16), (12, 16, 32)]))}
    if chosen["stem_pool"] == "padded":
        chosen["anti_alias"] = draw(st.sampled_from(["none", "average", "blur"]))
    if chosen["shortcut"] == "projection":
        chosen["shortcut_kernel"] = draw(st.sampled_from([1, 3]))
    gate = draw(st.sampled_from(["none", "squeeze", "channels"]))
    if gate == "squeeze":
        chosen["squeeze_excitation"] = draw(st.sampled_from([4, 16]))
    chosen["efficient_attention"] = gate == "channels"
    if chosen["block"] == "bottleneck" and blocks is None:
        chosen["groups"] = draw(st.sampled_from([1, 2]))
        chosen["width_per_group"] = draw(st.sampled_from([64, 32]))
    return options_of(**chosen)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(composed(), st.integers(0, 2**31))
def test_all_options_of_timm_together(options: Options, seed: int) -> None:
    torch.manual_seed(seed)
    check(options, torch.randn(1, 3, 32, 64))
