"""Attributions are those of captum and grad-cam, and what their definitions say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.attr
import numpy as np
import PIL.Image
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

import resnetkit
from inspected import bundle_of, input_of, photo, plain_module, relative
from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import EngineName
from resnetkit.inspect import attribution, grad_cam
from resnetkit.inspect.colours import coloured, resized, table

NEAR = 1e-4
TARGET = 4


def sharp(kind: str) -> resnetkit.Bundle:
    """A bundle with large gradients: grad-cam adds 1e-6 to sums of their squares."""
    module = bundle_of(kind).module()
    with torch.no_grad():
        module.get_parameter("fc.weight").mul_(3000)
    preprocess = bundle_of(kind).preprocess
    return resnetkit.Bundle.from_module(module, preprocess=preprocess)


@pytest.fixture(scope="module")
def bundle() -> resnetkit.Bundle:
    return bundle_of("basic")


PACKAGE: dict[str, Callable[..., Any]] = {
    "grad_cam": pytorch_grad_cam.GradCAM,
    "grad_cam++": pytorch_grad_cam.GradCAMPlusPlus,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "eigen_cam": pytorch_grad_cam.EigenCAM,
}


@pytest.mark.parametrize(
    ("kind", "at"),
    [("basic", "stage2"), ("bottleneck", "last"), ("dilated", "last"), ("cifar", "last")],
)
@pytest.mark.parametrize("method", PACKAGE)
def test_it_is_that_of_grad_cam(kind: str, at: str, method: Any) -> None:
    bundle = sharp(kind)
    module = plain_module(bundle)
    last = bundle.network.stages[-1]
    layer = module.get_submodule(last.path if at == "last" else "layer2")
    at = last.name if at == "last" else at
    with PACKAGE[method](model=module, target_layers=[layer[-1]]) as theirs:
        given = input_of(bundle, photo())
        wanted = theirs(input_tensor=given, targets=[ClassifierOutputTarget(TARGET)])[0]
    found = grad_cam(bundle, photo(), TARGET, at, method)
    assert found.at == at
    size = bundle.preprocess.size
    ours = scale_cam_image(scale_cam_image(found.map[None], (size, size)))[0]
    if method == "eigen_cam" and np.abs(ours - wanted).max() > NEAR:
        # The sign of a principal component is LAPACK's choice there.
        maps = resnetkit.inspect.feature_maps(bundle, photo(), at, engine="torch")[at]
        ours = flipped(maps, size)
    assert ours.max() > 0.9
    assert np.abs(ours - wanted).max() < NEAR


def flipped(maps: np.ndarray, size: int) -> np.ndarray:
    """The other direction of the first principal component, from a decomposition of its own."""
    rows = maps.reshape(len(maps), -1).T.astype(np.float64)
    rows = rows - rows.mean(0)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    side = rows @ vectors[:, -1]
    side = side if side @ rows.sum(1) < 0 else -side
    values = np.maximum(side, 0).reshape(maps.shape[1:])
    return scale_cam_image(scale_cam_image(values[None], (size, size)))[0]


@pytest.mark.parametrize("kind", ["basic", "squeeze-excitation", "group norm"])
@pytest.mark.parametrize("at", ["layer1", "layer3.0", "layer2.0.conv1"])
def test_it_is_that_of_captum(kind: str, at: str) -> None:
    bundle = bundle_of(kind)
    module = plain_module(bundle)
    explainer = captum.attr.LayerGradCam(module, module.get_submodule(at))
    given = input_of(bundle, photo())
    wanted = explainer.attribute(given, target=TARGET, relu_attributions=True)
    found = grad_cam(bundle, photo(), TARGET, at)
    assert relative(found.map, wanted[0, 0].detach().numpy()) < NEAR


# Where a ReLU turns within rounding of a point, float32 differs by more; not in these.
@pytest.mark.parametrize("kind", ["basic", "bottleneck", "cifar"])
@pytest.mark.parametrize("steps", [None, 20])
def test_integrated_gradients_are_those_of_captum(kind: str, steps: int | None) -> None:
    bundle = bundle_of(kind)
    explainer = captum.attr.IntegratedGradients(plain_module(bundle))
    given = input_of(bundle, photo())
    wanted = explainer.attribute(given, target=TARGET, n_steps=steps or 50)
    found = grad_cam(bundle, photo(), TARGET, method="integrated_gradients", steps=steps)
    assert relative(found.map, wanted[0].sum(0).numpy().astype(np.float32)) < NEAR
    assert found.at is None


def test_integrated_gradients_add_up(bundle: resnetkit.Bundle) -> None:
    """Completeness: the sum is the difference of the logits of the picture and of the baseline."""
    module, given = bundle.module(), input_of(bundle, photo())
    with torch.no_grad():
        rise = module(given)[0, TARGET] - module(torch.zeros_like(given))[0, TARGET]
    found = grad_cam(bundle, photo(), TARGET, method="integrated_gradients", steps=200)
    assert found.map.sum() == pytest.approx(float(rise), rel=0.05)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "torch"])
@pytest.mark.parametrize("window", [8, 25])
def test_occlusion_is_that_of_captum(
    bundle: resnetkit.Bundle, window: int, engine: EngineName
) -> None:
    explainer = captum.attr.Occlusion(plain_module(bundle))
    with torch.no_grad():
        wanted = explainer.attribute(
            input_of(bundle, photo()), target=TARGET, sliding_window_shapes=(3, window, window),
            strides=(3, window // 2, window // 2), baselines=0, perturbations_per_eval=16,
        )  # fmt: skip
    found = grad_cam(bundle, photo(), TARGET, method="occlusion", window=window, engine=engine)
    assert relative(found.map, wanted[0, 0].numpy().astype(np.float32)) < 1e-3
    assert found.map.shape == (64, 64)


def test_occlusion_by_bgr_colours() -> None:
    """The mean has the order of the network's channels, the pixels that of the picture."""
    facts = {"mean": (0.2, 0.5, 0.8), "std": (0.2, 0.3, 0.4)}
    bundle = bundle_of("basic", channels="BGR", **facts)
    explainer = captum.attr.Occlusion(plain_module(bundle))
    with torch.no_grad():
        wanted = explainer.attribute(
            input_of(bundle, photo()), target=TARGET, sliding_window_shapes=(3, 16, 16),
            strides=(3, 8, 8), baselines=0, perturbations_per_eval=16,
        )  # fmt: skip
    found = grad_cam(bundle, photo(), TARGET, method="occlusion", window=16)
    assert relative(found.map, wanted[0, 0].numpy().astype(np.float32)) < 1e-3


