"""Every dialect: recognised, described, converted both ways; what does not fit is named."""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import document, load, shapes_of

from resnetkit.architecture import registry
from resnetkit.architecture.network import Network
from resnetkit.architecture.options import Options
from resnetkit.architecture.parameters import tensors
from resnetkit.checkpoints import timm_weights
from resnetkit.checkpoints.checkpoint import Reading
from resnetkit.checkpoints.dialect import fitting
from resnetkit.checkpoints.dialects import DIALECTS, WRITTEN
from resnetkit.checkpoints.recognition import dialect, read, recognise
from resnetkit.errors import InputError
from resnetkit.nn.resnet import ResNet

# ---------------------------------------------------------------- both ways, for every dialect

#: Catalogue networks, made narrow where they are wide: the names are the same.
NETWORKS = (
    ("resnet18", {}),
    ("resnet50", {}),
    ("resnet50", {"num_classes": None}),
    ("resnet50_v1", {"in_chans": 1, "num_classes": 7}),
    ("resnet50_keras", {}),
    ("resnet50_deep", {}),
    ("resnet50_deep", {"num_classes": None, "output_stride": 8, "dilation_entry": "own"}),
    ("resnet26d", {}),
    ("resnet26d", {"output_stride": 16, "dilation_entry": "own"}),
    ("resnet50t", {}),
    ("resnet50c", {}),
    ("wide_resnet50_2", {}),
    ("resnext50_32x4d", {}),
    ("seresnet50", {}),
    ("seresnext26d_32x4d", {}),
    ("resnet20", {}),
    ("resnet50_gn", {"norm_groups": 8}),
    ("resnet18", {"norm": "none", "conv_bias": True}),
    ("resnet50_v1", {"norm": "none", "conv_bias": True}),
    ("ecaresnet26t", {}),
    ("ecaresnet50d_pruned", {"num_classes": 7}),
    ("resnetblur18", {}),
    ("resnetaa50d", {}),
    ("resnetrs50", {}),
    ("senet154", {"depths": (2, 2, 2, 2), "groups": 8, "width_per_group": 32}),
    ("test_resnet", {}),
)
#: How many of them each dialect can hold: those that have what its framework has.
HELD = {
    "torchvision": 5,
    "timm": 18,
    "pytorch-cifar": 7,
    "semseg": 2,
    "semseg-pspnet": 1,
    "transformers": 4,
    "mmpretrain": 13,
    "mmseg": 6,
    "detectron2": 8,
    "caffe2": 5,
    "keras": 1,
    "keras-h5": 1,
    "keras-h5-tf": 1,
    "keras-weights": 1,
    "pytorchcv": 10,
    "resnetkit": 26,
}


def narrow(name: str, options: dict) -> Network:
    network = registry.network(name, **options)
    if network.input_size == 32 or network.options.conv_widths is not None:
        return network
    return network.override(widths=tuple(3 * width // 8 for width in network.options.widths))


def arrays_of(network: Network) -> dict[str, np.ndarray]:
    """Different numbers everywhere, variances above 0."""
    random = np.random.default_rng(0)
    found = {}
    for name, shape in tensors(network).items():
        if name.endswith("num_batches_tracked"):
            found[name] = np.zeros(shape, np.int64)
        else:
            low, high = (-1, 1) if len(shape) > 1 else (0.5, 1.5)
            scale = (3 / np.prod(shape[1:])) ** 0.5
            found[name] = (scale * random.uniform(low, high, shape)).astype(np.float32)
    return found


def held(name: str) -> list[Network]:
    networks = [narrow(*case) for case in NETWORKS]
    return [n for n in networks if dialect(name).cannot(n.options) is None]


def test_every_dialect_is_a_case() -> None:
    assert [d.name for d in WRITTEN] == list(HELD)


def test_every_candidate_says_what_it_would_mean() -> None:
    for one in DIALECTS:
        for fact in one.facts:
            assert fact.option == "output_stride" or set(fact.values) <= set(fact.each), fact
    reading = read(small("torchvision")[1])
    facts = {fact.fact: fact for fact in reading.ambiguous}
    assert facts["output_stride"].means[1] == (
        "the last stage is dilated by 2 instead of having a stride"
    )
    tiny = Options(depths=(1,), widths=(8,), stem="3x3", stem_widths=(8,))
    (strides,) = [fact for fact in dialect("resnetkit").facts if fact.option == "output_stride"]
    assert strides.ordered(tiny) == (tiny.natural_stride,), "nothing has a stride below 1"
    assert facts["preprocess"].candidates[:2] == (
        "IMAGENET1K_V1",
        "resnet50.a1_in1k",
    ), "the names are timm's as well, and so may be the way to prepare images"
    assert facts["preprocess"].means[0] == (
        "RGB in 0..1, shorter side to 256, centre 224x224, bilinear, mean 0.485,0.456,0.406, "
        "std 0.229,0.224,0.225"
    )
    assert [choice.label for choice in reading.preprocess] == list(facts["preprocess"].candidates)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
                                  "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d",
                                  "wide_resnet50_2", "wide_resnet101_2"])  # fmt: skip
