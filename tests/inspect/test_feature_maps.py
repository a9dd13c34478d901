"""Feature maps are what torch's hooks see, of every kind of layer and by every engine."""

from __future__ import annotations

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import PIL.Image
import pytest
import torch

import resnetkit
from inspected import KINDS, bundle_of, hooked, photo, relative
from resnetkit.architecture.layer import Conv
from resnetkit.errors import AssumptionWarning, InputError
from resnetkit.inference.engines.conv_bn_fusion import folded
from resnetkit.inference.engines.engine import EngineName
from resnetkit.inference.engines.onnx_export import onnx_model
from resnetkit.inspect import FeatureMaps, feature_maps
from resnetkit.inspect.layer_outputs import KEPT, open_outputs
from resnetkit.inspect.places import places

ENGINES: tuple[EngineName, ...] = ("torch", "openvino", "onnxruntime")
NEAR = 1e-4


@pytest.fixture(scope="module")
def bundle() -> resnetkit.Bundle:
    return bundle_of("bottleneck")


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_what_hooks_see(kind: str) -> None:
    bundle, image = bundle_of(kind), photo()
    wanted = hooked(bundle, image)
    stages = {stage.name: stage.path or stage.layers[-1].name for stage in bundle.network.stages}
    for engine in ENGINES:
        layers = feature_maps(bundle, image, "layer", engine=engine)
        assert set(layers.maps) == {
            located.path
            for located in bundle.network.layers()
            if located.stage != "head" or bundle.classes
        }
        for path, values in layers.maps.items():
            theirs = wanted[path][-1]
            assert values.dtype == np.float32
            theirs = theirs if theirs.ndim == 3 else theirs.reshape(-1, 1, 1)
            assert relative(values, theirs) < NEAR, (engine, path)
        found = feature_maps(bundle, image, ["stage", "block"], engine=engine)
        assert found.engine == engine
        for name, path in stages.items():
            assert relative(found[name], wanted[path][-1]) < NEAR, (engine, name)
        for block, branches in found.branches.items():
            main, shortcut, _ = wanted[f"{block}.add"]
            assert relative(found[block], wanted[block][-1]) < NEAR, (engine, block)
            assert relative(branches.main, main) < NEAR, (engine, block)
            assert relative(branches.shortcut, shortcut) < NEAR, (engine, block)
        if bundle.classes:
            assert relative(found.logits, wanted[""][0]) < NEAR
            (prediction,) = bundle.predict([image], engine=engine)
            assert [s.label for s in found.scores] == [s.label for s in prediction.scores]
        else:
            assert found.logits is None
            assert found.scores == ()


def test_a_fused_convolution_is_not_taken_for_its_own_output(bundle: resnetkit.Bundle) -> None:
    """Of convolutions that were not asked for, the norms are fused; each map is right anyway."""
    image, wanted = photo(), hooked(bundle, photo())
    for path in ("layer1.0.conv1", "layer1.0.bn1", "conv1", "layer2.0.downsample.0"):
        found = feature_maps(bundle, image, path, engine="openvino")
        assert list(found.maps) == [path]
        assert relative(found[path], wanted[path][-1]) < NEAR
    assert relative(wanted["conv1"][-1], wanted["bn1"][-1]) > 0.1


def test_only_what_is_asked_for_is_unfused(bundle: resnetkit.Bundle) -> None:
    convolutions = sum(isinstance(one.layer, Conv) for one in bundle.network.layers())
    for asked, norms in (((), 0), (("layer1.0.relu1",), 0), (("conv1", "layer1.0.bn2"), 1)):
        made = folded(bundle, unfused=asked or None)
        model = onnx.load_from_string(onnx_model(made, intermediate=asked))
        onnx.checker.check_model(model, full_check=True)
        kinds = [node.op_type for node in model.graph.node]
        assert kinds.count("BatchNormalization") == norms
        assert kinds.count("Conv") == convolutions
        assert [one.name for one in model.graph.output] == ["logits", *asked]


@pytest.mark.parametrize("channels", ["BGR", "RGB"])
@pytest.mark.parametrize("engine", ENGINES)
def test_channel_orders(channels: str, engine: EngineName) -> None:
    bundle = bundle_of("basic", channels=channels, mean=(0.1, 0.5, 0.3), std=(0.2, 0.3, 0.4))
    wanted = hooked(bundle, photo())["conv1"][-1]
    assert relative(feature_maps(bundle, photo(), "conv1", engine=engine)["conv1"], wanted) < NEAR


