"""Configurations beside the weights: what timm and transformers write, as they use it."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import safetensors.torch
import skimage.data
import timm
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

import resnetkit
from resnetkit.checkpoints.config_json import beside, distinct
from resnetkit.checkpoints.identification import identify
from resnetkit.cli.main import main
from resnetkit.data.decoding.tensors import to_input
from resnetkit.errors import InputError
from resnetkit.preprocess import Preprocess

PHOTOGRAPHS = ("chelsea", "rocket")


def write(folder: Path, config: dict[str, Any], processor: dict[str, Any] | None = None) -> Path:
    """The configurations in ``folder``, and the path of weights beside them."""
    (folder / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder / "model.safetensors"


def preprocess(folder: Path, config: dict[str, Any], processor: Any = None) -> Preprocess:
    found = beside(write(folder, config, processor))
    assert found is not None
    assert found.warnings == ()
    return found.preprocess[0].preprocess


def difference(ours: Preprocess, theirs: Any) -> float:
    """The largest difference of a pixel, in steps of the image's 255."""
    step = ours.divisor * torch.tensor(ours.std).view(-1, 1, 1)
    most = 0.0
    for name in PHOTOGRAPHS:
        picture = PIL.Image.fromarray(getattr(skimage.data, name)())
        one, other = to_input(picture, ours), theirs(picture)
        assert one.shape == other.shape
        most = max(most, float(((one - other) * step).abs().max()))
    return most


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crop_pct": 0.875, "interpolation": "bilinear"},
        {"input_size": [3, 160, 160], "crop_pct": 0.95, "mean": [0.5] * 3, "std": [0.5] * 3},
        {"input_size": [3, 96, 96], "crop_pct": 1.0, "crop_mode": "squash"},
        {"crop_pct": None, "interpolation": None, "mean": None, "std": None},
    ],
)
def test_timms_pixels(tmp_path: Path, changes: dict[str, Any]) -> None:
    base = timm.get_pretrained_cfg("resnet50.a1_in1k").to_dict()
    told = {**{k: base[k] for k in ("input_size", "crop_pct", "interpolation", "mean", "std")}}
    told |= changes
    ours = preprocess(tmp_path, {"architecture": "resnet50", "pretrained_cfg": told})
    data = timm.data.resolve_data_config(pretrained_cfg=told)
    theirs = timm.data.create_transform(**data)
    assert difference(ours, theirs) <= 1e-3


def test_timms_test_size_is_another_choice(tmp_path: Path) -> None:
    told = timm.get_pretrained_cfg("resnet50.a1_in1k").to_dict()
    found = beside(write(tmp_path, {"architecture": "resnet50", "pretrained_cfg": told}))
    assert found is not None
    assert [choice.label for choice in found.preprocess] == ["pretrained_cfg", "test_input_size"]
    theirs = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=told, use_test_size=True)
    )
    assert found.preprocess[1].preprocess.size == 288
    assert difference(found.preprocess[1].preprocess, theirs) <= 1e-3


def test_every_weight_set_of_timms_resnets_is_understood(tmp_path: Path) -> None:
    """All that timm publishes for networks of the catalogue, by timm's own resolution."""
    names = {entry.name for entry in resnetkit.catalog()}
    seen = 0
    for name in timm.list_models(module="resnet", pretrained=True):
        if name.partition(".")[0] not in names:
            continue
        told = timm.get_pretrained_cfg(name).to_dict()
        config = {"architecture": name.partition(".")[0], "pretrained_cfg": told}
        ours = preprocess(tmp_path, config)
        data = timm.data.resolve_data_config(pretrained_cfg=told)
        assert (ours.size, ours.interpolation) == (data["input_size"][1], data["interpolation"])
        assert ours.resize_to == int(data["input_size"][1] / data["crop_pct"])
        assert (ours.mean, ours.std) == (data["mean"], data["std"])
        seen += 1
    assert seen > 30


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"shortest_edge": 224}, "image_mean": [0.485, 0.456, 0.406]},
        {"size": {"shortest_edge": 224}, "crop_pct": 0.95, "resample": 2},
        {"size": {"shortest_edge": 64}, "do_rescale": False, "image_mean": 127.5},
        {"size": {"shortest_edge": 64}, "do_normalize": False},
        {},
    ],
)
def test_transformers_pixels(tmp_path: Path, options: dict[str, Any]) -> None:
    processor = transformers.ConvNextImageProcessorPil(**options)
    processor.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "preprocessor_config.json").read_text())
    ours = preprocess(tmp_path, {"model_type": "resnet"}, told)

    def theirs(picture: PIL.Image.Image) -> torch.Tensor:
        return torch.as_tensor(np.asarray(processor(picture)["pixel_values"][0]))

    assert difference(ours, theirs) <= 1e-3

    def on_tensors(picture: PIL.Image.Image) -> torch.Tensor:
        fast = transformers.ConvNextImageProcessor.from_pretrained(tmp_path)
        return torch.as_tensor(np.asarray(fast(picture)["pixel_values"][0]))

    # transformers' other backend resizes a tensor, which rounds some pixels to the next number.
    assert difference(ours, on_tensors) <= 1.001


