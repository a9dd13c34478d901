"""Receptive fields are where torch's gradients are, for every kind of window."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

import resnetkit
from inspected import bundle_of, photo
from resnetkit.architecture.network import Network
from resnetkit.architecture.shape_inference import walk
from resnetkit.errors import InputError
from resnetkit.inspect import ReceptiveField, receptive_field
from resnetkit.inspect.places import places

#: Options that change windows and paths.
OPTIONS = st.fixed_dictionaries(
    {
        "block": st.sampled_from(["basic", "bottleneck"]),
        "stem": st.sampled_from(["7x7", "deep", "3x3"]),
        "stem_pool": st.sampled_from(["padded", "caffe", "conv", "none"]),
        "stem_padding": st.sampled_from([None, 0, 1, 2]),
        "shortcut": st.sampled_from(["projection", "avgpool+projection", "pad"]),
        "shortcut_kernel": st.sampled_from([1, 3]),
        "stride_on": st.sampled_from(["1x1", "3x3"]),
        "anti_alias": st.sampled_from(["none", "average", "blur"]),
        "output_stride": st.sampled_from([None, 8, 16]),
        "dilation_entry": st.sampled_from(["previous", "own", "all"]),
        "rounding": st.sampled_from(["floor", "ceil"]),
        "depths": st.sampled_from([(1, 1, 1), (2, 1, 1)]),
    }
)


def network_of(options: dict[str, Any]) -> Network:
    """A network of few channels; examples whose options contradict each other are skipped."""
    given = {name: value for name, value in options.items() if value is not None}
    if given["block"] == "basic":
        given["stride_on"] = "3x3"
    count = 3 if given["stem"] == "deep" else 1
    try:
        return resnetkit.network(
            "resnet50", **given, widths=(4, 4, 8), stem_widths=(4,) * count, num_classes=3
        )
    except InputError:
        assume(False)
        raise


def positive(network: Network) -> nn.Module:
    """A module in float64 through which every input pixel of a window matters: positive weights,
    and means for maxima."""
    module = resnetkit.build(network).eval().double().requires_grad_(False)
    for name, values in module.named_parameters():
        if name.endswith("weight") and values.ndim > 1:
            values.abs_().add_(0.01)
    for layer in list(module.modules()):
        for name, child in list(layer.named_children()):
            if isinstance(child, nn.MaxPool2d):
                mean = nn.AvgPool2d(
                    child.kernel_size, child.stride, child.padding, ceil_mode=child.ceil_mode
                )
                setattr(layer, name, mean)
    return module


def gradient_of(module: nn.Module, field: ReceptiveField, layer: str) -> np.ndarray:
    """The gradient ``(H, W)`` of a unit's channels with respect to a positive input."""
    kept: list[torch.Tensor] = []
    row, column = field.position
    module.get_submodule(layer).register_forward_hook(
        lambda _m, _g, output: kept.append(output[:, :, row, column].sum())
    )
    inputs = (torch.rand(1, *field.input, dtype=torch.float64) + 0.1).requires_grad_()
    module(inputs)
    return torch.autograd.grad(kept[0], inputs)[0].abs().sum((0, 1)).numpy()


def within(field: ReceptiveField) -> tuple[slice, slice]:
    assert field.clipped is not None
    left, top, width, height = field.clipped
    return slice(top, top + height), slice(left, left + width)


@settings(max_examples=60)
@given(OPTIONS, st.integers(20, 61), st.integers(20, 61), st.data())
def test_the_gradient_fills_the_clipped_box(
    options: dict[str, Any], height: int, width: int, data: st.DataObject
) -> None:
    """All of a positive network's gradient is inside, and reaches each of the four sides."""
    network = network_of(options)
    try:
        steps = {one.path: one for one in walk(network, (3, height, width)).steps}
    except InputError:
        assume(False)
    known = {path: one for path, one in places(network).items() if one.stage != "head"}
    path = data.draw(st.sampled_from(sorted(known)))
    rows, columns = steps[known[path].layer].output[1:]
    where = data.draw(st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1)))
    field = receptive_field(network, path, where, size=(height, width))
    torch.manual_seed(0)
    gradient = gradient_of(positive(network), field, known[path].layer)
    if field.clipped is None:
        assert not gradient.any()
        return
    assert field.everywhere is None
    (down,), (across,) = (np.nonzero(gradient.any(axis)) for axis in (1, 0))
    inside = within(field)
    assert (down[0], down[-1] + 1) == (inside[0].start, inside[0].stop)
    assert (across[0], across[-1] + 1) == (inside[1].start, inside[1].stop)
    assert field.box.left <= field.clipped.left
    assert field.box.top <= field.clipped.top
    # 1x1 convolutions with a stride, and dilations, leave pixels out.
    if (
        options["stride_on"] == "3x3"
        and network.options.output_stride == network.options.natural_stride
    ):
        assert (gradient[inside] > 0).all()