def test_what_at_means(bundle: resnetkit.Bundle) -> None:
    image = photo()
    known = places(bundle.network)
    assert list(feature_maps(bundle, image).maps) == [f"stage{n}" for n in range(5)]
    blocks = [path for path, place in known.items() if place.level == "block"]
    assert list(feature_maps(bundle, image, "block").maps) == blocks
    mixed = feature_maps(bundle, image, ["layer4", "stage4", "layer1.0.conv1", "layer1.1"])
    assert list(mixed.maps) == ["layer1.0.conv1", "layer1.1", "stage4"]
    assert list(mixed.branches) == ["layer1.1"]
    kinds = {
        path: found.kind for path, found in feature_maps(bundle, image, "block").branches.items()
    }
    assert kinds == {
        "layer1.0": "projection", "layer1.1": "identity", "layer2.0": "projection",
        "layer3.0": "projection", "layer4.0": "projection",
    }  # fmt: skip
    for kind, wanted in (("cifar", "pad"), ("deep stem", "avgpool+projection")):
        branches = feature_maps(bundle_of(kind), image, "block").branches
        assert wanted in {one.kind for one in branches.values()}


def test_images_in_any_form(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(photo())
    picture.save(tmp_path / "a.png")
    bundle.save(tmp_path / "net.safetensors")
    wanted = feature_maps(bundle, picture)["stage4"]
    for image in (
        photo(),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        (tmp_path / "a.png").read_bytes(),
    ):
        assert (feature_maps(bundle, image)["stage4"] == wanted).all()
    found = feature_maps(tmp_path / "net.safetensors", tmp_path / "a.png")
    assert (found["stage4"] == wanted).all()
    assert found.name == str(tmp_path / "a.png")


def test_where_the_crop_lies(bundle: resnetkit.Bundle) -> None:
    """The picture's own pixels in the box, resized, are the input but for the resize's filter."""
    image = photo()
    found = feature_maps(bundle, image)
    height, width = image.shape[:2]
    assert found.input.size == (64, 64)
    assert found.box.top == pytest.approx(height * 4 / 72)
    assert found.box.height == pytest.approx(height * 64 / 72)
    assert found.box.left + found.box.width / 2 == pytest.approx(width / 2, abs=1)
    left, top, across, down = found.box
    again = PIL.Image.fromarray(image).resize(
        (64, 64), PIL.Image.Resampling.BILINEAR, box=(left, top, left + across, top + down)
    )
    difference = np.asarray(again, float) - np.asarray(found.input, float)
    assert np.abs(difference)[4:-4, 4:-4].max() <= 2
    squashed = feature_maps(bundle_of("basic", resize="squash", resize_to=None), image)
    assert squashed.box == (0, 0, width, height)


def test_a_turned_photo_is_upright(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(photo()).save(tmp_path / "turned.png", exif=exif)
    found = feature_maps(bundle, tmp_path / "turned.png")
    assert found.photo.original.size == photo().shape[:2]
    assert found.box.top > 0
    assert found.box.left == pytest.approx(photo().shape[0] * 4 / 72)


def test_strongest_channels(bundle: resnetkit.Bundle) -> None:
    found = feature_maps(bundle, photo(), "layer1.0")
    means = found["layer1.0"].mean((1, 2))
    best = found.strongest("layer1.0", 3)
    assert [one.index for one in best] == np.argsort(-means)[:3].tolist()
    assert best[0].mean == pytest.approx(means.max())
    assert (best[0].values == found["layer1.0"][best[0].index]).all()
    assert len(found.strongest("layer1.0", 99)) == 32
    with pytest.raises(InputError, match=r"no map of 'layer1.1'; did you mean layer1.0\?"):
        found.strongest("layer1.1")
    with pytest.raises(InputError, match="count is 0"):
        found.strongest("layer1.0", 0)


def test_pictures(bundle: resnetkit.Bundle) -> None:
    found = feature_maps(bundle, photo(), ["stage1", "fc"])
    assert found.image("stage1", 8).size == (8 * 112 + 7 * 2, 112)
    assert found.image("stage1", 9).size[1] == 2 * 112 + 2
    assert found.figure().mode == "RGB"
    assert np.asarray(found.image("stage1")).std() > 10
    document = json.loads(json.dumps(found.to_dict()))
    assert document["maps"]["stage1"]["shape"] == [32, 16, 16]
    assert document["predictions"][0]["label"] == found.scores[0].label


def test_a_module_is_run_by_torch_and_left_alone() -> None:
    module = bundle_of("basic").module().train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.warns(AssumptionWarning, match="a module has no preprocessing: RGB in 0..1"):
        found = feature_maps(module, photo())
    assert found.engine == "torch"
    assert found.input.size == (224, 224)
    assert module.training
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks for part in module.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        other = feature_maps(module, photo(), engine="openvino")
    assert other.engine == "openvino"
    assert relative(other["stage4"], found["stage4"]) < NEAR


def test_a_grey_module_takes_grey_pictures() -> None:
    with pytest.warns(AssumptionWarning, match="a module has no preprocessing: L in 0..1"):
        found = feature_maps(bundle_of("grey").module(), photo())
    assert found.photo.pixels.shape == (224, 224, 1)


def test_half_precision_is_computed_in_float32() -> None:
    module = bundle_of("basic").module().half()
    bundle = resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=64))
    one, two = (feature_maps(bundle, photo(), engine=engine) for engine in ("torch", "openvino"))
    assert relative(one["stage4"], two["stage4"]) < NEAR