def test_each_network_has_the_preprocessing_that_torchvision_documents_for_it(name: str) -> None:
    """A documented fact is that network's, not its neighbour's."""
    weights = torchvision.models.get_model_weights(name)
    documented = {w.name: w.transforms() for w in weights if w.name.startswith("IMAGENET1K")}
    offered = fitting(dialect("torchvision").preprocess, registry.network(name))
    assert offered[0].label == weights.DEFAULT.name
    assert {choice.label for choice in offered} == set(documented)
    for choice in offered:
        transform, preprocess = documented[choice.label], choice.preprocess
        assert [preprocess.resize_to] == transform.resize_size
        assert [preprocess.size] == transform.crop_size
        assert preprocess.interpolation == transform.interpolation.value
        assert list(preprocess.mean) == transform.mean
        assert list(preprocess.std) == transform.std


def test_each_network_has_the_preprocessings_of_its_own_weights_of_timm() -> None:
    """timm's own records; only a network that it has no weights of is offered others'."""
    published = list(timm_weights.published())
    assert len({label for label, *_ in published}) == len(published)
    for label, size, resize_to in published:
        config = timm.get_pretrained_cfg(label)
        assert config.input_size[1] == size, label
        assert math.floor(size / config.crop_pct) == resize_to, label
        assert config.interpolation == "bicubic"
        assert config.mean == pytest.approx((0.485, 0.456, 0.406))
        name = label.partition(".")[0]
        assert timm_weights.network_of(registry.network(name, num_classes=7).options) == name
    for name in ("resnet18", "resnet50", "seresnet50", "resnetblur50"):
        offered = fitting(dialect("timm").preprocess, registry.network(name))
        assert offered
        assert {choice.label.partition(".")[0] for choice in offered} == {name}
    other = registry.network("resnet18", depths=(1, 1, 1, 1))
    assert fitting(dialect("timm").preprocess, other)[0].label == "resnet50.a1_in1k"


@pytest.mark.parametrize("name", HELD)
def test_what_a_dialect_cannot_hold_is_refused(name: str) -> None:
    networks = [narrow(*case) for case in NETWORKS]
    assert len(held(name)) == HELD[name]
    for network in networks:
        if dialect(name).cannot(network.options) is not None:
            with pytest.raises(InputError, match=f"{name} does not support {network.name}: .* is "):
                dialect(name).names(network)


@pytest.mark.parametrize("name", HELD)
def test_both_ways_are_bit_identical(name: str) -> None:
    foreign = dialect(name)
    for network in held(name):
        ours = arrays_of(network)
        theirs = foreign.write(network, ours)
        assert len(theirs) == len(foreign.names(network))
        shapes = {key: value.shape for key, value in theirs.items()}
        reading = read(shapes)
        assert name in (reading.dialect.name, *reading.also)
        facts = {fact.fact for fact in reading.ambiguous} - {"preprocess"} | {"norm_momentum"}
        facts |= {"dilation_entry"}
        settled = reading.settle(**{f: getattr(network.options, f) for f in facts})
        assert settled.network.options == network.options
        back = settled.to_ours(theirs)
        assert list(back) == list(ours)
        again = foreign.write(network, back)
        as_read = settled.to_theirs(back)
        assert set(as_read) == set(theirs)
        assert all(np.array_equal(as_read[key], value) for key, value in theirs.items())
        assert list(again) == list(theirs)
        for key, value in theirs.items():
            assert np.array_equal(again[key], value), key
        if not foreign.folds:
            for key, value in ours.items():
                assert back[key].dtype == value.dtype
                assert np.array_equal(back[key], value), key


