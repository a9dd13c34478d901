"""Folders for transformers and timm, loaded by transformers and timm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from skimage import data

import resnetkit
from resnetkit.architecture import registry
from resnetkit.checkpoints.recognition import dialect
from resnetkit.cli.main import main
from resnetkit.errors import InputError
from resnetkit.hub.framework_folder import timm_name
from running_statistics import draw_statistics

CLASSES = ("brick", "cat", "coffee", "rocket", "tree")
SHORTEST = resnetkit.Preprocess(size=96, resize_to=110, interpolation="bicubic")
OTHERS = {
    "edge": resnetkit.Preprocess(size=96, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
    "bytes": resnetkit.Preprocess(
        size=96, resize_to=97, divisor=1.0, mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0)
    ),
}


def bundle_of(name: str, preprocess: resnetkit.Preprocess, **options: Any) -> resnetkit.Bundle:
    torch.manual_seed(0)
    options = {"num_classes": len(CLASSES), **options}
    module = resnetkit.build(name, **options)
    draw_statistics(module)
    classes = CLASSES if options["num_classes"] else ()
    return resnetkit.Bundle.from_module(module, preprocess=preprocess, classes=classes)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph whose margins are even in every resize here."""
    path = tmp_path_factory.mktemp("picture") / "cat.png"
    Image.fromarray(data.chelsea()[:300, :300]).save(path)
    return path


def ours(bundle: resnetkit.Bundle, picture: Path) -> dict[str, float]:
    (prediction,) = bundle.predict([picture], topk=len(CLASSES), engine="torch")
    return {score.label: score.probability for score in prediction.scores}


@pytest.mark.parametrize(
    ("name", "preprocess", "options"),
    [
        ("resnet18", SHORTEST, {}),
        ("resnet26", OTHERS["edge"], {}),
        ("resnet50", OTHERS["bytes"], {"depths": (1, 1, 1, 1), "stride_on": "1x1"}),
    ],
)
def test_the_pipeline_of_transformers_answers_the_same(
    name: str, preprocess: resnetkit.Preprocess, options: dict, picture: Path, tmp_path: Path
) -> None:
    bundle = bundle_of(name, preprocess, **options)
    done = resnetkit.convert(bundle, tmp_path / "folder", to="transformers")
    assert done.difference == 0
    assert {path.name for path in done.target.iterdir()} == {
        *("config.json", "preprocessor_config.json", "model.safetensors")
    }
    processor = transformers.AutoImageProcessor.from_pretrained(done.target, use_fast=False)
    pipe = transformers.pipeline(
        "image-classification", model=str(done.target), image_processor=processor
    )
    found = {one["label"]: one["score"] for one in pipe(str(picture), top_k=len(CLASSES))}
    expected = ours(bundle, picture)
    assert list(found) == list(expected)
    for label, probability in expected.items():
        assert found[label] == pytest.approx(probability, abs=2e-3)
    again = resnetkit.load(done.target / "model.safetensors")
    assert again.classes == CLASSES
    assert again.network.options == bundle.network.options


def test_without_a_classifier_it_is_a_model(tmp_path: Path) -> None:
    bundle = bundle_of("resnet18", SHORTEST, num_classes=None)
    done = resnetkit.convert(bundle, tmp_path / "body", to="transformers")
    model = transformers.AutoModel.from_pretrained(done.target).eval()
    pixels = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        expected = bundle.module()(pixels).flatten()
        assert torch.allclose(model(pixels).pooler_output.flatten(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "preprocess", "options"),
    [
        ("resnet18", SHORTEST, {}),
        ("seresnet50", OTHERS["edge"], {}),
        ("resnet50d", OTHERS["bytes"], {"in_chans": 3, "output_stride": 16}),
        ("resnet18", resnetkit.Preprocess(size=96, resize="squash"), {}),
    ],
)
def test_timm_answers_the_same(
    name: str, preprocess: resnetkit.Preprocess, options: dict, picture: Path, tmp_path: Path
) -> None:
    bundle = bundle_of(name, preprocess, **options)
    done = resnetkit.convert(bundle, tmp_path / "folder", to="timm")
    model = timm.create_model(f"local-dir:{done.target}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config)
    with torch.inference_mode():
        logits = model(transform(Image.open(picture).convert("RGB"))[None])[0]
    expected = ours(bundle, picture)
    order = [CLASSES[number] for number in logits.argsort(descending=True)]
    assert order == list(expected)
    for label, probability in zip(CLASSES, logits.softmax(-1).tolist(), strict=True):
        assert probability == pytest.approx(expected[label], abs=2e-3)
    assert model.pretrained_cfg["label_names"] == list(CLASSES)
    again = resnetkit.load(done.target / "model.safetensors")
    assert (again.classes, again.network.options) == (CLASSES, bundle.network.options)


def test_every_name_is_one_that_timm_has() -> None:
    for entry in registry.catalog():
        network = entry.network().override(num_classes=7)
        if dialect("timm").cannot(network.options) is None:
            name = timm_name(network)
            assert name is not None
            assert timm.is_model(name), name
    changed = resnetkit.network("resnet50", depths=(1, 1, 1, 1))
    assert timm_name(changed) is None


@pytest.mark.parametrize(
    ("to", "bundle", "message"),
    [
        ("transformers", ("resnet18", resnetkit.Preprocess(size=96, resize="squash")),
         "cannot describe the preprocessing: resize squash"),
        ("transformers", ("seresnet50", SHORTEST), "squeeze_excitation"),
        ("timm", ("resnet18", resnetkit.Preprocess(size=96, channels="BGR")), "channels BGR"),
        ("timm", ("resnet20", resnetkit.Preprocess(size=32)), "timm"),
    ],
)  # fmt: skip
def test_what_a_configuration_cannot_describe(
    to: str, bundle: tuple[str, resnetkit.Preprocess], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        resnetkit.convert(bundle_of(*bundle), tmp_path / "folder", to=to)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle_of("resnet18", SHORTEST).save(tmp_path / "net.safetensors")
    target = tmp_path / "folder"
    target.mkdir()
    words = ["convert", str(tmp_path / "net.safetensors"), str(target), "--to", "timm"]
    assert main(words) == 0
    config = json.loads((target / "config.json").read_text())
    assert config["architecture"] == "resnet18"
    capsys.readouterr()
    assert main(words) == 2
    assert "is not an empty folder; give the name of a new one" in capsys.readouterr().err
    assert np.array_equal(
        resnetkit.load(target / "model.safetensors").numbers["conv1.weight"],
        resnetkit.load(tmp_path / "net.safetensors").numbers["conv1.weight"],
    )