@pytest.mark.parametrize("engine", ENGINES)
def test_in_threads(bundle: resnetkit.Bundle, engine: EngineName) -> None:
    """As in a server; each gets the values of its own picture."""
    images = [photo(), 255 - photo(), photo()[::-1]]
    wanted = [feature_maps(bundle, image, engine=engine)["stage2"] for image in images]
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(feature_maps, bundle, image, engine=engine) for image in images * 5]
        for number, one in enumerate(asked):
            assert relative(one.result()["stage2"], wanted[number % 3]) < 1e-6


def test_few_graphs_are_kept(bundle: resnetkit.Bundle) -> None:
    first = open_outputs(bundle, ["relu"], "onnxruntime")
    assert open_outputs(bundle, ["relu", "relu"], "onnxruntime") is first
    for path in ("layer1.0.relu1", "layer1.0.relu2")[:KEPT]:
        open_outputs(bundle, [path], "onnxruntime")
    assert open_outputs(bundle, ["relu"], "onnxruntime") is not first


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("layer1.0.conv9", r"no place 'layer1.0.conv9'; did you mean layer1.0.conv\d\? give a"),
        ("stage9", r"did you mean stage\d\?"),
        ("nothing at all", r"no place 'nothing at all'; give a stage"),
        ([], "at is empty"),
        (["stage1", 3], "no place 3"),
    ],
)
def test_unknown_places(bundle: resnetkit.Bundle, at: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        feature_maps(bundle, photo(), at)
    assert caught.value.fields == ("at",)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_looked_into(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="engine is 'tpu'; it must be one of auto, torch"):
        feature_maps(bundle, photo(), engine="tpu")
    with pytest.raises(InputError, match="model is a Linear; it must be a bundle"):
        feature_maps(torch.nn.Linear(1, 1), photo())
    with pytest.raises(InputError, match=r"missing.safetensors does not exist"):
        feature_maps(tmp_path / "missing.safetensors", photo())
    exported = resnetkit.Exported(
        path=tmp_path / "a.onnx", kind="onnx", network=bundle.network,
        preprocess=bundle.preprocess, classes=bundle.classes,
    )  # fmt: skip
    metadata = {"resnetkit": exported.document()}
    exported.path.write_bytes(onnx_model(folded(bundle), metadata=metadata))
    with pytest.raises(InputError, match=r"a.onnx is an exported file, .* give the bundle"):
        feature_maps(tmp_path / "a.onnx", photo())
    with pytest.raises(InputError, match="there is no such file"):
        feature_maps(bundle, tmp_path / "none.png")
    with pytest.raises(InputError, match="has no place 'fc'"):
        feature_maps(bundle_of("no classifier"), photo(), "fc")


def test_numbers_that_are_not_finite_are_shown(bundle: resnetkit.Bundle) -> None:
    module = bundle.module()
    with torch.no_grad():
        module.get_parameter("layer4.0.bn3.bias")[:] = torch.inf
    broken = resnetkit.Bundle.from_module(module, preprocess=bundle.preprocess)
    found = feature_maps(broken, photo(), engine="torch")
    assert isinstance(found, FeatureMaps)
    assert np.isfinite(found["stage3"]).all()
    assert not np.isfinite(found["stage4"]).all()
    assert found.scores == ()
    assert found.figure().size[1] > 112
