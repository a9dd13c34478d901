"""The document of a page, the picture of the first filters, and what notebooks show."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import resnetkit
from inspected import bundle_of, hooked, photo, relative
from resnetkit.errors import InputError
from resnetkit.inspect import (
    feature_maps,
    filters,
    grad_cam,
    look,
)


def decoded(one: dict[str, Any]) -> np.ndarray:
    """A map of the document as numbers."""
    raw = base64.b64decode(one["values"])
    levels = np.frombuffer(raw, np.uint8).reshape(one["height"], one["width"])
    return one["low"] + levels / 255 * (one["high"] - one["low"])


def near(one: dict[str, Any], wanted: np.ndarray) -> None:
    assert decoded(one).shape == wanted.shape
    little = 1e-4 * float(np.abs(wanted).max())
    step = (one["high"] - one["low"]) / 255
    assert np.abs(decoded(one) - wanted).max() <= step / 2 + little
    assert one["low"] == pytest.approx(float(wanted.min()), abs=little)
    assert one["high"] == pytest.approx(float(wanted.max()), abs=little)


def opened(url: str) -> PIL.Image.Image:
    return PIL.Image.open(BytesIO(base64.b64decode(url.partition("base64,")[2])))


@pytest.fixture(scope="module")
def bundle() -> resnetkit.Bundle:
    return bundle_of("bottleneck")


def test_its_shape(bundle: resnetkit.Bundle) -> None:
    page = look(bundle, photo(), classes=3, channels=4)
    assert json.loads(json.dumps(page, allow_nan=False)) == page
    assert set(page) == {
        "name", "photo", "width", "height", "cut", "size", "input", "top", "cams", "places",
    }  # fmt: skip
    assert (page["height"], page["width"]) == photo().shape[:2]
    assert page["cut"] == list(feature_maps(bundle, photo()).box)
    assert opened(page["photo"]).format == "JPEG"
    assert opened(page["photo"]).size == (page["width"], page["height"])
    assert opened(page["input"]).format == "PNG"
    assert (
        np.asarray(opened(page["input"])) == np.asarray(feature_maps(bundle, photo()).input)
    ).all()
    assert page["size"] == 64
    assert [set(one) for one in page["top"]] == [{"class", "label", "probability"}] * 3
    assert [one["class"] for one in page["cams"]] == [one["class"] for one in page["top"]]
    assert set(page["cams"][0]) == {"class", "height", "width", "values", "low", "high"}
    for place in page["places"]:
        assert set(place) == {
            "path", "stage", "level", "shape", "channels", "main", "shortcut", "kind",
        }  # fmt: skip
        assert len(place["channels"]) == 4
        assert set(place["channels"][0]) == {
            "index", "mean", "height", "width", "values", "low", "high",
        }  # fmt: skip
        block = place["level"] == "block"
        assert (place["main"] is not None) == (place["shortcut"] is not None) == block
        assert (place["kind"] is not None) == block


def test_its_values(bundle: resnetkit.Bundle) -> None:
    page, wanted = look(bundle, photo()), hooked(bundle, photo())
    (prediction,) = bundle.predict([photo()], topk=5)
    assert [one["label"] for one in page["top"]] == [one.label for one in prediction.scores]
    for one, score in zip(page["top"], prediction.scores, strict=True):
        assert one["probability"] == pytest.approx(score.probability, rel=1e-3)
    for one in page["cams"]:
        near(one, grad_cam(bundle, photo(), one["class"], method="cam").map)
    places = {place["path"]: place for place in page["places"]}
    assert list(places)[:3] == ["stage0", "stage1", "layer1.0"]
    values = wanted["layer2.0"][-1]
    place = places["layer2.0"]
    assert place["shape"] == list(values.shape)
    assert place["stage"] == "stage2"
    for channel in place["channels"]:
        near(channel, values[channel["index"]])
        assert channel["mean"] == pytest.approx(values[channel["index"]].mean(), rel=1e-3)
    for name, given in zip(("main", "shortcut"), wanted["layer2.0.add"], strict=False):
        assert set(place[name]) == {"rms", "map"}
        assert place[name]["rms"] == pytest.approx(np.sqrt(np.square(given).mean()), rel=1e-4)
        near(place[name]["map"], np.abs(given).mean(0))
    assert (place["kind"], places["layer1.1"]["kind"]) == ("projection", "identity")


def at_size(size: int) -> resnetkit.Bundle:
    module = bundle_of("cifar").module()
    return resnetkit.Bundle.from_module(module, preprocess=resnetkit.Preprocess(size=size))


def test_large_maps_and_photos_are_made_small() -> None:
    bundle, image = at_size(150), np.tile(photo(), (8, 8, 1))
    page = look(bundle, image)
    assert max(opened(page["photo"]).size) == 640
    assert (page["width"], page["height"]) == (image.shape[1], image.shape[0])
    values = hooked(bundle, image)["layer1.0"][-1]
    place = next(place for place in page["places"] if place["path"] == "layer1.0")
    assert place["shape"] == [16, 150, 150]
    channel = place["channels"][0]
    assert channel["averaged"] == 3
    near(channel, values[channel["index"]].reshape(50, 3, 50, 3).mean((1, 3)))
    assert "averaged" not in page["places"][-1]["channels"][0]


def test_averages_at_the_edge() -> None:
    """101 rows in squares of two: the last has one."""
    bundle = at_size(101)
    place = look(bundle, photo())["places"][1]
    assert place["path"] == "stage1"
    channel = place["channels"][0]
    values = hooked(bundle, photo())["layer1"][-1][channel["index"]]
    found, step = decoded(channel), (channel["high"] - channel["low"]) / 255
    assert found.shape == (51, 51)
    assert found[-1, -1] == pytest.approx(values[-1, -1], abs=step)
    assert found[-1, 0] == pytest.approx(values[-1, :2].mean(), abs=step)


def test_without_a_classifier_there_are_no_classes() -> None:
    page = look(bundle_of("no classifier"), photo())
    assert page["top"] == page["cams"] == []
    assert page["places"]


def test_a_turned_photo(bundle: resnetkit.Bundle, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(photo()).save(tmp_path / "turned.png", exif=exif)
    page = look(bundle, tmp_path / "turned.png")
    assert (page["width"], page["height"]) == photo().shape[:2]
    assert opened(page["photo"]).size == photo().shape[:2]
    assert page["name"] == str(tmp_path / "turned.png")


def test_bad_input(bundle: resnetkit.Bundle) -> None:
    with pytest.raises(InputError, match="classes is 0; it must be a whole number from 1"):
        look(bundle, photo(), classes=0)
    with pytest.raises(InputError, match="channels is 0"):
        look(bundle, photo(), channels=0)
    module = bundle.module()
    with torch.no_grad():
        module.get_parameter("fc.bias")[0] = torch.nan
    broken = resnetkit.Bundle.from_module(module, preprocess=bundle.preprocess)
    with pytest.raises(InputError, match="not finite"):
        look(broken, photo())


WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "matplotlib", "sklearn")))
import numpy, resnetkit
from resnetkit.inspect import *
from resnetkit.errors import InputError
image = numpy.random.default_rng(0).integers(0, 256, (40, 50, 3), numpy.uint8)
bundle = resnetkit.load("net.safetensors")
feature_maps(bundle, image, "layer").figure()
look(bundle, image)
for method in ("cam", "eigen_cam", "occlusion"):
    grad_cam(bundle, image, method=method).overlay()
receptive_field(bundle, "stage1")
nearest(bundle, image, (["a"], resnetkit.embed(bundle, [image])))
print(activation_statistics(bundle, image))
print(weights_report("net.safetensors"))
filters(bundle)
for call in (
    lambda: grad_cam(bundle, image),
    lambda: grad_cam(bundle, image, method="integrated_gradients"),
    lambda: receptive_field(bundle, "stage1", effective=True),
    lambda: feature_maps(bundle, image, engine="torch"),
):
    try:
        call()
        print("computed")
    except InputError as error:
        assert "requires torch, which is not installed" in str(error), error
        print("refused")
"""


