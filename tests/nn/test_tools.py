"""The module among the tools of its users: torchvision, timm, captum, peft, lightning, skorch."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import captum.attr
import lightning
import numpy as np
import peft
import pytest
import pytorch_grad_cam
import skorch
import timm
import timm.optim
import timm.utils
import torch
import torchinfo
import torchview
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx
from torch.utils.checkpoint import checkpoint
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3

import resnetkit
from resnetkit.nn.resnet import ResNet

pytestmark = pytest.mark.filterwarnings("ignore")
LEVELS = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}


@pytest.fixture
def net() -> ResNet:
    torch.manual_seed(0)
    module: ResNet = resnetkit.build("resnet18", num_classes=10).eval()
    return module


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_children_have_torchvisions_order(name: str) -> None:
    theirs = [child for child, _ in getattr(torchvision.models, name)().named_children()]
    ours = [child for child, _ in resnetkit.build(name).named_children()]
    assert [child for child in ours if child in theirs] == theirs
    assert set(ours) - set(theirs) == {"flatten"}


def test_torchvisions_getter_and_detectors(net: ResNet, images: Tensor) -> None:
    getter = IntermediateLayerGetter(copy.deepcopy(net), {"layer4": "out"})
    assert torch.equal(getter(images)["out"], net.forward_features(images))
    body = BackboneWithFPN(copy.deepcopy(net), LEVELS, [64, 128, 256, 512], 256)
    FasterRCNN(body, 3, min_size=64, max_size=64).eval()([images[0]])
    network = DeepLabV3(getter, DeepLabHead(512, 3)).eval()
    assert network(images)["out"].shape == (2, 3, 64, 64)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50d", "resnet10t", "resnetrs50"])
def test_timms_protocol(name: str, images: Tensor) -> None:
    net: Any = resnetkit.build(name, num_classes=10).eval()
    peer = timm.create_model(name, num_classes=10).eval()
    features = net.forward_features(images)
    assert features.shape == peer.forward_features(images).shape
    assert torch.equal(net.forward_head(features), net(images))
    pooled = net.forward_head(features, pre_logits=True)
    assert pooled.shape == (2, net.num_features) == peer.forward_head(features, True).shape
    assert (net.num_features, net.num_classes) == (peer.num_features, peer.num_classes)
    info = timm.create_model(name, features_only=True).feature_info
    assert net.feature_info.channels() == info.channels()
    assert net.feature_info.reduction() == info.reduction()
    assert net.feature_info.channels(2) == info.channels(2)
    net.reset_classifier(5)
    assert net(images).shape == (2, 5)
    assert net.get_classifier().out_features == 5
    assert resnetkit.Bundle.from_module(net).network.options.num_classes == 5
    net.reset_classifier(0)
    assert torch.equal(net(images), pooled)
    assert net.num_classes == 0
    assert isinstance(net.get_classifier(), nn.Identity)
    net.reset_classifier(3, "avg")
    assert net(images).shape == (2, 3)
    with pytest.raises(resnetkit.InputError, match="global_pool"):
        net.reset_classifier(3, "max")


def test_checkpointed_gradients_are_the_same(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[object] = []
    monkeypatch.setattr(
        "resnetkit.nn.resnet.checkpoint",
        lambda block, *x, **how: again.append(block) or checkpoint(block, *x, **how),
    )
    torch.manual_seed(0)
    net: Any = resnetkit.build("resnet18", num_classes=10, norm="group", norm_groups=8).train()
    net(images).sum().backward()
    plain = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    assert not again
    net.set_grad_checkpointing()
    net(images).sum().backward()
    assert len(again) == 8, "every block of a ResNet-18"
    assert all(torch.equal(a, p.grad) for a, p in zip(plain, net.parameters(), strict=True))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50d", "resnetrs50", "resnetaa50"])
@pytest.mark.parametrize("indices", [(1, 2, 3, 4), (0, 3), (2,), None])
def test_features_only(name: str, indices: tuple[int, ...] | None, images: Tensor) -> None:
    choice = {} if indices is None else {"out_indices": indices}
    body: Any = resnetkit.build(name, features_only=True, **choice).eval()
    peer = timm.create_model(name, features_only=True, **choice).eval()
    assert [map_.shape for map_ in body(images)] == [map_.shape for map_ in peer(images)]
    assert body.feature_info.channels() == peer.feature_info.channels()
    assert body.feature_info.reduction() == peer.feature_info.reduction()


def test_features_only_is_the_network(net: ResNet, images: Tensor) -> None:
    body: Any = resnetkit.build("resnet18", num_classes=10, features_only=True).eval()
    body.load_state_dict(net.state_dict(), strict=False)
    *_, last = body(images)
    assert torch.equal(last, net.forward_features(images))
    assert torch.equal(torch.jit.script(body)(images)[-1], last)
    for wrong in ((5,), (), (-1,)):
        with pytest.raises(resnetkit.InputError, match="out_indices is"):
            resnetkit.build("resnet18", features_only=True, out_indices=wrong)
    with pytest.raises(resnetkit.InputError, match="features_only=True"):
        resnetkit.build("resnet18", out_indices=(1,))


def test_timms_optimizer_average_and_freezing(net: ResNet, images: Tensor) -> None:
    timm.optim.create_optimizer_v2(net, "adamw", lr=1e-3, layer_decay=0.7)
    timm.utils.ModelEmaV3(net).module(images)
    frozen = copy.deepcopy(net)
    timm.utils.freeze(frozen)
    assert not any(p.requires_grad for p in frozen.parameters())


def test_numbers_of_classes_and_channels(images: Tensor) -> None:
    module = resnetkit.build("resnet18", num_classes=3, in_chans=1)
    assert module(images[:, :1]).shape == (2, 3)


def test_attribution(net: ResNet, images: Tensor) -> None:
    layer = net.get_submodule("layer4")
    target = [ClassifierOutputTarget(1)]
    pytorch_grad_cam.GradCAM(model=net, target_layers=[layer[-1]])(images[:1], target)  # type: ignore[index]
    captum.attr.LayerGradCam(net, layer).attribute(images, target=1)
    captum.attr.DeepLift(net).attribute(images, target=1)


def test_lora(net: ResNet, images: Tensor) -> None:
    config = peft.LoraConfig(target_modules=["conv1", "conv2"], modules_to_save=["fc"])
    peft.get_peft_model(net, config)(images)


class Wrapped(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = resnetkit.build("resnet18", num_classes=2)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


def test_lightning_and_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = torch.utils.data.TensorDataset(torch.randn(8, 3, 32, 32), torch.arange(8) % 2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet
    )
    wrapped = Wrapped()
    trainer.fit(wrapped, torch.utils.data.DataLoader(data, 4))
    trainer.save_checkpoint("wrapped.ckpt")
    bundle = resnetkit.load("wrapped.ckpt")
    assert bundle.network.name == "resnet18"
    ours, theirs = bundle.module().state_dict(), wrapped.net.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_skorch() -> None:
    wrapped = skorch.NeuralNetClassifier(
        resnetkit.build("resnet18", num_classes=2),
        criterion=nn.CrossEntropyLoss,
        max_epochs=1,
        verbose=0,
        train_split=None,
    )
    wrapped.fit(np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype("f4"), np.arange(8) % 2)


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda net: pickle.loads(pickle.dumps(net)),
        torch.fx.symbolic_trace,
        torch.jit.script,
        lambda net: torch.jit.trace(net, torch.randn(2, 3, 64, 64)),
        lambda net: torch.export.export(net, (torch.randn(2, 3, 64, 64),)).module(),
    ],
    ids=["deepcopy", "pickle", "fx", "script", "trace", "export"],
)
def test_copies_give_the_same(copied: Any, net: ResNet, images: Tensor) -> None:
    with torch.inference_mode():
        assert torch.allclose(copied(net)(images), net(images), atol=1e-5)


def test_quantised_by_fx(net: ResNet, images: Tensor) -> None:
    prepared = quantize_fx.prepare_fx(net, get_default_qconfig_mapping("x86"), (images,))
    prepared(images)
    assert quantize_fx.convert_fx(prepared)(images).shape == (2, 10)


def test_summary_and_drawing(net: ResNet) -> None:
    torchinfo.summary(net, (1, 3, 64, 64), verbose=0)
    torchview.draw_graph(net, input_size=(1, 3, 64, 64), device="cpu")