def test_layouts_turn_kernels_and_dense_layers() -> None:
    keras = dialect("keras")
    kernel = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert keras.to_ours(kernel).shape == (5, 4, 2, 3)
    assert keras.to_ours(kernel)[4, 3, 1, 2] == kernel[1, 2, 3, 4]
    assert keras.shape(keras.our_shape(kernel.shape)) == kernel.shape
    dense = np.arange(6).reshape(2, 3)
    assert np.array_equal(keras.to_ours(dense), dense.T)
    assert np.array_equal(keras.to_theirs(keras.to_ours(kernel)), kernel)


def test_folded_norms_compute_the_same() -> None:
    network = narrow("resnet50_v1", {"num_classes": 7})
    ours = arrays_of(network)
    theirs = dialect("caffe2").write(network, ours)
    assert not any(name.endswith(("_rm", "_riv")) for name in theirs)
    reading = read({name: value.shape for name, value in theirs.items()})
    assert reading.dialect.name == "caffe2"
    assert any(name.endswith("running_mean") for name in reading.created)
    first, second = ResNet(network).eval(), ResNet(reading.network).eval()
    load(first, ours)
    load(second, reading.to_ours(theirs))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = first(image)
        assert (second(image) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_detectron2_files_may_be_folded() -> None:
    shapes = shapes_of("detectron2-resnet50-stride1x1")
    folded = {k: s for k, s in shapes.items() if "running" not in k}
    reading = read(folded)
    reading.check()
    created = [name for name in reading.created if name.endswith("running_var")]
    assert len(created) == 53
    arrays = {name: np.ones(shape, np.float32) for name, shape in folded.items()}
    ours = reading.to_ours(arrays)
    assert np.all(ours["bn1.running_var"] == np.float32(1 - 1e-5))
    assert np.all(ours["bn1.running_mean"] == 0)


def test_a_groupnorm_network_of_timm_is_not_read_as_folded() -> None:
    model = timm.create_model("resnet50_gn")
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    reading = read(shapes)
    reading.check()
    assert (reading.dialect.name, reading.network.name) == ("timm", "resnet50_gn")
    assert reading.created == ()
    facts = {fact.fact: fact.candidates for fact in reading.ambiguous}
    assert facts["norm_groups"] == (32, 16, 8, 4, 2, 1)
    assert reading.settle(norm_groups=16).network.options.norm_groups == 16


def timm_cases() -> list:
    """Every name; networks of many blocks take a second."""
    deep = {e.name for e in registry.catalog() if sum(e.network().options.depths) > 20}
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in deep else [])
        for name in timm.list_models(module="resnet")
    ]


@pytest.mark.parametrize("name", timm_cases())
def test_every_name_of_timm_is_read_and_written(name: str) -> None:
    """Names and shapes as timm has them; pools and blurs against aliasing leave no trace."""
    with torch.device("meta"):
        model = timm.create_model(name)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    network = registry.network(name)
    reading = read(shapes)
    reading.check()
    assert "timm" in (reading.dialect.name, *reading.also)
    # The stem's names tell what pools where it is a convolution.
    told = {"anti_alias": network.options.anti_alias, "stem_pool": network.options.stem_pool}
    assert reading.settle(**told).network == network
    names, ours = dialect("timm").names(network), tensors(network)
    assert {theirs: ours[our] for our, theirs in names.items()} == shapes
    if network.options.anti_alias != "none":
        assert "anti_alias" in {fact.fact for fact in reading.ambiguous}


def test_what_subsamples_is_asked_for_where_timm_can_have_it() -> None:
    facts = {}
    for name in ("resnetblur50d", "resnetrs50"):
        network = registry.network(name)
        wanted = tensors(network)
        reading = read({t: wanted[ours] for ours, t in dialect("timm").names(network).items()})
        facts[name] = {fact.fact: fact.candidates for fact in reading.ambiguous}
    assert facts["resnetblur50d"]["anti_alias"] == ("none", "average", "blur")
    assert "stem_pool" in facts["resnetblur50d"]
    assert {"anti_alias", "stem_pool"}.isdisjoint(facts["resnetrs50"])