def test_the_old_spelling_of_a_size(tmp_path: Path) -> None:
    old = {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": None}
    ours = preprocess(tmp_path, {"model_type": "resnet"}, {**old, "resample": 3})
    assert (ours.size, ours.resize_to, ours.divisor) == (224, 256, 255.0)


@pytest.mark.parametrize(
    ("config", "processor", "words"),
    [
        ({"crop_mode": "border"}, None, "config.json has .* crop_mode is 'border'"),
        ({"crop_mode": "squash"}, None, "crop_mode is 'squash' with crop_pct 0.95"),
        ({"interpolation": "lanczos"}, None, "interpolation is 'lanczos'"),
        ({"input_size": [3, 224, 192]}, None, "input_size is 224x192"),
        ({"input_size": "large"}, None, "unsupported preprocessing"),
        ({"mean": [0.5, 0.5]}, None, "mean and std have 2 and 3"),
        (None, {"image_processor_type": "BitImageProcessor"}, "it is of BitImageProcessor"),
        (None, {"resample": 1}, "resample is 1"),
        (None, {"do_resize": False}, "it does not resize"),
        (None, {"size": {"height": 224}}, "preprocessor_config.json has .* size is"),
        (None, {"rescale_factor": 0}, "unsupported preprocessing"),
    ],
)
def test_what_cannot_be_expressed_is_one_warning(
    tmp_path: Path, config: Any, processor: Any, words: str
) -> None:
    told = {"input_size": [3, 224, 224], "crop_pct": 0.95, "mean": [0.5] * 3, "std": [0.5] * 3}
    model: dict[str, Any] = {"model_type": "resnet"}
    if config is not None:
        model = {"architecture": "resnet50", "pretrained_cfg": {**told, **config}}
    found = beside(write(tmp_path, model, processor))
    assert found is not None
    assert found.preprocess == ()
    (warning,) = found.warnings
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(warning)


@given(st.lists(st.sampled_from(["crane", "maillot", "tank", "crane (0)", "crane (1)"])))
def test_names_are_made_distinct(names: list[str]) -> None:
    found = distinct(names)
    assert len(set(found)) == len(found) == len(names)
    assert all(new.startswith(old) for old, new in zip(names, found, strict=True))
    if len(set(names)) == len(names):
        assert found == tuple(names)


def timm_folder(folder: Path, name: str, **config: Any) -> Path:
    """What timm writes for the Hub, with the weights; ``config`` are more entries of the former."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4)
    timm.models.save_for_hf(model, folder, model_config=config, safe_serialization=True)
    return folder / "model.safetensors"


def test_timms_folder_leaves_nothing_open(tmp_path: Path) -> None:
    path = timm_folder(tmp_path, "resnet14t", label_names=["a", "b", "c", "b"])
    found = identify(path)
    assert found.reading.ambiguous == ()
    assert found.to_dict()["known"]["stride_on"] == {"value": "3x3", "from": "the configuration"}
    assert found.to_dict()["known"]["preprocess"]["value"] == "pretrained_cfg"
    bundle = resnetkit.load(path)
    assert bundle.classes == ("a", "b (1)", "c", "b (3)")
    assert bundle.origin["class_names"] == "config.json"
    data = timm.data.resolve_data_config(
        pretrained_cfg=timm.get_pretrained_cfg("resnet14t").to_dict()
    )
    assert bundle.preprocess.size == data["input_size"][1] == 176
    larger = resnetkit.load(path, preprocess="test_input_size")
    assert larger.preprocess.size == 224
    assert resnetkit.load(path, num_classes=2).classes == ("0", "1")


def test_a_contradiction_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = timm_folder(tmp_path, "resnet10t")
    config = json.loads((tmp_path / "config.json").read_text())
    write(tmp_path, {**config, "architecture": "resnet14t"})
    assert main(["identify", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "the configuration has block bottleneck, but the tensors have basic" in err
    write(tmp_path, {**config, "global_pool": "max", "model_args": {}})
    with pytest.raises(InputError, match=r"the configuration has global_pool 'max'"):
        identify(path)
    write(tmp_path, {**config, "model_args": {"act_layer": "silu"}})
    with pytest.raises(InputError, match=r"act_layer 'silu'; only relu is supported"):
        identify(path)


def test_an_architecture_tells_what_has_no_tensors(tmp_path: Path) -> None:
    """timm's resnetblur18 has the names and shapes of resnet18, and blurs where it strides."""
    torch.manual_seed(0)
    model = timm.create_model("resnetblur18", num_classes=4).eval()
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    bundle = resnetkit.load(tmp_path / "model.safetensors")
    assert bundle.network.name == "resnetblur18"
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        ours, theirs = bundle.module()(images), model(images)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_what_is_not_in_the_catalogue_tells_nothing(tmp_path: Path) -> None:
    path = timm_folder(tmp_path, "resnet10t")
    config = json.loads((tmp_path / "config.json").read_text())
    write(tmp_path, {**config, "architecture": "resnet10t_of_tomorrow"})
    found = identify(path)
    assert "config.json is of timm's resnet10t_of_tomorrow" in found.warnings[0]
    assert {fact.fact for fact in found.reading.ambiguous} >= {"norm_epsilon", "stem_pool"}
    write(tmp_path, {**config, "model_args": {"aa_layer": "blur"}})
    assert {fact.fact for fact in identify(path).reading.ambiguous} >= {"norm_epsilon"}
    write(tmp_path, {**config, "model_args": {"output_stride": 16}})
    assert identify(path).network.options.output_stride == 16


def test_transformers_folder_leaves_nothing_open(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=2,
        id2label={0: "yes", 1: "no"}, label2id={"yes": 0, "no": 1},
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match=r"does not determine preprocess"):
        resnetkit.load(path, strict=True)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(tmp_path)
    bundle = resnetkit.load(path)
    assert bundle.classes == ("yes", "no")
    assert (bundle.preprocess.size, bundle.origin["assumed"]) == (32, {})


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", '{"architecture": 3}', "\x00"])
def test_a_configuration_that_is_none_is_left_alone(tmp_path: Path, text: str) -> None:
    state = resnetkit.build("resnet20", num_classes=2).state_dict()
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    assert beside(tmp_path / "model.safetensors") is None
    assert identify(tmp_path / "model.safetensors").network.name == "resnet20"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    assert beside(tmp_path / "model.safetensors") is None
