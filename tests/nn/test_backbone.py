"""The maps as a backbone of transformers' models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import resnetkit
from running_statistics import draw_statistics

STAGES = ["stage1", "stage2", "stage3", "stage4"]
PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["resnet18", "resnet50"])
def bundle(request: pytest.FixtureRequest) -> resnetkit.Bundle:
    torch.manual_seed(0)
    options: dict[str, Any] = {"depths": (1, 1, 1, 1), "widths": (8, 12, 16, 20)}
    module = resnetkit.build(request.param, num_classes=3, **options)
    draw_statistics(module)
    return resnetkit.Bundle.from_module(module)


def maps_of(bundle: resnetkit.Bundle, *indices: int) -> Any:
    return resnetkit.build(
        bundle.network, pretrained=bundle, features_only=True, out_indices=indices
    ).eval()


@pytest.fixture
def folder(bundle: resnetkit.Bundle, tmp_path: Path) -> Path:
    """The folder that `convert` writes."""
    return resnetkit.convert(bundle, tmp_path / "folder", to="transformers").target


def test_the_maps_of_a_converted_folder_are_ours(bundle: resnetkit.Bundle, folder: Path) -> None:
    # AutoBackbone takes names of the hub alone: tests/hub/test_push.py.
    theirs = transformers.ResNetBackbone.from_pretrained(folder, out_features=["stage2", "stage4"])
    ours = maps_of(bundle, 2, 4)
    assert ours.out_features == theirs.out_features == ["stage2", "stage4"]
    assert ours.channels == theirs.channels
    with torch.inference_mode():
        expected = theirs.eval()(PIXELS).feature_maps
        found = ours.forward_with_filtered_kwargs(PIXELS, output_attentions=True).feature_maps
    assert len(expected) == len(found) == 2
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, atol=1e-5)


def test_names_are_those_of_the_maps() -> None:
    module = resnetkit.build("resnet18", features_only=True)
    assert module.out_features == ["stem", *STAGES]
    assert module.channels == [64, 64, 128, 256, 512]
    small = resnetkit.build("resnet20", features_only=True, out_indices=[1, 3])
    assert (small.out_features, small.channels) == (["stage1", "stage3"], [16, 64])


def test_upernet_segments_the_same(bundle: resnetkit.Bundle, folder: Path) -> None:
    backbone = transformers.ResNetBackbone.from_pretrained(folder, out_features=STAGES)
    config = transformers.UperNetConfig(
        backbone_config=backbone.config, hidden_size=16, num_labels=4, auxiliary_channels=8,
        auxiliary_in_channels=backbone.channels[2],
    )  # fmt: skip
    ours = maps_of(bundle, 1, 2, 3, 4)
    torch.manual_seed(0)
    model = transformers.UperNetForSemanticSegmentation(config).eval()
    with torch.inference_mode():
        model.backbone = backbone.eval()
        expected = model(PIXELS).logits
        model.backbone = ours
        found = model(PIXELS).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert found.std() > 1e-3
    model.train()
    model(PIXELS, labels=torch.ones(2, 64, 64, dtype=torch.long)).loss.backward()
    assert model.backbone.get_parameter("conv1.weight").grad.abs().sum() > 0


def test_maskformer_calls_it_as_a_module(bundle: resnetkit.Bundle, folder: Path) -> None:
    backbone = transformers.ResNetBackbone.from_pretrained(folder, out_features=STAGES)
    decoder = transformers.DetrConfig(
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2, num_queries=4,
    )  # fmt: skip
    config = transformers.MaskFormerConfig(
        backbone_config=backbone.config, decoder_config=decoder, fpn_feature_size=32,
        mask_feature_size=32, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.MaskFormerForInstanceSegmentation(config).eval()
    features = maps_of(bundle, 1, 2, 3, 4)
    encoder = features.backbone()
    assert not encoder.training
    assert encoder.channels == backbone.channels
    assert [*encoder.state_dict()] == [*features.state_dict()]
    with torch.inference_mode():
        model.model.pixel_level_module.encoder = backbone.eval()
        expected = model(PIXELS)
        model.model.pixel_level_module.encoder = encoder
        found = model(PIXELS)
    for name in ("class_queries_logits", "masks_queries_logits"):
        assert torch.allclose(found[name], expected[name], atol=1e-4), name


def test_a_backbone_changes_no_mode_of_the_module_it_is_made_of() -> None:
    module = resnetkit.build("resnet18", features_only=True).train()
    frozen = module.get_submodule("bn1").eval()
    assert module.backbone().training
    assert not frozen.training