def test_files_of_msra_name_the_head_fc1000_and_have_a_bias_too_many() -> None:
    network = registry.network("resnet50_v1")
    names = dialect("caffe2").names(network)
    shapes = {
        "blobs/" + theirs.replace("pred_", "fc1000_"): tensors(network)[ours]
        for ours, theirs in names.items()
    }
    reading = read({**shapes, "blobs/conv1_b": (64,)})
    assert reading.dialect.name == "caffe2"
    assert reading.names["fc.weight"] == "blobs/fc1000_w"
    assert reading.leftover == ("blobs/conv1_b",)


# ------------------------------------------------------------------- Keras' four spellings


def test_keras_spells_in_four_ways() -> None:
    told = document("keras-resnet50")
    shapes = shapes_of("keras-resnet50")
    by_name = read(shapes)
    groups, variables = dict(told["weights_h5"]["groups"]), told["weights_h5"]["vars"]
    numbered = {}
    for name in shapes:
        layer, _, variable = name.rpartition("/")
        numbered[name] = f"{groups[layer]}/vars/{variables[variable]}"
    spellings = {
        "keras-weights": numbered,
        "keras-h5": {name: "{0}/{0}/{1}".format(*name.split("/")) for name in shapes},
        "keras-h5-tf": {name: "{0}/{0}/{1}:0".format(*name.split("/")) for name in shapes},
    }
    for spelling, names in spellings.items():
        for prefix in ("", "model_weights/"):
            renamed = {prefix + names[name]: shape for name, shape in shapes.items()}
            reading = read(dict(sorted(renamed.items())))
            assert reading.dialect.name == spelling
            assert reading.prefix == prefix
            reading.check()
            assert reading.network == by_name.network
            expected = {ours: prefix + names[theirs] for ours, theirs in by_name.names.items()}
            assert reading.names == expected


# --------------------------------------------------------------------------- total and strict


@functools.cache
def small(name: str) -> tuple[Network, dict[str, tuple[int, ...]]]:
    network = held(name)[0]
    names = dialect(name).names(network)
    layout = dialect(name).shape
    return network, {theirs: layout(tensors(network)[ours]) for ours, theirs in names.items()}


@settings(max_examples=80)
@given(data=st.data(), name=st.sampled_from(sorted(HELD)))
def test_one_wrong_tensor_is_named(data: st.DataObject, name: str) -> None:
    network, shapes = small(name)
    names = dialect(name).names(network)
    victim = data.draw(st.sampled_from(sorted(shapes)))
    how = data.draw(st.sampled_from(["removed", "renamed", "longer", "flat"]))
    changed = dict(shapes)
    shape = changed.pop(victim)
    if how == "renamed":
        changed[victim + "x"] = shape
    elif how == "longer":
        changed[victim] = (*shape[:-1], shape[-1] + 1) if shape else (1,)
    elif how == "flat":
        changed[victim] = (*shape, 1)
    reading = recognise(changed)
    if how in ("longer", "flat") and changed.get(victim) == (1,) and shape == ():
        assert reading is not None
        assert not reading.problems(), "a scalar is often stored as one number"
        return
    if reading is None:
        # Keras 3 numbers its layers in order of creation; places are told by their outputs, and
        # one that is wrong can hide all that follow.
        assert name == "keras-weights"
        with pytest.raises(InputError, match="no ResNet is recognised"):
            read(changed)
        return
    if how == "longer" and not reading.problems():
        assert_another_network(reading, changed, victim)
        return
    if "fc.bias" in reading.created and not reading.problems():
        return  # a classifier without a bias is told, not refused
    with pytest.raises(InputError) as caught:
        reading.check()
    if "fc.bias" in reading.created:  # by its other name it does not belong there
        assert f"{victim}x" in str(caught.value)
        return
    named = {*reading.missing.values(), *reading.misshapen}
    # Of two tensors that disagree about the number of classes either is named.
    heads = {theirs for ours, theirs in names.items() if ours.startswith("fc.")}
    assert victim in named or (victim in heads and heads & named)
    assert next(name for name in named) in " ".join(reading.problems())
    assert str(caught.value).startswith("the checkpoint is not a complete")
    if how == "renamed":
        assert f"{victim}x" in reading.leftover


def assert_another_network(reading: Reading, changed: dict, victim: str) -> None:
    """One more input channel is another network, and every tensor of it fits."""
    assert changed[victim][-1] != 0
    assert len(reading.names) == len(changed)