@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much])
@given(OPTIONS, st.integers(24, 61), st.data())
def test_what_is_outside_does_not_matter(
    options: dict[str, Any], size: int, data: st.DataObject
) -> None:
    """With the true maxima, signs and random weights: all pixels outside at once."""
    network = network_of(options)
    try:
        steps = {one.path: one for one in walk(network, (3, size, size)).steps}
    except InputError:
        assume(False)
    known = {path: one for path, one in places(network).items() if one.stage != "head"}
    path = data.draw(st.sampled_from(sorted(known)))
    layer = known[path].layer
    rows, columns = steps[layer].output[1:]
    where = data.draw(st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1)))
    field = receptive_field(network, path, where, size=size)
    torch.manual_seed(0)
    module = resnetkit.build(network).eval().double()
    kept = []
    module.get_submodule(layer).register_forward_hook(
        lambda _m, _g, output: kept.append(output[0, :, where[0], where[1]].clone())
    )
    one, other = torch.randn(2, 1, 3, size, size, dtype=torch.float64)
    if field.clipped is not None:
        other[:, :, within(field)[0], within(field)[1]] = one[
            :, :, within(field)[0], within(field)[1]
        ]
    with torch.no_grad():
        module(one)
        module(other)
    assert torch.allclose(kept[0], kept[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name", ["resnet50", "resnet18", "resnet50_deep", "resnet20", "resnetblur50"]
)
def test_side_and_stride_are_those_of_the_table(name: str) -> None:
    """Where the table's receptive field is the main path's, as in all of these."""
    network = resnetkit.network(name)
    for step in walk(network, network.input_shape).steps:
        if step.located.branch == "gate":
            continue
        found = receptive_field(network, step.path)
        assert (found.side, found.stride) == (step.receptive_field, step.stride), step.path
        assert found.output == step.output


def test_the_middle_unit_of_resnet50() -> None:
    found = receptive_field("resnet50", "layer4")
    assert found.path == "stage4"
    assert found.position == (3, 3)
    assert found.box == (-117, -117, 427, 427)
    assert found.clipped == (0, 0, 224, 224)
    assert found.centre == (96.5, 96.5)
    text = str(found)
    assert text.splitlines() == [
        "resnet50 at 3x224x224: the unit (3, 3) of stage4, 2048x7x7",
        "sees 427x427 pixels, columns -117 to 309 and rows -117 to 309",
        "of which 224x224 pixels, columns 0 to 223 and rows 0 to 223 in the picture",
    ]
    document = json.loads(json.dumps(found.to_dict()))
    assert document["box"] == [-117, -117, 427, 427]
    assert document["effective"] is None


def test_neighbours_are_a_stride_apart() -> None:
    one, two = (receptive_field("resnet34", "stage3", (5, at)) for at in (6, 7))
    assert two.box.left - one.box.left == one.stride == 16
    assert two.box.top == one.box.top


def test_rows_and_columns_differ() -> None:
    found = receptive_field("resnet18", "layer4.1", (2, 9), size=(96, 320))
    assert found.input == (3, 96, 320)
    assert found.output == (512, 3, 10)
    assert found.clipped is not None
    assert found.clipped.height < found.clipped.width


def test_the_head_sees_everything() -> None:
    for at in ("avgpool", "fc"):
        found = receptive_field("resnet18", at)
        assert found.clipped == (0, 0, 224, 224)
        assert found.position == (0, 0)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("squeeze-excitation", "gates"),
        ("efficient attention", "gates"),
        ("group norm", "statistics"),
    ],
)
def test_what_depends_on_the_whole_picture_is_said(kind: str, words: str) -> None:
    bundle = bundle_of(kind)
    found = receptive_field(bundle, "stage2", (0, 0))
    assert words in found.everywhere
    assert found.everywhere in str(found)
    plain = receptive_field(bundle_of("basic"), "stage2", (0, 0))
    assert (found.box, found.clipped) == (plain.box, plain.clipped)
    assert plain.everywhere is None


def test_of_any_model(tmp_path: Any) -> None:
    bundle = bundle_of("basic")
    bundle.save(tmp_path / "net.safetensors")
    wanted = receptive_field(bundle, "stage3").to_dict()
    assert wanted["input"] == [3, 64, 64]
    assert receptive_field(tmp_path / "net.safetensors", "stage3").to_dict() == wanted
    assert receptive_field(str(tmp_path / "net.safetensors"), "stage3").to_dict() == wanted
    assert receptive_field(bundle.network, "stage3", size=64).to_dict() == wanted
    assert receptive_field(bundle.module(), "stage3", size=64).to_dict() == wanted


