"""Caffe2's other spellings: names of norms, biases beside norms, and MSRA's head."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import resnetkit
from resnetkit.architecture.network import Network
from resnetkit.checkpoints.recognition import dialect

ResNet = torchvision.models.resnet


def net() -> Any:
    """A narrow torchvision network with statistics, whose convolutions have a bias of 0."""
    torch.manual_seed(0)
    made = ResNet.ResNet(ResNet.Bottleneck, [1, 1, 1, 1], num_classes=7).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return made


def names(biased: bool) -> dict[str, str]:
    network = resnetkit.network("resnet50", depths=(1, 1, 1, 1), num_classes=7, conv_bias=biased)
    assert isinstance(network, Network)
    return dialect("caffe2").map(network, head=1)


def spelled(name: str) -> str:
    """The other names of the four tensors of a norm."""
    others = {"_bn_s": "_bn_gamma", "_bn_b": "_bn_beta", "_bn_rm": "_bn_running_mean",
              "_bn_riv": "_bn_running_var"}  # fmt: skip
    return re.sub(r"_bn_(s|b|rm|riv)$", lambda match: others[match[0]], name)


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("bias", [None, 0.0, 0.3])
def test_every_spelling_computes_the_same(other: bool, bias: float | None, tmp_path: Path) -> None:
    made = net()
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.bias, bias or 0.0)
    state = made.state_dict()
    blobs = {
        (spelled(theirs) if other else theirs): state[ours].numpy()
        for ours, theirs in names(bias is not None).items()
    }
    assert "fc1000_w" in blobs
    assert ("res2_0_branch2a_b" in blobs) == (bias is not None)
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"blobs": blobs}, 2))
    bundle = resnetkit.load(tmp_path / "net.pkl", stride_on="3x3")
    assert bundle.origin["dialect"] == ("caffe2-biased" if bias else "caffe2")
    assert any("biases of convolutions are all 0" in w for w in bundle.origin["warnings"]) == (
        bias == 0.0
    )
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        wanted, found = made(pixels), bundle.module()(pixels)
    assert float((wanted - found).abs().max() / wanted.abs().max()) < 1e-5
    assert np.array_equal(bundle.numbers["fc.weight"], blobs["fc1000_w"])