def test_a_tensor_that_is_left_over_is_named_and_can_be_dropped() -> None:
    shapes = {**tensors(registry.network("resnet18")), "queue": (128, 65536), "queue_ptr": (1,)}
    reading = read(shapes)
    assert reading.leftover == ("queue", "queue_ptr")
    reading.check()
    with pytest.raises(InputError, match="2 tensors are not part of resnet18: queue, queue_ptr"):
        reading.check(strict=True)
    reading.check(drop=["queue"], strict=True)
    with pytest.raises(InputError, match="no leftover tensor begins with 'fc'"):
        reading.check(drop=["queue", "fc"])


def test_counters_may_be_absent_all_together() -> None:
    shapes = tensors(registry.network("resnet18"))
    without = {k: s for k, s in shapes.items() if "num_batches" not in k}
    reading = read(without)
    reading.check()
    assert len(reading.created) == 20
    arrays = {name: np.ones(shape, np.float32) for name, shape in without.items()}
    counter = reading.to_ours(arrays)["bn1.num_batches_tracked"]
    assert (counter.dtype, counter.shape, int(counter)) == (np.int64, (), 0)
    without["bn1.num_batches_tracked"] = ()
    assert len(read(without).missing) == 19


def test_writing_wants_the_tensors_of_the_network() -> None:
    network = narrow("resnet18", {})
    ours = arrays_of(network)
    lacking = {name: value for name, value in ours.items() if name != "fc.bias"}
    with pytest.raises(InputError, match=r"lack fc\.bias"):
        dialect("timm").write(network, lacking)
    with pytest.raises(InputError, match="has no tensor fd"):
        dialect("timm").write(network, {**ours, "fd": ours["fc.bias"]})
    with pytest.raises(InputError, match=r"fc\.bias is \(3,\)"):
        dialect("timm").write(network, {**ours, "fc.bias": np.zeros(3)})


# ----------------------------------------------------------------------------------- wrappers

WRAPPERS = ["state_dict/", "model/", "state_dict_ema/", "module.", "model.", "backbone."]
WRAPPERS += ["encoder.", "module.encoder_q.", "_orig_mod.", "model_ema/", "net.", "lit_module."]


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(set(HELD) - {"mmpretrain", "mmseg", "transformers"})),
    wrappers=st.lists(st.sampled_from(WRAPPERS), max_size=4),
)
def test_wrappers_are_peeled_and_reported(name: str, wrappers: list[str]) -> None:
    _, shapes = small(name)
    prefix = "".join(wrappers)
    reading = read({prefix + theirs: shape for theirs, shape in shapes.items()})
    reading.check()
    assert reading.prefix == prefix
    assert "".join(reading.wrappers) == prefix.replace(".", "").replace("/", "")
    assert reading.network.options == read(shapes).network.options


@pytest.mark.parametrize("name", ["mmpretrain", "transformers"])
def test_a_root_is_no_wrapper_but_may_be_absent(name: str) -> None:
    _, shapes = small(name)
    wrapped = {f"state_dict/module.{theirs}": shape for theirs, shape in shapes.items()}
    assert read(wrapped).prefix == "state_dict/module."
    root = dialect(name).root
    body = {k.removeprefix(root): s for k, s in shapes.items() if k.startswith(root)}
    reading = read(body)
    reading.check()
    assert name in (reading.dialect.name, *reading.also)
    assert reading.head == "none"


def test_of_moco_the_query_encoder_is_read() -> None:
    network = registry.network("resnet50", num_classes=128)
    shapes = {
        f"state_dict/module.encoder_{which}.{name}": shape
        for which in "kq"
        for name, shape in tensors(network).items()
    }
    shapes["state_dict/module.queue"] = (128, 65536)
    reading = read(shapes)
    assert reading.prefix == "state_dict/module.encoder_q."
    assert reading.head == "other"
    assert reading.leftover == ()
    assert reading.ignored["state_dict/module.queue"] == "MoCo's queue of keys"
    assert len(reading.ignored) == 321
    assert sum("encoder_k" in name for name in reading.ignored) == 320
    other = read(shapes, prefix="state_dict/module.encoder_k.")
    assert other.prefix == "state_dict/module.encoder_k."
    left = read(shapes).settle(num_classes=None)
    assert left.leftover == left.outside
    assert [name.rpartition("encoder_q.")[2] for name in left.leftover] == ["fc.weight", "fc.bias"]