def test_the_effective_field() -> None:
    """It is the gradient's energy, inside the theoretical field, and its square holds the share."""
    bundle = bundle_of("basic")
    found = receptive_field(bundle, "stage2", effective=True)
    effective = found.effective
    assert effective.images == 16
    assert effective.energy.sum() == pytest.approx(1)
    outside = effective.energy.copy()
    outside[within(found)] = 0
    assert outside.sum() == 0
    half = effective.width // 2
    row, column = (int(at) for at in found.centre)
    square = effective.energy[row - half : row + half + 1, column - half : column + half + 1]
    smaller = effective.energy[row - half + 1 : row + half, column - half + 1 : column + half]
    assert square.sum() >= 0.9545 > smaller.sum()
    assert effective.width < found.side
    assert effective.image().size == (448, 448)
    assert f"in {effective.width}x{effective.width} pixels, over 16 images" in str(found)
    assert found.to_dict()["effective"] == {
        "width": effective.width, "share": 0.9545, "images": 16,
    }  # fmt: skip


def test_the_energy_by_finite_differences() -> None:
    """Of one image: the squared derivative of the summed channels, pixel by pixel."""
    bundle = bundle_of("cifar")
    found = receptive_field(bundle, "layer1.0.conv1", (4, 5), effective=True, images=[photo()])
    module = bundle.module().double()
    kept = []
    module.layer1[0].conv1.register_forward_hook(
        lambda _m, _g, output: kept.append(output[0, :, 4, 5].sum())
    )
    from resnetkit.data.decoding.tensors import to_input

    inputs = to_input(photo(), bundle.preprocess)[None].double()
    energy = np.zeros((32, 32))
    top, left = 1, 2
    for row in range(top, top + 7):
        for column in range(left, left + 7):
            for channel in range(3):
                both = []
                for step in (1e-6, -1e-6):
                    moved = inputs.clone()
                    moved[0, channel, row, column] += step
                    with torch.no_grad():
                        module(moved)
                    both.append(float(kept.pop()))
                energy[row, column] += ((both[0] - both[1]) / 2e-6) ** 2
    assert np.abs(found.effective.energy - energy / energy.sum()).max() < 1e-5


def test_it_is_repeated_exactly_and_needs_no_weights() -> None:
    one, two = (receptive_field("resnet20", "stage2", effective=True) for _ in range(2))
    assert (one.effective.energy == two.effective.energy).all()
    state = torch.random.get_rng_state()
    receptive_field("resnet20", "stage1", effective=True)
    assert torch.equal(state, torch.random.get_rng_state())


BAD = [
    ({"at": "stage9"}, "has no place 'stage9'"),
    ({"position": (0, 16)}, r"position is \(0, 16\), and stage1 has 16 rows and 16 columns"),
    ({"position": (-1, 0)}, r"position is \(-1, 0\)"),
    ({"size": 1}, "too small|empty|1x1"),
    ({"images": [1]}, "images have no effect without effective"),
    ({"images": [], "effective": True}, "images is empty"),
    ({"images": ["none.png"], "effective": True}, "there is no such file"),
    ({"images": ["none.png"], "effective": True, "size": 96}, "leave out size"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda v: str(v)[:40])
def test_bad_input(options: dict[str, Any], message: str) -> None:
    bundle = bundle_of("blur") if "size" in options and options["size"] == 1 else bundle_of("basic")
    with pytest.raises(InputError, match=message):
        receptive_field(bundle, **{"at": "stage1", **options})


def test_unknown_models() -> None:
    with pytest.raises(InputError, match=r"unknown network 'resnet5'; did you mean"):
        receptive_field("resnet5", "stage1")
    with pytest.raises(InputError, match=r"nothing.safetensors does not exist"):
        receptive_field("nothing.safetensors", "stage1")
    with pytest.raises(InputError, match="images require preprocessing, which a network lacks"):
        receptive_field("resnet20", "stage1", effective=True, images=[photo()])


def test_a_gradient_of_zero_is_refused() -> None:
    module = bundle_of("basic").module()
    with torch.no_grad():
        module.get_parameter("conv1.weight").zero_()
    bundle = resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=64))
    with pytest.raises(InputError, match="the gradient of stage1 is zero or not finite"):
        receptive_field(bundle, "stage1", effective=True)
