"""From shapes to the description of a network: every option that shapes show."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from resnetkit.architecture import registry
from resnetkit.architecture.block import squeeze_width
from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options
from resnetkit.architecture.parameters import named, places, tensors
from resnetkit.checkpoints.infer_options import squeeze
from resnetkit.checkpoints.recognition import read
from resnetkit.errors import InputError
from resnetkit.nn.resnet import ResNet

#: What no tensor shows.
UNSEEN = (
    "stride_on",
    "norm_epsilon",
    "norm_momentum",
    "norm_groups",
    "anti_alias",
    "stem_pool",
    "stem_padding",
    "head_pool",
    "output_stride",
    "dilation_entry",
    "rounding",
)


@pytest.mark.parametrize("entry", registry.catalog(), ids=lambda entry: entry.name)
def test_tensors_are_those_of_the_module(entry: registry.Entry) -> None:
    network = entry.network()
    with torch.device("meta"):
        state = ResNet(network).state_dict()
    assert tensors(network) == {name: tuple(value.shape) for name, value in state.items()}
    layers = {name.rpartition(".")[0] for name in state}
    assert set(places(network)) == layers
    assert len(set(places(network).values())) == len(layers)


@pytest.mark.parametrize("entry", registry.catalog(), ids=lambda entry: entry.name)
def test_the_catalogue_is_read_back(entry: registry.Entry) -> None:
    network = entry.network()
    reading = read(tensors(network))
    reading.check()
    unseen = {name: getattr(network.options, name) for name in UNSEEN}
    assert reading.settle(**unseen).network == network


def test_what_is_ambiguous_is_listed_and_not_guessed_silently() -> None:
    reading = read(tensors(registry.network("resnet50")))
    assert [fact.fact for fact in reading.ambiguous] == [
        "stride_on",
        "norm_epsilon",
        "stem_pool",
        "anti_alias",
        "head_pool",
        "output_stride",
        "preprocess",
    ]
    for fact in reading.ambiguous:
        assert fact.default == fact.candidates[0]
        assert fact.meaning
        assert fact.source
    settled = reading.settle(stride_on="1x1", norm_epsilon=1e-3)
    assert settled.network.name == "resnet50_v1"
    assert settled.known["stride_on"] == "given"
    assert "stride_on" not in [fact.fact for fact in settled.ambiguous]
    assert settled.names == reading.names


def test_settling_without_classes_leaves_the_head_over() -> None:
    reading = read(tensors(registry.network("resnet18"))).settle(num_classes=None)
    assert reading.leftover == ("fc.weight", "fc.bias")
    assert reading.head == "other"
    with pytest.raises(InputError, match=r"2 tensors are not part of resnet18: fc\.weight"):
        reading.check(strict=True)
    reading.check(drop=["fc."], strict=True)
    reading.check()


@settings(max_examples=100)
@given(data=st.data())
def test_any_options_are_read_back(data: st.DataObject) -> None:
    draw = data.draw
    stages = draw(st.integers(2, 4))
    numbers = st.integers(1, 3)
    stem = draw(st.sampled_from(["7x7", "deep", "3x3"]))
    bottleneck = draw(st.booleans())
    try:
        options = Options(
            depths=tuple(draw(numbers) for _ in range(stages)),
            block="bottleneck" if bottleneck else "basic",
            widths=tuple(8 * draw(st.integers(1, 9)) for _ in range(stages)),
            groups=draw(st.sampled_from([1, 2, 8])) if bottleneck else 1,
            width_per_group=draw(st.sampled_from([8, 24, 64, 128])) if bottleneck else 64,
            stem=stem,
            stem_widths=tuple(8 * draw(numbers) for _ in range(3 if stem == "deep" else 1)),
            shortcut=draw(st.sampled_from(["projection", "avgpool+projection", "pad"])),
            squeeze_excitation=draw(st.sampled_from([None, 1, 4, 16])),
            squeeze_multiple=draw(st.sampled_from([1, 8])),
            efficient_attention=draw(st.sampled_from([False, False, True])),
            shortcut_kernel=draw(st.sampled_from([1, 1, 3])),
            reduce_first=draw(st.sampled_from([1, 1, 2])),
            stem_pool=draw(st.sampled_from([None, None, "conv"])),
            norm=draw(st.sampled_from(["batch", "batch", "group", "none"])),
            norm_groups=1,
            conv_bias=draw(st.booleans()),
            num_classes=draw(st.sampled_from([None, 7])),
            in_chans=draw(st.integers(1, 5)),
        )
    except InputError:
        assume(False)
    wanted = tensors(Network(name="drawn", options=options))
    reading = read(wanted)
    reading.check()
    assert tensors(reading.network) == wanted
    same = (
        "depths",
        "block",
        "widths",
        "groups",
        "stem",
        "stem_widths",
        "conv_bias",
        "num_classes",
    )
    same += ("norm", "reduce_first", "efficient_attention")
    for name in (*same, "in_chans"):
        assert getattr(reading.network.options, name) == getattr(options, name)


@given(
    reduction=st.integers(1, 40),
    multiple=st.sampled_from([1, 2, 4, 8, 16, 32]),
    channels=st.lists(st.integers(1, 300), min_size=1, max_size=4),
)
def test_squeeze_gives_the_same_widths(reduction: int, multiple: int, channels: list[int]) -> None:
    pairs = [(count, squeeze_width(count, reduction, multiple)) for count in channels]
    assert [(count, squeeze_width(count, *squeeze(pairs))) for count in channels] == pairs


def test_a_dilated_d_network_shows_its_stride_in_names() -> None:
    """mmpretrain's V1d has no pool in the shortcuts of dilated stages, and another number."""
    network = registry.network("resnet50d", output_stride=8, dilation_entry="own")
    reading = read(tensors(network))
    assert reading.network.options == network.options
    assert reading.known["output_stride"] == "the names and shapes"


def test_names_of_the_catalogue_and_of_what_it_has_not() -> None:
    assert named(Options(num_classes=10)).name == "resnet50"
    assert named(Options(num_classes=10)).options.num_classes == 10
    assert named(Options(depths=(5, 5), widths=(64, 128))).name == "custom"