def test_of_a_training_state_the_average_is_read() -> None:
    wanted = tensors(registry.network("resnet18"))
    parts = ("state_dict", "state_dict_ema")
    reading = read({f"{p}/{name}": shape for p in parts for name, shape in wanted.items()})
    assert reading.prefix == "state_dict_ema/"
    assert len(reading.ignored) == len(wanted)
    reading.check()


def test_two_unknown_networks_ask_for_a_choice() -> None:
    wanted = tensors(registry.network("resnet18"))
    shapes = {f"{part}.{name}": s for part in ("left", "right") for name, s in wanted.items()}
    with pytest.raises(InputError, match=r"2 networks, under 'left\.' \(122 tensors\), "):
        read(shapes)
    assert read(shapes, prefix="right.").prefix == "right."


# ------------------------------------------------------------------------- what is no ResNet


#: By what name those are refused whose names give them away.
FAMILIES = {
    "vgg11": "it is a VGG network",
    "densenet121": "it is a DenseNet",
    "vit_b_32": "it is a vision transformer",
    "mobilenet_v2": "it is an EfficientNet or MobileNet",
    "res2net50_26w_4s": "it is a Res2Net",
    "resnest14d": "it is a ResNeSt",
    "skresnet18": "it is an SKNet",
    "resnetv2_50": "it is a ResNet v2",
    "regnety_002": "it is a RegNet",
    "gcresnet33ts": "it is a GCResNet",
    "cspresnet50": "it is a CSPResNet",
    "tresnet_m": "it is a TResNet",
    "hrnet_w18_small": "it is an HRNet",
    "convnext_nano": "it is a ConvNeXt",
}


def foreign() -> dict[str, dict]:
    found = {"nothing": {}, "mlp": {"0.weight": (10, 5), "0.bias": (10,)}}
    for name in ("vgg11", "densenet121", "vit_b_32", "mobilenet_v2"):
        with torch.device("meta"):
            model = getattr(torchvision.models, name)()
        found[name] = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    for name in FAMILIES.keys() - found.keys():
        with torch.device("meta"):
            model = timm.create_model(name)
        found[name] = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    return found


def test_what_is_no_resnet_is_refused_with_what_was_looked_for() -> None:
    for name, shapes in foreign().items():
        assert recognise(shapes) is None, name
        told = FAMILIES.get(name, "no ResNet is recognised")
        with pytest.raises(InputError, match=told) as caught:
            read(shapes)
        if name not in FAMILIES:
            assert all(one.name in str(caught.value) for one in WRITTEN)
        assert "\n" not in str(caught.value)


def test_an_unknown_dialect_is_refused_with_all_names() -> None:
    with pytest.raises(
        InputError, match="unknown dialect 'mxnet'; it must be one of torchvision, "
    ):
        dialect("mxnet")


def test_the_page_tells_the_stride_that_is_taken() -> None:
    """Of each framework in the table of `docs/checkpoints.md`, the first that is named."""
    page = Path(__file__).parents[2] / "docs" / "checkpoints.md"
    rows = re.findall(r"^\| (`.+?`(?:, `.+?`)*) \| (\dx\d)", page.read_text(), re.MULTILINE)
    told = {name: stride for names, stride in rows for name in re.findall(r"`(.+?)`", names)}
    for spoken in DIALECTS:
        default = spoken.fixed.get("stride_on")
        for fact in spoken.facts:
            if fact.option == "stride_on":
                default = fact.ordered(Options())[0]
        if spoken.name in told:
            assert (spoken.name, told[spoken.name]) == (spoken.name, default)
    assert len(told) == 12


@pytest.mark.parametrize("name", ["transformers", "caffe2", "keras-h5"])
def test_a_dilated_network_is_not_written_where_no_stage_is_dilated(name: str) -> None:
    """The file would load there and answer otherwise, for no tensor shows a dilation."""
    spoken = dialect(name)
    dilated = registry.network("resnet50_v1").override(
        output_stride=8, conv_bias=name.startswith("keras"), **spoken.fixed
    )
    with pytest.raises(InputError, match=rf"output_stride is 8, and {name} dilates no stage"):
        spoken.names(dilated)
    spoken.names(dilated.override(output_stride=32))