@pytest.mark.parametrize("kind", ["basic", "bottleneck", "cifar", "dilated"])
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_the_class_activation_map_adds_up_to_the_logit(kind: str, engine: EngineName) -> None:
    bundle = bundle_of(kind)
    found = grad_cam(bundle, photo(), TARGET, method="cam", engine=engine)
    with torch.no_grad():
        logit = float(bundle.module()(input_of(bundle, photo()))[0, TARGET])
    bias = float(bundle.numbers["fc.bias"][TARGET])
    assert found.map.mean() + bias == pytest.approx(logit, rel=1e-4, abs=1e-5)
    # With a pooled head, the gradient is the weight by the number of positions.
    gradients = grad_cam(bundle, photo(), TARGET, "layer4" if kind != "cifar" else "layer3")
    positions = found.map.size
    assert relative(gradients.map * positions, np.maximum(found.map, 0)) < NEAR


def test_grad_cam_plus_plus_by_the_papers_formula() -> None:
    """Equation 19, where it is defined."""
    draw = np.random.default_rng(0)
    maps = draw.random((5, 3, 4), np.float32)
    slopes = draw.standard_normal((5, 3, 4)).astype(np.float32)
    slopes[0] = 0
    slopes[1, 0] = 0
    squares, cubes = slopes**2, slopes**3
    below = 2 * squares + maps.sum((1, 2), keepdims=True) * cubes
    shares = np.divide(squares, below, out=np.zeros_like(below), where=slopes != 0)
    weights = (shares * np.maximum(slopes, 0)).sum((1, 2), keepdims=True)
    wanted = np.maximum((weights * maps).sum(0), 0)
    assert relative(attribution.grad_cam_plus_plus(maps, slopes), wanted) < 1e-5


def test_the_class(bundle: resnetkit.Bundle) -> None:
    bundle = resnetkit.Bundle.from_module(
        bundle.module(), preprocess=bundle.preprocess,
        classes=("ant", "bee", "cat", "dog", "elk", "fox", "gnu"),
    )  # fmt: skip
    (prediction,) = bundle.predict([photo()], topk=7)
    best = grad_cam(bundle, photo(), method="cam")
    assert best.label == prediction.label
    assert best.probability == pytest.approx(prediction.probability, rel=1e-4)
    by_name = grad_cam(bundle, photo(), "dog", method="cam")
    by_number = grad_cam(bundle, photo(), np.int64(3), method="cam")
    assert (by_name.target, by_name.label) == (by_number.target, by_number.label) == (3, "dog")
    assert (by_name.map == by_number.map).all()
    shares = {score.label: score.probability for score in prediction.scores}
    assert by_name.probability == pytest.approx(shares["dog"], rel=1e-4)
    with pytest.raises(InputError, match=r"target 'dgo' is not a class; did you mean dog\?"):
        grad_cam(bundle, photo(), "dgo")


