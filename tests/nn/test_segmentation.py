"""Networks as encoders of segmentation_models_pytorch, against its own encoders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

import resnetkit
from resnetkit.nn import smp_encoder

ENTRIES = smp.encoders.encoders


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = dict(ENTRIES)
    yield
    ENTRIES.clear()
    ENTRIES.update(before)


def ours(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    module: Any = resnetkit.build(name, **options)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    ENTRIES["ours"] = smp_encoder(module)
    return module


@pytest.mark.parametrize(("depth", "stride"), [(5, 32), (5, 16), (5, 8), (4, 32), (3, 32)])
def test_the_maps_are_those_of_its_own_encoder(depth: int, stride: int) -> None:
    module = ours("resnet18").eval()
    how = {"depth": depth, "weights": None, "output_stride": stride}
    encoder: Any = smp.encoders.get_encoder("ours", **how).eval()
    peer: Any = smp.encoders.get_encoder("resnet18", **how).eval()
    peer.load_state_dict({k: v for k, v in module.state_dict().items() if not k.startswith("fc.")})
    assert list(encoder.out_channels) == list(peer.out_channels)
    assert encoder.output_stride == peer.output_stride
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, wanted = encoder(images), peer(images)
    assert len(found) == len(wanted) == depth + 1
    assert [one.shape for one in found] == [one.shape for one in wanted]
    # Above stride 32 the library also dilates the first convolution of a stage.
    equal = found if stride == 32 else found[:4]
    assert all(torch.equal(one, other) for one, other in zip(equal, wanted, strict=False))


@pytest.mark.parametrize(
    "decoder", ["Unet", "UnetPlusPlus", "FPN", "PSPNet", "DeepLabV3Plus", "MAnet", "PAN"]
)
def test_every_decoder_trains_it(decoder: str) -> None:
    module = ours("resnet18d", in_chans=1)
    model = smp.create_model(decoder, "ours", encoder_weights=None, in_channels=1, classes=2)
    output = model(torch.randn(2, 1, 128, 128))
    assert output.shape == (2, 2, 128, 128)
    output.square().sum().backward()
    first = model.encoder.features.conv1
    assert first.weight.grad.abs().sum() > 0
    assert torch.equal(first.weight, module.conv1.weight)
    assert module.conv1.weight.grad is None, "the model has a copy"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(resnetkit.InputError, match=r"strides \[1, 1, 2, 4\]"):
        ours("resnet20")
    with pytest.raises(resnetkit.InputError, match="without output_stride"):
        ours("resnet18", output_stride=8)
    ours("resnet18")
    with pytest.raises(resnetkit.InputError, match="in_channels is 4"):
        smp.Unet("ours", encoder_weights=None, in_channels=4)
    with pytest.raises(resnetkit.InputError, match="depth is 6"):
        smp.encoders.get_encoder("ours", depth=6)