def test_without_torch(tmp_path: Path) -> None:
    bundle_of("cifar").save(tmp_path / "net.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == ["refused"] * 4


@pytest.mark.parametrize("kind", ["basic", "deep stem", "grey", "cifar"])
def test_filters(kind: str) -> None:
    bundle = bundle_of(kind)
    picture = filters(bundle, scale=5)
    weight = bundle.numbers["conv1.weight"]
    count, _, side, _ = weight.shape
    tile = side * 5
    pixels = np.asarray(picture)
    columns = int(np.ceil(np.sqrt(count)))
    assert picture.size[0] == columns * (tile + 2) - 2
    for number in range(count):
        row, column = divmod(number, columns)
        top, left = row * (tile + 2), column * (tile + 2)
        found = pixels[top + 2 : top + tile : 5, left + 2 : left + tile : 5] / 255 * 2 - 1
        one = weight[number].transpose(1, 2, 0)
        assert relative(found, np.broadcast_to(one / np.abs(one).max(), found.shape)) < 0.01


def test_filters_of_other_channels() -> None:
    torch.manual_seed(0)
    module = resnetkit.build("resnet18", in_chans=5, num_classes=2)
    mean, std = (0.5,) * 5, (1.0,) * 5
    preprocess = resnetkit.Preprocess(size=64, channels="other", mean=mean, std=std)
    bundle = resnetkit.Bundle.from_module(module, preprocess=preprocess)
    pixels = np.asarray(filters(bundle, scale=1))
    assert pixels.shape[1] == 4 * (5 * 9 - 2) + 3 * 2
    weight = bundle.numbers["conv1.weight"]
    found = pixels[:7, 9:16, 0] / 255 * 2 - 1
    assert relative(found, weight[0, 1] / np.abs(weight[0, 1]).max()) < 0.01
    with pytest.raises(InputError, match="takes 5 channels, and images have"):
        feature_maps(bundle, photo())


def test_filters_in_rgb_order_and_of_zeros() -> None:
    module = bundle_of("basic").module()
    with torch.no_grad():
        module.get_parameter("conv1.weight").zero_()
        module.get_parameter("conv1.weight")[0, 0] = 1  # the first channel: blue of BGR
    for channels, wanted in (("RGB", [255, 128, 128]), ("BGR", [128, 128, 255])):
        preprocess = resnetkit.Preprocess(size=64, channels=channels)
        bundle = resnetkit.Bundle.from_module(module, preprocess=preprocess)
        pixels = np.asarray(filters(bundle))
        assert pixels[0, 0].tolist() == wanted
        assert pixels[0, 44].tolist() == [128, 128, 128]
    with pytest.raises(InputError, match="scale is 0"):
        filters(bundle, scale=0)