def test_overlay(bundle: resnetkit.Bundle) -> None:
    image = photo()
    found = grad_cam(bundle, image, TARGET, method="cam")
    plain = np.asarray(found.overlay(0))
    assert (plain == image).all()
    over = np.asarray(found.overlay(1))
    left, top, width, height = found.photo.box
    sides = (round(left), round(top), round(left + width), round(top + height))
    inside = np.zeros(image.shape[:2], bool)
    inside[sides[1] : sides[3], sides[0] : sides[2]] = True
    assert (over[~inside] == image[~inside]).all()
    heat = resized(found.map, sides[2] - sides[0], sides[3] - sides[1])
    assert (over[inside].reshape(*heat.shape, 3) == coloured(heat, low=0)).all()
    assert found.heat.shape == (64, 64)
    assert found.heat.max() <= found.map.max() + 1e-6
    with pytest.raises(InputError, match="opacity is 2; it must be from 0 to 1"):
        found.overlay(2)


def test_an_overlay_of_nothing_is_dark(bundle: resnetkit.Bundle) -> None:
    found = grad_cam(bundle, photo(), TARGET, method="cam")
    found.map[:] = -1
    left, top, *_ = (round(side) for side in found.photo.box)
    assert np.asarray(found.overlay(1))[top + 1, left + 1].tolist() == [0, 0, 0]


def test_the_colours_are_read_in_grey() -> None:
    grey = np.asarray(PIL.Image.fromarray(table()[None]).convert("L"), int)[0]
    assert grey[0] == 0
    assert grey[-1] == 255
    assert (np.diff(grey) >= 0).all()
    assert len(set(map(tuple, table().tolist()))) == 256


def test_a_gradient_leaves_the_module_alone() -> None:
    module = bundle_of("basic").module()
    grad_cam(module, photo(), TARGET)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(parameter.grad is None for parameter in module.parameters())
    with torch.no_grad():
        assert grad_cam(module, photo(), TARGET).map.shape == (7, 7)


BAD = [
    ({"method": "gradcam"}, r"method is 'gradcam'; did you mean grad_cam\? it must be one of cam"),
    ({"at": "head"}, "has no place 'head'"),
    ({"at": "fc"}, "at is 'fc', which has no map"),
    ({"at": "layer9"}, r"did you mean layer|did you mean stage"),
    ({"method": "cam", "at": "layer3"}, "cam weighs the last map, stage4"),
    ({"method": "occlusion", "at": "layer3"}, "occlusion looks at the input; leave out at"),
    ({"window": 8}, "window is an option of occlusion, not of grad_cam"),
    ({"method": "occlusion", "steps": 8}, "steps is an option of integrated_gradients"),
    ({"method": "occlusion", "window": 0}, "window is 0; it must be a whole number from 1"),
    ({"method": "occlusion", "window": 65}, "window is 65, and the input has 64 pixels"),
    ({"target": 7}, "target is 7; it must be a class name, or an index from 0 to 6"),
    ({"target": -1}, "target is -1"),
    ({"target": 1.5}, "target is 1.5"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda v: str(v)[:40])
def test_bad_input(bundle: resnetkit.Bundle, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        grad_cam(bundle, photo(), **options)
    assert "\n" not in str(caught.value)
    assert caught.value.fields


def test_without_a_classifier() -> None:
    bundle = bundle_of("no classifier")
    found = grad_cam(bundle, photo(), method="eigen_cam")
    assert (found.target, found.label, found.probability) == (None, None, None)
    assert found.map.max() > 0
    for method in ("grad_cam", "cam", "occlusion"):
        with pytest.raises(InputError, match="has no classifier"):
            grad_cam(bundle, photo(), method=method)
    with pytest.raises(InputError, match="has no classifier"):
        grad_cam(bundle, photo(), 0, method="eigen_cam")


def test_an_output_that_is_not_finite(bundle: resnetkit.Bundle) -> None:
    module = bundle.module()
    with torch.no_grad():
        module.get_parameter("fc.bias")[0] = torch.nan
    broken = resnetkit.Bundle.from_module(module, preprocess=bundle.preprocess)
    with pytest.raises(InputError, match="not finite"):
        grad_cam(broken, photo())
